"""The stages of a denoiser at two sizes: they train, resume to the same bytes, and tell losses."""

import csv
import logging
import random
import re
from dataclasses import replace

import numpy as np
import pytest
import torch
from training_help import TINY_MODEL

from longtake.checkpoints import content_hash
from longtake.config import merge
from longtake.errors import SettingError
from longtake.pipeline import build
from longtake.recipes import causal, denoiser, few_steps, weights
from longtake.recipes.causal import causal_shapes
from longtake.recipes.previz import run
from longtake.recipes.recipe import PrevizRecipe
from longtake.text import Tokenizer
from longtake.train.data import caption_tokens, size_of_step
from longtake.train.loop import Trainer
from longtake.world import sample_scenes
from longtake.world.level import FIRST

CPU = torch.device("cpu")
STAGE = {
    "steps": 4, "batch": 3, "frames": 9, "height": 64, "width": 64, "warmup": 1,
    "pool": 2, "render_batch": 2, "refresh_every": 100,
    "precision": "fp32", "compile": False, "log_every": 1, "checkpoint_every": 2,
    "sizes": [{"width": 96, "height": 64, "share": 0.4, "batch": 2, "frames": 5, "highest": 0.8}],
}  # fmt: skip
STAGES = ("transformer", "causal", "few_steps")
RECIPE = merge(
    PrevizRecipe(),
    {
        "level": "action", "model": TINY_MODEL, "takes": {"chunk": 1},
        **dict.fromkeys(STAGES, STAGE),
    },
)  # fmt: skip


@pytest.fixture(autouse=True)
def _quick(monkeypatch):
    """No pictures, and the precision that other tests expect."""
    before = torch.get_float32_matmul_precision()
    monkeypatch.setattr(denoiser, "sample_strips", lambda *_: None)
    monkeypatch.setattr(causal, "_rollout_strips", lambda *_: None)
    monkeypatch.setattr(few_steps, "sample_strips", lambda *_: None)
    yield
    torch.set_float32_matmul_precision(before)


def start_of(folder, stage):
    torch.manual_seed(0)
    shapes = causal_shapes(RECIPE) if stage == "few_steps" else RECIPE.model
    parts = build(shapes)
    torch.nn.init.normal_(parts[1].head.weight, std=0.1)
    folder.mkdir()
    weights.export_model(folder, parts, shapes)
    return folder


@pytest.fixture(params=STAGES)
def trained(request, tmp_path, caplog):
    """A stage, where it began and ended, and what it told."""
    start, out = start_of(tmp_path / "start", request.param), tmp_path / "out"
    with caplog.at_level(logging.INFO, logger="longtake.train"):
        run(RECIPE, out, stage=request.param, device=CPU, start=start)
    return request.param, start, out, list(caplog.messages)


@pytest.mark.slow
def test_a_stage_trains_at_two_sizes_and_tells_both_losses(trained):
    stage, _, out, told = trained
    config = getattr(RECIPE, stage)
    assert {size_of_step(config, step) for step in range(config.steps)} == {0, 1}
    rows = list(csv.DictReader((out / f"{stage}.csv").read_text().splitlines()))
    assert all(float(row["loss"]) > 0 for row in rows)
    further = [text for text in told if re.search(r", 96x64, 5 frames: held-out loss \d", text)]
    own = [text for text in told if text.startswith(f"{stage}: held-out loss")]
    assert [len(further), len(own)] == [2, 2]
    assert [text.endswith("at the start") for text in further] == [True, False]


@pytest.mark.slow
def test_a_stage_killed_at_two_sizes_resumes_to_the_same_bytes(trained, tmp_path, monkeypatch):
    stage, start, out, _ = trained
    one_step = Trainer._one_step

    def dies(trainer):
        if trainer.step == 3:
            raise KeyboardInterrupt
        return one_step(trainer)

    options = {"stage": stage, "device": CPU, "start": start}
    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "_one_step", dies)
        with pytest.raises(KeyboardInterrupt):
            run(RECIPE, tmp_path / "killed", **options)
    run(RECIPE, tmp_path / "killed", **options)
    assert content_hash(tmp_path / "killed") == content_hash(out)


@pytest.mark.parametrize(
    ("stage", "frames", "complaint"),
    [
        ("transformer", 85, "transformer.sizes.frames must be at most 81, .* got 85"),
        ("causal", 965, "causal.sizes.frames must be at most 961, .* got 965"),
        ("few_steps", 965, "few_steps.sizes.frames must be at most 961, .* got 965"),
        ("causal", 13, r"causal.sizes.frames must be 8n \+ 1 .* got 13"),
        ("few_steps", 13, r"few_steps.sizes.frames must be 8n \+ 1 .* got 13"),
    ],
)
def test_a_further_size_whose_clips_do_not_fit_is_named(tmp_path, stage, frames, complaint):
    size = replace(getattr(RECIPE, stage).sizes[0], frames=frames)
    recipe = merge(RECIPE, {stage: {"sizes": (size,)}, "takes": {"chunk": 2}})
    start = tmp_path / "start"
    start_of(start, stage)
    if stage == "few_steps":
        shapes = causal_shapes(recipe)
        weights.export_model(start, build(shapes), shapes)
    with pytest.raises(SettingError, match=complaint):
        run(recipe, tmp_path / "out", stage=stage, device=CPU, start=start)


def test_a_stage_that_knows_no_further_sizes_says_so(tmp_path):
    recipe = merge(RECIPE, {"autoencoder": STAGE})
    with pytest.raises(SettingError, match="stage autoencoder trains at one size"):
        run(recipe, tmp_path, stage="autoencoder", device=CPU)


def test_small_renderings_have_the_share_of_scripts_over_several():
    filming = replace(RECIPE.filming, config=replace(RECIPE.causal, render_batch=1, pool=2))
    assert [filming.scripts_of(number) for number in range(6)] == [0, 1, 0, 1, 0, 1]
    more = replace(filming, config=replace(RECIPE.causal, render_batch=16, pool=16))
    assert {more.scripts_of(number) for number in range(6)} == {8}
    films, told = filming.film(0, 1, CPU)
    assert len(films) == len(told) == 1


@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
def test_a_share_of_the_wordings_names_no_colours(share):
    config = replace(RECIPE.causal, unnamed=share, render_batch=60, pool=60, sizes=())
    scenes = sample_scenes(60, np.random.default_rng(0), level=FIRST)
    tokenizer = Tokenizer(RECIPE.model.words, 64)
    tokens = caption_tokens(scenes, tokenizer, random.Random(0), FIRST, config.unnamed)
    red = {tokenizer.read(name).tokens[0] for name in FIRST.colours}
    alone = (scenes.num_subjects == 1).nonzero()[0]
    named = [bool(red & set(row.tolist())) for i in alone for row in tokens[i]]
    assert sum(named) / len(named) == pytest.approx(1 - share, abs=0.12)


@pytest.fixture
def no_graphs():
    """None from other tests, and none left to them."""
    torch.compiler.reset()
    yield
    torch.compiler.reset()


@pytest.mark.compile
@pytest.mark.usefixtures("no_graphs")
@pytest.mark.filterwarnings("ignore:The .grad attribute")  # from inside the compiler
def test_a_further_size_stays_under_the_limit_of_compiled_graphs(tmp_path, monkeypatch):
    compiled = torch.compile
    monkeypatch.setattr(
        torch, "compile", lambda f, **options: compiled(f, backend="eager", **options)
    )
    # The hook that checks shapes makes the compiler count these and the blocks as one function.
    monkeypatch.setattr(denoiser, "compile_residuals", lambda _: None)
    recipe = merge(RECIPE, {"few_steps": {"compile": True}})
    start = start_of(tmp_path / "start", "few_steps")
    with torch._dynamo.config.patch(fail_on_recompile_limit_hit=True):
        run(recipe, tmp_path / "out", stage="few_steps", device=CPU, start=start)
