"""Frame rates of film and television, and the clock times their frames are counted by."""

import re
from dataclasses import dataclass
from difflib import get_close_matches
from fractions import Fraction
from math import floor

from longtake.errors import ShotListError

_TIMECODE = re.compile(r"(\d{1,2}):(\d{2}):(\d{2})([:;])(\d{2})")
_DROPPED = 2
"""Numbers left out at the start of each minute but every tenth, in drop-frame counting."""


@dataclass(frozen=True, slots=True)
class Rate:
    """How fast frames are shown, and how they are counted."""

    name: str
    """As a user types it."""
    fps: Fraction
    """Frames per second, exactly."""
    counted: int
    """Frames that timecode counts in a second."""
    drop: bool = False
    """Whether numbers are left out so that timecode keeps up with the clock."""

    @property
    def day(self) -> int:
        """Frames in 24 hours of timecode."""
        return self.counted * 86_400 - (_DROPPED * 9 * 6 * 24 if self.drop else 0)

    def frames(self, seconds: Fraction) -> int:
        """The nearest whole number of frames that lasts so long."""
        return floor(seconds * self.fps + Fraction(1, 2))

    def seconds(self, frames: int) -> Fraction:
        """How long so many frames last, exactly."""
        return frames / self.fps


RATES = (
    Rate("16", Fraction(16), 16),
    Rate("23.976", Fraction(24_000, 1001), 24),
    Rate("24", Fraction(24), 24),
    Rate("25", Fraction(25), 25),
    Rate("29.97", Fraction(30_000, 1001), 30, drop=True),
    Rate("29.97ndf", Fraction(30_000, 1001), 30),
    Rate("30", Fraction(30), 30),
)
_SPOKEN = {"23.98": "23.976", "24000/1001": "23.976", "30000/1001": "29.97", "29.97df": "29.97"}


def rate_of(text: str) -> Rate:
    """The rate of that name; 29.97 counts drop-frame.

    Raises:
        ShotListError: any other rate.
    """
    bare = text.strip().lower().removesuffix("fps").strip()
    bare = bare.removesuffix(".0")
    name = _SPOKEN.get(bare, bare)
    names = [rate.name for rate in RATES]
    for rate in RATES:
        if rate.name == name:
            return rate
    near = get_close_matches(name, names, n=1)
    hint = f"did you mean {near[0]}?" if near else "try 24"
    msg = f"rate must be one of {', '.join(names)}, got {text!r}; {hint}"
    raise ShotListError(msg)


def to_timecode(frame: int, rate: Rate) -> str:
    """The clock time of a frame; after 24 hours it begins again at 0.

    Drop-frame counting leaves out the numbers 00 and 01 of each minute but every tenth: ten minutes
    have 17,982 frames, of which the first minute has 1,800 and each other 1,798.
    """
    frame %= rate.day
    if rate.drop:
        minute = rate.counted * 60 - _DROPPED
        tens, rest = divmod(frame, 10 * minute + _DROPPED)
        late = max(rest - _DROPPED, 0) // minute
        frame += _DROPPED * (9 * tens + late)
    seconds, frames = divmod(frame, rate.counted)
    minutes, seconds = divmod(seconds, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours:02}:{minutes:02}:{seconds:02}{';' if rate.drop else ':'}{frames:02}"


def from_timecode(text: str, rate: Rate) -> int:
    """The frame at a clock time.

    Raises:
        ShotListError: no timecode, or one that this rate does not count.
    """
    found = _TIMECODE.fullmatch(text.strip())
    if found is None:
        msg = f"a timecode is HH:MM:SS:FF, got {text!r}"
        raise ShotListError(msg)
    hours, minutes, seconds, frames = (int(found[n]) for n in (1, 2, 3, 5))
    if hours > 23 or minutes > 59 or seconds > 59 or frames >= rate.counted:
        msg = (
            f"{text} is no timecode at {rate.name}: hours go to 23, minutes and seconds to 59, "
            f"frames to {rate.counted - 1}"
        )
        raise ShotListError(msg)
    if found[4] == ";" and not rate.drop:
        fix = text.replace(";", ":")
        msg = f"{text} counts drop-frame, and {rate.name} does not; write {fix}, or take rate 29.97"
        raise ShotListError(msg)
    total = ((hours * 60 + minutes) * 60 + seconds) * rate.counted + frames
    if not rate.drop:
        return total
    if seconds == 0 and frames < _DROPPED and minutes % 10:
        msg = (
            f"{text} does not exist: drop-frame leaves it out; the nearest is "
            f"{hours:02}:{minutes:02}:00;{_DROPPED:02}"
        )
        raise ShotListError(msg)
    minute = hours * 60 + minutes
    return total - _DROPPED * (minute - minute // 10)
