"""Films made once more from what they carry, and the animatic before any is made."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import av
import opentimelineio as otio
import pytest
import torch
from PIL import Image

from longtake import pipeline
from longtake.cli.main import DONE, run
from longtake.media import manifest
from longtake.media.compare import compare
from longtake.media.video import VideoWriter, read_metadata, read_video
from longtake.pipeline import Pipeline
from longtake.shots.edl import read_edl
from longtake.shots.read import read_shots
from longtake.shots.timecode import RATES, rate_of

SMALL = ("--size", "96x64", "--steps", "1", "--quiet")
LIST = """name,duration,prompt,camera,first_frame
A,12f,a red ball bounces,pan left,
B,9f,a blue ball,,
C,1f,a green ball,dolly in,
"""


def pipe_of(config, chunk: int) -> Pipeline:
    torch.manual_seed(0)
    config = replace(config, chunk=chunk, max_frames=2000 if chunk else 33)
    parts = pipeline.build(config)
    torch.nn.init.normal_(parts[1].head.weight, std=0.1)
    for part in parts:
        part.eval().requires_grad_(False)
    return Pipeline(name="previz", model_hash="ab" * 32, config=config, parts=parts)


@pytest.fixture(params=[0, 2], ids=["one pass", "chunks"])
def folder(request, tmp_path, monkeypatch, tiny):
    """An empty working folder with a list, and a tiny model of either kind."""
    model = pipe_of(tiny, request.param)
    monkeypatch.setattr(pipeline, "load", lambda *_, **__: model)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "scene.csv").write_text(LIST)
    before = torch.get_num_threads()
    yield tmp_path
    torch.set_num_threads(before)


def told(capsys, *arguments: str) -> dict:
    capsys.readouterr()
    assert run(["reproduce", *arguments, "--json", "--quiet"]) == DONE
    return json.loads(capsys.readouterr().out)


def complaint(capsys, *arguments: str) -> str:
    capsys.readouterr()
    assert run(list(arguments)) == 2
    (line,) = (x for x in capsys.readouterr().err.splitlines() if x.startswith("error:"))
    return line


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize("seconds", ["1", "2"])
def test_a_film_is_made_again_to_the_same_bytes(capsys, seconds):
    assert run(["generate", "a red ball", *SMALL, "--seconds", seconds]) == DONE
    report = told(capsys, "film.mp4")
    assert (report["same_bytes"], report["reasons"]) == (True, [])
    assert report["frames"] == 16 * int(seconds) + 1
    assert run(["reproduce", "film.mp4", "--quiet"]) == DONE


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize("retime", ["duplicate", "blend"])
def test_a_cut_is_made_again_to_the_same_bytes(capsys, retime):
    assert run(["shoot", "scene.csv", *SMALL, "--no-slate", "--retime", retime]) == DONE
    shutil.rmtree("scene/takes")
    report = told(capsys, "scene/scene.mp4")
    assert (report["same_bytes"], report["frames"]) == (True, 22)


@pytest.mark.usefixtures("folder")
def test_other_weights_are_the_reason_that_is_told(capsys, monkeypatch, tiny):
    assert run(["generate", "a red ball", *SMALL, "--seconds", "1"]) == DONE
    other = pipe_of(tiny, pipeline.load().config.chunk)
    other.model_hash = "cd" * 32
    torch.nn.init.normal_(other.transformer.head.weight, std=0.2)
    monkeypatch.setattr(pipeline, "load", lambda *_, **__: other)
    report = told(capsys, "film.mp4")
    assert not report["same_frames"]
    assert 0 < report["worst_db"] <= report["psnr_db"] < 60
    assert report["reasons"] == ["another weights: abababababab, here cdcdcdcdcdcd"]
    assert run(["reproduce", "film.mp4"]) == DONE
    assert "reason: another weights" in capsys.readouterr().out


@pytest.mark.usefixtures("folder")
def test_another_release_and_machine_are_told_even_where_the_bytes_are_equal(capsys, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr("longtake.cli.generate.__version__", "0.0.1")
        patch.setattr("longtake.cli.start.__version__", "0.0.1")
        assert run(["generate", "a red ball", *SMALL, "--seconds", "1"]) == DONE
    report = told(capsys, "film.mp4")
    assert report["same_bytes"]
    assert report["reasons"][0].startswith("another release: 0.0.1, here")


@pytest.mark.usefixtures("folder")
def test_a_guide_track_and_locked_shots_are_told(capsys, sound):
    sound(Path("guide.wav"), 0.5)
    more = ("--audio", "guide.wav", "--no-slate")
    assert run(["shoot", "scene.csv", *SMALL, *more]) == DONE
    assert run(["shoot", "scene.csv", *SMALL, *more, "--lock", "A"]) == DONE
    report = told(capsys, "scene/scene.mp4")
    assert (report["same_bytes"], report["same_frames"]) == (False, True)
    assert report["reasons"] == ["a guide track, which is not compared"]
    Path("scene.csv").write_text(LIST.replace("a red ball", "a blue ball"))
    assert run(["shoot", "scene.csv", *SMALL, *more, "--lock", "A"]) == DONE
    report = told(capsys, "scene/scene.mp4")
    assert (report["same_bytes"], report["same_frames"]) == (False, False)
    assert [reason.split(",")[0] for reason in report["reasons"]] == [
        "locked shots", "a guide track",
    ]  # fmt: skip


@pytest.mark.parametrize("folder", [2], indirect=True)
def test_a_film_that_begins_with_a_picture_wants_the_same_again(folder, capsys):
    Image.new("RGB", (96, 64), "red").save(folder / "a.png")
    Image.new("RGB", (96, 64), "blue").save(folder / "b.png")
    assert run(["generate", "a red ball", *SMALL, "--seconds", "1", "--image", "a.png"]) == DONE
    assert "give it with --image" in complaint(capsys, "reproduce", "film.mp4")
    told_of_b = complaint(capsys, "reproduce", "film.mp4", "--image", "b.png")
    assert "b.png is not the picture that the film began with" in told_of_b
    assert told(capsys, "film.mp4", "--image", "a.png")["same_bytes"]


@pytest.mark.usefixtures("folder")
def test_what_carries_no_record_is_refused_in_one_line(capsys):
    assert run(["generate", "a red ball", *SMALL, "--seconds", "1", "--no-metadata"]) == DONE
    assert "has no 'longtake' tag" in complaint(capsys, "reproduce", "film.mp4")
    assert "cannot read" in complaint(capsys, "reproduce", "scene.csv")
    with VideoWriter(Path("odd.mp4"), width=64, height=64, metadata={manifest.TAG: "[]"}) as film:
        film.write(torch.zeros(2, 64, 64, 3, dtype=torch.uint8))
    assert "is not a Longtake record" in complaint(capsys, "reproduce", "odd.mp4")


def test_films_are_compared_by_bytes_and_by_frames(tmp_path):
    frames = torch.randint(0, 255, (6, 64, 96, 3), dtype=torch.uint8)
    paths = [tmp_path / f"{n}.mp4" for n in range(3)]
    for path, count, title in zip(paths, (6, 6, 5), "aba", strict=True):
        with VideoWriter(path, width=96, height=64, metadata={"title": title}) as film:
            film.write(frames[:count])
    assert compare(paths[0], paths[0]).same_bytes
    tagged = compare(paths[0], paths[1])
    assert (tagged.same_bytes, tagged.mean_db) == (False, float("inf"))
    assert compare(paths[0], paths[2]).frames == (6, 5)


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize("rate", [rate.name for rate in RATES])
def test_an_animatic_has_the_frames_and_the_cuts_of_the_list_at_every_rate(rate):
    assert run(["animatic", "scene.csv", *SMALL[:2], "--quiet", "--rate", rate]) == DONE
    scene = read_shots(Path("scene.csv"), rate)
    film, speed = read_video(Path("scene_animatic.mp4"))
    assert (len(film), speed) == (22, float(rate_of(rate).fps))
    _, events = read_edl(Path("scene_animatic.edl").read_text(), rate_of(rate))
    assert [event.frames for event in events] == [shot.frames for shot in scene.shots]
    timeline = otio.adapters.read_from_file("scene_animatic.otio")
    assert timeline.duration().value == 22
    assert read_metadata(Path("scene_animatic.mp4"))["timecode"].startswith("01:00:00")
    jumps = (film[1:].float() - film[:-1].float()).abs().mean((1, 2, 3))
    assert sorted(jumps.topk(2).indices.tolist()) == [11, 20]


def test_an_animatic_needs_no_model_and_overwrites_nothing(folder, capsys, monkeypatch):
    def no_model(*_, **__):
        pytest.fail("a model was loaded")

    monkeypatch.setattr(pipeline, "load", no_model)
    Image.new("RGB", (200, 100), "red").save(folder / "first.png")
    Path("scene.csv").write_text(LIST.replace("a blue ball,,", "a blue ball,,first.png"))
    line = ("animatic", "scene.csv", *SMALL[:2], "--json", "-o", "a.mp4")
    assert run([*line]) == DONE
    assert json.loads(capsys.readouterr().out)["frames"] == 22
    film, _ = read_video(Path("a.mp4"))
    red, green, _ = film[15, 32, 48].tolist()
    assert (red > 200, green < 60) == (True, True)
    assert "a.mp4 exists already" in complaint(capsys, *line)
    assert run([*line, "--overwrite"]) == DONE
    assert "must end in .mp4" in complaint(capsys, "animatic", "scene.csv", "-o", "scene")


@pytest.mark.usefixtures("folder")
def test_an_animatic_takes_a_guide_track_and_shows_dissolves(sound):
    sound(Path("guide.wav"), 5)
    text = LIST.replace("first_frame", "transition").replace(
        "a green ball,dolly in,", "a green ball,dolly in,dissolve"
    )
    Path("scene.csv").write_text(text.replace("C,1f", "C,6f"))
    assert run(["animatic", "scene.csv", "--quiet", "--audio", "guide.wav"]) == DONE
    film, _ = read_video(Path("scene_animatic.mp4"))
    steps = (film[21:27].float() - film[20:26].float()).abs().mean((1, 2, 3))
    assert steps.max() < 2 * steps.mean()
    with av.open("scene_animatic.mp4") as container:
        assert len(container.streams.audio) == 1


@pytest.mark.usefixtures("folder")
def test_a_film_that_was_cut_shorter_is_told_by_its_frames(capsys):
    assert run(["generate", "a red ball", *SMALL, "--seconds", "1"]) == DONE
    tags = read_metadata(Path("film.mp4"))
    record = {key: tags[key] for key in ("title", "comment", manifest.TAG)}
    pixels, _ = read_video(Path("film.mp4"))
    with VideoWriter(Path("short.mp4"), width=96, height=64, metadata=record) as film:
        film.write(pixels[:9])
    assert run(["reproduce", "short.mp4", "--quiet", "--json"]) == DONE
    assert not json.loads(capsys.readouterr().out)["same_frames"]
    assert run(["reproduce", "short.mp4"]) == DONE
    out = capsys.readouterr().out
    assert "9 frames there, 17 made" in out
    assert "reason: everything told is as it was" in out
