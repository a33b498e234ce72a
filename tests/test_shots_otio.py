"""Timelines of other programs as shot lists: what they say is read, what is nested is refused."""

from pathlib import Path

import pytest
from opentimelineio import adapters, opentime, schema

from longtake.errors import ShotListError
from longtake.shots.read import read_shots


def span(frames: float, rate: float = 24) -> opentime.TimeRange:
    return opentime.TimeRange(opentime.RationalTime(0, rate), opentime.RationalTime(frames, rate))


def clip(name: str, frames: float = 24, rate: float = 24, said: str = "a red ball") -> schema.Clip:
    made = schema.Clip(name=name, source_range=span(frames, rate))
    if said:
        made.markers.append(schema.Marker(comment=said))
    return made


def written(folder: Path, *items, more=()) -> Path:
    timeline = schema.Timeline(name="cut")
    track = schema.Track(kind="Video")
    track.extend(items)
    timeline.tracks.append(track)
    timeline.tracks.extend(more)
    path = folder / "cut.otio"
    adapters.write_to_file(timeline, str(path))
    return path


def complaint(path: Path) -> str:
    with pytest.raises(ShotListError) as caught:
        read_shots(path)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_marker_says_what_a_clip_shows_and_the_rate_is_the_timelines(tmp_path):
    path = written(tmp_path, clip("A", 30, 25), clip("B", 1, 25, "a blue cube"))
    scene = read_shots(path)
    assert [(s.code, s.frames, s.prompt) for s in scene.shots] == [
        ("A", 30, "a red ball"), ("B", 1, "a blue cube"),
    ]  # fmt: skip
    assert (scene.title, scene.rate.name) == ("cut", "25")


def test_a_transition_between_clips_is_a_dissolve_of_its_length(tmp_path):
    fade = schema.Transition(
        in_offset=opentime.RationalTime(4, 24), out_offset=opentime.RationalTime(6, 24)
    )
    scene = read_shots(written(tmp_path, clip("A"), fade, clip("B")))
    assert [(s.transition, s.dissolve) for s in scene.shots] == [("cut", 0), ("dissolve", 10)]


def test_sound_tracks_are_left(tmp_path):
    path = written(tmp_path, clip("A"), more=[schema.Track(kind="Audio")])
    assert len(read_shots(path).shots) == 1


def test_23_976_is_known_however_it_is_rounded(tmp_path):
    for rate in (23.976, 24000 / 1001, 23.98):
        assert read_shots(written(tmp_path, clip("A", 24, rate))).rate.name == "23.976"


@pytest.mark.parametrize(
    ("items", "told"),
    [
        ([clip("A"), schema.Stack(name="nested")], "item 2, 'nested': a nested stack; flatten it"),
        ([schema.Track(name="inner")], "item 1, 'inner': a nested track"),
        ([clip("A"), schema.Gap(source_range=span(3)), clip("B")], "item 2, '': a gap; close it"),
        ([clip("A"), clip("B", 24, 25)], "clips of several rates (24, 25)"),
        ([clip("A", 1.5)], "item 1, column duration: 1.5 frames"),
        ([clip("A", 0)], "item 1, column frames: got '0'"),
        ([clip("A", said="")], "item 1, column prompt: it is empty"),
        ([clip("a b")], "item 1, column name: got 'a b'"),
        ([clip("A"), clip("A")], "item 2, column name: A is the name of cut.otio, item 1 too"),
        ([schema.Clip(name="A")], "item 1, column duration: the clip 'A' has no range"),
        ([clip("A", 24, 60)], "rate must be one of"),
        ([], "has no clips"),
    ],
)
def test_what_cannot_be_a_shot_is_refused_by_its_item(tmp_path, items, told):
    assert told in complaint(written(tmp_path, *items))


def test_several_picture_tracks_are_refused(tmp_path):
    path = written(tmp_path, clip("A"), more=[schema.Track(kind="Video")])
    assert "has 2 picture tracks; flatten it to one" in complaint(path)
    path = written(tmp_path, clip("A"), more=[schema.Stack()])
    assert "has 2 picture tracks" in complaint(path)


@pytest.mark.parametrize("text", ["", "{", "[]", '{"OTIO_SCHEMA": "Clip.1"}', '{"OTIO_SCHEMA": 3}'])
def test_what_is_no_timeline_is_refused(tmp_path, text):
    path = tmp_path / "cut.otio"
    path.write_text(text)
    assert complaint(path).startswith("cut.otio ")
