"""The stage decoder teaches the way from latents to pixels to overlook small errors."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from test_recipes_few_steps import CPU, networks
from training_help import TINY_MODEL

from longtake import pipeline
from longtake.checkpoints import content_hash, load_tensors
from longtake.config import TrainConfig, merge
from longtake.errors import SettingError
from longtake.presets import MODEL_FILE
from longtake.recipes import decoder, weights
from longtake.recipes.folder import resume_point
from longtake.recipes.previz import run
from longtake.recipes.recipe import PrevizRecipe
from longtake.recipes.settings import load_recipe
from longtake.train.data import generator_for
from longtake.train.loop import Trainer

ROOT = Path(__file__).parents[1]
RECIPE = merge(
    PrevizRecipe(),
    {
        "level": "action",
        "model": TINY_MODEL,
        "transformer": {"frames": 9, "height": 64, "width": 64},
        "decoder": {
            "steps": 5, "batch": 2, "frames": 9, "height": 64, "width": 64, "warmup": 1,
            "pool": 4, "render_batch": 2, "refresh_every": 2, "latent_noise": 0.5,
            "precision": "fp32", "compile": False, "log_every": 1, "checkpoint_every": 2,
        },
        "held_out": 2,
    },
)  # fmt: skip


@pytest.fixture(autouse=True)
def _one_precision():
    before = torch.get_float32_matmul_precision()
    yield
    torch.set_float32_matmul_precision(before)


@pytest.fixture(scope="module")
def start(tmp_path_factory):
    folder = tmp_path_factory.mktemp("start")
    weights.export_model(folder, networks(RECIPE.model), RECIPE.model)
    return folder


@pytest.fixture(scope="module")
def whole(start, tmp_path_factory):
    """What a run makes that nobody disturbs."""
    folder = tmp_path_factory.mktemp("decoder")
    return folder, run(RECIPE, folder, stage="decoder", device=CPU, start=start)


def tensors(folder, part):
    model = pipeline.load(str(folder), device="cpu", precision="fp32")
    shapes = {n: tuple(v.shape) for n, v in getattr(model, part).state_dict().items()}
    return load_tensors(folder / f"{part}.safetensors", shapes)


def test_only_the_way_from_latents_to_pixels_changes(whole, start):
    folder, outcome = whole
    before, after = tensors(start, "autoencoder"), tensors(folder, "autoencoder")
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed
    assert all(name.startswith(decoder.LEARNS) for name in changed)
    assert {"pixels_out.conv.weight", "latents_in.weight"} <= changed
    for part in ("text", "transformer"):
        name = f"{part}.safetensors"
        assert (folder / name).read_bytes() == (start / name).read_bytes()
    assert (folder / MODEL_FILE).read_bytes() == (start / MODEL_FILE).read_bytes()
    assert 0 < outcome.held_out_psnr < 60
    assert "decoder.csv" in outcome.files


@pytest.mark.slow
def test_a_run_killed_anywhere_goes_on_to_the_same_bytes(whole, start, tmp_path, monkeypatch):
    called, original = [], Trainer._one_step

    def dies(trainer):
        called.append(None)
        if len(called) == 4:
            raise KeyboardInterrupt
        return original(trainer)

    options = {"stage": "decoder", "device": CPU, "start": start}
    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "_one_step", dies)
        with pytest.raises(KeyboardInterrupt):
            run(RECIPE, tmp_path, **options)
    assert resume_point(tmp_path) == "step 2 of 5 of the decoder"
    run(RECIPE, tmp_path, **options)
    assert content_hash(tmp_path) == content_hash(whole[0])


def test_latents_are_off_by_as_much_as_was_asked_for():
    model = networks(RECIPE.model)[2]
    config = replace(RECIPE.decoder, subjects=3.0)
    batch = torch.zeros(400, 9, 64, 64, 3, dtype=torch.uint8), torch.ones(400, 9, 64, 64)
    frames, weight, noise = decoder._decoder_inputs(config, model)(batch, generator_for(0, 0, CPU))
    assert frames is batch[0]
    assert (weight == 4).all()
    deviations = noise.flatten(1).std(dim=1)
    assert deviations.max() == pytest.approx(0.5, abs=0.1)
    assert deviations.mean() == pytest.approx(0.25, abs=0.03)


@pytest.mark.slow
def test_noise_that_was_trained_on_shows_less():
    torch.manual_seed(0)
    model = networks(RECIPE.model)[2].requires_grad_(False)
    for name, weight in model.named_parameters():
        weight.requires_grad_(name.startswith(decoder.LEARNS))
    config = replace(RECIPE.decoder, latent_noise=1.0)
    loss, prepare = decoder._decoder_loss(model, config), decoder._decoder_inputs(config, model)
    clip = (torch.rand(4, 1, 64, 64, 3) * 255).to(torch.uint8).expand(-1, 9, -1, -1, -1)
    clip = torch.nn.functional.avg_pool3d(clip.permute(0, 4, 1, 2, 3).float(), (1, 8, 8))
    clip = clip.repeat_interleave(8, 3).repeat_interleave(8, 4).permute(0, 2, 3, 4, 1).byte()

    def change():
        torch.manual_seed(1)
        with torch.no_grad():
            raw, _ = model.moments(clip / 127.5 - 1, decoder.StreamCache())
            shown = model.reconstruct(raw + torch.randn(raw.shape), decoder.StreamCache())
        return (shown[:, 1:] - shown[:, :-1]).abs().mean().item()

    learns = [weight for weight in model.parameters() if weight.requires_grad]
    optimiser, before = torch.optim.Adam(learns, lr=2e-3), change()
    for step in range(40):
        optimiser.zero_grad()
        loss(*prepare((clip,), generator_for(0, step, CPU)))[0].backward()
        optimiser.step()
    assert change() < 0.7 * before


def test_without_a_model_to_go_on_from_nothing_begins(tmp_path):
    with pytest.raises(SettingError, match="decoder stage goes on from a trained model"):
        run(RECIPE, tmp_path / "out", stage="decoder", device=CPU)
    with pytest.raises(SettingError, match="latent_noise must be 0 to 2, got 3"):
        TrainConfig(latent_noise=3.0)


def test_the_example_is_a_change_of_the_recipe():
    recipe = load_recipe(str(ROOT / "examples" / "decoder_train.json"))
    assert recipe.level == "whole"
    assert recipe.decoder.latent_noise == 0.15
