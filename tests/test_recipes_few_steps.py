"""The stage few_steps makes a model that is sampled in four steps without guidance."""

import csv
import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from training_help import TINY_MODEL

from longtake import flow, pipeline
from longtake.checkpoints import content_hash
from longtake.config import Bucket, JumpConfig, Refine, Sampling, merge
from longtake.errors import SettingError
from longtake.pipeline import Border, Progress, build
from longtake.presets import MODEL_FILE
from longtake.recipes import denoiser, few_steps, weights
from longtake.recipes.causal import causal_shapes
from longtake.recipes.folder import resume_point
from longtake.recipes.previz import run
from longtake.recipes.recipe import PrevizRecipe
from longtake.recipes.settings import load_recipe
from longtake.text.tokenizer import NULL
from longtake.train.data import generator_for
from longtake.train.loop import Trainer

ROOT = Path(__file__).parents[1]
CPU = torch.device("cpu")
RECIPE = merge(
    PrevizRecipe(),
    {
        "level": "action",
        "model": TINY_MODEL,
        "few_steps": {
            "steps": 5, "batch": 4, "frames": 13, "height": 64, "width": 64, "warmup": 1,
            "pool": 4, "render_batch": 2, "refresh_every": 2,
            "precision": "fp32", "compile": False, "log_every": 1, "checkpoint_every": 2,
        },
        "takes": {"chunk": 1},
    },
)  # fmt: skip
CHUNKS = {"one_pass": (), "by_chunks": (2, 1, 1)}


@pytest.fixture(autouse=True)
def _one_precision():
    before = torch.get_float32_matmul_precision()
    yield
    torch.set_float32_matmul_precision(before)


@pytest.fixture(scope="module", params=list(CHUNKS))
def kind(request):
    return request.param


def shapes_of(kind, recipe=RECIPE):
    return causal_shapes(recipe) if kind == "by_chunks" else recipe.model


def networks(shapes):
    """With velocities that are not zero, and guidance that shows."""
    torch.manual_seed(0)
    parts = build(shapes)
    torch.nn.init.normal_(parts[1].head.weight, std=0.1)
    torch.nn.init.constant_(parts[1].text_norm, 3.0)
    return parts


@pytest.fixture(scope="module")
def start(kind, tmp_path_factory):
    folder = tmp_path_factory.mktemp("start")
    weights.export_model(folder, networks(shapes_of(kind)), shapes_of(kind))
    return folder


@pytest.fixture(scope="module")
def whole(start, tmp_path_factory):
    """What a run makes that nobody disturbs."""
    folder = tmp_path_factory.mktemp("few")
    return folder, run(RECIPE, folder, stage="few_steps", device=CPU, start=start)


def rows(folder):
    return list(csv.DictReader((folder / "few_steps.csv").read_text().splitlines()))


@pytest.mark.slow
def test_the_model_that_is_left_is_sampled_in_its_own_four_steps_without_guidance(whole, kind):
    folder, outcome = whole
    model = pipeline.load(str(folder), device="cpu", precision="fp32")
    assert model.config.sampling == Sampling(steps=4, guidance=1.0, shift=10.0, sampler="euler")
    assert model.config.chunk == (1 if kind == "by_chunks" else 0)
    settings = replace(model.defaults, width=64, height=64, frames=13)
    events = list(model.stream("a red ball rolls on grass", settings))
    steps = [e for e in events if isinstance(e, Progress) and e.stage == "denoise"]
    assert len(steps) == 4 * max(1, len(CHUNKS[kind]))
    assert sum(isinstance(event, Border) for event in events) == len(CHUNKS[kind])
    assert math.isfinite(outcome.held_out_loss)
    assert {"few_steps.csv", "few_steps.png", MODEL_FILE} <= set(outcome.files)
    assert resume_point(folder) is None


def test_the_autoencoder_stays_as_it_was_and_the_rest_learns(whole, start):
    def same(part):
        name = f"{part}.safetensors"
        return (whole[0] / name).read_bytes() == (start / name).read_bytes()

    assert [same(part) for part in ("autoencoder", "text", "transformer")] == [True, False, False]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("target", "name", "moment", "point"),
    [
        (Trainer, "_one_step", 4, "step 2 of 5 of the few_steps"),
        (weights, "atomic_write", 1, "step 5 of 5 of the few_steps"),
    ],
)
def test_a_run_killed_anywhere_goes_on_to_the_same_bytes(
    whole, start, tmp_path, monkeypatch, target, name, moment, point
):
    monkeypatch.setattr(few_steps, "sample_strips", lambda *_: None)
    called, original = [], getattr(target, name)

    def dies(*args, **kwargs):
        called.append(None)
        if len(called) == moment:
            raise KeyboardInterrupt
        return original(*args, **kwargs)

    options = {"stage": "few_steps", "device": CPU, "start": start}
    with monkeypatch.context() as patch:
        patch.setattr(target, name, dies)
        with pytest.raises(KeyboardInterrupt):
            run(RECIPE, tmp_path, **options)
    assert not (tmp_path / MODEL_FILE).exists()
    assert resume_point(tmp_path) == point
    outcome = run(RECIPE, tmp_path, **options)
    assert content_hash(tmp_path) == content_hash(whole[0])
    assert outcome.held_out_loss == whole[1].held_out_loss
    assert [row["loss"] for row in rows(tmp_path)] == [row["loss"] for row in rows(whole[0])]


def loss_of(kind, jumps, *, student=None, teacher=None, **changes):
    text, transformer, _ = networks(shapes_of(kind))
    own = text, transformer
    config = replace(RECIPE.few_steps, **changes)
    return few_steps._jump_loss(student or own, teacher or own, config, jumps, CHUNKS[kind])


def inputs(kind, jumps, clips=4, takes=RECIPE.takes, dropout=0.0):
    filming = replace(
        RECIPE.filming, takes=takes, config=replace(RECIPE.few_steps, caption_dropout=dropout)
    )
    prepare = few_steps._jump_inputs(filming, jumps, CHUNKS[kind])
    told = (3,) if kind == "by_chunks" else ()
    torch.manual_seed(1)
    batch = torch.randn(clips, 8, 4, 2, 2), torch.randint(3, 9, (clips, 2, *told, 6))
    return prepare(batch, generator_for(0, 0, CPU))


@pytest.mark.parametrize("own", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("guidance", [1.0, 3.0])
def test_on_a_straight_path_there_is_nothing_to_learn(kind, own, guidance):
    straight = networks(shapes_of(kind))[:2]
    torch.nn.init.zeros_(straight[1].head.weight)
    torch.nn.init.normal_(straight[1].head.bias)
    jumps = JumpConfig(guidance=guidance, own=own)
    loss = loss_of(kind, jumps, student=straight, teacher=straight)
    assert loss(*inputs(kind, jumps))[0] < 1e-9


def test_a_teacher_that_jumps_as_the_student_leaves_nothing_but_guidance_to_learn(kind):
    def start_loss(guidance, parts):
        jumps = JumpConfig(guidance=guidance, parts=parts)
        return loss_of(kind, jumps)(*inputs(kind, jumps))[0].item()

    assert start_loss(1.0, 1) < 1e-9
    assert start_loss(1.0, 3) > 1e-6
    assert start_loss(3.0, 1) > 1e-6


def test_every_level_of_the_schedule_is_jumped_from_and_chunks_choose_alone(kind):
    place = inputs(kind, JumpConfig(steps=5), clips=400)[2]
    assert set(place.flatten().tolist()) == set(range(5))
    within = 2 if kind == "by_chunks" else 4
    assert (place[:, :within] == place[:, :1]).all()
    assert (place[:, -1] != place[:, 0]).any() == (kind == "by_chunks")


def test_given_frames_and_dropped_captions_come_in_their_shares(kind):
    *_, given, tokens = inputs(kind, JumpConfig(), clips=400, dropout=0.1)[:5]
    share = given[:, 0].float().mean()
    assert share == pytest.approx(0.25 if kind == "by_chunks" else 0.0, abs=0.06)
    assert not given[:, 1:].any()
    assert (tokens[..., 0] == NULL).float().mean() == pytest.approx(0.1, abs=0.05)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_all_weights_of_the_student_learn_and_none_of_the_teacher(kind, precision):
    student, teacher = networks(shapes_of(kind))[:2], networks(shapes_of(kind))[:2]
    for part in teacher:
        part.requires_grad_(False)
    jumps = JumpConfig()
    loss = loss_of(kind, jumps, student=student, teacher=teacher, precision=precision)
    loss(*inputs(kind, jumps))[0].backward()
    for part in student:
        missing = [name for name, p in part.named_parameters() if p.grad is None]
        assert not missing
    assert all(p.grad is None for part in teacher for p in part.parameters())


@pytest.mark.slow
def test_guidance_is_learned(kind):
    """A copy comes nearer to its guided teacher, on clips and own jumps it was not trained on."""
    teacher = networks(shapes_of(kind))[:2]
    for part in teacher:
        part.requires_grad_(False)
    student = networks(shapes_of(kind))[:2]
    jumps = JumpConfig(guidance=4.0, parts=2)
    loss = loss_of(kind, jumps, student=student, teacher=teacher)
    drawn = inputs(kind, jumps, clips=48)
    unseen = [part[:16] for part in drawn]
    optimiser = torch.optim.Adam([p for part in student for p in part.parameters()], lr=3e-3)
    before = loss(*unseen)[0].item()
    for _ in range(15):
        chosen = 16 + torch.randperm(32)[:8]
        optimiser.zero_grad()
        loss(*(part[chosen] for part in drawn))[0].backward()
        optimiser.step()
    assert loss(*unseen)[0].item() < 0.7 * before


def test_own_jumps_begin_where_the_student_led(kind):
    """A teacher that stands still shows where the jumps began: the target is then zero."""
    jumps = JumpConfig(own=1.0, guidance=1.0)
    drawn = inputs(kind, jumps, takes=replace(RECIPE.takes, first_frame=0.0))
    other = networks(shapes_of(kind))[:2]
    torch.nn.init.normal_(other[1].head.weight, std=0.5)
    teacher = networks(shapes_of(kind))[:2]
    near = loss_of(kind, jumps, teacher=teacher)(*drawn)[0]
    far = loss_of(kind, jumps, student=other, teacher=teacher)(*drawn)[0]
    none = replace(jumps, own=0.0)
    assert not torch.isclose(near, loss_of(kind, none, teacher=teacher)(*drawn)[0])
    assert far > near
    # From pure noise there is no jump before, so own and noised clips begin alike.
    first = (drawn[0], drawn[1], torch.zeros_like(drawn[2]), *drawn[3:])
    losses = [loss_of(kind, which, teacher=teacher)(*first)[0] for which in (jumps, none)]
    torch.testing.assert_close(*losses)


class Watch(TorchDispatchMode):
    """Names of all operations, backward as well."""

    def __init__(self):
        super().__init__()
        self.names = set()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.names.add(func.overloadpacket.__name__)
        return func(*args, **(kwargs or {}))


def test_the_loss_draws_nothing_waits_for_nothing_and_makes_no_tensor_from_numbers(kind):
    jumps = JumpConfig()
    loss, drawn = loss_of(kind, jumps), inputs(kind, jumps)
    with Watch() as watch:
        loss(*drawn)[0].backward()
    assert {"mm", "threshold_backward"} <= watch.names
    lists = {"lift_fresh", "lift_fresh_copy", "_local_scalar_dense", "nonzero", "masked_select"}
    assert watch.names & lists == set()
    assert not [name for name in watch.names if name.startswith(("rand", "normal", "bernoulli"))]


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"level": "whole"}, "level whole has words that the model does not know"),
        ({"few_steps": {"frames": 97}}, "few_steps.frames must be at most 81"),
    ],
)
def test_clips_that_the_model_was_not_made_for_are_refused(tmp_path, changes, complaint):
    weights.export_model(tmp_path, networks(RECIPE.model), RECIPE.model)
    recipe = merge(RECIPE, changes)
    with pytest.raises(SettingError, match=complaint):
        run(recipe, tmp_path / "out", stage="few_steps", device=CPU, start=tmp_path)


def test_clips_must_be_whole_chunks_of_the_model(tmp_path):
    shapes = causal_shapes(merge(RECIPE, {"takes": {"chunk": 2}, "causal": {"frames": 25}}))
    weights.export_model(tmp_path, networks(shapes), shapes)
    with pytest.raises(SettingError, match=r"few_steps.frames must be 8n \+ 1 .* got 13"):
        run(RECIPE, tmp_path / "out", stage="few_steps", device=CPU, start=tmp_path)


def test_without_a_model_to_go_on_from_nothing_begins(tmp_path):
    with pytest.raises(SettingError, match="few_steps stage goes on from a trained model"):
        run(RECIPE, tmp_path / "out", stage="few_steps", device=CPU)
    assert not (tmp_path / "out").exists()


def test_settings_of_jumps_that_do_not_fit_are_named():
    with pytest.raises(SettingError, match="guidance must be 1 to 30, got nan"):
        JumpConfig(guidance=math.nan)
    with pytest.raises(SettingError, match="parts must be 1 to 50, got 0"):
        JumpConfig(parts=0)


def test_the_teacher_walks_the_schedule_that_films_are_made_with():
    fine, coarse = flow.schedule(12, 10.0), flow.schedule(4, 10.0)
    torch.testing.assert_close(fine[::3], coarse)


def test_the_example_is_a_change_of_the_recipe():
    recipe = load_recipe(str(ROOT / "examples" / "few_steps_train.json"))
    assert recipe.level == "whole"
    assert recipe.few_steps.minutes == 3.4
    assert recipe.jumps.steps == 4


@pytest.fixture
def no_graphs():
    """None from other tests, and none left to them."""
    torch.compiler.reset()
    yield
    torch.compiler.reset()


@pytest.mark.compile
@pytest.mark.usefixtures("no_graphs")
@pytest.mark.filterwarnings("ignore:The .grad attribute")  # from inside the compiler
def test_the_blocks_have_few_graphs_for_each_of_the_three_passes(
    start, kind, tmp_path, monkeypatch
):
    compiled, made = torch.compile, []

    def counted(graph, _):
        made.append(graph)
        return graph.forward

    monkeypatch.setattr(
        torch, "compile", lambda f, **options: compiled(f, backend=counted, **options)
    )
    monkeypatch.setattr(few_steps, "sample_strips", lambda *_: None)
    # The hook that checks shapes makes the compiler count these and the blocks as one function.
    monkeypatch.setattr(denoiser, "compile_residuals", lambda _: None)
    recipe = merge(RECIPE, {"few_steps": {"compile": True, "frames": 17}})
    with torch._dynamo.config.patch(fail_on_recompile_limit_hit=True):
        run(recipe, tmp_path / "out", stage="few_steps", device=CPU, start=start)
    blocks = [graph for graph in made if "attention" in graph.print_readable(print_output=False)]
    # Own jumps, teacher and student; by chunks the first chunk and the others.
    assert len(blocks) == (6 if kind == "by_chunks" else 3)


def test_jumps_from_noise_follow_on_each_other_and_those_over_a_film_end_it():
    jumps = JumpConfig(steps=4, parts=3, shift=10.0)
    chain = few_steps.jump_levels(1.0, jumps)
    assert chain.shape == (4, 4)
    assert torch.equal(chain[1:, 0], chain[:-1, -1])
    assert torch.equal(chain[:, 0], flow.schedule(4, 10.0).float()[:-1])
    over = few_steps.jump_levels(0.8, jumps)
    assert over[:, -1].eq(0).all()
    assert (over[0, 0].item(), over[-1, 0].item()) == pytest.approx((0.4, 0.8))
    assert torch.allclose(over.diff(dim=1), -over[:, :1] / 3)


def test_noise_levels_stay_below_the_highest():
    for top in (0.0, 0.1):
        config = replace(RECIPE.few_steps, top=top)
        levels = [
            denoiser.noise_levels(500, one, torch.Generator().manual_seed(1), CPU)
            for one in (config, replace(config, highest=0.8))
        ]
        assert levels[1].max() < 0.8
        assert torch.equal(levels[1], 0.8 * levels[0])


def test_a_model_that_learned_to_refine_makes_larger_films_so(tmp_path):
    shapes = causal_shapes(RECIPE)
    weights.export_model(tmp_path, build(shapes), shapes)
    left = few_steps.few_steps_shapes(tmp_path, RECIPE.few_steps, RECIPE.jumps)
    assert left.refine is None
    large = Bucket(width=192, height=128, share=0.2, batch=1, highest=0.8)
    config = replace(RECIPE.few_steps, sizes=(large,))
    left = few_steps.few_steps_shapes(tmp_path, config, RECIPE.jumps)
    assert left.refine == Refine(width=64, height=64, level=0.6)
    direct = replace(config, sizes=(replace(large, highest=1.0),))
    assert few_steps.few_steps_shapes(tmp_path, direct, RECIPE.jumps).refine is None
