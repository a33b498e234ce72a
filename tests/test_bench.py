"""A benchmark tells where its numbers come from, and compares only what is alike."""

import json
from dataclasses import replace

import pytest
import torch

from longtake.bench.clock import time_of
from longtake.bench.film import stages_of
from longtake.bench.report import against, check_alike, read_report, times, write_report
from longtake.bench.run import measure_shape, measure_theirs
from longtake.bench.shapes import shape_named
from longtake.cli.main import run
from longtake.errors import CannotHere, SettingError
from longtake.model import Transformer
from longtake.pipeline import Frames, Progress

CPU = torch.device("cpu")
TINY = shape_named("tiny")


@pytest.fixture
def report():
    lap = {"first_s": 2.0, "median_s": 1.0, "fastest_s": 0.9, "slowest_s": 1.1, "runs": 3}
    return {
        "what": "random weights, tiny shape",
        "settings": {"latents": [3, 4, 6]},
        "precision": "bf16",
        "origin": {
            "processor": "a card", "driver": "13", "versions": {"torch": "2"}, "commit": "abc",
            "date": "2026-01-01", "command": "longtake bench", "kernels": {"rows": "plain"},
        },
        "measured": {"forward": lap},
    }  # fmt: skip


def test_the_first_run_is_told_apart_and_warm_up_is_not_counted():
    calls = []
    timing = time_of(lambda: calls.append(1), CPU, 3)
    assert len(calls) == 1 + 2 + 3
    assert timing.runs == 3
    assert timing.fastest_s <= timing.median_s <= timing.slowest_s


def test_work_counts_for_the_stage_it_ends_in():
    frames = torch.zeros(4, 2, 2, 3, dtype=torch.uint8)
    events = [Progress("text", 0, 1), Progress("denoise", 1, 1), Frames(frames), Frames(frames)]
    found = stages_of(iter(events), CPU)
    assert list(found.each) == ["text", "denoise", "decode"]
    assert found.frames == 8
    assert found.whole.seconds >= sum(lap.seconds for lap in found.each.values())


def test_a_shape_is_measured_forward_and_decode():
    pytest.importorskip("diffusers")
    told = []
    found = measure_shape(TINY, CPU, torch.float32, 1, told.append)
    assert found["tokens"] == TINY.tokens == 18
    assert found["forward"]["median_s"] > 0
    assert found["decode"]["median_s"] > 0
    assert told == ["forward of the denoiser", "decode"]


@pytest.mark.parametrize("name", ["480p", "720p"])
def test_the_published_shapes_have_the_published_sizes(name):
    shape = shape_named(name)
    assert shape.tokens == {"480p": 32_760, "720p": 9_680}[name]
    with torch.device("meta"):
        model = Transformer(replace(shape.transformer, depth=1))
    assert model.blocks[0].self_attention.qkv.weight.shape == (6720, 2240)


def test_ours_and_diffusers_compute_the_same_before_a_ratio_is_told(monkeypatch):
    pytest.importorskip("diffusers")
    found = measure_theirs(TINY, CPU, torch.float32, 1, ("eager",), lambda _: None)
    assert found["apart"] <= 1e-5
    assert found["forward_eager"]["median_s"] > 0
    monkeypatch.setattr("longtake.bench.theirs.LARGEST_APART", -1.0)
    with pytest.raises(CannotHere, match="no two runs of the same"):
        measure_theirs(TINY, CPU, torch.float32, 1, ("eager",), lambda _: None)


def test_a_report_comes_back_as_it_was_written(report, tmp_path):
    write_report(report, tmp_path / "report.md")
    assert read_report(tmp_path / "report.md") == report
    (tmp_path / "plain.json").write_text(json.dumps(report))
    assert read_report(tmp_path / "plain.json") == report
    assert dict(times(report)) == {"forward, first": 2.0, "forward": 1.0}


def test_an_earlier_run_is_compared_time_by_time(report):
    slower = json.loads(json.dumps(report))
    slower["measured"]["forward"]["median_s"] = 3.0
    check_alike(report, slower)
    assert against(report, slower) == {"forward, first": 1.0, "forward": 3.0}


@pytest.mark.parametrize(
    ("key", "value"),
    [("what", "films"), ("settings", {"latents": [1]}), ("precision", "fp32"),
     ("origin", {"processor": "another card"})],
)  # fmt: skip
def test_unlike_runs_are_refused(report, key, value):
    with pytest.raises(SettingError, match="not alike"):
        check_alike(report, report | {key: value})


@pytest.mark.parametrize("text", ["", "{}", "no report", '{"what": 1}', "[1]"])
def test_what_is_no_report_is_refused_by_name(tmp_path, text):
    path = tmp_path / "some.md"
    path.write_text(text)
    with pytest.raises(SettingError, match=r"some\.md is no report"):
        read_report(path)


def test_the_report_holds_no_path_and_no_prompt(tmp_path, capsys):
    pytest.importorskip("diffusers")
    path = tmp_path / "secret name.md"
    words = ["bench", "--model", "random-tiny", "--runs", "1", "--device", "cpu"]
    assert run([*words, "--report", str(path), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told == read_report(path)
    assert told["origin"]["command"] == "longtake bench --model random-tiny --runs 1 --device cpu"
    text = path.read_text()
    assert not any(secret in text for secret in ("secret", str(tmp_path), "red ball"))
    assert run([*words, "--report", str(path)]) == 2
    assert "exists already" in capsys.readouterr().err
    assert run([*words, "--against", str(path), "--frames", "5", "--json"]) == 0
    assert "forward" in json.loads(capsys.readouterr().out)["against"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--against", "diffusers"], "random-480p"),
        (["--runs", "0"], "--runs must be 1"),
        (["--against", "nothing.md"], "no report"),
        (["--model", "random-tiny", "once"], "options only"),
    ],
)
def test_what_cannot_be_measured_is_said_before_any_work(words, said, capsys):
    assert run(["bench", *words]) == 2
    assert said in capsys.readouterr().err


def test_a_film_is_told_stage_by_stage_cold_and_warm(capsys):
    words = ["bench", "--frames", "1", "--steps", "1", "--runs", "1", "--device", "cpu", "--json"]
    assert run(words) == 0
    measured = json.loads(capsys.readouterr().out)["measured"]
    for kind in ("cold", "warm"):
        assert list(measured[kind]["stages"]) == ["text", "denoise", "decode"]
        assert measured[kind]["frames"] == 1
