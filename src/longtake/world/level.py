"""How much of the world there is: each level names the values that scenes are drawn from.

A level is a row of names into the tables of `cast` and `stage`; a wider one holds all of a
narrower one's, so that training can go on from level to level.
"""

from dataclasses import dataclass, replace
from typing import Literal

from longtake.errors import SettingError

Style = Literal["plain", "tags", "short", "screenplay", "paragraph"]
"""A way of telling a scene."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Level:
    """What can occur in scenes of this level."""

    name: str
    kinds: tuple[str, ...]
    colours: tuple[str, ...]
    motions: tuple[str, ...]
    grounds: tuple[str, ...]
    lights: tuple[str, ...]
    cameras: tuple[str, ...]
    materials: tuple[str, ...] = ("matte",)
    shots: tuple[str, ...] = ("wide",)
    most_subjects: int = 2
    timing: bool = False
    """Whether motions can start late and follow one another."""
    wind: bool = False
    """Whether grass moves in the wind."""
    styles: tuple[Style, ...] = ("plain",)
    """Ways of telling, from `plain` sentences to paragraphs."""
    most_tokens: int = 64
    """Tokens that its longest captions need."""


LATE_S = (1, 2, 3)
"""Seconds at which something can start late."""

FIRST = Level(
    name="first",
    kinds=(
        "sphere",
        "cube",
        "cylinder",
        "cone",
        "pyramid",
        "ring",
        "figure",
        "car",
        "tree",
    ),
    colours=("red", "orange", "yellow", "green", "cyan", "blue", "purple", "pink"),
    motions=(
        "still",
        "left_to_right",
        "right_to_left",
        "toward",
        "away",
        "circle",
        "bounce",
        "spin",
    ),
    grounds=("grass", "sand", "snow", "asphalt", "checkerboard"),
    lights=("day", "sunset", "night"),
    cameras=(
        "static",
        "pan_left",
        "pan_right",
        "dolly_in",
        "dolly_out",
        "truck_left",
        "truck_right",
        "orbit",
        "crane_up",
    ),
)
"""What the embedded model was first trained on, and what is asked of it by default."""
CAST = replace(
    FIRST,
    name="cast",
    kinds=(*FIRST.kinds, "capsule", "star", "house", "boat", "bird", "flag"),
    colours=(*FIRST.colours, "brown", "white", "gray", "black"),
    grounds=(*FIRST.grounds, "water"),
    most_subjects=3,
)
"""More things in more colours; they move as before."""
ACTION = replace(
    CAST,
    name="action",
    motions=(
        *CAST.motions,
        "enter_left",
        "enter_right",
        "exit_left",
        "exit_right",
        "return",
        "appear",
        "disappear",
        "grow",
        "shrink",
        "zigzag",
        "jump",
        "follow",
    ),
    timing=True,
)
"""More that happens, one thing after another."""
WHOLE = replace(
    ACTION,
    name="whole",
    lights=(*ACTION.lights, "fog", "rain"),
    cameras=(
        *ACTION.cameras,
        "crane_down",
        "tilt_up",
        "tilt_down",
        "roll_left",
        "roll_right",
        "pedestal_up",
        "pedestal_down",
        "zoom_in",
        "zoom_out",
        "follow",
    ),
    materials=("matte", "shiny", "striped", "dotted"),
    shots=("wide", "very_wide", "medium", "close"),
    most_subjects=4,
    wind=True,
    styles=("plain", "tags", "short", "screenplay", "paragraph"),
    most_tokens=112,
)
"""All there is."""
LEVELS = (FIRST, CAST, ACTION, WHOLE)


def level_named(name: str) -> Level:
    """The level of that name.

    Raises:
        SettingError: no level has it.
    """
    for level in LEVELS:
        if level.name == name:
            return level
    msg = f"level must be one of {', '.join(level.name for level in LEVELS)}, got {name!r}"
    raise SettingError(msg)
