"""Who can appear in the previz world: kinds, colours, sizes and motions, all as data.

Lengths of parts are in units of the subject's size, metres once multiplied by it. A kind stands on
y = 0, its front looks along +x, its sides along +z and -z.
"""

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
    """How a part turns about the kind's sideways axis while the kind travels."""

    swing: float = 0.0
    """Amplitude of a swing in radians; 0 for none."""
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """Something that can be a subject."""

    name: str
    parts: tuple[Part, ...]
    faces_travel: bool = False
    """Turns its front to where it goes; otherwise it keeps its side to the camera."""
    rest_deg: float = 0.0
    """Heading while it does not travel: 0 looks right, -90 at the camera."""
    rest_spread_deg: float = 20.0
    """Largest deviation from the rest heading."""
    motions: tuple[str, ...] = ()
    """Motions it can make; empty for all."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Colour:
    """A colour that has a name."""

    name: str
    rgb: Vector


@dataclass(frozen=True, slots=True, kw_only=True)
class Size:
    """A size that has a name."""

    name: str
    metres: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Motion:
    """A way to move; numbers are coefficients of the choreography."""

    name: str
    lateral: float = 0.0
    """+1 crosses the frame to the right, -1 to the left."""
    depth: float = 0.0
    """+1 away from the camera, -1 toward it."""
    circle: float = 0.0
    bounce: float = 0.0
    spin: float = 0.0


COLOURS = (
    Colour(name="red", rgb=(0.86, 0.10, 0.12)),
    Colour(name="orange", rgb=(0.97, 0.50, 0.06)),
    Colour(name="yellow", rgb=(0.97, 0.87, 0.16)),
    Colour(name="green", rgb=(0.10, 0.62, 0.20)),
    Colour(name="cyan", rgb=(0.16, 0.82, 0.86)),
    Colour(name="blue", rgb=(0.13, 0.28, 0.90)),
    Colour(name="purple", rgb=(0.50, 0.15, 0.72)),
    Colour(name="pink", rgb=(0.98, 0.52, 0.74)),
)

SIZES = (
    Size(name="small", metres=0.68),
    Size(name="medium", metres=1.18),
    Size(name="large", metres=2.0),
)

MOTIONS = (
    Motion(name="still"),
    Motion(name="left_to_right", lateral=1.0),
    Motion(name="right_to_left", lateral=-1.0),
    Motion(name="toward", depth=-1.0),
    Motion(name="away", depth=1.0),
    Motion(name="circle", circle=1.0),
    Motion(name="bounce", bounce=1.0),
    Motion(name="spin", spin=1.0),
)

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
_SPHERE = Part(primitive="sphere", centre=(0.0, 0.5, 0.0), half=(0.5, 0.5, 0.5), joint=_ROLLING)
_RING = Part(primitive="ring", centre=(0.0, 0.5, 0.0), half=(0.5, 0.5, 0.15), joint=_ROLLING)
_FIGURE = (
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
_CAR = (
    Part(primitive="cube", centre=(0.0, 0.36, 0.0), half=(0.92, 0.18, 0.42), paint=_BODY),
    Part(primitive="cube", centre=(-0.1, 0.66, 0.0), half=(0.50, 0.13, 0.36), paint=_GLASS),
    Part(primitive="cube", centre=(-0.1, 0.81, 0.0), half=(0.46, 0.035, 0.37), paint=_BODY),
    _wheel(0.56, 1.0),
    _wheel(0.56, -1.0),
    _wheel(-0.56, 1.0),
    _wheel(-0.56, -1.0),
)
_TREE = (
    Part(primitive="cylinder", centre=(0.0, 0.3, 0.0), half=(0.085, 0.3, 0.085), paint=_TRUNK),
    Part(primitive="sphere", centre=(0.0, 0.98, 0.0), half=(0.40, 0.40, 0.40), paint=_FOLIAGE),
    Part(primitive="sphere", centre=(0.27, 0.74, 0.05), half=(0.30, 0.28, 0.30), paint=_FOLIAGE),
    Part(primitive="sphere", centre=(-0.27, 0.78, -0.05), half=(0.29, 0.27, 0.29), paint=_FOLIAGE),
)

KINDS = (
    Kind(name="sphere", parts=(_SPHERE,), faces_travel=True),
    Kind(
        name="cube",
        parts=(Part(primitive="cube", centre=(0.0, 0.44, 0.0), half=(0.44, 0.44, 0.44)),),
        rest_deg=30.0,
    ),
    Kind(
        name="cylinder",
        parts=(
            Part(
                primitive="cylinder",
                centre=(0.0, 0.52, 0.0),
                half=(0.36, 0.52, 0.36),
                paint=Paint(tone=0.22),
            ),
        ),
    ),
    Kind(
        name="cone",
        parts=(Part(primitive="cone", centre=(0.0, 0.55, 0.0), half=(0.46, 0.55, 0.46)),),
    ),
    Kind(
        name="pyramid",
        parts=(Part(primitive="pyramid", centre=(0.0, 0.48, 0.0), half=(0.54, 0.48, 0.54)),),
        rest_deg=30.0,
    ),
    Kind(name="ring", parts=(_RING,)),
    Kind(name="figure", parts=_FIGURE, faces_travel=True, rest_deg=-90.0, rest_spread_deg=35.0),
    Kind(
        name="car",
        parts=_CAR,
        faces_travel=True,
        rest_deg=-25.0,
        rest_spread_deg=25.0,
        motions=("still", "left_to_right", "right_to_left", "toward", "away", "circle", "spin"),
    ),
    Kind(name="tree", parts=_TREE, motions=("still",), rest_spread_deg=90.0),
)

HELD_OUT_PAIRS = (
    ("green", "sphere"),
    ("purple", "cube"),
    ("orange", "cylinder"),
    ("blue", "cone"),
    ("cyan", "pyramid"),
    ("red", "ring"),
    ("pink", "figure"),
    ("yellow", "car"),
    ("red", "tree"),
)
"""Colour and kind pairs that training never sees; every colour and kind still occurs."""


def allowed_motions(kind: Kind) -> tuple[int, ...]:
    """Numbers of the motions a kind can make."""
    return tuple(i for i, m in enumerate(MOTIONS) if not kind.motions or m.name in kind.motions)
