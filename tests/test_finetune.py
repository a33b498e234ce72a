"""A run leaves a LoRA that has learned its clips; one that is stopped goes on to the same bytes."""

import csv
import json
from dataclasses import replace

import pytest
import torch
from training_help import RECIPE, clip_shards, latent_shards, loaded, save_model

from longtake.checkpoints import content_hash, read_lora
from longtake.cli.main import DONE, STOPPED, run
from longtake.config import LoraUse, merge
from longtake.data.shards import read_shards
from longtake.errors import MediaError, OutputError, SettingError
from longtake.model.lora import shapes
from longtake.recipes.finetune import finetune
from longtake.recipes.latents import encode_captions, encode_frames
from longtake.recipes.precompute import (
    frames_in,
    latents_for,
    precompute,
)
from longtake.train import cached
from longtake.train.cached import CachedClips, batch_order, read_clip, split_held_out
from longtake.train.loop import Trainer

CPU = torch.device("cpu")


@pytest.fixture
def model(tmp_path, tiny):
    return save_model(tmp_path / "model", tiny)


@pytest.fixture
def latents(tmp_path, model):
    return latent_shards(tmp_path / "latents", loaded(model))


def test_a_run_leaves_a_lora_curves_and_pictures_and_the_model_as_it_was(model, latents, tmp_path):
    before, pipe, out = content_hash(model), loaded(model), tmp_path / "out"
    weights = {n: p.clone() for n, p in pipe.transformer.state_dict().items()}
    recipe = replace(RECIPE, train=replace(RECIPE.train, steps=40, preview_every=20))
    made = finetune(recipe, out, latents, pipe)
    assert (made.clips, made.held_out, made.bad, made.steps) == (5, 1, 0, 40)
    assert all(torch.equal(pipe.transformer.state_dict()[n], w) for n, w in weights.items())
    assert content_hash(model) == before
    lora = read_lora(made.file, before, shapes(pipe.transformer))
    assert (lora.head.rank, lora.head.alpha) == (4, 8.0)
    assert len(lora.factors) == 14
    rows = list(csv.DictReader((out / "finetune.csv").read_text().splitlines()))
    assert float(rows[-1]["loss"]) < float(rows[0]["loss"])
    names = {path.name for path in out.iterdir()}
    assert {"finetune.png", "finetune-000020.png", "tensorboard", "lora.safetensors"} <= names
    assert not any(name.endswith("state.safetensors") for name in names)
    assert loaded(model, LoraUse(file=str(made.file))).model_hash != before
    with pytest.raises(OutputError, match="holds a finished LoRA already"):
        finetune(recipe, out, latents, pipe)


@pytest.mark.slow
@pytest.mark.parametrize("chunk", [0, 1])
def test_a_stopped_run_goes_on_to_the_same_bytes(tiny, tmp_path, monkeypatch, chunk):
    model = save_model(tmp_path / "model", replace(tiny, chunk=chunk))
    latents = latent_shards(tmp_path / "latents", loaded(model))
    whole = finetune(RECIPE, tmp_path / "whole", latents, loaded(model))
    plain = Trainer._one_step

    def stopped(self):
        if self.step == 3 and not (tmp_path / "once").exists():
            (tmp_path / "once").touch()
            raise KeyboardInterrupt
        return plain(self)

    monkeypatch.setattr(Trainer, "_one_step", stopped)
    with pytest.raises(KeyboardInterrupt):
        finetune(RECIPE, tmp_path / "again", latents, loaded(model))
    again = finetune(RECIPE, tmp_path / "again", latents, loaded(model))
    assert again.file.read_bytes() == whole.file.read_bytes()
    assert (again.loss_before, again.loss_after) == (whole.loss_before, whole.loss_after)


def test_clips_shorter_than_a_chunk_are_left_out_and_counted(tiny, tmp_path, caplog):
    model = save_model(tmp_path / "model", replace(tiny, chunk=4))
    short = latent_shards(tmp_path / "short", loaded(model), frames=4)
    with pytest.raises(MediaError, match="clips of 17 frames or more, and all are shorter"):
        finetune(RECIPE, tmp_path / "lora", short, loaded(model))
    assert not (tmp_path / "lora").exists()
    some = latent_shards(tmp_path / "some", loaded(model), frames=5)
    first = some.samples[0]
    told = {**first.told, "shape": [first.told["shape"][0], 4, *first.told["shape"][2:]]}
    mixed = replace(some, samples=(replace(first, told=told), *some.samples[1:]))
    made = finetune(RECIPE, tmp_path / "lora", mixed, loaded(model))
    assert made.clips + made.held_out == len(some.samples) - 1
    assert "left out clips of fewer than 17 frames: 1" in caplog.text


def test_a_rank_that_the_model_is_too_small_for_is_refused(model, latents, tmp_path):
    with pytest.raises(SettingError, match="rank must be at most 48"):
        finetune(replace(RECIPE, rank=49), tmp_path / "out", latents, loaded(model))
    for changes in ({"rank": 0}, {"rank": 10**6}, {"train": {"optimiser": "muon"}}, {"alpha": 0}):
        with pytest.raises(SettingError):
            merge(RECIPE, changes)


@pytest.mark.parametrize(("sizes", "batch"), [([5], 2), ([1], 4), ([7, 3], 3), ([4, 4, 1], 4)])
def test_every_clip_comes_once_an_epoch_and_batches_have_one_shape(sizes, batch):
    for epoch in range(3):
        order = batch_order(sizes, batch, 9, epoch)
        assert all(len(members) == batch for _, members in order)
        seen = [(group, member) for group, members in order for member in members]
        assert set(seen) == {(g, m) for g, size in enumerate(sizes) for m in range(size)}
        assert len(order) == sum(-(-size // batch) for size in sizes)
        assert order == batch_order(sizes, batch, 9, epoch)
    assert batch_order([50], 2, 9, 0) != batch_order([50], 2, 9, 1)


def test_clips_of_a_source_are_never_on_both_sides(latents):
    doubled = [
        replace(s, key=f"{s.key}-{n}", told=s.told) for s in latents.samples for n in range(3)
    ]
    trained, held = split_held_out(doubled, 0.3)
    assert len(trained) + len(held) == 18 and len(held) == 6
    assert not {s.told["source"] for s in trained} & {s.told["source"] for s in held}
    fewer = [s for s in doubled if s.told["source"] != trained[0].told["source"]]
    assert {s.key for s in split_held_out(fewer, 0.4)[1]} >= {s.key for s in held}
    with pytest.raises(MediaError, match="two clips or more"):
        split_held_out(doubled[:1], 0.5)


def test_a_draw_depends_on_its_step_alone(latents):
    clips = CachedClips(latents, latents.samples, 2, 3, CPU)
    generator = torch.Generator()

    def drawn(step):
        clips.advance(step + 1)
        return clips.draw(2, generator)[0]

    forward = [drawn(step) for step in range(8)]
    assert all(torch.equal(drawn(step), forward[step]) for step in (5, 0, 7, 2))


def test_a_clip_is_read_once_as_long_as_there_is_memory_for_it(latents, monkeypatch):
    read = []

    def reads(shards, sample):
        read.append(sample.key)
        return read_clip(shards, sample)

    monkeypatch.setattr(cached, "read_clip", reads)
    sizes = {}
    for kept in (cached.KEPT_BYTES, 0):
        monkeypatch.setattr(cached, "KEPT_BYTES", kept)
        clips = CachedClips(latents, latents.samples, 2, 3, CPU)
        for step in range(2 * clips.batches_per_epoch):
            clips.advance(step + 1)
            clips.draw(2, torch.Generator())
        sizes[kept] = len(read), len(set(read))
        read.clear()
    assert list(sizes.values()) == [(6, 6), (12, 6)]


def test_latents_are_what_the_model_encodes_and_are_made_once(model, tmp_path):
    clips, pipe = clip_shards(tmp_path / "clips"), loaded(model)
    list(precompute(clips, tmp_path / "latents", pipe))
    shards = read_shards(tmp_path / "latents")
    assert (shards.kind, len(shards.samples)) == ("latents", 3)
    assert shards.samples[0].told["shape"] == [8, 3, 2, 3]
    frames = frames_in(clips.read(clips.samples[1])["mp4"])
    clip = read_clip(shards, shards.samples[1])
    assert torch.equal(clip["latents"], encode_frames(pipe, frames))
    text, mask = encode_captions(pipe, shards.samples[1].told["captions"])
    assert torch.equal(clip["text"], text) and torch.equal(clip["mask"], mask)
    before = [path.stat().st_mtime_ns for path in sorted((tmp_path / "latents").iterdir())]
    list(precompute(clips, tmp_path / "latents", pipe))
    assert before == [p.stat().st_mtime_ns for p in sorted((tmp_path / "latents").iterdir())]


def test_latents_of_another_model_are_refused(model, latents, tiny, tmp_path):
    other = loaded(save_model(tmp_path / "other", tiny, seed=1))
    with pytest.raises(SettingError, match="latents of another model"):
        list(latents_for(latents.folder, tmp_path / "x", other))
    clips = clip_shards(tmp_path / "clips", clips=1)
    list(precompute(clips, tmp_path / "l", loaded(model)))
    with pytest.raises(OutputError, match="made with other settings"):
        list(precompute(clips, tmp_path / "l", other))
    with pytest.raises(MediaError, match="holds latents and not clips"):
        list(precompute(latents, tmp_path / "x", other))


@pytest.mark.usefixtures("model")
def test_the_verb_goes_from_clips_to_a_film_and_tells_it(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    clip_shards(tmp_path / "clips")
    (tmp_path / "mine.json").write_text('{"train": {"precision": "fp32", "warmup": 1}}')
    tune = ["finetune", "clips", "--lora", "3", "-o", "out", "--model", "model", "--device", "cpu"]
    tune += ["--steps", "3", "--batch", "2", "--settings", "mine.json"]
    assert run([*tune, "--json"]) == DONE
    told = capsys.readouterr()
    report = json.loads(told.out)
    assert (report["rank"], report["steps"], report["clips"], report["held_out"]) == (3, 3, 2, 1)
    assert "encoding clips" in told.err and "left\n" in told.err
    film = ["generate", "a red ball", "--model", "model", "--size", "96x64", "--frames", "5"]
    assert run([*film, "--steps", "2", "--lora", report["file"], "--device", "cpu"]) == DONE
    capsys.readouterr()
    table = {
        ("finetune",): "the clips are missing; try: longtake finetune FOLDER",
        ("finetune", "clips"): "--out is missing",
        ("finetune", "gone", "-o", "x"): "gone holds no shards; longtake data prepare",
        ("finetune", "clips", "-o", "x", "--lora", "1000000"): "rank must be 1 to 4096",
        ("finetune", "clips", "-o", "x", "--model", "nvidia/x"): "trains models of our own",
        ("finetune", "clips", "-o", "out", "--model", "model"): "holds a finished LoRA already",
    }
    for arguments, line in table.items():
        assert run([*arguments, "--quiet"] if len(arguments) > 2 else arguments) == 2
        told = capsys.readouterr().err
        assert told.startswith("error: ") and line in told and told.count("\n") == 1
    (tmp_path / "bad.json").write_text('{"rnak": 3}')
    assert run(["finetune", "clips", "-o", "x", "--settings", "bad.json"]) == 2
    assert "unknown setting 'rnak' in FinetuneRecipe; did you mean 'rank'?" in (
        capsys.readouterr().err
    )


def test_a_stopped_verb_says_where_it_goes_on(model, latents, tmp_path, monkeypatch, capsys):
    plain = Trainer._one_step

    def stopped(self):
        if self.step == 3:
            raise KeyboardInterrupt
        return plain(self)

    monkeypatch.setattr(Trainer, "_one_step", stopped)
    (tmp_path / "m.json").write_text('{"train": {"checkpoint_every": 2, "batch": 2}}')
    tune = ["finetune", str(latents.folder), "-o", str(tmp_path / "out"), "--model", str(model)]
    tune += ["--settings", str(tmp_path / "m.json"), "--quiet", "--device", "cpu"]
    assert run(tune) == STOPPED
    assert "the same command goes on from step 2 of 1000" in capsys.readouterr().err
