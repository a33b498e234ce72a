"""The cut as editors read it: a timeline of the OpenTimelineIO library, and an edit list."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from opentimelineio import opentime, schema
from opentimelineio.adapters import write_to_string

from longtake.errors import ShotListError
from longtake.shots.edl import Event, read_edl, reels_of, write_edl
from longtake.shots.render import BODY_AT, Made
from longtake.shots.shot import METADATA, START, Shot, ShotList
from longtake.shots.store import Store
from longtake.shots.table import cells_of
from longtake.shots.timecode import Rate, from_timecode


@dataclass(frozen=True, slots=True, kw_only=True)
class Clip:
    """Where a shot of the cut lies; times are frames."""

    shot: Shot
    name: str
    """Of what is shown: a take, or the animatic."""
    file: str
    """Path from the timeline's folder."""
    begins: int
    """Timecode of the file's first frame."""
    holds: int
    """Frames of the file."""
    source: int
    """Timecode in the file of the shot's first frame."""
    at: int
    """Frame of the cut at which it begins."""


def clips_of(scene: ShotList, cut: Sequence[Made], store: Store) -> list[Clip]:
    """Each shot in its own file, handles around it."""
    body = from_timecode(BODY_AT, scene.rate)
    return [
        Clip(
            shot=made.planned.shot,
            name=made.record.name,
            file=store.file(made.record).relative_to(store.folder).as_posix(),
            begins=body - made.planned.take.head,
            holds=made.planned.shown,
            source=body,
            at=made.planned.at,
        )
        for made in cut
    ]


def otio_of(scene: ShotList, clips: Sequence[Clip], folder: Path) -> str:
    """The timeline: a clip for each shot, with what lies around it, and its line of the list."""
    rate = scene.rate
    timeline = schema.Timeline(
        name=scene.title,
        global_start_time=_time(from_timecode(START, rate), rate),
        metadata={METADATA: {"rate": rate.name}},
    )
    track = schema.Track(name="V1", kind=schema.TrackKind.Video)
    for clip in clips:
        media = schema.ExternalReference(
            target_url=clip.file, available_range=_range(clip.begins, clip.holds, rate)
        )
        media.name = clip.name
        track.append(
            schema.Clip(
                name=clip.shot.code,
                media_reference=media,
                source_range=_range(clip.source, clip.shot.frames, rate),
                metadata={METADATA: {"shot": cells_of(clip.shot, folder)}},
            )
        )
    timeline.tracks.append(track)
    return write_to_string(timeline, "otio_json")


def edl_of(scene: ShotList, clips: Sequence[Clip]) -> str:
    """The edit list, read again before it is handed out.

    Raises:
        ShotListError: it does not say what was cut, which is our mistake.
    """
    start = from_timecode(START, scene.rate)
    reels = reels_of([clip.shot.code for clip in clips])
    events = [
        Event(
            reel=reel,
            source=clip.source,
            record=start + clip.at,
            frames=clip.shot.frames,
            clip=clip.name,
        )
        for reel, clip in zip(reels, clips, strict=True)
    ]
    text = write_edl(scene.title, events, scene.rate)
    if read_edl(text, scene.rate)[1] != events:
        msg = f"the edit list of {scene.title} reads back otherwise; please report it"
        raise ShotListError(msg)
    return text


def check_length(scene: ShotList, path: Path) -> None:
    """Prove that the cut ends before its clock begins again.

    Raises:
        ShotListError: it does not.
    """
    left = scene.rate.day - from_timecode(START, scene.rate)
    if scene.frames > left:
        msg = (
            f"{path.name}: the cut has {scene.frames} frames; the clock has {left} from {START} on"
        )
        raise ShotListError(msg)


def _time(frame: int, rate: Rate) -> opentime.RationalTime:
    return opentime.RationalTime(frame, float(rate.fps))


def _range(start: int, frames: int, rate: Rate) -> opentime.TimeRange:
    return opentime.TimeRange(_time(start, rate), _time(frames, rate))
