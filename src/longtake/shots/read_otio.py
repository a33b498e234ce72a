"""Shots from a timeline of the OpenTimelineIO library, ours or an editor's."""

from opentimelineio import opentime, schema
from opentimelineio.adapters import read_from_string
from opentimelineio.core import Composable
from opentimelineio.exceptions import OTIOError

from longtake.errors import ShotListError
from longtake.shots.shot import METADATA
from longtake.shots.table import Row, Sheet, column_of
from longtake.shots.timecode import RATES


def otio_sheet(name: str, text: str) -> Sheet:
    """The shots of a timeline's only picture track.

    Raises:
        ShotListError: no timeline, nested or several tracks, or a clip that says too little.
    """
    try:
        timeline = read_from_string(text, "otio_json")
    except (OTIOError, ValueError, TypeError) as error:
        msg = f"{name} is no OpenTimelineIO file: {' '.join(str(error).split())[:200]}"
        raise ShotListError(msg) from error
    if not isinstance(timeline, schema.Timeline):
        msg = f"{name} holds a {type(timeline).__name__}, not a timeline"
        raise ShotListError(msg)
    tracks = [track for track in timeline.tracks if getattr(track, "kind", "Video") == "Video"]
    if len(tracks) != 1 or not isinstance(tracks[0], schema.Track):
        msg = f"{name} has {len(tracks)} picture tracks; flatten it to one"
        raise ShotListError(msg)
    rows: list[Row] = []
    speeds: set[float] = set()
    fade: schema.Transition | None = None
    for number, item in enumerate(tracks[0], start=1):
        where = f"{name}, item {number}"
        if isinstance(item, schema.Transition):
            fade = item
            continue
        clip = _clip(item, where)
        duration = _duration(clip, where)
        speeds.add(duration.rate)
        rows.append(Row(where, _cells(clip, duration, fade, where)))
        fade = None
    if not rows:
        msg = f"{name} has no clips"
        raise ShotListError(msg)
    return Sheet(rows=rows, title=timeline.name, rate=_rate(name, timeline, speeds))


def _clip(item: Composable, where: str) -> schema.Clip:
    if isinstance(item, schema.Clip):
        return item
    kind = {"Stack": "a nested stack", "Track": "a nested track", "Gap": "a gap"}
    found = kind.get(type(item).__name__, f"a {type(item).__name__}")
    fix = "close it" if found == "a gap" else "flatten it to clips"
    msg = f"{where}, {item.name!r}: {found}; {fix}"
    raise ShotListError(msg)


def _duration(clip: schema.Clip, where: str) -> opentime.RationalTime:
    try:
        duration = clip.trimmed_range().duration
    except OTIOError as error:
        msg = f"{where}, column duration: the clip {clip.name!r} has no range"
        raise ShotListError(msg) from error
    if duration.value != int(duration.value):
        msg = f"{where}, column duration: {duration.value} frames; whole frames are wanted"
        raise ShotListError(msg)
    return duration


def _cells(
    clip: schema.Clip,
    duration: opentime.RationalTime,
    fade: schema.Transition | None,
    where: str,
) -> dict[str, str]:
    own = clip.metadata.get(METADATA, {}).get("shot", {})
    cells: dict[str, str] = {"name": clip.name}
    for key, value in own.items() if hasattr(own, "items") else ():
        column = column_of(key, where)
        if column is not None and isinstance(value, str | int | float):
            cells[column] = str(value)
    for column in ("duration", "seconds"):
        cells.pop(column, None)
    cells["frames"] = str(int(duration.value))
    if "prompt" not in cells:
        cells["prompt"] = next((marker.comment or marker.name for marker in clip.markers), "")
    if fade is not None:
        frames = (fade.in_offset + fade.out_offset).rescaled_to(duration.rate).value
        cells |= {"transition": "dissolve", "dissolve": str(max(round(frames), 1))}
    return cells


def _rate(name: str, timeline: schema.Timeline, speeds: set[float]) -> str:
    if len(speeds) > 1:
        told = ", ".join(f"{speed:g}" for speed in sorted(speeds))
        msg = f"{name} has clips of several rates ({told}); conform them to one"
        raise ShotListError(msg)
    own = timeline.metadata.get(METADATA, {})
    if hasattr(own, "get") and own.get("rate"):
        return str(own["rate"])
    (speed,) = speeds
    for rate in RATES:
        if abs(float(rate.fps) - speed) < 0.01:
            return rate.name
    return f"{speed:g}"
