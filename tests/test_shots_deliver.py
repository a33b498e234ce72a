"""What an editor gets: files that say the same as the list, to the frame, at every rate."""

import json
from dataclasses import replace
from pathlib import Path

import av
import numpy as np
import opentimelineio as otio
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from longtake import pipeline
from longtake.cli.main import CANNOT, DONE, STOPPED, run
from longtake.config import Sampling
from longtake.errors import MediaError, OutputError, ShotListError
from longtake.media.guide import check_sound
from longtake.media.manifest import TAG
from longtake.media.video import read_metadata, read_video
from longtake.pipeline import Pipeline
from longtake.shots import deliver
from longtake.shots.edl import Event, read_edl, reels_of, write_edl
from longtake.shots.manifest import is_scene, manifest_from
from longtake.shots.read import read_shots
from longtake.shots.stamp import board, stamped
from longtake.shots.table import Row, Sheet, cells_of, shots_of
from longtake.shots.timecode import RATES, rate_of

EXAMPLE = Path(__file__).parents[1] / "examples" / "scene.csv"
SMALL = ("--size", "96x64", "--steps", "1", "--quiet")
RATE = st.sampled_from(RATES)
NAME = st.text("ABcd_-019", min_size=1, max_size=30)
LIST = """scene,name,duration,prompt,transition,dissolve
SC010,SH0010,12f,a red ball bounces,,
SC010,SH0020,9f,a blue ball,continue,
SC010,SH0030,15f,a green ball,dissolve,8f
SC020,SH0010,1f,a red sphere,cut,
"""


@pytest.fixture
def model(tiny):
    torch.manual_seed(0)
    config = replace(tiny, chunk=2, max_frames=2000)
    parts = pipeline.build(config)
    torch.nn.init.normal_(parts[1].head.weight, std=0.1)
    for part in parts:
        part.eval().requires_grad_(False)
    return Pipeline(name="tiny", model_hash="ab" * 32, config=config, parts=parts)


@pytest.fixture
def folder(tmp_path, monkeypatch, model):
    monkeypatch.setattr(pipeline, "load", lambda *_, **__: model)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "scene.csv").write_text(LIST)
    before = torch.get_num_threads()
    yield tmp_path
    torch.set_num_threads(before)


def shoot(*more: str, listed: str = "scene.csv") -> int:
    return run(["shoot", listed, *SMALL, *more])


def complaint(capsys, *arguments: str, code: int = 2) -> str:
    capsys.readouterr()
    assert run(list(arguments)) == code
    lines = capsys.readouterr().err.splitlines()
    assert sum(line.startswith(("error:", "stopped;")) for line in lines) == 1
    return lines[-1]


@given(st.lists(st.tuples(NAME, st.integers(1, 5000)), max_size=20, unique_by=lambda x: x[0]), RATE)
@settings(deadline=None)
def test_an_edit_list_reads_back_exactly(clips, rate):
    hour = rate.counted * 3600
    events, at = [], hour
    for (name, frames), reel in zip(clips, reels_of([name for name, _ in clips]), strict=True):
        events.append(Event(reel=reel, source=hour, record=at, frames=frames, clip=name))
        at += frames
    title, found = read_edl(write_edl("A\nscene", events, rate), rate)
    assert title == "A scene"
    assert found == events


@given(st.lists(st.text(max_size=30), unique=True, max_size=300))
@settings(deadline=None)
def test_reels_have_eight_letters_at_most_and_differ(names):
    reels = reels_of(names)
    assert len(set(reels)) == len(names)
    assert all(0 < len(reel) <= 8 and reel.isascii() and reel.isalnum() for reel in reels)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (("FCM: NON-DROP FRAME", "FCM: DROP FRAME"), "does not fit a rate of 24"),
        (("001  ", "002  "), "is not event 001"),
        (("00:00:00:05 00", "00:00:00:06 00"), "source and record differ in length"),
        ((" C ", " D "), "is not event 001"),
    ],
)
def test_a_foreign_edit_list_is_refused_by_its_line(change, told):
    event = Event(reel="A", source=0, record=0, frames=5, clip="A")
    text = write_edl("t", [event], rate_of("24"))
    with pytest.raises(ShotListError, match=told):
        read_edl(text.replace(*change), rate_of("24"))


@pytest.mark.parametrize("rate", [rate.name for rate in RATES])
def test_every_file_of_a_cut_says_the_same_frames_at_every_rate(folder, rate):
    assert shoot("--rate", rate, "--no-slate") == DONE
    speed, scene = rate_of(rate), read_shots(folder / "scene.csv", rate)
    film, told = read_video(folder / "scene" / "scene.mp4")
    assert (len(film), told) == (37, float(speed.fps))
    start = speed.counted * 3600 - (108 if speed.drop else 0)
    _, events = read_edl((folder / "scene" / "scene.edl").read_text(), speed)
    timeline = otio.adapters.read_from_file(str(folder / "scene" / "scene.otio"))
    clips = list(timeline.find_clips())
    assert timeline.global_start_time.value == start
    assert [clip.name for clip in clips] == [shot.code for shot in scene.shots]
    for shot, at, event, clip in zip(scene.shots, scene.starts(), events, clips, strict=True):
        assert (event.record - start, event.frames, event.source) == (at, shot.frames, start)
        inside = clip.source_range
        assert (inside.start_time.value, inside.duration.value) == (start, shot.frames)
        available = clip.available_range()
        assert available.start_time <= inside.start_time
        assert inside.end_time_exclusive() <= available.end_time_exclusive()
        media = folder / "scene" / clip.media_reference.target_url
        pixels, _ = read_video(media)
        assert len(pixels) == available.duration.value
        head = int(inside.start_time.value - available.start_time.value)
        shown = pixels[head : head + shot.frames]
        assert torch.equal(shown, film[at : at + shot.frames])


@pytest.mark.parametrize("rate", ["23.976", "24", "29.97"])
def test_our_timeline_is_a_shot_list_that_gives_the_same_shots(folder, rate):
    assert shoot("--rate", rate, "--no-slate") == DONE
    again = read_shots(folder / "scene" / "scene.otio")
    scene = read_shots(folder / "scene.csv", rate)
    assert again.rate == scene.rate
    assert again.shots == scene.shots


def test_a_shot_as_cells_reads_back_as_the_same_shot(tmp_path):
    picture = tmp_path / "first.png"
    picture.touch()
    (tmp_path / "scene.csv").write_text(
        "name,frames,prompt,negative,seed,camera,first_frame,lock,transition\n"
        "A,3,a ball,a cube,7,pan left,first.png,yes,\n"
        "B,3,a ball,,,,last:A,,\nC,9,a cone,,,,,,dissolve\n"
    )
    scene = read_shots(tmp_path / "scene.csv")
    rows = [Row("", cells_of(shot, tmp_path)) for shot in scene.shots]
    assert shots_of(Sheet(rows=rows), scene.rate, tmp_path, {})[0] == scene.shots


@pytest.mark.usefixtures("folder")
def test_the_master_is_tagged_timed_and_copied_from_the_shots():
    assert shoot() == DONE
    with av.open("scene/scene.mp4") as container:
        video, data = container.streams
        assert data.type == "data"
        assert data.metadata["timecode"] == "01:00:00:00"
        context = video.codec_context
        assert (context.color_primaries, context.color_trc, context.colorspace) == (1, 1, 1)
        packets = [bytes(p) for p in container.demux(video) if p.dts is not None]
    bodies = []
    for name in ("SC010_SH0010", "SC010_SH0020", "SC010_SH0030", "SC020_SH0010"):
        with av.open(f"scene/takes/{name}_v001/body.mp4") as container:
            bodies += [bytes(p) for p in container.demux(video=0) if p.dts is not None]
    assert packets == bodies


@pytest.mark.slow
@pytest.mark.usefixtures("folder")
def test_a_cut_is_numbered_and_the_plain_names_mean_the_newest():
    assert shoot() == DONE
    first = Path("scene/scene_v001.mp4").read_bytes()
    assert shoot() == DONE
    assert not Path("scene/scene_v002.mp4").exists()
    Path("scene.csv").write_text(LIST.replace("a red sphere", "a blue sphere"))
    assert shoot() == DONE
    assert Path("scene/scene_v001.mp4").read_bytes() == first
    newest = Path("scene/scene_v002.mp4").read_bytes()
    assert Path("scene/scene.mp4").read_bytes() == newest != first
    # All frames but the last, which is the shot that changed, are the same packets.
    kept = read_video(Path("scene/scene_v001.mp4"))[0][:36]
    assert torch.equal(kept, read_video(Path("scene/scene.mp4"))[0][:36])


def test_the_record_tells_the_cut_and_reads_back(folder):
    assert shoot("--retime", "blend") == DONE
    inside = read_metadata(Path("scene/scene.mp4"))[TAG]
    assert is_scene(inside)
    manifest = manifest_from(inside, folder / "scene")
    assert manifest.scene.shots == read_shots(folder / "scene.csv").shots
    assert (manifest.retiming, manifest.handles, manifest.model) == ("blend", 8, "tiny")
    beside = json.loads(Path("scene/scene.json").read_text())
    assert {k: v for k, v in beside.items() if k != "key"} == json.loads(inside)
    with pytest.raises(MediaError, match="cannot be used"):
        manifest_from(inside.replace('"retiming":"blend"', '"retiming":"guess"'), folder)


@pytest.mark.usefixtures("folder")
def test_shots_are_sampled_as_the_model_says_where_nobody_says_otherwise(model):
    own = Sampling(steps=2, guidance=1.0, shift=4.0, sampler="euler")
    model.config = replace(model.config, sampling=own)
    assert run(["shoot", "scene.csv", "--size", "96x64", "--shift", "5", "--quiet"]) == DONE
    record = json.loads(Path("scene/scene.json").read_text())
    said = {name: record["settings"][name] for name in ("steps", "guidance", "shift", "sampler")}
    assert said == {"steps": 2, "guidance": 1.0, "shift": 5.0, "sampler": "euler"}


@pytest.mark.usefixtures("folder")
def test_without_metadata_the_mp4_tells_no_words():
    assert shoot("--no-metadata", "--no-slate") == DONE
    assert TAG not in read_metadata(Path("scene/scene.mp4"))
    assert b"red ball" not in Path("scene/scene.mp4").read_bytes()


def corner(frame, lines):
    """How far the corners of a frame are from those of a frame that says this."""
    wanted = stamped(frame, lines)
    rows = [*range(18), *range(len(frame) - 18, len(frame))]
    return float(np.abs(frame[rows].astype(int) - wanted[rows]).mean())


@pytest.mark.slow
def test_the_copy_has_a_slate_and_says_shot_take_timecode_and_seed(folder):
    assert run(["shoot", "scene.csv", "--size", "384x192", *SMALL[2:], "--rate", "29.97"]) == DONE
    film, _ = read_video(Path("scene/scene_slate.mp4"))
    assert len(film) == 30 + 37
    assert read_metadata(Path("scene/scene_slate.mp4"))["timecode"] == "00:59:59;00"
    assert (film[0].int() - film[29].int()).abs().float().mean() < 3
    frame = film[30 + 12].numpy()
    seed = read_shots(folder / "scene.csv").shots[1].seed
    told = ("scene", "SC010_SH0020_v001", "01:00:00;12", f"seed {seed}, 1/9")
    right = corner(frame, told)
    for number, wrong in enumerate(("scenes", "SC010_SH0030_v001", "01:00:00;17", "seed 1, 1/9")):
        lines = [*told]
        lines[number] = wrong
        assert corner(frame, tuple(lines)) > right


@pytest.mark.usefixtures("folder")
def test_the_clean_master_has_no_burn_in():
    assert shoot() == DONE
    clean = Path("scene/scene.mp4").read_bytes()
    assert run(["shoot", "scene.csv", *SMALL, "--no-slate", "-o", "scene2"]) == DONE
    assert torch.equal(
        read_video(Path("scene2/scene2.mp4"))[0], read_video(Path("scene/scene.mp4"))[0]
    )
    assert Path("scene/scene.mp4").read_bytes() == clean


@pytest.mark.slow
@pytest.mark.parametrize(("seconds", "word"), [(0.5, "shorter"), (5, "longer, and was cut")])
def test_a_guide_track_leaves_the_length_of_the_film(folder, capsys, sound, seconds, word):
    sound(folder / "guide.wav", seconds)
    assert run(["shoot", "scene.csv", *SMALL[:-1], "--audio", "guide.wav"]) == DONE
    assert word in capsys.readouterr().err
    for name, lead in (("scene.mp4", 0), ("scene_slate.mp4", 24)):
        film, _ = read_video(folder / "scene" / name)
        assert len(film) == lead + 37
        with av.open(str(folder / "scene" / name)) as container:
            heard = np.concatenate([f.to_ndarray() for f in container.decode(audio=0)], axis=1)[0]
        wanted = min(seconds, 37 / 24) + lead / 24
        assert abs(len(heard) / 48_000 - wanted) < 0.07
        loud = np.flatnonzero(np.abs(heard) > 0.05)
        assert abs(loud[0] / 48_000 - lead / 24) < 0.05


def test_what_has_no_sound_is_refused_before_anything_is_made(folder, capsys):
    for nothing in (b"no sound", b"#EXTM3U\nother.wav", b"RIFF, and then nothing"):
        Path("guide.wav").write_bytes(nothing)
        told = complaint(capsys, "shoot", "scene.csv", *SMALL, "--audio", "guide.wav")
        assert "cannot read the sound" in told
    Path("guide.wav").unlink()
    told = complaint(capsys, "shoot", "scene.csv", *SMALL, "--audio", "guide.wav")
    assert "cannot read the sound" in told
    assert not Path("scene").exists()
    assert shoot("--no-slate") == DONE
    with pytest.raises(MediaError, match="has no sound track"):
        check_sound(folder / "scene" / "scene.mp4")


@pytest.mark.usefixtures("folder")
def test_a_folder_that_holds_someone_elses_film_is_refused(capsys):
    Path("scene").mkdir()
    Path("scene/scene.mp4").write_bytes(b"mine")
    assert "is there and not from longtake" in complaint(capsys, "shoot", "scene.csv", *SMALL)
    told = complaint(capsys, "shoot", "scene.csv", *SMALL, "-o", "cut.mp4")
    assert "a scene is a folder" in told
    assert Path("scene/scene.mp4").read_bytes() == b"mine"


@pytest.mark.usefixtures("folder")
def test_a_full_disk_pauses_and_the_same_command_goes_on(capsys, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(deliver, "write_sheets", failing(OutputError("no space left")))
        told = complaint(capsys, "shoot", "scene.csv", *SMALL, code=CANNOT)
        assert "paused: no space left; shots that are finished stay" in told
        patch.setattr(deliver, "write_sheets", failing(KeyboardInterrupt()))
        told = complaint(capsys, "shoot", "scene.csv", *SMALL, code=STOPPED)
        assert "longtake shoot scene.csv again goes on" in told
    assert shoot() == DONE
    assert len(read_video(Path("scene/scene_v001.mp4"))[0]) == 37


def failing(error: BaseException):
    def fail(*_, **__):
        raise error

    return fail


@pytest.mark.usefixtures("folder")
def test_the_report_tells_every_shot(capsys):
    assert shoot("--json", "--lock", "SH0020") == DONE
    report = json.loads(capsys.readouterr().out)
    assert [shot["how"] for shot in report["shots"]] == ["made"] * 4
    assert report["frames"] == 37
    assert all(Path(file).exists() for file in report["files"])
    assert shoot("--json", "--lock", "SH0020") == DONE
    again = json.loads(capsys.readouterr().out)
    assert [shot["how"] for shot in again["shots"]] == ["kept", "locked", "kept", "kept"]


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize(
    ("more", "told"),
    [
        (("--lock", "SH0011"), "--lock SH0011: no shots of that name; did you mean"),
        (("--lock", "SH0010"), "--lock SH0010: 2 shots of that name"),
        (("--handles", "-1"), "--handles must be 0 to 240 frames"),
        (("--rate", "26"), "rate must be one of"),
        (("--retime", "blended"), "did you mean blend?"),
        (("--cast", "a b", "c"), "--cast wants a name of letters"),
    ],
)
@pytest.mark.usefixtures("folder")
def test_what_cannot_be_asked_is_refused_in_one_line(capsys, more, told):
    assert told in complaint(capsys, "shoot", "scene.csv", *SMALL, *more)
    assert not Path("scene").exists()


@pytest.mark.slow
def test_the_example_scene_is_made_by_the_embedded_model(tmp_path):
    more = ("--size", "224x128", "--steps", "1", "--quiet", "--no-slate")
    assert run(["shoot", str(EXAMPLE), *more, "-o", str(tmp_path / "scene")]) == DONE
    timeline = otio.adapters.read_from_file(str(tmp_path / "scene" / "scene.otio"))
    assert timeline.duration().value == read_shots(EXAMPLE).frames
    film, _ = read_video(tmp_path / "scene" / "scene.mp4")
    assert len(film) == read_shots(EXAMPLE).frames


def test_a_board_shows_what_fits():
    long = board(["a title " * 50, *["a line"] * 100], 96, 64)
    assert long.shape == (64, 96, 3)
    assert (long[10:20] != long[0, 0]).any()
