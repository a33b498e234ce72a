"""Edit decision lists as CMX 3600 has them, written and read again.

A line of an event: number, reel, track, kind of edit, then in and out of the source and of the
record, outs being the first frame that is no longer shown. Reels have at most eight letters and
digits, for more is read by some programs only; the full name goes into a comment.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from longtake.errors import ShotListError
from longtake.shots.timecode import Rate, from_timecode, to_timecode

REEL = 8
"""Most letters of a reel's name."""
_TIME = r"(\d\d:\d\d:\d\d[:;]\d\d)"
_EVENT = re.compile(rf"(\d{{3}})\s+(\w{{1,8}})\s+V\s+C\s+{_TIME}\s+{_TIME}\s+{_TIME}\s+{_TIME}")
_CLIP = "* FROM CLIP NAME: "
_COUNTING = {False: "FCM: NON-DROP FRAME", True: "FCM: DROP FRAME"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """One clip of the cut; times are frames."""

    reel: str
    """Tape it is from, in eight letters."""
    source: int
    """First frame of the source that is shown."""
    record: int
    """Where in the cut."""
    frames: int
    """How long."""
    clip: str
    """Full name of the source."""


def reels_of(names: Sequence[str]) -> list[str]:
    """A reel for each name: its last eight letters and digits, made to differ where they do not."""
    found: dict[str, None] = {}
    for name in names:
        plain = re.sub(r"[^A-Z0-9]", "", name.upper()) or "AX"
        reel, number = plain[-REEL:], 1
        while reel in found:
            number += 1
            reel = f"{plain[-REEL + len(str(number)) :]}{number}"
        found[reel] = None
    return list(found)


def write_edl(title: str, events: Sequence[Event], rate: Rate) -> str:
    """The list as text."""
    plain = " ".join("".join(c if c.isprintable() else " " for c in title).split())
    lines = [f"TITLE: {plain[:70]}", _COUNTING[rate.drop], ""]
    for number, event in enumerate(events, start=1):
        times = (event.source, event.source + event.frames)
        times += (event.record, event.record + event.frames)
        told = " ".join(to_timecode(time, rate) for time in times)
        lines += [f"{number:03}  {event.reel:<{REEL}} V     C        {told}", _CLIP + event.clip]
    return "\n".join(lines) + "\n"


def read_edl(text: str, rate: Rate) -> tuple[str, list[Event]]:
    """Title and events of a list as `write_edl` makes them.

    Raises:
        ShotListError: a line that is none of these, or times that do not fit each other.
    """
    title, found = "", list[Event]()
    for number, line in enumerate(text.splitlines(), start=1):
        if line.startswith("TITLE: "):
            title = line.removeprefix("TITLE: ")
        elif line.startswith("FCM: "):
            if line != _COUNTING[rate.drop]:
                msg = f"line {number}: {line} does not fit a rate of {rate.name}"
                raise ShotListError(msg)
        elif line.startswith(_CLIP) and found:
            last = found.pop()
            found.append(Event(
                reel=last.reel, source=last.source, record=last.record, frames=last.frames,
                clip=line.removeprefix(_CLIP),
            ))  # fmt: skip
        elif line.strip():
            found.append(_event(line, number, len(found) + 1, rate))
    return title, found


def _event(line: str, number: int, wanted: int, rate: Rate) -> Event:
    parts = _EVENT.fullmatch(line.strip())
    if parts is None or int(parts[1]) != wanted:
        msg = f"line {number}: {line[:60]!r} is not event {wanted:03} of a list of cuts"
        raise ShotListError(msg)
    source, source_out, record, record_out = (from_timecode(parts[n], rate) for n in range(3, 7))
    if not 0 < source_out - source == record_out - record:
        msg = f"line {number}: source and record differ in length"
        raise ShotListError(msg)
    frames = source_out - source
    return Event(reel=parts[2], source=source, record=record, frames=frames, clip="")
