"""LoRAs that are hostile or of another model, and training that meets bad data or is killed.

Rows 52 and 60 to 62 of the fault matrix.
"""

import csv
import json
import math
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load as load_bytes
from safetensors.torch import load_file, save_file
from training_help import (
    RECIPE,
    latent_shards,
    loaded,
    random_factors,
    save_model,
    save_random_lora,
)

from longtake.checkpoints import LoraHead, content_hash, load_state, save_lora
from longtake.checkpoints.header import read_header
from longtake.cli.main import run
from longtake.config import LoraUse, merge
from longtake.data.shards import read_shards
from longtake.errors import MediaError, SettingError, WeightsError
from longtake.pipeline.loras import lay
from longtake.recipes.finetune import finetune
from longtake.train import cached
from longtake.train.cached import CachedClips, split_held_out
from longtake.train.loop import Trainer, state_path

pytestmark = pytest.mark.faults
KEY = "longtake.lora"
TESTS = Path(__file__).parents[1]
CPU = torch.device("cpu")
NAMES: dict[float, str] = {}
PLAIN_STEP = Trainer._one_step
CHILD = """
import os, signal, sys
from pathlib import Path
from training_help import RECIPE, loaded
from longtake import storage
from longtake.checkpoints import state
from longtake.data.shards import read_shards
from longtake.recipes.finetune import finetune
from longtake.train.loop import Trainer
latents, model, out = map(Path, sys.argv[1:4])
where, _, number = sys.argv[4].partition(":")
step, rename, seen = Trainer._one_step, storage.rename, []
def die():
    os.kill(os.getpid(), signal.SIGKILL)
def step_or_die(self):
    result = step(self)
    if where == "step" and self.step == int(number):
        die()
    return result
def rename_or_die(temp, path):
    # Half of a state is written, and nothing has its final name yet.
    if where == "write" and path.name.endswith("state.safetensors"):
        seen.append(path)
        if len(seen) == int(number):
            temp.write_bytes(temp.read_bytes()[:1000])
            die()
    rename(temp, path)
Trainer._one_step, storage.rename = step_or_die, rename_or_die
finetune(RECIPE, out, read_shards(latents), loaded(model))
"""


@pytest.fixture
def model(tmp_path, tiny):
    return save_model(tmp_path / "model", tiny)


@pytest.fixture
def good(model, tmp_path):
    return save_random_lora(tmp_path / "good.safetensors", loaded(model))


def stop_at(out: Path, latents, model: Path, step: int) -> None:
    """Run and stop before a step."""

    def stopped(self):
        if self.step == step:
            raise KeyboardInterrupt
        return PLAIN_STEP(self)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Trainer, "_one_step", stopped)
        with pytest.raises(KeyboardInterrupt):
            finetune(RECIPE, out, latents, loaded(model))


def poison_from(step: int):
    """Steps that lose their numbers: weights, averages and loss."""

    def poisoned(self):
        loss, metric, norm = PLAIN_STEP(self)
        if self.step >= step:
            with torch.no_grad():
                next(self.stage.module.parameters()).fill_(math.nan)
            loss = loss * math.nan
        return loss, metric, norm

    return poisoned


def keys_drawn(clips: CachedClips, steps) -> list[list[str]]:
    """Which clips each step draws, told by their latents."""
    known = {}
    drawn = []
    for step in steps:
        clips.advance(step + 1)
        batch = clips.draw(clips.batch, torch.Generator())[0]
        drawn.append([float(latents.float().sum()) for latents in batch])
    for sample in clips.samples:
        if sample.key not in clips.bad:
            try:
                parts = clips.shards.read(sample)
            except MediaError:
                continue
            known[float(load_bytes(parts["safetensors"])["latents"].float().sum())] = sample.key
    return [[NAMES.setdefault(value, known.get(value, "")) for value in row] for row in drawn]


def crash(latents: Path, model: Path, out: Path, places: list[str]) -> None:
    """Let a run be killed at each of the places, one after the other, and then come through."""
    for place in [*places, ""]:
        command = [sys.executable, "-c", CHILD, str(latents), str(model), str(out), place]
        done = subprocess.run(command, cwd=TESTS, capture_output=True, text=True, check=False)
        assert done.returncode == (-9 if place else 0), done.stderr


def log(out: Path) -> list[list[str]]:
    """The loss of every line, without what depends on the clock."""
    with (out / "finetune.csv").open(newline="") as file:
        return [row[:4] for row in csv.reader(file)]


def rewritten(path: Path, head=None, tensors=None) -> Path:
    """The same LoRA with something in it changed, as a foreign program could write it."""
    told = json.loads(read_header(path).metadata[KEY]) | (head or {})
    changed = path.with_name("changed.safetensors")
    save_file(tensors or load_file(path), changed, {KEY: json.dumps(told)})
    return changed


def refused(model: Path, path: Path, *fragments: str) -> None:
    """Refused before a weight changes: neither in memory nor in the model's folder."""
    pipe, before_hash = loaded(model), content_hash(model)
    before = {n: p.clone() for n, p in pipe.transformer.state_dict().items()}
    fine = LoraUse(file=str(model.parent / "good.safetensors"))
    with pytest.raises(WeightsError) as caught:
        # After one that fits, so that a late refusal would have changed something.
        lay(pipe.transformer, [fine, LoraUse(file=str(path))], pipe.model_hash)
    for fragment in fragments:
        assert fragment in str(caught.value)
    assert "\n" not in str(caught.value)
    after = pipe.transformer.state_dict()
    assert all(torch.equal(after[name], value) for name, value in before.items())
    assert content_hash(model) == before_hash


@pytest.mark.usefixtures("good")
def test_a_lora_of_another_model_is_refused_by_both_hashes(model, tiny, tmp_path):
    other = loaded(save_model(tmp_path / "other", tiny, seed=1))
    path = save_random_lora(tmp_path / "other.safetensors", other)
    here = content_hash(model)
    refused(model, path, "trained on another model", other.model_hash[:12], here[:12])


@pytest.mark.parametrize(
    ("head", "fragment"),
    [
        ({"rank": 3}, "shape"),
        ({"rank": 0}, "rank 0"),
        ({"rank": -1}, "rank -1"),
        ({"rank": 10**6}, "rank 1,000,000; this model takes 1 to 48"),
        ({"rank": True}, "damaged LoRA header"),
        ({"rank": 2.0}, "damaged LoRA header"),
        ({"rank": "2"}, "damaged LoRA header"),
        ({"alpha": math.nan}, "alpha nan"),
        ({"alpha": math.inf}, "alpha inf"),
        ({"alpha": -1.0}, "alpha -1"),
        ({"alpha": 0}, "alpha 0"),
        ({"alpha": 1e9}, "alpha 1e+09"),
        ({"alpha": None}, "damaged LoRA header"),
        ({"base": 7}, "damaged LoRA header"),
        ({"base": ""}, "trained on another model"),
        ({"targets": []}, "changes nothing"),
        ({"targets": "blocks"}, "damaged LoRA header"),
        ({"targets": ["head"]}, "changes 'head', which this model does not have"),
        ({"format": 99}, "newer release"),
        ({"format": "1"}, "damaged LoRA header"),
        ({"colour": "red"}, "damaged LoRA header"),
    ],
)
def test_a_header_that_does_not_fit_is_refused(model, good, head, fragment):
    refused(model, rewritten(good, head), fragment)


def test_a_header_without_a_setting_is_refused(model, good):
    told = json.loads(read_header(good).metadata[KEY])
    for name in ("format", "base", "rank", "alpha", "targets"):
        less = {key: value for key, value in told.items() if key != name}
        path = good.with_name("less.safetensors")
        save_file(load_file(good), path, {KEY: json.dumps(less)})
        refused(model, path, "damaged LoRA header")
    for text in ("", "[]", "null", "{", "[" * 30_000):
        save_file(load_file(good), path, {KEY: text})
        refused(model, path, "damaged LoRA header")
    save_file(load_file(good), path)
    refused(model, path, "is no LoRA that Longtake wrote")


def test_tensors_that_are_missing_added_misshapen_or_not_finite_are_refused(model, good):
    name = "blocks.0.self_attention.qkv.a"
    whole = load_file(good)
    less = {key: value for key, value in whole.items() if key != name}
    refused(model, rewritten(good, tensors=less), f"'{name}' is missing")
    more = whole | {"blocks.9.qkv.a": torch.ones(2)}
    refused(model, rewritten(good, tensors=more), "'blocks.9.qkv.a' belongs to no matrix")
    for odd, fragment in (
        (whole[name].T.contiguous(), "shape"),
        (whole[name].double(), "type F64"),
        (whole[name] * math.nan, "values from nan"),
        (whole[name] * 1e30, "values from"),
    ):
        refused(model, rewritten(good, tensors=whole | {name: odd}), name, fragment)


def test_a_lora_cut_short_or_of_another_kind_is_refused(model, good, tmp_path):
    raw = good.read_bytes()
    cut = tmp_path / "cut.safetensors"
    for size in (0, 7, 100, len(raw) - 1):
        cut.write_bytes(raw[:size])
        refused(model, cut, "cut.safetensors")
    cut.write_bytes(b"PK\x03\x04" + raw)
    refused(model, cut, "zip archive")
    refused(model, tmp_path / "gone.safetensors", "there is no LoRA")
    refused(model, tmp_path, "is a folder")


def test_every_flipped_byte_is_refused_or_is_another_lora(model, good):
    """The header and shapes guard the form; the checksum in films and takes guards the values."""
    raw = bytearray(good.read_bytes())
    generator = torch.Generator().manual_seed(2)
    known = loaded(model, LoraUse(file=str(good))).loras[0].sha256
    pipe = loaded(model)
    flipped = good.with_name("flipped.safetensors")
    for place in torch.randint(len(raw), (60,), generator=generator).tolist():
        raw[place] ^= 0x55
        flipped.write_bytes(raw)
        raw[place] ^= 0x55
        with pytest.raises(WeightsError):
            lay(pipe.transformer, [LoraUse(file=str(flipped), sha256=known)], pipe.model_hash)


def test_the_verbs_refuse_a_foreign_lora_in_one_line(model, good, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    bad = rewritten(good, {"alpha": math.nan})
    for verb in (
        ["generate", "a red ball", "--lora", str(bad), "--model", str(model)],
        ["lora", "merge", str(bad), "--model", str(model), "-o", "merged"],
        ["generate", "a red ball", "--lora", f"{bad}:nan", "--model", str(model)],
    ):
        assert run([*verb, "--quiet"]) == 2
        told = capsys.readouterr().err
        assert told.startswith("error: ") and told.count("\n") == 1
    assert not Path("film.mp4").exists() and not Path("merged").exists()


def test_a_lora_that_could_not_be_loaded_is_not_written(model, tmp_path):
    pipe = loaded(model)
    factors = {name: tuple(f) for name, f in random_factors(pipe).items()}
    head = LoraHead(base=pipe.model_hash, rank=2, alpha=1.0, targets=tuple(factors))
    factors["blocks.0.cross_attention.q"][0][0, 0] = math.nan
    with pytest.raises(WeightsError, match="values from nan"):
        save_lora(tmp_path / "a.safetensors", head, factors)
    assert not (tmp_path / "a.safetensors").exists()


def test_a_checkpoint_of_another_recipe_model_or_data_is_refused(model, tmp_path):
    pipe, out = loaded(model), tmp_path / "out"
    latents = latent_shards(tmp_path / "latents", pipe)
    stop_at(out, latents, model, 3)
    other = replace(RECIPE, rank=2)
    with pytest.raises(SettingError, match="made with other settings"):
        finetune(other, out, latents, loaded(model))
    more = latent_shards(tmp_path / "more", pipe, clips=7)
    with pytest.raises(SettingError, match="made with other settings"):
        finetune(RECIPE, out, more, loaded(model))


def test_damaged_clips_and_vanished_shards_are_left_out_and_the_order_stays(
    model, tmp_path, monkeypatch
):
    # As with more clips than memory: nothing is kept, all is read anew.
    monkeypatch.setattr(cached, "KEPT_BYTES", 0)
    shards = latent_shards(tmp_path / "latents", loaded(model), clips=12)
    steps = range(18)
    plain = keys_drawn(CachedClips(shards, shards.samples, 2, 3, CPU), steps)
    damaged, gone = shards.samples[2], shards.samples[7]
    tar = shards.folder / damaged.shard
    raw = bytearray(tar.read_bytes())
    raw[damaged.parts["safetensors"][0] + 50] ^= 1
    tar.write_bytes(raw)
    clips = CachedClips(shards, shards.samples, 2, 3, CPU, most_bad=0.5)
    drawn = keys_drawn(clips, steps[:6])
    # The shard vanishes in the middle of an epoch.
    (shards.folder / gone.shard).unlink()
    drawn += keys_drawn(clips, steps[6:])
    lost = {s.key for s in shards.samples if s.shard == gone.shard} | {damaged.key}
    assert set(clips.bad) == lost
    pairs = [pair for rows in zip(plain, drawn, strict=True) for pair in zip(*rows, strict=True)]
    assert all(before == after for before, after in pairs[12:] if before not in lost)
    assert not {after for _, after in pairs[12:]} & lost


def test_more_damaged_clips_than_allowed_end_the_run_by_name(model, tmp_path):
    shards = latent_shards(tmp_path / "latents", loaded(model), clips=12)
    trained, held = split_held_out(shards.samples, RECIPE.held_out)
    (shards.folder / trained[-1].shard).unlink()
    (shards.folder / held[0].shard).unlink(missing_ok=True)
    with pytest.raises(MediaError, match=r"clips cannot be read, and the most is 5% \(most_bad\)"):
        finetune(RECIPE, tmp_path / "out", shards, loaded(model))
    for tar in shards.folder.glob("*.tar"):
        tar.unlink()
    with pytest.raises(MediaError, match="no held-out clip can be read"):
        finetune(RECIPE, tmp_path / "none", shards, loaded(model))


@pytest.mark.parametrize("damage", [b"", b"{}\n", b"[1]\n", b"\xff\xfe", b'{"format": 9}\n'])
def test_a_damaged_index_is_refused_by_its_name(model, tmp_path, damage):
    shards = latent_shards(tmp_path / "latents", loaded(model))
    index = sorted(shards.folder.glob("*.jsonl"))[1]
    index.write_bytes(damage)
    with pytest.raises(MediaError, match=index.name):
        read_shards(shards.folder)
    index.write_bytes(min(shards.folder.glob("*.jsonl")).read_bytes() + b'{"odd": 1}\n')
    with pytest.raises(MediaError, match="damaged"):
        read_shards(shards.folder)


def test_a_loss_that_is_no_number_ends_the_run_and_the_good_state_stays(model, tmp_path):
    shards = latent_shards(tmp_path / "latents", loaded(model))
    out = tmp_path / "out"
    poisoned = poison_from(4)
    recipe = merge(RECIPE, {"train": {"log_every": 100, "checkpoint_every": 2}})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Trainer, "_one_step", poisoned)
        with pytest.raises(SettingError, match="the loss became nan at step 6; lower learning"):
            finetune(recipe, out, shards, loaded(model))
    tensors, settings = load_state(state_path(out, "finetune"))
    assert settings["step"] == "4"
    assert all(tensor.isfinite().all() for tensor in tensors.values())
    assert finetune(recipe, out, shards, loaded(model)).steps == 6


@pytest.mark.slow
def test_a_killed_run_ends_with_the_bytes_of_one_that_was_not(model, tmp_path):
    """Row 60: in a step, and while a state is written; benchmarks/soak_training does more."""
    shards = latent_shards(tmp_path / "latents", loaded(model))
    whole = finetune(RECIPE, tmp_path / "whole", shards, loaded(model))
    crash(shards.folder, model, tmp_path / "killed", ["step:3", "write:1", "write:2"])
    assert (tmp_path / "killed" / "lora.safetensors").read_bytes() == whole.file.read_bytes()
    assert log(tmp_path / "killed") == log(tmp_path / "whole")
