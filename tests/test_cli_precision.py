"""quantize, precision-report, selftest, and the page of what machine is needed."""

import json
import subprocess
import sys

import pytest
from server_help import write_model

from longtake.cli import hardware_page
from longtake.cli.main import run

SMALL = ["--size", "64x64", "--seconds", "0.25", "--steps", "2", "--passes", "1"]


def test_the_self_test_tells_every_trial(capsys):
    assert run(["selftest", "nvfp4", "--device", "cpu"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert all(line.startswith("ok   nvfp4") for line in lines)
    assert any("swapped nibbles: caught" in line for line in lines)


def test_the_report_has_every_layer_and_says_what_is_emulated(tmp_path, tiny, capsys):
    model, out = write_model(tmp_path / "tiny", tiny), tmp_path / "report"
    assert run(["precision-report", str(model), *SMALL, "-o", str(out), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told == json.loads((out / "report.json").read_text())
    assert (out / "layers.png").stat().st_size > 1000
    assert len(told["layers"]) == 16
    assert "emulated" in told["emulated"]
    # A fresh temporal convolution is zero, which every format can say.
    for layer in [each for each in told["layers"] if not each["name"].endswith("temporal")]:
        assert layer["output"]["fp16"] < layer["output"]["bf16"] < layer["output"]["fp8"]
        assert layer["output"]["fp8"] < layer["output"]["nvfp4"]
    rounded = [(cost["rounding"], cost["rounded"]) for cost in told["whole"]]
    assert len(rounded) == len(set(rounded)) == 6
    assert run(["precision-report", str(model), *SMALL, "-o", str(out)]) == 2
    assert "exists already" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--passes", "0"], "--passes must be 1 to 64, got 0"),
        (["--most", "nan"], "--most must be 1e-06 to 1, got nan"),
        (["--seconds", "-1"], "--seconds must be 0.05 to 60"),
    ],
)
def test_a_report_that_cannot_be_is_refused(tmp_path, capsys, options, told):
    assert run(["precision-report", "previz", *options, "-o", str(tmp_path / "r")]) == 2
    assert told in capsys.readouterr().err


def test_a_layer_to_keep_that_is_none_is_refused_and_nothing_is_left(tmp_path, tiny, capsys):
    model, out = write_model(tmp_path / "tiny", tiny), tmp_path / "out"
    plain = ["quantize", str(model), "--precision", "fp8", "-o", str(out)]
    assert run([*plain, "--keep", "nothing"]) == 2
    assert "no layer ends in 'nothing'; such names are as blocks.0." in capsys.readouterr().err
    assert not out.exists()
    assert run([*plain, "--keep", "feed_forward.up", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["layers"] == 14
    assert run(plain) == 2
    assert "exists already" in capsys.readouterr().err


def line(**more):
    return json.dumps(
        {
            "what": "forward", "size": "832x480", "frames": 81, "precision": "fp8",
            "way": "multiply", "forward_ms": 200.0, "tflops": 600.0, "resident_gib": 2.1,
            "error_to_bf16": 0.01, "processor": "H100",
        }
        | more
    )  # fmt: skip


def test_measured_contributed_and_computed_figures_look_different(tmp_path, monkeypatch):
    (tmp_path / "precision_h100.jsonl").write_text(line() + "\n" + line(processor="CPU") + "\n")
    (tmp_path / "contributed_a.jsonl").write_text(line(forward_ms=500.0, processor="A100") + "\n")
    monkeypatch.setattr(hardware_page, "RESULTS", tmp_path)
    monkeypatch.setattr(hardware_page, "published", _nothing)
    monkeypatch.setattr(hardware_page, "_weights", lambda: iter(["| bf16 | *~3.83* |"]))
    page = hardware_page.hardware_page(films=())
    assert "| H100 | 832x480 | 81 | fp8 (multiply) | **200.0** |" in page
    assert "| A100 | 832x480 | 81 | fp8 (multiply) | 500.0 † |" in page
    assert "| CPU |" not in page
    assert "*~3.83*" in page
    assert "--only caps" in page


def _nothing(_which):
    msg = "no plan is made here"
    raise AssertionError(msg)


@pytest.mark.slow
def test_the_page_of_hardware_is_what_the_planner_says():
    pytest.importorskip("diffusers")
    page = (hardware_page.RESULTS.parents[1] / "docs" / "hardware.md").read_text("utf-8")
    # By its command: shapes checked at every step of every plan take three times as long.
    command = [sys.executable, "-m", "longtake.cli.hardware_page"]
    assert page == subprocess.run(command, capture_output=True, check=True, text=True).stdout
