"""The public model's own training: its stages, what they take, and a tiny run of one."""

import json
from dataclasses import replace
from itertools import pairwise

import pytest
import torch
from safetensors.torch import load_file
from sharding_work import CONFIG, CPU, SHAPE, spawned, write_clips

from longtake.checkpoints import read_lora
from longtake.cli import train_sana
from longtake.cli.main import DONE, run
from longtake.cli.train import SanaOptions
from longtake.errors import ModelError, OutputError, SettingError, WeightsError
from longtake.model import Transformer
from longtake.model.lora import shapes
from longtake.official.source import fingerprint, weight_files
from longtake.official.transformer import load_transformer, save_transformer
from longtake.parallel import ALONE
from longtake.recipes.sana_plan import TFLOPS, plan_stage
from longtake.recipes.sana_video import causal, full, low, run_stage, stage_named, tune


@pytest.fixture
def folder(tmp_path):
    write_clips(tmp_path / "clips")
    return tmp_path


@pytest.fixture
def start(tmp_path):
    torch.manual_seed(1)
    model = Transformer(SHAPE)
    torch.nn.init.normal_(model.head.weight, std=0.1)
    save_transformer(model, tmp_path / "start" / "transformer")
    return tmp_path / "start"


def test_the_stages_come_in_the_published_order_and_sizes():
    assert [stage().grid for stage in (low, full, tune, causal)] == [
        (11, 24, 42), (21, 60, 104), (21, 60, 104), (21, 60, 104),
    ]  # fmt: skip
    assert [stage_named(stage().name) for stage in (low, full, tune, causal)] == [
        low(), full(), tune(), causal(),
    ]  # fmt: skip
    assert causal().train.chunk == 10
    with pytest.raises(SettingError, match="--stage must be one of low, full, tune, causal"):
        stage_named("high")


@pytest.mark.slow
def test_a_plan_counts_the_known_work_and_memory_falls_with_devices_of_one_machine():
    one, *more = plan_stage(full())
    # A forward of the published model is 123 TFLOP by hand, and training counts it four times.
    assert one.step_s * TFLOPS / (4 * one.clips) == pytest.approx(123, rel=0.03)
    within = [one, *(plan for plan in more if plan.gpus <= 8)]
    assert [plan.gpus for plan in within] == [1, 2, 4, 8]
    for less, plan in pairwise(within):
        assert plan.device_bytes < less.device_bytes
        assert plan.step_s == pytest.approx(less.step_s / 2, rel=0.05)
    assert more[-1].device_bytes == within[-1].device_bytes


@pytest.mark.slow
def test_layers_that_keep_what_they_made_save_their_forward_and_take_memory():
    stage = full()
    again, *_ = plan_stage(stage)
    some, *_ = plan_stage(replace(stage, train=replace(stage.train, keep_layers=5)))
    whole, *_ = plan_stage(replace(stage, train=replace(stage.train, recompute=False)))
    assert some.step_s == pytest.approx(again.step_s * (1 - 5 / 20 / 4), rel=0.02)
    assert again.device_bytes < some.device_bytes < whole.device_bytes
    a_layer = (whole.work_bytes - again.work_bytes) / 20
    assert some.work_bytes - again.work_bytes == pytest.approx(5 * a_layer, rel=0.1)


@pytest.mark.slow
def test_every_stage_is_told_without_training_anything(capsys):
    assert run(["train", "sana-video-2b", "--dry-run"]) == DONE
    out = capsys.readouterr().out
    for name in ("low", "full", "tune", "causal"):
        assert f"{name}: " in out
    assert "which is assumed" in out
    assert run(["train", "sana-video-2b", "--dry-run", "--stage", "low", "--json"]) == DONE
    told = json.loads(capsys.readouterr().out)
    assert [plan["gpus"] for plan in told["stages"]["low"]] == [1, 2, 4, 8, 16, 32, 64]


def test_layers_that_keep_what_they_made_and_compiled_ones_are_asked_for_by_the_command():
    asked = SanaOptions(keep_layers=5, compile=True)
    train = train_sana._asked(full(), asked).train
    assert (train.keep_layers, train.compile) == (5, True)
    assert train_sana._asked(full(), SanaOptions()).train == full().train


@pytest.mark.parametrize(
    ("asked", "complaint"),
    [
        (["previz", "--out", "x", "--compile"], "are for sana-video-2b"),
        (["previz", "--out", "x", "--keep-layers", "2"], "are for sana-video-2b"),
        (["sana-video-2b"], "one stage at a time; name it: --stage low, full, tune, causal"),
        (["sana-video-2b", "--stage", "few_steps"], "one stage at a time"),
        (["sana-video-2b", "--stage", "low"], "--data is missing"),
        (["sana-video-2b", "--dry-run", "--lora", "0"], "--lora wants a rank of at least 1, got 0"),
        (["previz", "--out", "x", "--dry-run"], "are for sana-video-2b"),
        (["previz", "--out", "x", "--stage", "low"], "--stage low is of sana-video-2b"),
        (["previz"], "--out is missing"),
    ],
)
def test_what_a_recipe_does_not_know_is_refused(asked, complaint, capsys):
    assert run(["train", *asked]) == 2
    assert complaint in capsys.readouterr().err


def trained(workers, folder, stage, start):
    run_stage(stage, folder / "clips", folder / "out", start=start, workers=workers, device=CPU)


@pytest.mark.slow
def test_a_stage_on_two_processes_leaves_a_transformer_that_loads(folder, start):
    stage = replace(causal(), train=replace(CONFIG, steps=2, chunk=2))
    spawned(trained, 2, folder, stage, start)
    config = json.loads((folder / "out" / "transformer" / "config.json").read_text())
    assert config["_class_name"] == "SanaVideoCausalTransformer3DModel"
    model = load_transformer(folder / "out" / "transformer", torch.float32, CPU)
    before = load_transformer(start / "transformer", torch.float32, CPU)
    assert any(not torch.equal(a, b) for a, b in zip(
        model.parameters(), before.parameters(), strict=True))  # fmt: skip
    assert (folder / "out" / "loss.csv").read_text().count("\n") == 3
    with pytest.raises(OutputError, match="holds a trained model already"):
        run_stage(stage, folder / "clips", folder / "out", start=start, workers=ALONE, device=CPU)


def test_a_later_stage_wants_a_model_and_clips_must_be_its_own(folder, start):
    with pytest.raises(SettingError, match="goes on from a model; name its folder with --start"):
        run_stage(full(), folder / "clips", folder / "o", start=None, workers=ALONE, device=CPU)
    torch.manual_seed(0)
    other = replace(SHAPE, latent_channels=8)
    save_transformer(Transformer(other), start / "transformer")
    with pytest.raises(SettingError, match="clips have 4 latent channels"):
        run_stage(full(), folder / "clips", folder / "o", start=start, workers=ALONE, device=CPU)
    assert load_file(folder / "clips" / "0.safetensors")["latents"].shape[0] == 4


def lora_trained(workers, folder, stage, start, out, steps):
    """The run as if it were stopped after each number of steps but the last."""
    for count in steps:
        (folder / out / "lora.safetensors").unlink(missing_ok=True)
        part = replace(stage, train=replace(stage.train, steps=count))
        run_stage(part, folder / "clips", folder / out, start=start, workers=workers, device=CPU)


@pytest.mark.slow
def test_a_lora_of_the_public_model_learns_alone_resumes_and_lies_over_that_model_only(
    folder, start
):
    stage = replace(tune(), train=replace(CONFIG, lora=3, learning_rate=1e-2))
    with pytest.raises(ModelError, match="model.safetensors is missing"):
        run_stage(stage, folder / "clips", folder / "o", start=start, workers=ALONE, device=CPU)
    # A LoRA names the whole model, of which only the front of each file is looked at.
    for path in weight_files(start):
        path.parent.mkdir(exist_ok=True)
        path.touch()
    runs = {"out": (1, (2,)), "stopped": (1, (1, 2)), "two": (2, (2,))}
    for name, (processes, steps) in runs.items():
        spawned(lora_trained, processes, folder, stage, start, name, steps)
    assert not (folder / "out" / "transformer").exists()
    model = load_transformer(start / "transformer", torch.float32, CPU)
    lora = read_lora(folder / "out" / "lora.safetensors", fingerprint(start), shapes(model))
    assert (lora.head.rank, lora.head.scale) == (3, 1.0)
    assert set(lora.factors) == set(shapes(model))
    assert any(pair[1].abs().max() > 0 for pair in lora.factors.values())
    with pytest.raises(WeightsError, match="another model"):
        read_lora(folder / "out" / "lora.safetensors", "0" * 64, shapes(model))
    with pytest.raises(OutputError, match="holds a trained model already"):
        run_stage(stage, folder / "clips", folder / "out", start=start, workers=ALONE, device=CPU)
    one, stopped, two = (load_file(folder / name / "lora.safetensors") for name in runs)
    for name in one:
        assert torch.equal(one[name], stopped[name])
        torch.testing.assert_close(one[name], two[name], rtol=1e-3, atol=1e-4)


def test_a_lora_wants_a_model_and_a_rank_that_fits(folder, start):
    stage = replace(low(), train=replace(CONFIG, lora=4))
    with pytest.raises(SettingError, match="goes on from a model"):
        run_stage(stage, folder / "clips", folder / "o", start=None, workers=ALONE, device=CPU)
    wide = replace(stage, train=replace(CONFIG, lora=4000))
    with pytest.raises(SettingError, match="--lora must be at most"):
        run_stage(wide, folder / "clips", folder / "o", start=start, workers=ALONE, device=CPU)


@pytest.mark.slow
def test_a_lora_is_planned_with_less_memory_and_less_work(capsys):
    asked = ["train", "sana-video-2b", "--dry-run", "--stage", "tune", "--json"]
    assert run(asked) == DONE
    (whole, *_) = json.loads(capsys.readouterr().out)["stages"]["tune"]
    assert run([*asked, "--lora", "16"]) == DONE
    (thin, *_) = json.loads(capsys.readouterr().out)["stages"]["tune"]
    assert thin["parts_bytes"] < whole["parts_bytes"] / 6
    assert thin["step_s"] == pytest.approx(0.75 * whole["step_s"], rel=0.01)
