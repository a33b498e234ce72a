"""The guide to shots: its list is the example, its commands work one after the other."""

import re
import shlex
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from longtake import pipeline
from longtake.cli.main import DONE, run
from longtake.media.video import read_video
from longtake.pipeline import Pipeline
from longtake.shots.table import COLUMNS
from longtake.shots.timecode import RATES

ROOT = Path(__file__).parents[1]
GUIDE = (ROOT / "docs" / "guides" / "shots.md").read_text("utf-8")
EXAMPLE = ROOT / "examples" / "scene.csv"


def blocks(kind: str) -> list[str]:
    return re.findall(rf"```{kind}\n(.*?)```", GUIDE, re.DOTALL)


@pytest.fixture
def folder(tmp_path, monkeypatch, tiny):
    torch.manual_seed(0)
    parts = pipeline.build(replace(tiny, max_frames=81))
    for part in parts:
        part.eval().requires_grad_(False)
    config = replace(tiny, max_frames=81)
    model = Pipeline(name="previz", model_hash="ab" * 32, config=config, parts=parts)
    monkeypatch.setattr(pipeline, "load", lambda *_, **__: model)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "examples").mkdir()
    shutil.copy(EXAMPLE, tmp_path / "examples")
    before = torch.get_num_threads()
    yield tmp_path
    torch.set_num_threads(before)


def test_the_list_of_the_guide_is_the_example():
    (listed,) = blocks("csv")
    assert listed == EXAMPLE.read_text("utf-8")


def test_the_guide_tells_every_column_and_rate():
    table = GUIDE.split("| column |", 1)[1].split("\n\n", 1)[0]
    told = set(re.findall(r"`(\w+)`", table))
    assert set(COLUMNS) - {"last_frame"} <= told
    assert all(rate.name in GUIDE for rate in RATES)


@pytest.mark.slow
def test_every_command_of_the_guide_works_one_after_the_other(folder, capsys):
    for line in "".join(blocks("sh")).splitlines():
        words = shlex.split(line)
        small = ["--size", "64x64"] if words[1] in ("shoot", "animatic") else []
        fast = ["--steps", "1"] if words[1] == "shoot" else []
        assert run([*words[1:], *small, *fast]) == DONE, line
    last = capsys.readouterr().out.splitlines()[-1]
    assert last == "scene/scene.mp4: equal bytes, 336 frames"
    assert len(read_video(folder / "scene" / "scene.mp4")[0]) == 336
    assert len(read_video(folder / "animatic.mp4")[0]) == 336
    assert len(read_video(folder / "scene25" / "scene25.mp4")[0]) == 348
    (code,) = blocks("python")
    exec(compile(code, "shots.md", "exec"), {})  # noqa: S102 - our own page
    assert "SC020_SH0020" in capsys.readouterr().out


def test_the_guide_names_every_file_of_a_cut(folder):
    small = ("--size", "64x64", "--steps", "1", "--quiet")
    assert run(["shoot", "examples/scene.csv", "-o", "scene", *small]) == DONE
    made = {path.name for path in (folder / "scene").iterdir() if "_v0" not in path.name}
    table = GUIDE.split("| file in `scene/` |", 1)[1].split("\n\n", 1)[0]
    told = {name.split("/")[0] for name in re.findall(r"`([\w./]+)`", table.replace("| `", "|`"))}
    assert made <= told
