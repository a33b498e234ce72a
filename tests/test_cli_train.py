"""`longtake train` tells what it does, what it made and where a stopped run goes on."""

import json
import logging
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from longtake.checkpoints import save_state
from longtake.cli import interrupts
from longtake.cli.main import CANNOT, DONE, STOPPED, run
from longtake.media.video import read_video
from longtake.parallel import ALONE
from longtake.recipes import previz
from longtake.recipes.previz import Outcome
from longtake.recipes.recipe import PrevizRecipe
from longtake.train.loop import state_path

EXAMPLE = Path(__file__).parents[1] / "examples" / "tiny_train.json"
CPU = torch.device("cpu")
LOGGER = logging.getLogger("longtake.train")


@pytest.fixture
def asked(tmp_path, monkeypatch):
    """An empty working folder, and what the recipe was asked for instead of a training."""
    calls = []

    def told(recipe, folder, **options):
        calls.append((recipe, folder, options))
        LOGGER.info("autoencoder %6d/%d", 50, 100)
        return Outcome(files=("model.json",), held_out_psnr=33.333)

    monkeypatch.setattr(previz, "run", told)
    monkeypatch.chdir(tmp_path)
    return calls


def test_a_recipe_by_name_is_run_as_it_is(asked, capsys):
    assert run(["train", "previz", "--out", "mine", "--device", "cpu"]) == DONE
    options = {"stage": "all", "device": CPU, "start": None, "teacher": None, "workers": ALONE}
    assert asked == [(PrevizRecipe(), Path("mine"), options)]
    told = capsys.readouterr()
    assert told.err == "autoencoder     50/100\n"
    first, second = told.out.splitlines()
    assert first.startswith("mine: a model, held-out PSNR 33.33 dB, took ")
    assert "longtake generate" in second
    assert "--model mine --size 448x256 --frames 81" in second


def test_stage_and_start_are_handed_on_and_the_next_stage_is_named(asked, capsys):
    arguments = ["train", str(EXAMPLE), "--out", "my ae", "--stage", "autoencoder"]
    assert run([*arguments, "--start", "old"]) == DONE
    recipe, _, options = asked[0]
    assert recipe.model.max_frames == 9
    assert (options["stage"], options["start"]) == ("autoencoder", Path("old"))
    last = capsys.readouterr().out.splitlines()[-1]
    assert last.endswith(f"longtake train {EXAMPLE} --stage transformer --out 'my ae'")


@pytest.mark.usefixtures("asked")
def test_json_is_one_object_at_the_end(capsys):
    assert run(["train", "previz", "--out", "mine", "--json", "--quiet"]) == DONE
    told = capsys.readouterr()
    report = json.loads(told.out)
    assert report.pop("elapsed_s") >= 0
    assert report == {
        "folder": "mine",
        "files": ["model.json"],
        "held_out_psnr_db": 33.333,
        "held_out_loss": None,
    }
    assert told.err == ""


@pytest.mark.usefixtures("asked")
def test_quiet_says_nothing_and_the_log_is_left_as_it_was(capsys):
    before = (LOGGER.level, list(LOGGER.handlers))
    assert run(["train", "previz", "--out", "mine", "--quiet"]) == DONE
    assert tuple(capsys.readouterr()) == ("", "")
    assert (LOGGER.level, LOGGER.handlers) == before


@pytest.mark.parametrize(
    ("states", "where"),
    [
        ({}, "the same command starts again: no checkpoint was reached"),
        ({"autoencoder": 2000}, "the same command goes on from step 2000 of 9000 of the autoenc"),
        (
            {"autoencoder": 9000, "transformer": 4000},
            "the same command goes on from step 4000 of 9000 of the transformer",
        ),
    ],
)
def test_a_stopped_run_says_where_it_goes_on(asked, tmp_path, monkeypatch, capsys, states, where):
    def stopped(_recipe, folder, **_):
        for stage, step in states.items():
            settings = {"step": str(step), "steps": "9000"}
            save_state(state_path(folder, stage), {"x": torch.ones(2)}, settings)
        raise KeyboardInterrupt

    monkeypatch.setattr(previz, "run", stopped)
    assert run(["train", "previz", "--out", str(tmp_path), "--quiet"]) == STOPPED
    assert capsys.readouterr().err.startswith(f"stopped; {where}")
    assert asked == []


@pytest.mark.parametrize("quiet", [[], ["--quiet"]])
@pytest.mark.usefixtures("asked")
def test_a_lost_interrupt_stops_the_run_at_the_next_line(monkeypatch, capsys, quiet):
    monkeypatch.setattr(interrupts, "stopped", lambda: True)
    assert run(["train", "previz", "--out", "mine", *quiet]) == STOPPED
    assert capsys.readouterr().err.startswith("stopped; the same command starts again")


@pytest.mark.parametrize("error", [MemoryError(), RuntimeError("CUDA out of memory. Tried")])
@pytest.mark.usefixtures("asked")
def test_too_little_memory_names_what_makes_a_run_smaller(monkeypatch, capsys, error):
    def full(*_, **__):
        raise error

    monkeypatch.setattr(previz, "run", full)
    assert run(["train", "previz", "--out", "mine"]) == CANNOT
    assert "not enough memory; try a smaller batch or pool" in capsys.readouterr().err


@pytest.mark.usefixtures("asked")
def test_options_have_one_line_each_for_what_does_not_parse(capsys):
    table = {
        (): "the recipe is missing; try: longtake train previz --out FOLDER",
        ("previz",): "--out is missing; longtake train --help",
        ("previz", "--out"): "--out wants a value",
        ("previz", "--ouput", "x"): "unknown option '--ouput'; did you mean --out?",
        ("previz", "x", "--out", "y"): "got 'x' as well",
        ("previz", "--out", "y", "--stage", "al"): "--stage is one of all, autoencoder",
        ("previz", "--out", "y", "--quite"): "unknown option '--quite'; did you mean --quiet?",
        ("-x", "--out", "y"): "longtake train --help lists them (a file that starts with -",
        ("previzz", "--out", "y"): "named 'previzz'; did you mean 'previz'?",
        ("-", "--out", "y"): "named '-'; recipes are previz",
    }
    for arguments, line in table.items():
        assert run(["train", *arguments]) == 2
        told = capsys.readouterr().err
        assert told.startswith("error: ")
        assert line in told
        assert told.count("\n") == 1


@pytest.mark.skipif(torch.cuda.is_available(), reason="has a CUDA device")
@pytest.mark.usefixtures("asked")
def test_a_missing_cuda_device_says_what_to_do(capsys):
    assert run(["train", "previz", "--out", "mine", "--device", "cuda"]) == CANNOT
    assert "use --device cpu" in capsys.readouterr().err


def test_finished_models_and_missing_extras_leave_with_their_codes(tmp_path, monkeypatch, capsys):
    save_file({"x": torch.ones(2)}, tmp_path / "autoencoder.safetensors")
    (tmp_path / "model.json").write_text("{}")
    assert run(["train", str(EXAMPLE), "--out", str(tmp_path)]) == 2
    assert "holds a finished model already" in capsys.readouterr().err
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    assert run(["train", str(EXAMPLE), "--out", str(tmp_path / "new")]) == CANNOT
    assert "pip install 'longtake[train]'" in capsys.readouterr().err


@pytest.mark.slow
def test_the_example_trains_a_model_on_a_cpu_that_films(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    before = torch.get_float32_matmul_precision()
    try:
        assert run(["train", str(EXAMPLE), "--out", "tiny", "--device", "cpu", "--json"]) == DONE
    finally:
        torch.set_float32_matmul_precision(before)
    told = capsys.readouterr()
    report = json.loads(told.out)
    assert report["held_out_psnr_db"] > 18
    assert sorted(path.name for path in Path("tiny").iterdir() if path.is_file()) == report["files"]
    lines = [line for line in told.err.splitlines() if line.startswith("transformer")]
    losses = [float(line.split("loss ")[1].split()[0]) for line in lines]
    assert losses[-1] < 0.6 * losses[0]
    film = ["generate", "a red ball bounces on grass", "--model", "tiny", "--size", "96x64"]
    assert run([*film, "--frames", "9"]) == DONE
    frames, _ = read_video(Path("film.mp4"))
    assert tuple(frames.shape) == (9, 64, 96, 3)
    # By day there is a blue sky above the grass, and even this model has learned so much.
    sky, ground = (part.float().mean(dim=(0, 1, 2)) for part in frames.split(32, dim=1))
    assert sky[2] > sky[0] + 20
    assert ground[1] > ground[2] + 20
