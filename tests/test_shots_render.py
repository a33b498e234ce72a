"""Shots made again only where they changed; takes kept, numbered and never overwritten."""

import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image

from longtake import pipeline
from longtake.config import SampleConfig
from longtake.errors import OutputError, ShotListError, StateError
from longtake.media.lossless import LosslessWriter, lossless_frames
from longtake.media.video import read_metadata, read_video
from longtake.pipeline import Pipeline
from longtake.shots.plan import plan
from longtake.shots.render import Made, Rendering, locked_takes
from longtake.shots.shot import Shot, ShotList
from longtake.shots.store import Store
from longtake.shots.timecode import rate_of

BASE = SampleConfig(width=96, height=64, steps=1)


def pipe_of(config, chunk: int) -> Pipeline:
    torch.manual_seed(0)
    config = replace(config, chunk=chunk, max_frames=2000 if chunk else 33)
    parts = pipeline.build(config)
    torch.nn.init.normal_(parts[1].head.weight, std=0.1)
    for part in parts:
        part.eval().requires_grad_(False)
    return Pipeline(name="tiny", model_hash="ab" * 32, config=config, parts=parts)


@pytest.fixture
def pipe(tiny):
    return pipe_of(tiny, 2)


@pytest.fixture
def one_pass(tiny):
    return pipe_of(tiny, 0)


def shot(number: int, frames: int = 12, **more) -> Shot:
    code, row = f"SH{number:04}", f"scene.csv, row {number + 2}"
    plain = {"prompt": "a red ball", "seed": number, "row": row}
    return Shot(code=code, frames=frames, **{**plain, **more})


def scene(*shots: Shot, rate: str = "24") -> ShotList:
    return ShotList(title="scene", rate=rate_of(rate), shots=shots)


def make(pipe, listed, folder: Path, handles=0, how="duplicate", lock=()) -> list[Made]:
    store = Store(folder)
    locked = locked_takes(listed, store, lock)
    takes = {code: record.take for code, record in locked.items()}
    planned = plan(listed, "tiny", pipe.config, BASE, handles, takes)
    rendering = Rendering(pipe, listed, planned, store, how, frozenset(locked))
    rendering.check()
    for _ in rendering.run():
        pass
    return rendering.cut


def named(cut: list[Made]) -> list[str]:
    return [f"{made.record.name} {made.how}" for made in cut]


def contents(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


CHAIN = (
    shot(0),
    shot(1, transition="continue", prompt="a blue ball"),
    shot(2, 20, transition="dissolve", dissolve=20, prompt="a green ball"),
    shot(3, after="SH0001"),
    shot(4),
)


def test_frames_are_kept_exactly(tmp_path):
    frames = torch.randint(0, 256, (5, 64, 96, 3), dtype=torch.uint8)
    with LosslessWriter(tmp_path / "a.mkv", width=96, height=64) as writer:
        writer.write(frames[:2])
        writer.write(frames[2:])
    assert torch.equal(torch.stack(list(lossless_frames(tmp_path / "a.mkv"))), frames)


@pytest.mark.parametrize("rate", ["16", "23.976", "24", "25", "29.97", "30"])
def test_every_shot_has_a_file_of_exactly_its_frames_and_handles(pipe, tmp_path, rate):
    cut = make(pipe, scene(*CHAIN, rate=rate), tmp_path, handles=4)
    for made in cut:
        film, speed = read_video(tmp_path / "shots" / f"{made.record.name}.mp4")
        head = 0 if made.planned.shot.transition != "cut" or made.planned.shot.after else 4
        assert len(film) == head + made.planned.shot.frames + 4
        assert speed == float(rate_of(rate).fps)
        body, _ = read_video(Store(tmp_path).body(made.record))
        assert torch.equal(film[head : head + len(body)], body)


def test_the_timecode_of_a_shots_file_begins_before_the_hour_by_its_handle(pipe, tmp_path):
    (made,) = make(pipe, scene(shot(0), rate="29.97"), tmp_path, handles=8)
    told = read_metadata(Store(tmp_path).file(made.record))["timecode"]
    assert told == "00:59:59;22"


def test_nothing_is_made_twice(pipe, tmp_path):
    first = make(pipe, scene(*CHAIN), tmp_path)
    before = contents(tmp_path)
    again = make(pipe, scene(*CHAIN), tmp_path)
    assert [made.how for made in first] == ["made"] * 5
    assert [made.how for made in again] == ["kept"] * 5
    assert contents(tmp_path) == before


@pytest.mark.parametrize(
    ("changed", "made_anew"),
    [(0, {0, 1, 2, 3}), (1, {1, 2, 3}), (2, {2}), (3, {3}), (4, {4})],
)
def test_a_change_makes_anew_what_depends_on_it_and_nothing_else(
    pipe, tmp_path, changed, made_anew
):
    make(pipe, scene(*CHAIN), tmp_path)
    before = contents(tmp_path)
    shots = list(CHAIN)
    shots[changed] = replace(shots[changed], seed=99)
    cut = make(pipe, scene(*shots), tmp_path)
    wanted = [f"SH000{n}_v002 made" if n in made_anew else f"SH000{n}_v001 kept" for n in range(5)]
    assert named(cut) == wanted
    after = contents(tmp_path)
    assert {name: after[name] for name in before} == before


def test_a_prompt_taken_back_takes_the_old_take(pipe, tmp_path):
    make(pipe, scene(shot(0), shot(1)), tmp_path)
    make(pipe, scene(shot(0), shot(1, prompt="a blue ball")), tmp_path)
    assert named(make(pipe, scene(shot(0), shot(1)), tmp_path))[1] == "SH0001_v001 kept"


def test_shots_may_change_places(one_pass, tmp_path):
    make(one_pass, scene(shot(0), shot(1), shot(2)), tmp_path)
    cut = make(one_pass, scene(shot(2), shot(0), shot(1)), tmp_path)
    assert all(made.how == "kept" for made in cut)


def test_a_locked_shot_stays_whatever_the_list_says(pipe, tmp_path):
    make(pipe, scene(shot(0), shot(1, transition="continue")), tmp_path)
    changed = scene(shot(0, seed=99), shot(1, transition="continue", lock=True))
    assert named(make(pipe, changed, tmp_path)) == ["SH0000_v002 made", "SH0001_v001 locked"]
    back = scene(shot(0, prompt="a blue ball"), shot(1, transition="continue"))
    cut = make(pipe, back, tmp_path, lock=["SH0000"])
    assert named(cut) == ["SH0000_v002 locked", "SH0001_v002 made"]


def test_a_locked_shot_is_made_once_and_cannot_grow_beyond_its_take(one_pass, tmp_path):
    (made,) = make(one_pass, scene(shot(0, lock=True)), tmp_path)
    assert made.how == "made"
    with pytest.raises(ShotListError, match=r"row 2, column duration: SH0000 is locked"):
        make(one_pass, scene(shot(0, 30, lock=True)), tmp_path)
    (shorter,) = make(one_pass, scene(shot(0, 6, lock=True)), tmp_path)
    assert (shorter.record.name, shorter.how) == ("SH0000_v002", "cut anew")


def test_another_rate_cuts_the_same_frames_anew(pipe, tmp_path):
    make(pipe, scene(shot(0, 24)), tmp_path)
    (made,) = make(pipe, scene(shot(0, 25), rate="25"), tmp_path)
    assert (made.record.name, made.how, made.record.source) == (
        "SH0000_v002", "cut anew", "SH0000_v001",
    )  # fmt: skip
    (blended,) = make(pipe, scene(shot(0, 25), rate="25"), tmp_path, how="blend")
    assert blended.record.name == "SH0000_v003"


def test_a_continued_shot_is_the_take_that_a_changing_prompt_would_have_made(pipe, tmp_path):
    listed = scene(shot(0, seed=5), shot(1, transition="continue", prompt="blue", seed=5),
                   rate="16")  # fmt: skip
    cut = make(pipe, listed, tmp_path)
    take = cut[1].planned.take
    whole = pipe.generate("a red ball", settings=take.settings, cues=take.cues).frames
    store = Store(tmp_path)
    made = torch.stack(list(lossless_frames(store.source(cut[1].record))))
    assert torch.equal(made, whole[take.skipped :])


def test_a_shot_starts_from_the_last_frame_that_another_shows(pipe, tmp_path):
    cut = make(pipe, scene(shot(0, 20), shot(1, after="SH0000"), rate="16"), tmp_path)
    store = Store(tmp_path)
    shown = list(lossless_frames(store.source(cut[0].record)))[19]
    first = next(lossless_frames(store.source(cut[1].record)))
    picture = pipe.generate("a red ball", settings=cut[1].planned.take.settings, picture=shown)
    assert torch.equal(first, picture.frames[0])


def test_a_shot_starts_from_a_picture_and_is_made_anew_when_that_changes(pipe, tmp_path):
    path = tmp_path / "first.png"
    Image.new("RGB", (96, 64), "red").save(path)
    make(pipe, scene(shot(0, picture=path)), tmp_path / "a")
    assert named(make(pipe, scene(shot(0, picture=path)), tmp_path / "a")) == ["SH0000_v001 kept"]
    Image.new("RGB", (96, 64), "blue").save(path)
    assert named(make(pipe, scene(shot(0, picture=path)), tmp_path / "a")) == ["SH0000_v002 made"]
    path.write_bytes(b"no picture")
    with pytest.raises(ShotListError, match=r"row 2: cannot read .*first\.png"):
        make(pipe, scene(shot(0, picture=path)), tmp_path / "a")


def test_a_run_that_was_killed_goes_on_to_the_same_files(pipe, tmp_path, monkeypatch):
    make(pipe, scene(*CHAIN), tmp_path / "whole")
    real, left = Pipeline.stream, [2]

    def stopping(self, *arguments, **options):
        left[0] -= 1
        events = real(self, *arguments, **options)
        yield next(events)
        if left[0] < 0:
            raise KeyboardInterrupt
        yield from events

    with monkeypatch.context() as patch:
        patch.setattr(Pipeline, "stream", stopping)
        with pytest.raises(KeyboardInterrupt):
            make(pipe, scene(*CHAIN), tmp_path / "cut")
    # A kill that leaves no time to clear away leaves a folder like this one.
    (tmp_path / "cut" / "takes" / ".longtake-SH0002_v001").mkdir()
    (tmp_path / "cut" / "shots" / ".longtake-0.part").touch()
    cut = make(pipe, scene(*CHAIN), tmp_path / "cut")
    assert [made.how for made in cut] == ["kept", "kept", "made", "made", "made"]
    assert contents(tmp_path / "cut") == contents(tmp_path / "whole")


def test_two_runs_in_one_folder_do_not_meet(one_pass, tmp_path):
    store = Store(tmp_path)
    with store.alone(), pytest.raises(OutputError, match="another longtake is at work"):
        make(one_pass, scene(shot(0)), tmp_path)
    assert named(make(one_pass, scene(shot(0)), tmp_path)) == ["SH0000_v001 made"]


def test_a_damaged_record_is_named(pipe, tmp_path):
    (made,) = make(pipe, scene(shot(0)), tmp_path)
    (tmp_path / "takes" / made.record.name / "take.json").write_text("{")
    with pytest.raises(StateError, match=r"SH0000_v001/take\.json is damaged"):
        make(pipe, scene(shot(0)), tmp_path)


def test_a_shot_that_cannot_be_is_found_before_any_is_made(pipe, tmp_path):
    long = scene(shot(0), shot(1, prompt="a ball " * 2000))
    with pytest.raises(ShotListError, match=r"row 3: the prompt has 14,000 characters"):
        make(pipe, long, tmp_path)
    assert not (tmp_path / "takes").exists()


@pytest.mark.slow
def test_a_hundred_unchanged_shots_stay_as_they_are_after_edits(one_pass, tmp_path):
    shots = [shot(n, 3) for n in range(12)]
    make(one_pass, scene(*shots), tmp_path, handles=2)
    unchanged = 0
    for number in range(10):
        before = contents(tmp_path)
        shots[number] = replace(shots[number], seed=1000 + number)
        cut = make(one_pass, scene(*shots), tmp_path, handles=2)
        after = contents(tmp_path)
        assert {name: after[name] for name in before} == before
        unchanged += sum(made.how == "kept" for made in cut)
    assert unchanged == 110


@pytest.mark.slow
@pytest.mark.faults
def test_a_scene_killed_at_any_moment_goes_on_to_the_same_files(tmp_path):
    listed = tmp_path / "scene.csv"
    rows = "".join(f"N{n},6f,a red ball,{n}\n" for n in range(4))
    listed.write_text(f"name,duration,prompt,seed\n{rows}")
    words = ["shoot", str(listed), "--size", "64x64", "--steps", "1", "--quiet", "-o"]
    command = [sys.executable, "-m", "longtake", *words]
    subprocess.run([*command, str(tmp_path / "a" / "cut")], check=True)
    for delay_s in (0.1, 0.6, 1.2, 2.0):
        process = subprocess.Popen([*command, str(tmp_path / "b" / "cut")])
        deadline = time.monotonic() + 60
        while not (tmp_path / "b").exists() and time.monotonic() < deadline:
            time.sleep(0.02)
        time.sleep(delay_s)
        process.kill()
        process.wait()
    subprocess.run([*command, str(tmp_path / "b" / "cut")], check=True)
    assert contents(tmp_path / "b") == contents(tmp_path / "a")
