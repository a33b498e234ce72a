"""What the kinds of the previz world are made of: parts, joints and paint, all as data.

Lengths are in units of the subject's size, metres once multiplied by it. A kind stands on y = 0,
its front looks along +x, its sides along +z and -z.
"""

import math
from dataclasses import dataclass
from typing import Literal

Vector = tuple[float, float, float]
Primitive = Literal["sphere", "cube", "cylinder", "cone", "pyramid", "ring"]
PRIMITIVES: tuple[Primitive, ...] = ("sphere", "cube", "cylinder", "cone", "pyramid", "ring")
"""Order is the primitive number the ray caster branches on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Paint:
    """What colours a part."""

    rgb: Vector | None = None
    """A fixed colour, or None for the subject's own."""
    shade: float = 1.0
    """Factor on the colour."""
    tone: float = 0.3
    """How much darker every other quarter turn is; makes turning visible."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Joint:
    """How a part turns while the kind travels, or all the time."""

    swing: float = 0.0
    """Amplitude of a swing in radians; 0 for none."""
    axis: Literal["x", "y", "z"] = "z"
    """Axis of the kind that it turns about; z points sideways."""
    beats: float = 0.0
    """Swings per second, at rest too; 0 swings with the steps of a walk instead."""
    phase: float = 0.0
    """Phase of the swing in turns."""
    rolls: bool = False
    """Turns like a wheel whose radius is the part's own height."""
    pivot: Vector = (0.0, 0.0, 0.0)
    """Point the part turns about."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """One primitive of a kind."""

    primitive: Primitive
    centre: Vector
    half: Vector
    """Half sizes along x, y and z."""
    paint: Paint = Paint()
    joint: Joint = Joint()
    lies: bool = False
    """Laid down, so that the primitive's own axis points sideways, as a wheel's does."""
    tilt_deg: float = 0.0
    """Turned for good about the sideways axis, from upright toward the back; half sizes are then
    those before it."""


_SKIN = Paint(rgb=(0.88, 0.67, 0.52), tone=0.0)
_TROUSERS = Paint(shade=0.62, tone=0.0)
_SLEEVE = Paint(shade=0.86, tone=0.0)
_TYRE = Paint(rgb=(0.50, 0.50, 0.53), tone=0.78)
_GLASS = Paint(rgb=(0.20, 0.25, 0.31), tone=0.0)
_TRUNK = Paint(rgb=(0.43, 0.30, 0.20), tone=0.0)
_BODY = Paint(tone=0.0)
_FOLIAGE = Paint(tone=0.14)


def _leg(side: float, phase: float) -> Part:
    return Part(
        primitive="cylinder",
        centre=(0.0, 0.29, side * 0.10),
        half=(0.085, 0.29, 0.085),
        paint=_TROUSERS,
        joint=Joint(swing=0.6, phase=phase, pivot=(0.0, 0.56, side * 0.10)),
    )


def _arm(side: float, phase: float) -> Part:
    return Part(
        primitive="cylinder",
        centre=(0.0, 0.77, side * 0.27),
        half=(0.06, 0.23, 0.06),
        paint=_SLEEVE,
        joint=Joint(swing=0.55, phase=phase, pivot=(0.0, 0.98, side * 0.27)),
    )


def _wheel(x: float, side: float) -> Part:
    centre = (x, 0.2, side * 0.40)
    return Part(
        primitive="cylinder",
        centre=centre,
        half=(0.2, 0.2, 0.08),
        paint=_TYRE,
        joint=Joint(rolls=True, pivot=centre),
        lies=True,
    )


_ROLLING = Joint(rolls=True, pivot=(0.0, 0.5, 0.0))
SPHERE = Part(primitive="sphere", centre=(0.0, 0.5, 0.0), half=(0.5, 0.5, 0.5), joint=_ROLLING)
RING = Part(primitive="ring", centre=(0.0, 0.5, 0.0), half=(0.5, 0.5, 0.15), joint=_ROLLING)
FIGURE = (
    Part(
        primitive="cylinder",
        centre=(0.0, 0.79, 0.0),
        half=(0.14, 0.24, 0.21),
        paint=Paint(tone=0.2),
    ),
    Part(primitive="sphere", centre=(0.0, 1.17, 0.0), half=(0.15, 0.16, 0.15), paint=_SKIN),
    _leg(1.0, 0.0),
    _leg(-1.0, 0.5),
    _arm(1.0, 0.5),
    _arm(-1.0, 0.0),
)
CAR = (
    Part(primitive="cube", centre=(0.0, 0.36, 0.0), half=(0.92, 0.18, 0.42), paint=_BODY),
    Part(primitive="cube", centre=(-0.1, 0.66, 0.0), half=(0.50, 0.13, 0.36), paint=_GLASS),
    Part(primitive="cube", centre=(-0.1, 0.81, 0.0), half=(0.46, 0.035, 0.37), paint=_BODY),
    _wheel(0.56, 1.0),
    _wheel(0.56, -1.0),
    _wheel(-0.56, 1.0),
    _wheel(-0.56, -1.0),
)
TREE = (
    Part(primitive="cylinder", centre=(0.0, 0.3, 0.0), half=(0.085, 0.3, 0.085), paint=_TRUNK),
    Part(primitive="sphere", centre=(0.0, 0.98, 0.0), half=(0.40, 0.40, 0.40), paint=_FOLIAGE),
    Part(primitive="sphere", centre=(0.27, 0.74, 0.05), half=(0.30, 0.28, 0.30), paint=_FOLIAGE),
    Part(primitive="sphere", centre=(-0.27, 0.78, -0.05), half=(0.29, 0.27, 0.29), paint=_FOLIAGE),
)

_WHITE = Paint(rgb=(0.93, 0.92, 0.88), tone=0.0)
_DOOR = Paint(rgb=(0.33, 0.22, 0.16), tone=0.0)
_BEAK = Paint(rgb=(0.93, 0.60, 0.12), tone=0.0)
_EYE = Paint(rgb=(0.06, 0.06, 0.08), tone=0.0)
_POLE = Paint(rgb=(0.62, 0.62, 0.64), tone=0.0)


def _ray(turn: int) -> Part:
    """One of a star's five points."""
    degrees = 72.0 * turn
    angle = math.radians(degrees)
    return Part(
        primitive="pyramid",
        centre=(-0.33 * math.sin(angle), 0.58 + 0.33 * math.cos(angle), 0.0),
        half=(0.19, 0.29, 0.11),
        paint=Paint(tone=0.0),
        tilt_deg=degrees,
    )


def _window(x: float, side: float) -> Part:
    return Part(
        primitive="cube", centre=(x, 0.40, side * 0.43), half=(0.10, 0.11, 0.02), paint=_GLASS
    )


def _wing(side: float) -> Part:
    return Part(
        primitive="sphere",
        centre=(-0.02, 1.06, side * 0.42),
        half=(0.17, 0.03, 0.36),
        paint=Paint(shade=0.80, tone=0.0),
        joint=Joint(swing=0.75 * side, axis="x", beats=1.7, pivot=(0.0, 1.05, side * 0.10)),
    )


def _strip(number: int) -> Part:
    """A strip of a flag's cloth; each swings about the pole a little later than the last."""
    return Part(
        primitive="cube",
        centre=(0.10 + 0.125 * number, 1.02, 0.0),
        half=(0.068, 0.25, 0.014),
        paint=Paint(tone=0.0, shade=0.92 + 0.08 * (number % 2)),
        joint=Joint(
            swing=0.12 + 0.045 * number,
            phase=-0.13 * number,
            axis="y",
            beats=0.9,
            pivot=(0.03, 1.02, 0.0),
        ),
    )


CAPSULE = (
    Part(primitive="cylinder", centre=(0.0, 0.57, 0.0), half=(0.29, 0.28, 0.29)),
    Part(primitive="sphere", centre=(0.0, 0.85, 0.0), half=(0.29, 0.29, 0.29)),
    Part(primitive="sphere", centre=(0.0, 0.29, 0.0), half=(0.29, 0.29, 0.29)),
)
STAR = (
    Part(
        primitive="cylinder",
        centre=(0.0, 0.58, 0.0),
        half=(0.19, 0.19, 0.125),
        paint=Paint(tone=0.0),
        lies=True,
    ),
    *(_ray(turn) for turn in range(5)),
)
HOUSE = (
    Part(primitive="cube", centre=(0.0, 0.32, 0.0), half=(0.60, 0.32, 0.42), paint=_BODY),
    Part(
        primitive="pyramid",
        centre=(0.0, 0.89, 0.0),
        half=(0.76, 0.25, 0.56),
        paint=Paint(shade=0.55, tone=0.0),
    ),
    Part(
        primitive="cube", centre=(0.36, 1.0, 0.0), half=(0.07, 0.17, 0.07), paint=Paint(shade=0.7)
    ),
    Part(primitive="cube", centre=(0.0, 0.21, 0.0), half=(0.12, 0.21, 0.44), paint=_DOOR),
    _window(-0.36, -1.0),
    _window(0.36, -1.0),
    _window(0.36, 1.0),
    _window(-0.36, 1.0),
)
BOAT = (
    Part(primitive="cube", centre=(-0.08, 0.16, 0.0), half=(0.52, 0.15, 0.27), paint=_BODY),
    Part(
        primitive="cone",
        centre=(0.70, 0.16, 0.0),
        half=(0.15, 0.28, 0.27),
        paint=_BODY,
        tilt_deg=-90.0,
    ),
    Part(
        primitive="cube",
        centre=(-0.08, 0.33, 0.0),
        half=(0.55, 0.03, 0.29),
        paint=Paint(shade=0.6, tone=0.0),
    ),
    Part(primitive="cylinder", centre=(0.05, 0.85, 0.0), half=(0.03, 0.52, 0.03), paint=_TRUNK),
    Part(primitive="cone", centre=(-0.22, 0.84, 0.0), half=(0.24, 0.42, 0.03), paint=_WHITE),
    Part(primitive="cone", centre=(0.30, 0.76, 0.0), half=(0.20, 0.34, 0.03), paint=_WHITE),
)
BIRD = (
    Part(primitive="sphere", centre=(0.0, 1.0, 0.0), half=(0.34, 0.17, 0.17), paint=_BODY),
    Part(primitive="sphere", centre=(0.34, 1.12, 0.0), half=(0.14, 0.14, 0.13), paint=_BODY),
    Part(
        primitive="cone",
        centre=(0.54, 1.10, 0.0),
        half=(0.06, 0.10, 0.06),
        paint=_BEAK,
        tilt_deg=-90.0,
    ),
    Part(
        primitive="pyramid",
        centre=(-0.42, 1.02, 0.0),
        half=(0.06, 0.22, 0.20),
        paint=Paint(shade=0.7, tone=0.0),
        tilt_deg=-78.0,
    ),
    _wing(1.0),
    _wing(-1.0),
    Part(primitive="sphere", centre=(0.40, 1.16, -0.10), half=(0.03, 0.03, 0.03), paint=_EYE),
    Part(primitive="sphere", centre=(0.40, 1.16, 0.10), half=(0.03, 0.03, 0.03), paint=_EYE),
)
FLAG = (
    Part(primitive="cylinder", centre=(0.0, 0.66, 0.0), half=(0.035, 0.66, 0.035), paint=_POLE),
    *(_strip(number) for number in range(6)),
)
