"""The causal stage makes a model that goes on by chunks; killed and resumed, to the same bytes."""

import csv
import math
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from training_help import TINY_MODEL

from longtake import pipeline
from longtake.checkpoints import content_hash
from longtake.config import CausalConfig, SampleConfig, merge
from longtake.errors import SettingError
from longtake.pipeline import Border, build
from longtake.presets import MODEL_FILE
from longtake.recipes import causal, weights
from longtake.recipes.causal import causal_shapes
from longtake.recipes.folder import resume_point
from longtake.recipes.previz import run
from longtake.recipes.recipe import PrevizRecipe
from longtake.recipes.settings import load_recipe
from longtake.text import Tokenizer
from longtake.text.tokenizer import NULL
from longtake.train.data import generator_for
from longtake.train.loop import Trainer
from longtake.train.takes import Filming, take_batch
from longtake.world.level import FIRST

ROOT = Path(__file__).parents[1]
CPU = torch.device("cpu")
RECIPE = merge(
    PrevizRecipe(),
    {
        "level": "action",
        "model": TINY_MODEL,
        "causal": {
            "steps": 5, "batch": 3, "frames": 13, "height": 64, "width": 64, "warmup": 1,
            "pool": 4, "render_batch": 2, "refresh_every": 2,
            "precision": "fp32", "compile": False, "log_every": 1, "checkpoint_every": 2,
        },
        "takes": {"chunk": 1, "max_frames": 961},
    },
)  # fmt: skip


@pytest.fixture(autouse=True)
def _one_precision():
    before = torch.get_float32_matmul_precision()
    yield
    torch.set_float32_matmul_precision(before)


@pytest.fixture(scope="module")
def start(tmp_path_factory):
    """A model that makes films in one pass."""
    folder = tmp_path_factory.mktemp("start")
    torch.manual_seed(0)
    parts = build(RECIPE.model)
    torch.nn.init.normal_(parts[1].head.weight, std=0.1)
    weights.export_model(folder, parts, RECIPE.model)
    return folder


@pytest.fixture(scope="module")
def whole(start, tmp_path_factory):
    """What a run makes that nobody disturbs."""
    folder = tmp_path_factory.mktemp("causal")
    return folder, run(RECIPE, folder, stage="causal", device=CPU, start=start)


def rows(folder):
    return list(csv.DictReader((folder / "causal.csv").read_text().splitlines()))


def test_the_stage_leaves_a_model_that_makes_films_chunk_by_chunk(whole):
    folder, outcome = whole
    model = pipeline.load(str(folder), device="cpu", precision="fp32")
    assert (model.config.chunk, model.config.max_frames) == (1, 961)
    settings = SampleConfig(width=64, height=64, frames=21, steps=2)
    events = list(model.stream("a red ball leaves the frame on the left", settings))
    assert sum(isinstance(event, Border) for event in events) == 5
    assert math.isfinite(outcome.held_out_loss)
    assert {"causal.csv", "causal.png", MODEL_FILE} <= set(outcome.files)
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
        (Trainer, "_one_step", 2, None),
        (Trainer, "_one_step", 4, "step 2 of 5 of the causal"),
        (weights, "export", 2, "step 5 of 5 of the causal"),
        (weights, "atomic_write", 1, "step 5 of 5 of the causal"),
    ],
)
def test_a_run_killed_anywhere_goes_on_to_the_same_bytes(
    whole, start, tmp_path, monkeypatch, target, name, moment, point
):
    monkeypatch.setattr(causal, "_rollout_strips", lambda *_: None)
    called, original = [], getattr(target, name)

    def dies(*args, **kwargs):
        called.append(None)
        if len(called) == moment:
            raise KeyboardInterrupt
        return original(*args, **kwargs)

    options = {"stage": "causal", "device": CPU, "start": start}
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


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["linear", "block"])
def test_the_loss_falls_in_every_attention_mode_with_a_state(tmp_path, monkeypatch, mode):
    monkeypatch.setattr(causal, "_rollout_strips", lambda *_: None)
    recipe = merge(
        RECIPE,
        {
            "model": {"transformer": {"attention": mode, "segment": 1}},
            "causal": {
                "steps": 16, "batch": 16, "refresh_every": 100,
                "learning_rate": 1e-2, "muon_learning_rate": 1e-2, "decay": 0.0,
            },
        },
    )  # fmt: skip
    (tmp_path / "start").mkdir()
    weights.export_model(tmp_path / "start", build(recipe.model), recipe.model)
    run(recipe, tmp_path / "out", stage="causal", device=CPU, start=tmp_path / "start")
    losses = [float(row["loss"]) for row in rows(tmp_path / "out")]
    assert sum(losses[-4:]) < 0.9 * sum(losses[:4])


def batch_of(number, recipe=RECIPE):
    torch.manual_seed(0)
    shapes = causal_shapes(recipe)
    autoencoder = build(shapes)[2].eval()
    tokenizer = Tokenizer(shapes.words, shapes.text.max_tokens)
    return take_batch(recipe.filming, 5, number, autoencoder, tokenizer)


def test_a_batch_is_a_function_of_its_number():
    first, again, other = batch_of(1), batch_of(1), batch_of(2)
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert not torch.equal(first[0], other[0])
    assert first[0].shape == (2, 8, 4, 2, 2)
    assert first[1].shape[:3] == (2, 2, 3)


@pytest.mark.slow
def test_half_of_the_clips_are_scenes_with_one_caption_and_half_are_scripts():
    scripts = merge(
        RECIPE, {"causal": {"render_batch": 8, "pool": 8, "frames": 161}, "takes": {"chunk": 5}}
    ).filming
    assert scripts.scripts == 4
    _, told = replace(
        scripts, config=replace(scripts.config, height=64, width=64)
    ).film(0, 0, CPU)  # fmt: skip
    assert all(len(way) == 8 for clip in told for way in clip)
    assert all(len(set(way)) == 1 for clip in told[:4] for way in clip)
    assert any(len(set(way)) > 1 for clip in told[4:] for way in clip)


def test_levels_in_which_nobody_leaves_have_no_scripts():
    filming = Filming(config=RECIPE.causal, takes=RECIPE.takes, level=FIRST)
    assert filming.scripts == 0
    films, told = filming.film(0, 0, CPU)
    assert len(films) == len(told) == 2


def inputs(takes, rows=400, chunks=3):
    filming = replace(RECIPE.filming, takes=takes)
    prepare = causal._causal_inputs(filming)
    batch = torch.randn(rows, 8, 1 + chunks, 2, 2), torch.randint(3, 9, (rows, 2, chunks, 6))
    return batch, prepare(batch, generator_for(0, 0, CPU))


def test_shares_of_clips_have_a_given_frame_a_clean_past_and_no_caption():
    _, drawn = inputs(CausalConfig(chunk=1, history_noise=0.2))
    clean, _, sigma, past, past_sigma, tokens = drawn
    given, exact = sigma[:, 0] == 0, past_sigma[:, 0] == 0
    assert given.float().mean() == pytest.approx(0.25, abs=0.06)
    assert exact.float().mean() == pytest.approx(0.25, abs=0.06)
    assert 0.19 < past_sigma.max() <= 0.2
    assert torch.equal(past[exact], clean[exact])
    null = tokens[..., 0] == NULL
    assert (null.all(1) == null.any(1)).all()
    assert null[:, 0].float().mean() == pytest.approx(0.1, abs=0.05)


def test_frames_of_a_chunk_share_its_level_and_monotone_levels_never_fall():
    _, drawn = inputs(CausalConfig(chunk=1, levels="monotone", first_frame=0.0))
    sigma = drawn[2]
    assert torch.equal(sigma[:, 0], sigma[:, 1])
    assert all((after >= before).all() for before, after in pairwise(sigma.unbind(1)))


def test_independent_levels_have_the_same_spread_in_every_chunk():
    def high(levels):
        _, drawn = inputs(CausalConfig(chunk=1, levels=levels, first_frame=0.0), rows=4000)
        return (drawn[2][:, 1:] > 0.8).float().mean(0)

    even, rising = high("independent"), high("monotone")
    assert even.max() - even.min() < 0.05
    assert rising[-1] - rising[0] > 0.3


def test_each_chunk_reads_the_tokens_of_one_wording():
    (_, wordings), drawn = inputs(CausalConfig(chunk=1), rows=20)
    for ways, tokens in zip(wordings, drawn[-1], strict=True):
        dropped = bool((tokens[:, 0] == NULL).all())
        assert dropped or any(torch.equal(way, tokens) for way in ways)


class Watch(TorchDispatchMode):
    """Names of all operations, backward as well."""

    def __init__(self):
        super().__init__()
        self.names = set()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.names.add(func.overloadpacket.__name__)
        return func(*args, **(kwargs or {}))


def test_the_loss_draws_nothing_waits_for_nothing_and_makes_no_tensor_from_numbers():
    text, transformer, _ = build(causal_shapes(RECIPE))
    loss = causal._causal_loss(text, transformer, RECIPE.filming)
    _, drawn = inputs(RECIPE.takes, rows=2)
    with Watch() as watch:
        loss(*drawn)[0].backward()
    assert {"mm", "threshold_backward"} <= watch.names
    lists = {"lift_fresh", "lift_fresh_copy", "_local_scalar_dense", "nonzero", "masked_select"}
    assert not watch.names & lists
    assert not [name for name in watch.names if name.startswith(("rand", "normal", "bernoulli"))]


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"causal": {"frames": 81}, "takes": {"chunk": 3}}, "chunk must be 1, 2, 4 or 5"),
        ({"causal": {"frames": 89}, "takes": {"chunk": 5}}, "20n \\+ 1 .* nearest are 81 and 101"),
        ({"takes": {"max_frames": 5}}, "must be at most takes.max_frames 5, got 13"),
        ({"takes": {"scripts": 1.5}}, "scripts must be 0 to 1, got 1.5"),
        ({"takes": {"history_noise": float("nan")}}, "history_noise must be 0 to 1, got nan"),
    ],
)
def test_settings_that_do_not_fit_are_named(change, complaint):
    with pytest.raises(SettingError, match=complaint):
        merge(RECIPE, change)


def test_without_a_model_to_go_on_from_nothing_begins(tmp_path):
    with pytest.raises(SettingError, match="goes on from a trained model; .* --start"):
        run(RECIPE, tmp_path / "out", stage="causal", device=CPU)
    assert not (tmp_path / "out").exists()


def test_the_example_is_a_change_of_the_recipe():
    recipe = load_recipe(str(ROOT / "examples" / "causal_train.json"))
    assert recipe.level == "whole"
    assert recipe.causal.minutes == 3.2
    assert recipe.takes.history_noise == 0.3
    assert causal_shapes(recipe).chunk == 5
    assert causal_shapes(recipe).max_frames == 961


@pytest.fixture
def no_graphs():
    """None from other tests, and none left to them."""
    torch.compiler.reset()
    yield
    torch.compiler.reset()


@pytest.mark.compile
@pytest.mark.usefixtures("no_graphs")
@pytest.mark.filterwarnings("ignore:The .grad attribute")  # from inside the compiler
def test_the_blocks_have_one_graph_for_the_first_chunk_and_one_for_the_others(
    tmp_path, monkeypatch
):
    compiled, made = torch.compile, []

    def counted(graph, _):
        made.append(graph)
        return graph.forward

    monkeypatch.setattr(
        torch, "compile", lambda f, **options: compiled(f, backend=counted, **options)
    )
    monkeypatch.setattr(causal, "_rollout_strips", lambda *_: None)
    # As many blocks as the embedded model has, and enough chunks for the first, a second and more.
    changes = {"model": {"transformer": {"depth": 8}}, "causal": {"compile": True, "frames": 17}}
    recipe = merge(RECIPE, changes)
    parts = build(recipe.model)
    (tmp_path / "start").mkdir()
    weights.export_model(tmp_path / "start", parts, recipe.model)
    with torch._dynamo.config.patch(fail_on_recompile_limit_hit=True):
        run(recipe, tmp_path / "out", stage="causal", device=CPU, start=tmp_path / "start")
    blocks = [graph for graph in made if "attention" in graph.print_readable(print_output=False)]
    assert len(blocks) == 2
