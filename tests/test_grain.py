"""Film grain: measured as what the autoencoder loses, laid over films frame by frame."""

import json
from dataclasses import replace

import pytest
import torch
from training_help import RECIPE, latent_shards, loaded, save_model, save_random_lora

from longtake.checkpoints import read_lora
from longtake.cli.main import run
from longtake.config import MOST_GRAIN, Grain, LoraUse, SampleConfig
from longtake.data.shards import ShardWriter, read_shards
from longtake.errors import WeightsError
from longtake.model.lora import shapes
from longtake.pipeline import Border, Frames
from longtake.recipes import latents as recipe_latents
from longtake.recipes.finetune import finetune
from longtake.vae.grain import lay_grain, mean_grain, measure_grain, sum_of_grains

STRONG = Grain(shared=0.08, own=0.04)
SETTINGS = SampleConfig(width=96, height=64, frames=9, steps=2)


def as_bytes(frames):
    return ((frames.clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8)


def scene(frames=4, height=96, width=160):
    """A ramp with a box in it, in [-1, 1]."""
    ramp = torch.linspace(-0.4, 0.4, width).expand(frames, height, width)
    film = torch.stack([ramp, ramp.flip(-1), 0.5 * ramp], dim=-1).clone()
    film[:, 20:60, 30:90] = torch.tensor([0.3, -0.2, 0.1])
    return film


@pytest.mark.parametrize("grain", [Grain(shared=0.05), Grain(own=0.05), STRONG])
def test_what_is_laid_is_what_is_measured(grain):
    clean = scene(frames=16)
    found = measure_grain(as_bytes(lay_grain(clean, grain, 3, 0)), as_bytes(clean))
    assert found.shared == pytest.approx(grain.shared, rel=0.1, abs=0.008)
    assert found.own == pytest.approx(grain.own, rel=0.1, abs=0.008)


def test_what_the_autoencoder_keeps_is_not_laid_again():
    noisy = as_bytes(lay_grain(scene(), STRONG, 3, 0))
    assert measure_grain(noisy, noisy) == Grain()
    assert measure_grain(as_bytes(scene()), noisy) == Grain()


def test_a_frames_grain_depends_on_its_number_and_the_seed_alone():
    film = scene(frames=6)
    whole = lay_grain(film, STRONG, 5, 10)
    parts = [lay_grain(film[:1], STRONG, 5, 10), lay_grain(film[1:], STRONG, 5, 11)]
    assert torch.equal(torch.cat(parts), whole)
    assert not torch.equal(lay_grain(film, STRONG, 6, 10), whole)
    noise = whole - film
    assert noise.flatten(1).corrcoef().triu(1).abs().max() < 0.03


def test_no_grain_leaves_frames_as_they_are():
    film = scene()
    assert lay_grain(film, Grain(), 0, 0) is film


def test_variances_add_up():
    grains = [(1.0, Grain(shared=0.03)), (-2.0, Grain(shared=0.02, own=0.01))]
    assert sum_of_grains(grains).shared == pytest.approx(0.05)
    assert sum_of_grains(grains).own == pytest.approx(0.02)
    assert sum_of_grains([(10.0, STRONG)]).shared == MOST_GRAIN
    assert mean_grain([Grain(shared=0.06), Grain()]).shared == pytest.approx(0.06 / 2**0.5)
    assert mean_grain([]) == Grain()


@pytest.mark.parametrize("chunk", [0, 1])
def test_films_with_a_lora_of_grain_are_films_without_it_and_grain(tiny, tmp_path, chunk):
    model = save_model(tmp_path / "model", replace(tiny, chunk=chunk))
    plain = loaded(model)
    clean = save_random_lora(tmp_path / "clean.safetensors", plain)
    grainy = save_random_lora(tmp_path / "grainy.safetensors", plain, grain=STRONG)
    films = [
        loaded(model, LoraUse(file=str(file))).generate("a red ball", settings=SETTINGS).frames
        for file in (clean, grainy)
    ]
    found = measure_grain(films[1], films[0])
    assert found.shared == pytest.approx(STRONG.shared, rel=0.15)
    assert found.own == pytest.approx(STRONG.own, rel=0.2)


def test_a_take_that_goes_on_has_the_grain_of_the_whole(tiny, tmp_path):
    model = save_model(tmp_path / "model", replace(tiny, chunk=1))
    file = save_random_lora(tmp_path / "a.safetensors", loaded(model), grain=STRONG)
    pipe = loaded(model, LoraUse(file=str(file)))
    events = list(pipe.stream("a red ball", SETTINGS))
    border = next(event for event in events if isinstance(event, Border))
    again = pipe.stream("a red ball", SETTINGS, start=border.snapshot)
    parts = [
        torch.cat([event.pixels for event in made if isinstance(event, Frames)])
        for made in (events, again)
    ]
    assert torch.equal(parts[0][len(parts[0]) - len(parts[1]) :], parts[1])


def test_a_merged_model_keeps_the_grain(tiny, tmp_path):
    model = save_model(tmp_path / "model", tiny)
    file = save_random_lora(tmp_path / "a.safetensors", loaded(model), grain=STRONG)
    merged = str(tmp_path / "merged")
    assert run(["lora", "merge", str(file), "--model", str(model), "-o", merged, "--quiet"]) == 0
    assert loaded(merged).config.grain == STRONG
    assert loaded(model).config.grain == Grain()


@pytest.mark.parametrize(
    "told", [{"shared": -1.0}, {"shared": 9}, {"own": "much"}, {"blue": 0.1}, [0.1], None, "0.1"]
)
def test_a_lora_that_tells_of_wild_grain_is_damaged(tiny, tmp_path, told, monkeypatch):
    pipe = loaded(save_model(tmp_path / "model", tiny))
    plain = json.dumps
    monkeypatch.setattr(json, "dumps", lambda tree, **more: plain({**tree, "grain": told}, **more))
    file = save_random_lora(tmp_path / "a.safetensors", pipe)
    monkeypatch.undo()
    with pytest.raises(WeightsError, match="damaged LoRA header"):
        read_lora(file, pipe.model_hash, shapes(pipe.transformer))


def test_a_lora_of_an_older_release_has_no_grain(tiny, tmp_path, monkeypatch):
    pipe = loaded(save_model(tmp_path / "model", tiny))
    plain = json.dumps
    older = {"format": 1}

    def dumps(tree, **more):
        return plain({n: v for n, v in tree.items() if n != "grain"} | older, **more)

    monkeypatch.setattr(json, "dumps", dumps)
    file = save_random_lora(tmp_path / "a.safetensors", pipe, grain=STRONG)
    monkeypatch.undo()
    assert read_lora(file, pipe.model_hash, shapes(pipe.transformer)).head.grain == Grain()


def test_clips_tell_the_grain_that_their_latents_lose(tiny, tmp_path, monkeypatch):
    pipe = loaded(save_model(tmp_path / "model", tiny))
    clean = as_bytes(scene(9, 64, 96))
    # An autoencoder of random weights keeps nothing at all; this one keeps all but grain.
    monkeypatch.setattr(recipe_latents, "to_bytes", lambda pixels: clean[: len(pixels)])
    grainy = as_bytes(lay_grain(scene(9, 64, 96), STRONG, 1, 0))
    with ShardWriter(tmp_path / "shards", "latents", {"model": pipe.model_hash}) as writer:
        recipe_latents.add_latents(writer, "a", pipe, grainy, ["a red ball"], source="a.mp4")
        writer.finish("a.mp4")
    (sample,) = read_shards(tmp_path / "shards").samples
    assert sample.told["grain"]["shared"] == pytest.approx(STRONG.shared, rel=0.15)
    assert sample.told["grain"]["own"] == pytest.approx(STRONG.own, rel=0.15)


@pytest.mark.parametrize("laid", [True, False])
def test_a_lora_has_the_grain_of_its_clips_unless_the_recipe_says_no(tiny, tmp_path, laid):
    pipe = loaded(save_model(tmp_path / "model", tiny))
    told = {"grain": {"shared": 0.1, "own": 0.0}}
    latents = latent_shards(tmp_path / "latents", pipe, **told)
    made = finetune(replace(RECIPE, grain=laid), tmp_path / "lora", latents, pipe)
    lora = read_lora(made.file, pipe.model_hash, shapes(pipe.transformer))
    assert lora.head.grain == made.grain
    assert made.grain.shared == pytest.approx(0.1 if laid else 0.0)
