"""The cut as editors read it: a timeline of the OpenTimelineIO library, and an edit list."""

from collections.abc import Sequence
from pathlib import Path

from opentimelineio import opentime, schema
from opentimelineio.adapters import write_to_string

from longtake.errors import ShotListError
from longtake.shots.edl import Event, read_edl, reels_of, write_edl
from longtake.shots.read_otio import METADATA
from longtake.shots.render import BODY_AT, Made
from longtake.shots.shot import START, ShotList
from longtake.shots.store import Store
from longtake.shots.table import cells_of
from longtake.shots.timecode import Rate, from_timecode


def otio_of(scene: ShotList, cut: Sequence[Made], store: Store) -> str:
    """The timeline: a clip for each shot, with its handles beyond it, and its line of the list."""
    rate, clips = scene.rate, list[schema.Clip]()
    body = from_timecode(BODY_AT, rate)
    for made in cut:
        planned, record = made.planned, made.record
        file = store.file(record).relative_to(store.folder)
        media = schema.ExternalReference(
            target_url=file.as_posix(),
            available_range=_range(body - planned.take.head, planned.shown, rate),
            metadata={METADATA: {"take": record.name, "source_key": record.source_key}},
        )
        media.name = record.name
        clips.append(
            schema.Clip(
                name=planned.shot.code,
                media_reference=media,
                source_range=_range(body, planned.shot.frames, rate),
                metadata={METADATA: {"shot": cells_of(planned.shot, store.folder)}},
            )
        )
    timeline = schema.Timeline(
        name=scene.title,
        global_start_time=_time(from_timecode(START, rate), rate),
        metadata={METADATA: {"rate": rate.name}},
    )
    track = schema.Track(name="V1", kind=schema.TrackKind.Video)
    track.extend(clips)
    timeline.tracks.append(track)
    return write_to_string(timeline, "otio_json")


def edl_of(scene: ShotList, cut: Sequence[Made]) -> str:
    """The edit list, read again before it is handed out.

    Raises:
        ShotListError: it does not say what was cut, which is our mistake.
    """
    body, start = from_timecode(BODY_AT, scene.rate), from_timecode(START, scene.rate)
    reels = reels_of([made.planned.shot.code for made in cut])
    events = [
        Event(
            reel=reel,
            source=body,
            record=start + made.planned.at,
            frames=made.planned.shot.frames,
            clip=made.record.name,
        )
        for reel, made in zip(reels, cut, strict=True)
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
