"""The stage first_jump makes a model begin a film as its caption says, not as its noise looks."""

import math
from dataclasses import replace

import pytest
import torch
from training_help import TINY_MODEL

from longtake import flow, pipeline
from longtake.config import Sampling, TrainConfig, merge
from longtake.errors import SettingError
from longtake.pipeline import build
from longtake.presets import MODEL_FILE
from longtake.recipes import first_jump, weights
from longtake.recipes.causal import causal_shapes
from longtake.recipes.denoiser import noise_levels
from longtake.recipes.previz import run
from longtake.recipes.recipe import PrevizRecipe
from longtake.train.data import generator_for, scenes_of_batch
from longtake.world.level import FIRST, WHOLE

CPU = torch.device("cpu")
RECIPE = merge(
    PrevizRecipe(),
    {
        "level": "action",
        "model": TINY_MODEL,
        "first_jump": {
            "steps": 4, "batch": 2, "height": 64, "width": 64, "pool": 4, "render_batch": 2,
            "refresh_every": 2, "precision": "fp32", "compile": False, "log_every": 1,
        },
        "takes": {"chunk": 1},
    },
)  # fmt: skip
SHAPES = replace(
    causal_shapes(RECIPE),
    sampling=Sampling(steps=4, guidance=1.0, shift=10.0, sampler="euler"),
)


@pytest.fixture(autouse=True)
def _one_precision():
    before = torch.get_float32_matmul_precision()
    yield
    torch.set_float32_matmul_precision(before)


def networks():
    torch.manual_seed(0)
    parts = build(SHAPES)
    torch.nn.init.normal_(parts[1].head.weight, std=0.1)
    return parts


def start_in(folder, shapes=SHAPES):
    folder.mkdir()
    weights.export_model(folder, networks(), shapes)
    return folder


def inputs(step=0, rows=2):
    means = torch.randn(rows, 8, 2)
    tokens = torch.randint(4, 9, (rows, 2, 6))
    return first_jump._inputs(RECIPE, SHAPES)((means, tokens), generator_for(0, step, CPU))


def test_every_later_jump_is_kept_in_some_steps():
    assert {int(inputs(step)[2]) for step in range(60)} == {1, 2, 3}


def first_means(noise, tokens, networks_):
    """Of what these networks begin a film as."""
    text, transformer, _ = networks_
    level = torch.ones(len(noise), noise.shape[2])
    with torch.no_grad():
        velocity, _ = transformer.advance(noise, level, *text(tokens), (noise.shape[2],), None)
    return (noise - velocity).mean(dim=(3, 4))


@pytest.mark.parametrize("place", [1, 2, 3])
def test_a_copy_of_the_teacher_misses_the_means_of_the_clips_and_nothing_else(place):
    text, transformer, _ = parts = networks()
    loss = first_jump._heeding((text, transformer), (text, transformer), RECIPE, SHAPES)
    _, noise, _, tokens = inputs()
    own = first_means(noise, tokens, parts)
    found, error = loss(own, noise, torch.tensor(place), tokens)
    assert found < 1e-10
    found, error = loss(own + 0.5, noise, torch.tensor(place), tokens)
    assert found.item() == pytest.approx(0.25, rel=1e-4)
    assert error == found


def test_whatever_else_the_copy_changes_counts_too():
    teacher, student = networks()[:2], networks()[:2]
    with torch.no_grad():
        student[1].head.weight.mul_(1.5)
    loss = first_jump._heeding(student, teacher, RECIPE, SHAPES)
    means, noise, place, tokens = inputs()
    found, error = loss(means, noise, place, tokens)
    assert found > 1.01 * error


def test_some_batches_are_of_the_first_level():
    level = [scenes_of_batch(0, n, 1, WHOLE, 0.4).kind.shape[1] for n in range(60)]
    assert 12 < level.count(FIRST.most_subjects) < 36
    assert {scenes_of_batch(0, n, 1, WHOLE).kind.shape[1] for n in range(9)} == {4}


@pytest.mark.slow
def test_the_model_that_is_left_is_sampled_as_before(tmp_path):
    start = start_in(tmp_path / "start")
    outcome = run(RECIPE, tmp_path / "out", stage="first_jump", device=CPU, start=start)
    model = pipeline.load(str(tmp_path / "out"), device="cpu", precision="fp32")
    assert model.config == SHAPES
    assert math.isfinite(outcome.held_out_loss)
    assert {"first_jump.csv", "first_jump.png", MODEL_FILE} <= set(outcome.files)
    both = [
        (folder / "autoencoder.safetensors").read_bytes() for folder in (start, tmp_path / "out")
    ]
    assert both[0] == both[1]


@pytest.mark.parametrize("changes", [{"chunk": 0}, {"sampling": Sampling()}])
def test_a_model_of_another_kind_is_refused(tmp_path, changes):
    start = start_in(tmp_path / "start", replace(SHAPES, **changes))
    with pytest.raises(SettingError, match="run causal and few_steps before it"):
        run(RECIPE, tmp_path / "out", stage="first_jump", device=CPU, start=start)


def test_some_noise_levels_lie_at_the_top_where_a_film_begins():
    config = TrainConfig(shift=3.0, top=0.2)
    levels = noise_levels(20_000, config, generator_for(0, 0, CPU), CPU)
    plain = noise_levels(20_000, replace(config, top=0.0), generator_for(0, 0, CPU), CPU)
    above = [float((found > 0.97).float().mean()) for found in (levels, plain)]
    assert 0.19 < above[0] < 0.22
    assert above[1] < 0.02
    assert levels.min() > 0
    assert levels.max() <= 1
    drawn = flow.logit_normal(20_000, 3.0, generator_for(0, 0, CPU), CPU)
    assert torch.equal(plain, drawn)
