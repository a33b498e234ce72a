"""The stage matching makes a few-step model film as its teacher does, on takes of its own."""

import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from test_recipes_few_steps import CPU, Watch, networks
from training_help import TINY_MODEL

from longtake import flow, pipeline
from longtake.checkpoints import content_hash
from longtake.config import MatchConfig, Sampling, merge
from longtake.errors import SettingError
from longtake.presets import MODEL_FILE
from longtake.recipes import matching, weights
from longtake.recipes.causal import causal_shapes
from longtake.recipes.folder import resume_point
from longtake.recipes.previz import run
from longtake.recipes.recipe import PrevizRecipe
from longtake.recipes.settings import load_recipe
from longtake.text.tokenizer import NULL
from longtake.train.data import generator_for
from longtake.train.loop import Trainer
from longtake.train.matching import at_jump, clean_at, matching_loss, own_takes

ROOT = Path(__file__).parents[1]
CHUNKS = (2, 1, 1)
RECIPE = merge(
    PrevizRecipe(),
    {
        "level": "action",
        "model": TINY_MODEL,
        "matching": {
            "steps": 5, "batch": 4, "frames": 13, "height": 64, "width": 64, "warmup": 1,
            "pool": 4, "render_batch": 2, "refresh_every": 2,
            "precision": "fp32", "compile": False, "log_every": 1, "checkpoint_every": 2,
        },
        "takes": {"chunk": 1},
    },
)  # fmt: skip
TEACHER = causal_shapes(RECIPE)
SHAPES = replace(TEACHER, sampling=Sampling(steps=3, guidance=1.0, shift=10.0, sampler="euler"))
FILMING = replace(RECIPE.filming, config=RECIPE.matching)


@pytest.fixture(autouse=True)
def _one_precision():
    before = torch.get_float32_matmul_precision()
    yield
    torch.set_float32_matmul_precision(before)


def denoiser(seed=0):
    torch.manual_seed(seed)
    text, transformer, _ = networks(TEACHER)
    torch.nn.init.normal_(transformer.head.weight, std=0.1 * (1 + seed))
    return text, transformer


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """A model that few_steps left, and the one that it went on from."""
    start, teacher = tmp_path_factory.mktemp("start"), tmp_path_factory.mktemp("teacher")
    weights.export_model(start, networks(SHAPES), SHAPES)
    parts = networks(TEACHER)
    torch.nn.init.normal_(parts[1].head.weight, std=0.3)
    weights.export_model(teacher, parts, TEACHER)
    return {"start": start, "teacher": teacher}


@pytest.fixture(scope="module")
def whole(folders, tmp_path_factory):
    """What a run makes that nobody disturbs."""
    folder = tmp_path_factory.mktemp("matched")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(matching, "sample_strips", lambda path, *_: path.touch())
        return folder, run(RECIPE, folder, stage="matching", device=CPU, **folders)


def inputs(clips=4, **takes):
    filming = replace(FILMING, takes=replace(FILMING.takes, **takes))
    torch.manual_seed(1)
    batch = torch.randn(clips, 8, 4, 2, 2), torch.randint(3, 9, (clips, 2, 3, 6))
    return matching._takes_inputs(filming, 3)(batch, generator_for(0, 0, CPU))


def loss_of(student, teacher, critic, guidance=1.0, precision="fp32"):
    filming = replace(FILMING, config=replace(FILMING.config, precision=precision))
    match = MatchConfig(guidance=guidance)
    return matching._takes_loss(student, teacher, critic, filming, match, SHAPES)


def test_what_is_left_is_sampled_as_before_and_the_critic_is_not_in_it(whole, folders):
    folder, outcome = whole
    model = pipeline.load(str(folder), device="cpu", precision="fp32")
    assert model.config == SHAPES
    assert math.isfinite(outcome.held_out_loss)
    changed = [
        (folder / f"{part}.safetensors").read_bytes()
        != (folders["start"] / f"{part}.safetensors").read_bytes()
        for part in ("autoencoder", "text", "transformer")
    ]
    assert changed == [False, True, True]
    files = {path.name for path in folders["start"].iterdir()}
    assert set(outcome.files) == files | {"matching.csv", "matching.png"}
    assert resume_point(folder) is None


@pytest.mark.slow
def test_a_run_killed_anywhere_goes_on_to_the_same_bytes(whole, folders, tmp_path, monkeypatch):
    monkeypatch.setattr(matching, "sample_strips", lambda *_: None)
    called, original = [], Trainer._one_step

    def dies(trainer):
        called.append(None)
        if len(called) == 4:
            raise KeyboardInterrupt
        return original(trainer)

    options = {"stage": "matching", "device": CPU, **folders}
    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "_one_step", dies)
        with pytest.raises(KeyboardInterrupt):
            run(RECIPE, tmp_path, **options)
    assert not (tmp_path / MODEL_FILE).exists()
    assert resume_point(tmp_path) == "step 2 of 5 of the matching"
    outcome = run(RECIPE, tmp_path, **options)
    assert content_hash(tmp_path) == content_hash(whole[0])
    assert outcome.held_out_loss == whole[1].held_out_loss


@pytest.mark.slow
def test_it_trains_at_two_sizes(folders, tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(matching, "sample_strips", lambda *_: None)
    size = {"width": 96, "height": 64, "share": 0.4, "batch": 2, "frames": 9}
    recipe = merge(RECIPE, {"matching": {"sizes": [size], "steps": 3}})
    with caplog.at_level("INFO", logger="longtake.train"):
        run(recipe, tmp_path, stage="matching", device=CPU, **folders)
    told = [text for text in caplog.messages if "96x64, 9 frames: held-out loss" in text]
    assert len(told) == 2
    longer = merge(RECIPE, {"matching": {"sizes": [size | {"frames": 965}]}})
    with pytest.raises(SettingError, match="matching.sizes.frames must be at most"):
        run(longer, tmp_path / "o", stage="matching", device=CPU, **folders)


def test_a_critic_that_sees_what_the_teacher_sees_leaves_the_student_alone():
    student, known = denoiser(1), denoiser(2)
    loss, apart = loss_of(student, known, known)(*inputs())
    loss.backward()
    assert apart == 0
    for part in student:
        assert all(p.grad is None or not p.grad.any() for p in part.parameters())


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_student_and_critic_learn_and_the_teacher_does_not(precision):
    student, teacher, critic = (denoiser(seed) for seed in range(3))
    for part in teacher:
        part.requires_grad_(False)
    loss, _ = loss_of(student, teacher, critic, 3.0, precision)(*inputs())
    loss.backward()
    for part in (*student, *critic):
        assert not [name for name, p in part.named_parameters() if p.grad is None]
    assert all(p.grad is None for part in teacher for p in part.parameters())


def test_the_gradient_leads_from_the_critic_to_the_teacher():
    torch.manual_seed(0)
    made = torch.randn(2, 3, 4, 2, 2, requires_grad=True)
    teacher, critic = torch.randn(2, 2, 3, 4, 2, 2).unbind(0)
    counted = torch.ones(2, 4, dtype=torch.bool)
    counted[0, 0] = False
    matching_loss(made, teacher, critic, counted).backward()
    apart = ((made.detach() - teacher) * counted[:, None, :, None, None]).abs().mean((1, 2, 3, 4))
    expected = (critic - teacher) / apart.view(2, 1, 1, 1, 1) / (7 * 12)
    expected[0, :, 0] = 0
    torch.testing.assert_close(made.grad, expected)


def test_takes_are_what_a_rollout_makes(folders):
    """Own takes beside the pipeline's, from the same noise and prompt."""
    model = pipeline.load(str(folders["start"]), device="cpu", precision="fp32")
    prompt = "a red ball rolls on grass"
    settings = replace(model.defaults, width=64, height=64, frames=13)
    _, height, width = 8, 2, 2
    noise = flow.frame_noise(settings.seed, range(4), (8, height, width))[None]
    tokens = torch.full((1, 3, model.tokenizer.max_tokens), 0)
    read = model.tokenizer.read(prompt).tokens
    tokens[:, :, : len(read)] = torch.tensor(read)
    text, mask = model.text(tokens[0])
    levels = flow.schedule(3, 10.0).float()[:, None, None].expand(-1, 1, 4)
    made, _ = own_takes(model.transformer, noise, levels, text[None], mask[None], CHUNKS)
    frames = model.generate(prompt, settings=settings).frames
    decoded = model.autoencoder.decode(made)[0]
    shown = ((decoded.clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8)
    assert (shown.int() - frames.int()).abs().max() <= 1


def test_the_last_jump_from_where_it_began_leads_to_the_take():
    _, transformer = denoiser(1)
    torch.manual_seed(0)
    noise, text = torch.randn(2, 8, 4, 2, 2), torch.randn(2, 3, 6, TEACHER.text.width)
    mask = torch.ones(2, 3, 6, dtype=torch.bool)
    levels = flow.schedule(3, 10.0).float()[:, None, None].expand(-1, 2, 4)
    made, begun = own_takes(transformer, noise, levels, text, mask, (2, 1, 1))
    assert begun.shape == (3, *noise.shape)
    torch.testing.assert_close(begun[0], noise)
    x = at_jump(begun, torch.full((2, 4), 2))
    with torch.no_grad():
        predicted, _ = transformer.advance(
            x[:, :, :2], levels[2][:, :2], text[:, 0], mask[:, 0], (2,)
        )
    torch.testing.assert_close(clean_at(x[:, :, :2], predicted, levels[2][:, :2]), made[:, :, :2])


def test_a_given_frame_stays_as_it_is_and_is_judged_as_clean():
    first, noises, given, place, levels, tokens = inputs(clips=400, first_frame=0.25)
    assert (len(noises), first.shape[2]) == (3, 1)
    assert given[:, 0].float().mean() == pytest.approx(0.25, abs=0.06)
    assert not given[:, 1:].any()
    assert set(place.flatten().tolist()) == {0, 1, 2}
    assert (place[:, :2] == place[:, :1]).all()
    assert (place[:, 2] != place[:, 3]).any()
    assert ((levels > 0) & (levels < 1)).all()
    assert not (tokens[..., 0] == NULL).any()


def test_the_loss_draws_nothing_waits_for_nothing_and_makes_no_tensor_from_numbers():
    student, teacher, critic = (denoiser(seed) for seed in range(3))
    loss, drawn = loss_of(student, teacher, critic, 3.0), inputs()
    with Watch() as watch:
        loss(*drawn)[0].backward()
    assert {"mm", "gather"} <= watch.names
    lists = {"lift_fresh", "lift_fresh_copy", "_local_scalar_dense", "nonzero", "masked_select"}
    assert watch.names & lists == set()
    assert not [name for name in watch.names if name.startswith(("rand", "normal", "bernoulli"))]


def test_models_that_do_not_belong_together_are_refused(folders, tmp_path):
    options = {"stage": "matching", "device": CPU}
    with pytest.raises(SettingError, match="goes on from a model by chunks that few_steps left"):
        run(RECIPE, tmp_path / "a", start=folders["teacher"], teacher=folders["teacher"], **options)
    other = replace(TEACHER, chunk=2)
    (tmp_path / "other").mkdir()
    weights.export_model(tmp_path / "other", networks(other), other)
    with pytest.raises(SettingError, match="is no teacher of"):
        run(RECIPE, tmp_path / "a", start=folders["start"], teacher=tmp_path / "other", **options)
    with pytest.raises(SettingError, match="wants --teacher, the model that few_steps went on"):
        run(RECIPE, tmp_path / "a", start=folders["start"], **options)
    with pytest.raises(SettingError, match="no other stage has one"):
        run(RECIPE, tmp_path / "a", stage="few_steps", device=CPU, **folders)
    with pytest.raises(SettingError, match="--teacher wants a folder with a trained model"):
        run(RECIPE, tmp_path / "a", start=folders["start"], teacher=tmp_path, **options)
    assert not (tmp_path / "a").exists()


def test_the_example_is_a_change_of_the_recipe():
    recipe = load_recipe(str(ROOT / "examples" / "matching_train.json"))
    assert recipe.level == "whole"
    assert recipe.match.guidance == 3.0
