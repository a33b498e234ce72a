"""`longtake drift` tells how a film creeps, and says in one line what it cannot measure."""

import importlib
import json
import re
import sys
from pathlib import Path

import pytest
import torch
from PIL import Image

from longtake.cli.main import DONE, run
from longtake.media.video import VideoWriter

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "benchmarks"))
faults = importlib.import_module("faults")
GUIDE = (ROOT / "docs/guides/drift.md").read_text("utf-8")
COMMANDS = re.findall(r"^longtake (drift .+?)(?:\s+#.*)?$", GUIDE, re.MULTILINE)


def waves(frames):
    """A pattern that goes to the right."""
    place = torch.arange(64) - 2 * torch.arange(frames)[:, None]
    row = 120 + 60 * torch.sin(place / 6)
    return row[:, None, :, None].expand(-1, 48, -1, 3).round().to(torch.uint8)


def write(path, film):
    with VideoWriter(path, width=film.shape[2], height=film.shape[1]) as writer:
        writer.write(film)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "take.mp4", faults.drifted(waves(97), "luma", 60.0))
    return tmp_path


def error_of(capsys):
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error")]
    assert len(lines) == 1
    return lines[0]


def test_numbers_and_one_plot_are_written(folder, capsys):
    assert run(["drift", "take.mp4", "--json", "-"]) == DONE
    printed = json.loads(capsys.readouterr().out)
    assert printed == json.loads((folder / "drift" / "report.json").read_text())
    assert printed["slopes"]["luma"]["per_s"] == pytest.approx(10, rel=0.15)
    assert printed["alarms"] == ["luma"]
    assert printed["seam"] is None
    with Image.open(folder / "drift" / "drift.png") as plot:
        assert plot.size > (400, 400)


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize("command", COMMANDS)
def test_the_commands_of_the_guide_run(command, capsys):
    assert run(command.split()) == DONE
    assert capsys.readouterr().out


@pytest.mark.usefixtures("folder")
def test_borders_of_chunks_are_measured_when_they_are_stated(capsys):
    assert run(["drift", "take.mp4", "--chunk", "5", "--json", "-"]) == DONE
    assert json.loads(capsys.readouterr().out)["seam"]["borders"] == 4


@pytest.mark.usefixtures("folder")
def test_an_older_measurement_is_kept_unless_it_may_be_replaced(capsys):
    assert run(["drift", "take.mp4", "-o", "there"]) == DONE
    assert run(["drift", "take.mp4", "-o", "there"]) == 2
    assert "exists already; add --overwrite" in error_of(capsys)
    assert run(["drift", "take.mp4", "-o", "there", "--overwrite", "--quiet"]) == DONE
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    ("film", "complaint"),
    [
        (waves(3), r"2 seconds or more, got 3 frames \(0.19 s\); give a longer film"),
        (waves(40)[:, :8], "16x16 or more, got 64x8"),
    ],
)
def test_a_film_too_short_or_too_small_is_refused_in_one_line(folder, capsys, film, complaint):
    write(folder / "bad.mp4", film)
    assert run(["drift", "bad.mp4"]) == 2
    assert re.search(complaint, error_of(capsys))
    assert not (folder / "drift" / "report.json").exists()


def test_a_still_and_a_film_with_cuts_are_measured_and_said_to_be_so(folder, capsys):
    write(folder / "still.mp4", waves(1).expand(65, -1, -1, -1))
    assert run(["drift", "still.mp4", "-o", "a"]) == DONE
    assert "a still: nothing moves" in capsys.readouterr().out
    write(folder / "cuts.mp4", torch.cat([waves(40), 255 - waves(40), waves(40)]))
    assert run(["drift", "cuts.mp4", "-o", "b"]) == DONE
    assert "the picture jumps at 2.5, 5.0 s: a cut" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["missing.mp4"], "cannot read missing.mp4"),
        (["words.txt"], "cannot read words.txt as a film"),
        (["take.mp4", "--chunk", "9"], "1 to 7 latent frames, got 9"),
        (["take.mp4", "--chunk", "many"], "--chunk wants a whole number, got 'many'"),
        (["take.mp4", "-o", "words.txt"], "words.txt is a file; choose another folder"),
        (["take.mp4", "--json", "there"], "there is a folder"),
        ([], "the film is missing; try: longtake drift film.mp4"),
        (["take.mp4", "other.mp4"], "one film is measured at a time"),
    ],
)
def test_what_cannot_be_measured_is_one_line(folder, capsys, arguments, complaint):
    (folder / "words.txt").write_text("no film")
    (folder / "there").mkdir()
    assert run(["drift", *arguments]) == 2
    assert complaint in error_of(capsys)
