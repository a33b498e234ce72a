"""A recipe makes a model that loads; a run killed anywhere goes on to the same bytes."""

import csv
import json
import math
import random
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from longtake import pipeline
from longtake.checkpoints import content_hash, read_json
from longtake.config import (
    ModelConfig,
    Refine,
    SampleConfig,
    Sampling,
    TextConfig,
    from_dict,
    merge,
)
from longtake.errors import CannotHere, OutputError, SettingError
from longtake.presets import MODEL_FILE, find
from longtake.recipes import autoencoder, denoiser, weights
from longtake.recipes.causal import causal_shapes
from longtake.recipes.folder import has_weights, resume_point, weights_path
from longtake.recipes.previz import run
from longtake.recipes.recipe import PrevizRecipe, world_words
from longtake.recipes.settings import load_recipe
from longtake.text import TextEncoder, Tokenizer
from longtake.train.loop import Trainer
from longtake.world import caption, sample_scenes, vocabulary
from longtake.world.level import LEVELS, WHOLE

ROOT = Path(__file__).parents[1]
CPU = torch.device("cpu")
STAGE = {
    "steps": 5, "batch": 4, "frames": 5, "height": 64, "width": 64, "warmup": 1,
    "pool": 4, "render_batch": 2, "refresh_every": 2,
    "precision": "fp32", "compile": False, "log_every": 1, "checkpoint_every": 2,
}  # fmt: skip
RECIPE = merge(
    PrevizRecipe(),
    {
        "model": {
            "autoencoder": {
                "latent_channels": 8, "widths": [16, 24, 32],
                "encoder_blocks": [1, 1, 1], "decoder_blocks": [1, 1, 1],
            },
            "transformer": {
                "latent_channels": 8, "width": 48, "depth": 2, "heads": 2, "text_width": 24,
                "segment": 1,
            },
            "text": {"width": 24, "depth": 1, "heads": 2},
            "max_frames": 5,
        },
        "autoencoder": STAGE,
        "transformer": STAGE,
        "held_out": 16,
    },
)  # fmt: skip


@pytest.fixture(autouse=True)
def _one_precision():
    before = torch.get_float32_matmul_precision()
    yield
    torch.set_float32_matmul_precision(before)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """What a run makes that nobody disturbs."""
    folder = tmp_path_factory.mktemp("recipes") / "deep" / "whole"
    return folder, run(RECIPE, folder, device=CPU)


def rows(path):
    return list(csv.DictReader(path.read_text().splitlines()))


def test_both_stages_make_a_model_that_loads_and_films(whole):
    folder, outcome = whole
    model = pipeline.load(str(folder), device="cpu", precision="fp32")
    assert model.config == RECIPE.model
    film = model.generate(
        "a red ball", settings=SampleConfig(width=64, height=64, frames=5, steps=2)
    )
    assert film.frames.shape == (5, 64, 64, 3)
    assert outcome.held_out_psnr > 5


def test_a_finished_folder_has_a_model_curves_and_pictures_and_no_state(whole):
    folder, outcome = whole
    parts = [f"{part}.safetensors" for part in ("autoencoder", "text", "transformer")]
    curves = [
        f"{stage}.{end}" for stage in ("autoencoder", "transformer") for end in ("csv", "png")
    ]
    indexes = [f"{part}.index.json" for part in parts]
    assert list(outcome.files) == sorted([*parts, *indexes, *curves, MODEL_FILE])
    assert resume_point(folder) is None
    for stage in ("autoencoder", "transformer"):
        assert [int(row["step"]) for row in rows(folder / f"{stage}.csv")] == [1, 2, 3, 4, 5]


def killed_at(monkeypatch, target, name, moment):
    """Kill the run when it calls something for the n-th time."""
    called, original = [], getattr(target, name)

    def dies(*args, **kwargs):
        called.append(None)
        if len(called) == moment:
            raise KeyboardInterrupt
        return original(*args, **kwargs)

    monkeypatch.setattr(target, name, dies)


@pytest.mark.slow
@pytest.mark.parametrize(
    "target, name, moment, point",
    [
        (Trainer, "_one_step", 2, None),
        (Trainer, "_one_step", 4, "step 2 of 5 of the autoencoder"),
        (autoencoder, "measure_latents", 1, "step 5 of 5 of the autoencoder"),
        (autoencoder, "export", 1, "step 5 of 5 of the autoencoder"),
        (Trainer, "_one_step", 6, "step 5 of 5 of the autoencoder"),
        (Trainer, "_one_step", 10, "step 4 of 5 of the transformer"),
        (weights, "export", 2, "step 5 of 5 of the transformer"),
        (weights, "atomic_write", 1, "step 5 of 5 of the transformer"),
    ],
)
def test_a_run_killed_anywhere_goes_on_to_the_same_bytes(
    whole, tmp_path, monkeypatch, target, name, moment, point
):
    # Pictures take most of the time and none of them is part of the model.
    monkeypatch.setattr(denoiser, "sample_strips", lambda *_: None)
    monkeypatch.setattr(autoencoder, "film_strips", lambda *_, **__: None)
    with monkeypatch.context() as patch:
        killed_at(patch, target, name, moment)
        with pytest.raises(KeyboardInterrupt):
            run(RECIPE, tmp_path, device=CPU)
    assert not (tmp_path / MODEL_FILE).exists()
    assert resume_point(tmp_path) == point
    outcome = run(RECIPE, tmp_path, device=CPU)
    assert content_hash(tmp_path) == content_hash(whole[0])
    assert outcome.held_out_psnr == whole[1].held_out_psnr
    for stage in ("autoencoder", "transformer"):
        losses = [row["loss"] for row in rows(tmp_path / f"{stage}.csv")]
        assert losses == [row["loss"] for row in rows(whole[0] / f"{stage}.csv")]


@pytest.mark.slow
def test_one_stage_after_the_other_makes_the_same_bytes_as_both_at_once(whole, tmp_path):
    first = run(RECIPE, tmp_path, stage="autoencoder", device=CPU)
    assert MODEL_FILE not in first.files
    second = run(RECIPE, tmp_path, stage="transformer", device=CPU)
    assert (first.held_out_psnr, second.held_out_psnr) == (whole[1].held_out_psnr, None)
    assert content_hash(tmp_path) == content_hash(whole[0])


@pytest.mark.parametrize(
    "change",
    [
        {"transformer": {"learning_rate": 0.5}},
        {"model": {"transformer": {"attention": "softmax"}}},
        {"model": {"transformer": {"width": 64}}},
    ],
)
def test_a_run_is_not_resumed_with_other_settings_or_shapes(whole, tmp_path, monkeypatch, change):
    killed_at(monkeypatch, Trainer, "_one_step", 4)
    options = {"stage": "transformer", "device": CPU, "start": whole[0]}
    with pytest.raises(KeyboardInterrupt):
        run(RECIPE, tmp_path, **options)
    changed = merge(RECIPE, change)
    if "width" in str(change):
        # Weights of another shape cannot be started from, so the run begins with none.
        other = tmp_path / "autoencoder.safetensors"
        other.write_bytes((whole[0] / other.name).read_bytes())
        options.pop("start")
    with pytest.raises(SettingError, match="was made with other settings"):
        run(changed, tmp_path, **options)


@pytest.mark.parametrize("mode", ["linear", "block", "softmax"])
def test_the_loss_falls_in_every_attention_mode(whole, tmp_path, monkeypatch, mode):
    monkeypatch.setattr(denoiser, "sample_strips", lambda *_: None)
    recipe = merge(
        RECIPE,
        {
            # Three latent frames, so that `block` has two segments; the same clips all the time.
            "model": {"transformer": {"attention": mode}, "max_frames": 9},
            "transformer": {
                "frames": 9, "steps": 16, "batch": 16, "refresh_every": 100,
                "learning_rate": 1e-2, "muon_learning_rate": 1e-2, "decay": 0.0,
            },
        },
    )  # fmt: skip
    # The autoencoder alone: a denoiser to go on from would have the default mode.
    for file in whole[0].glob("autoencoder.safetensors*"):
        (tmp_path / file.name).write_bytes(file.read_bytes())
    run(recipe, tmp_path, stage="transformer", device=CPU)
    losses = [float(row["loss"]) for row in rows(tmp_path / "transformer.csv")]
    assert len(losses) == 16
    assert all(math.isfinite(loss) for loss in losses)
    assert sum(losses[-4:]) < 0.9 * sum(losses[:4])
    assert pipeline.load(str(tmp_path)).config.transformer.attention == mode


@pytest.mark.slow
def test_a_start_gives_all_networks_their_weights(whole, tmp_path):
    still = {"steps": 1, "learning_rate": 0.0, "muon_learning_rate": 0.0}
    recipe = merge(RECIPE, {"autoencoder": still, "transformer": still})
    run(recipe, tmp_path, device=CPU, start=whole[0])
    for part in ("autoencoder", "text", "transformer"):
        old, new = (load_file(folder / f"{part}.safetensors") for folder in (whole[0], tmp_path))
        # The latents' scale is measured again.
        trained = [name for name in old if not name.startswith("latent_")]
        assert trained
        assert all(torch.equal(new[name], old[name]) for name in trained)


def test_weights_in_shards_are_weights_too():
    assert not (find("previz").folder / "transformer.safetensors").exists()
    assert has_weights(find("previz").folder, "transformer")


def test_a_finished_model_is_not_trained_over(whole):
    before = content_hash(whole[0])
    with pytest.raises(OutputError, match="holds a finished model already; .* --out"):
        run(RECIPE, whole[0], device=CPU)
    assert content_hash(whole[0]) == before


def test_what_is_missing_or_in_the_way_is_told_before_anything_is_made(tmp_path):
    out = tmp_path / "out"
    with pytest.raises(SettingError, match="run --stage autoencoder first"):
        run(RECIPE, out, stage="transformer", device=CPU)
    with pytest.raises(SettingError, match="--start wants a folder with an autoencoder"):
        run(RECIPE, out, device=CPU, start=tmp_path)
    (tmp_path / "file").write_text("mine")
    with pytest.raises(OutputError, match="file is a file, not a folder"):
        run(RECIPE, tmp_path / "file" / "out", device=CPU)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_without_tensorboard_the_extra_is_named_and_nothing_is_made(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(CannotHere, match=r"pip install 'longtake\[train\]'"):
        run(RECIPE, tmp_path / "out", device=CPU)
    assert list(tmp_path.iterdir()) == []


def test_the_vocabulary_has_every_word_of_the_world_and_no_hyphen():
    words = world_words()
    assert len(set(words)) == len(words)
    assert not [word for word in words if "-" in word]
    tokenizer = Tokenizer(words, 64)
    readings = [tokenizer.read(entry) for entry in vocabulary()]
    assert [(r.unknown, r.replaced, r.cut) for r in readings] == [((), (), 0)] * len(readings)


def test_the_words_come_from_the_level():
    assert PrevizRecipe().model.words == world_words()
    recipe = PrevizRecipe(level="whole")
    assert recipe.model.words == world_words(WHOLE)
    assert set(world_words()) < set(recipe.model.words)


def test_weights_of_a_narrower_vocabulary_can_be_gone_on_from(tmp_path):
    config = TextConfig(width=32, depth=1, heads=2, max_tokens=8)
    narrow, wide = ("ball", "red"), ("a", "ball", "red")
    one, two = TextEncoder(config, 5), TextEncoder(replace(config, max_tokens=12), 6)
    weights.export(one, weights_path(tmp_path, "text"))
    (tmp_path / MODEL_FILE).write_text(json.dumps({"words": narrow, "text": {"max_tokens": 8}}))
    fresh = two.tokens.weight[3].clone()
    weights.fill_text(two, tmp_path, wide)
    kept = one.tokens.weight.to(torch.bfloat16).float()
    assert torch.equal(two.tokens.weight[[0, 1, 2, 4, 5]], kept)
    assert torch.equal(two.tokens.weight[3], fresh)
    assert torch.equal(two.positions[:8], one.positions.to(torch.bfloat16).float())


@pytest.mark.parametrize("level", LEVELS, ids=lambda level: level.name)
def test_the_longest_captions_fit_the_text_encoder(level):
    recipe = PrevizRecipe(level=level.name)
    tokenizer = Tokenizer(recipe.model.words, recipe.model.text.max_tokens)
    rng = random.Random(0)
    scenes = sample_scenes(300, np.random.default_rng(0), level=level)
    told = [caption(scenes, i, rng, style=s).text for i in range(300) for s in level.styles]
    assert sum(tokenizer.read(text).cut for text in told) == 0


def test_the_examples_lead_to_the_embedded_model():
    shipped = from_dict(ModelConfig, read_json(find("previz").folder / MODEL_FILE))
    recipe = load_recipe(str(ROOT / "examples" / "long_train.json"))
    by_chunks, jumps = causal_shapes(recipe), recipe.jumps
    few = Sampling(steps=jumps.steps, guidance=1.0, shift=jumps.shift, sampler="euler")
    # How larger films are made was not trained: it is what large_train.json would leave.
    assert shipped == replace(by_chunks, sampling=few, refine=shipped.refine)
    further = load_recipe(str(ROOT / "examples" / "large_train.json"))
    levels = [size.highest for size in further.few_steps.sizes]
    assert shipped.refine == Refine(width=448, height=256, level=round(0.75 * levels[0], 6))


@pytest.mark.parametrize(
    ("example", "stage", "log"),
    [
        ("whole", "autoencoder", "autoencoder_whole"),
        ("whole", "transformer", "transformer_whole_2"),
        ("causal", "causal", "causal_whole_2"),
        ("few_steps", "few_steps", "few_steps_whole_2"),
        ("long", "causal", "causal_long"),
        ("long", "few_steps", "few_steps_long"),
    ],
)
def test_the_logs_of_the_embedded_model_are_kept(example, stage, log):
    config = getattr(load_recipe(str(ROOT / "examples" / f"{example}_train.json")), stage)
    last = rows(ROOT / "docs" / "training" / f"{log}.csv")[-1]
    assert float(last["time_s"]) / 60 == pytest.approx(config.minutes, rel=0.1)


def test_the_defaults_are_what_the_first_run_was_trained_with():
    recipe = PrevizRecipe()
    for stage, config in (("autoencoder", recipe.autoencoder), ("transformer", recipe.transformer)):
        last = rows(ROOT / "docs" / "training" / f"{stage}.csv")[-1]
        assert int(last["step"]) == config.steps


def test_the_second_run_of_the_embedded_model_is_an_example_and_its_log_is_kept():
    recipe = load_recipe(str(ROOT / "examples" / "further_train.json"))
    log = rows(ROOT / "docs" / "training" / "transformer_further.csv")
    assert recipe.model == PrevizRecipe().model
    assert float(log[-1]["time_s"]) / 60 == pytest.approx(recipe.transformer.minutes, rel=0.1)
    assert int(log[0]["step"]) == recipe.transformer.log_every


@pytest.mark.parametrize(
    "path", sorted((ROOT / "examples").glob("*_train.json")), ids=lambda p: p.stem
)
def test_every_example_is_a_recipe_that_differs_from_the_shipped_one(path):
    assert load_recipe(str(path)) != PrevizRecipe()


def test_a_recipe_is_a_name_or_a_file_of_what_differs(tmp_path):
    assert load_recipe("previz") == PrevizRecipe()
    path = tmp_path / "mine.json"
    path.write_text('\ufeff{"transformer": {"steps": 7}}', "utf-8")
    assert load_recipe(str(path)) == merge(PrevizRecipe(), {"transformer": {"steps": 7}})


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        ('{"transformer": {"stpes": 7}}', "unknown setting 'stpes' .* did you mean 'steps'"),
        ('{"transformerr": {}}', "unknown setting 'transformerr' .* did you mean 'transformer'"),
        ('{"transformer": {"steps": 0}}', "steps must be 1 to .* got 0"),
        ('{"transformer": {"shift": NaN}}', "shift must be 0.1 to 100, got nan"),
        ('{"transformer": {"width": 450}}', "width must be .* got 450; the nearest is 448"),
        ('{"transformer": {"frames": 85}}', "must be at most model.max_frames 81, got 85"),
        ('{"held_out": 0}', "held_out must be at least 1, got 0"),
        ('{"transformer": 7}', "transformer cannot be 7"),
        ('{\n "held_out": 4,\n}', "line 3, column 1 is no JSON"),
        ("", "line 1, column 1 is no JSON"),
        ("[1]", "must be one JSON object"),
        ("[" * 100_000, "no JSON"),
        ("9" * 5000, "no JSON"),
        (b"\xff\xfe", "cannot read .* UTF-8"),
        (b" " * (2**20 + 1), "more than 1,048,576 bytes"),
    ],
    ids=range(15),
)
def test_a_bad_settings_file_is_named_with_what_is_wrong(tmp_path, content, complaint):
    path = tmp_path / "mine.json"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(SettingError, match=complaint) as raised:
        load_recipe(str(path))
    assert "mine.json" in str(raised.value)


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("previzz", "did you mean 'previz'"),
        ("folder/previs.json", "did you mean 'previz'"),
        ("nothing.json", "recipes are previz"),
        ("x" * 5000, "cannot read"),
    ],
)
def test_a_recipe_that_does_not_exist_names_those_that_do(name, hint):
    with pytest.raises(SettingError, match=hint):
        load_recipe(name)


def test_the_example_is_a_change_of_the_recipe():
    recipe = load_recipe(str(ROOT / "examples" / "tiny_train.json"))
    assert json.loads((ROOT / "examples" / "tiny_train.json").read_text())["held_out"] == 4
    assert recipe.transformer.frames == recipe.model.max_frames


@pytest.mark.compile
@pytest.mark.filterwarnings("ignore:The .grad attribute")  # from inside the compiler
def test_both_stages_together_stay_under_the_limit_of_compiled_graphs(tmp_path, monkeypatch):
    compiled = torch.compile
    monkeypatch.setattr(
        torch, "compile", lambda f, **options: compiled(f, backend="eager", **options)
    )
    monkeypatch.setattr(denoiser, "sample_strips", lambda *_: None)
    # As many blocks as the embedded model has, and clips of different length in the two stages.
    blocks = {"encoder_blocks": [2, 2, 1], "decoder_blocks": [3, 3, 2]}
    recipe = merge(
        RECIPE,
        {
            "model": {"autoencoder": blocks, "max_frames": 9},
            "autoencoder": {"compile": True},
            "transformer": {"compile": True, "frames": 9},
        },
    )
    with torch._dynamo.config.patch(fail_on_recompile_limit_hit=True):
        run(recipe, tmp_path, device=CPU)
