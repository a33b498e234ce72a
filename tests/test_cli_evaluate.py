"""`longtake evaluate` reports what is right, and says in one line what it cannot do."""

import json

import pytest
import torch

from longtake import pipeline
from longtake.cli.main import DONE, run
from longtake.media.video import VideoWriter
from longtake.pipeline import Pipeline
from longtake.world import render
from longtake.world.scene import Subject
from longtake.world.written import scene_of

FAST = ("--steps", "1")


@pytest.fixture
def folder(tmp_path, monkeypatch, tiny):
    model = Pipeline(name="previz", model_hash="ab" * 32, config=tiny, parts=pipeline.build(tiny))
    monkeypatch.setattr(pipeline, "load", lambda *_, **__: model)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def error_of(capsys):
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error")]
    assert len(lines) == 1
    return lines[0]


@pytest.mark.slow
def test_report_plots_and_sheet_are_written(folder, capsys):
    (folder / "p.txt").write_text("\ufeffa red ball bounces on grass\n\na lawyer reads a poem\n")
    assert run(["evaluate", "--prompts", "p.txt", *FAST, "--json", "r.json"]) == DONE
    told = capsys.readouterr()
    assert told.err.count("the model does not know: lawyer, poem, reads") == 1
    assert "1 of 2 prompts state nothing" in told.err
    assert "ceiling" in told.out
    report = json.loads((folder / "r.json").read_text())
    assert report["films"] == 2
    assert report["metrics"]["light" if "light" in report["metrics"] else "colour"]
    assert report["prompts"][0]["prompt"] == "a red ball bounces on grass"
    assert (folder / "evaluation" / "report.json").exists()
    assert (folder / "evaluation" / "plots" / "colour.png").exists()
    assert (folder / "evaluation" / "worst.png").exists()
    assert run(["evaluate", "--prompts", "p.txt", *FAST]) == 2
    assert "exists already; add --overwrite" in error_of(capsys)


def test_one_film_is_read_against_its_prompt(folder, capsys):
    scene = scene_of([Subject(kind="cube", colour="red")], ground="snow")
    frames = render(scene, frames=33, height=128, width=224)[0]
    with VideoWriter(folder / "f.mp4", width=224, height=128) as writer:
        writer.write(frames)
    prompt = "a red cube on snow"
    assert run(["evaluate", prompt, "--video", "f.mp4", "--json", "-"]) == DONE
    report = json.loads(capsys.readouterr().out)
    assert report["seen"]["ground"] == "snow"
    assert report["right"]["colour"] is True
    assert report["right"]["ground"] is True


def test_a_film_too_short_to_read_is_refused(folder, capsys):
    with VideoWriter(folder / "f.mp4", width=224, height=128) as writer:
        writer.write(torch.zeros(3, 128, 224, 3, dtype=torch.uint8))
    assert run(["evaluate", "a red cube", "--video", "f.mp4"]) == 2
    assert "the reader needs 2 seconds" in error_of(capsys)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--video", "f.mp4"], "read against a prompt"),
        (["a red ball", "--prompts", "p.txt"], "exclude each other"),
        (["--prompts", "nowhere.txt"], "cannot read the prompts"),
        (["--films", "0"], "films must be 1 to"),
        (["--films", "x"], "--films wants a whole number"),
        (["--steps", "0"], "steps must be 1 to 1000"),
        (["--model", "prewiz"], "did you mean 'previz'"),
        (["--reader", "nowhere", "--films", "1"], "train it: python -m"),
        (["--nonsense"], "unknown option"),
        (["a red ball", "a blue cube"], "one prompt is read at a time"),
        (["", "--video", "f.mp4"], "the prompt is empty"),
        (["a red cube", "--video", "nowhere.mp4"], "cannot read"),
    ],
)
@pytest.mark.usefixtures("folder")
def test_mistakes_are_one_line_and_exit_2(arguments, said, capsys):
    assert run(["evaluate", *arguments]) == 2
    assert said in error_of(capsys)


def test_wrong_json_is_named_by_its_line(folder, capsys):
    (folder / "p.jsonl").write_text('{"prompt": "a red ball"}\n{"prompt": oops}\n')
    assert run(["evaluate", "--prompts", "p.jsonl"]) == 2
    assert "p.jsonl, line 2: wrong JSON at column 12" in error_of(capsys)


@pytest.mark.usefixtures("folder")
def test_a_file_where_the_folder_should_be_is_refused(folder, capsys):
    (folder / "evaluation").write_text("")
    assert run(["evaluate", "--films", "1"]) == 2
    assert "is a file; choose another folder" in error_of(capsys)
