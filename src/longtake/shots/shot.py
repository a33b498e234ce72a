"""What a shot list says: its shots in order, every one checked before anything is made."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from longtake.config import MAX_SEED, LoraUse
from longtake.errors import ShotListError
from longtake.shots.timecode import Rate

Transition = Literal["cut", "continue", "dissolve"]
MOST_SHOTS = 999
"""A CMX 3600 list numbers its events with three digits."""
MOST_SECONDS = 3600
"""Longest shot."""
METADATA = "longtake"
"""Key under which a clip carries its shot."""
START = "01:00:00:00"
"""Where the clock of a cut begins, by convention."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Shot:
    """One line of a shot list."""

    code: str
    """Scene and name, as SC010_SH0040; files are named by it."""
    frames: int
    """How long it is shown, at the rate of the list."""
    prompt: str
    """What it shows, cast and camera move included, as the model reads it."""
    negative: str = ""
    """What it shall not show."""
    seed: int
    """Which film of the many that fit the prompt."""
    transition: Transition = "cut"
    """How it begins: on nothing, on the state of the shot before, or blended out of it."""
    dissolve: int = 0
    """Frames over which the words of the shot before give way."""
    picture: Path | None = None
    """Picture it begins with."""
    loras: tuple[LoraUse, ...] = ()
    """What is laid over the model for this shot, over what is for all."""
    after: str = ""
    """Code of the shot whose last frame it begins with."""
    lock: bool = False
    """Whether the take that there is stays, whatever the list says."""
    row: str = field(compare=False, default="")
    """Where it stands in the list, for messages."""

    def __post_init__(self) -> None:
        """Check what every reader and caller must keep to."""
        if self.frames < 1:
            msg = f"{self.row or self.code}: a shot has 1 frame or more, got {self.frames}"
            raise ShotListError(msg)
        if not 0 <= self.seed <= MAX_SEED:
            msg = f"{self.row or self.code}: seed must be 0 to {MAX_SEED}, got {self.seed}"
            raise ShotListError(msg)


@dataclass(frozen=True, slots=True, kw_only=True)
class ShotList:
    """A scene: its shots in the order they are shown."""

    title: str
    rate: Rate
    shots: tuple[Shot, ...]
    notes: tuple[str, ...] = field(compare=False, default=())
    """How something in it was taken."""

    def __post_init__(self) -> None:
        """Check that the shots fit each other.

        Raises:
            ShotListError: none or too many, a name twice, or a reference that leads nowhere.
        """
        if not 1 <= len(self.shots) <= MOST_SHOTS:
            msg = f"a shot list has 1 to {MOST_SHOTS} shots, got {len(self.shots)}; split it"
            raise ShotListError(msg)
        _check_names(self.shots)
        _check_beginnings(self.shots)
        order_of(self.shots)

    @property
    def frames(self) -> int:
        """Of the whole cut."""
        return sum(shot.frames for shot in self.shots)

    def starts(self) -> tuple[int, ...]:
        """The frame at which each shot begins, counted from the first of the cut."""
        return tuple(sum(s.frames for s in self.shots[:n]) for n in range(len(self.shots)))


def before(shots: Iterable[Shot]) -> Mapping[str, str]:
    """The shot that each one is made from, by their codes; a cut from nothing has none."""
    found: dict[str, str] = {}
    last = ""
    for shot in shots:
        if shot.transition != "cut":
            found[shot.code] = last
        elif shot.after:
            found[shot.code] = shot.after
        last = shot.code
    return found


def order_of(shots: tuple[Shot, ...]) -> tuple[Shot, ...]:
    """The order to make shots in: that of the list, but each after the one it is made from.

    Raises:
        ShotListError: shots that are made from each other in a circle.
    """
    needs, named = before(shots), {shot.code: shot for shot in shots}
    made: dict[str, Shot] = {}
    for shot in shots:
        chain = [shot.code]
        while chain[-1] not in made and (earlier := needs.get(chain[-1])):
            if earlier in chain:
                ring = [*chain[chain.index(earlier) :], earlier]
                msg = (
                    f"{shot.row}, column first_frame: {' starts from '.join(ring)}, a circle; "
                    "let one of them start from nothing"
                )
                raise ShotListError(msg)
            chain.append(earlier)
        made |= {code: named[code] for code in reversed(chain)}
    return tuple(made.values())


def _check_names(shots: tuple[Shot, ...]) -> None:
    seen: dict[str, Shot] = {}
    for shot in shots:
        other = seen.setdefault(shot.code.lower(), shot)
        if other is not shot:
            msg = (
                f"{shot.row}, column name: {shot.code} is the name of {other.row} too; "
                "names differ in more than case, for files are named by them"
            )
            raise ShotListError(msg)


def _check_beginnings(shots: tuple[Shot, ...]) -> None:
    codes = {shot.code for shot in shots}
    for number, shot in enumerate(shots):
        if shot.transition != "cut" and not number:
            msg = (
                f"{shot.row}, column transition: {shot.transition} needs a shot before it; "
                "the first shot is a cut"
            )
            raise ShotListError(msg)
        if shot.transition != "cut" and (shot.picture or shot.after):
            msg = (
                f"{shot.row}, column first_frame: a shot that begins by {shot.transition} has the "
                "state of the one before to begin with; make it a cut"
            )
            raise ShotListError(msg)
        if shot.transition != "cut" and shot.loras != shots[number - 1].loras:
            msg = (
                f"{shot.row}, column lora: a shot that begins by {shot.transition} has the state "
                "of the one before, which other weights cannot go on from; name the same LoRAs, "
                "or make it a cut"
            )
            raise ShotListError(msg)
        if shot.dissolve > shot.frames:
            msg = (
                f"{shot.row}, column dissolve: the shot has {shot.frames} frames and the dissolve "
                f"{shot.dissolve}; the most is {shot.frames}"
            )
            raise ShotListError(msg)
        if shot.after and shot.after not in codes:
            msg = f"{shot.row}, column first_frame: there is no shot {shot.after}"
            raise ShotListError(msg)
