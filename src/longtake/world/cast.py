"""Who can appear in the previz world: kinds, colours, sizes and motions, all as data.

The tables only grow at their ends, so that a number means the same at every level.
"""

from dataclasses import dataclass

from longtake.world.bodies import (
    BIRD,
    BOAT,
    CAPSULE,
    CAR,
    FIGURE,
    FLAG,
    HOUSE,
    RING,
    SPHERE,
    STAR,
    TREE,
    Paint,
    Part,
    Vector,
)


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

    @property
    def height(self) -> float:
        """Height of its highest part."""
        return max(part.centre[1] + part.half[1] for part in self.parts)

    @property
    def gleams(self) -> bool:
        """Whether a reflection of the sun shows on it; it does on balls, seldom on flat faces."""
        return any(part.primitive == "sphere" and part.paint.rgb is None for part in self.parts)

    @property
    def length(self) -> float:
        """Length from back to front."""
        return 2 * max(abs(part.centre[0]) + part.half[0] for part in self.parts)


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
    comes: float = 0.0
    """Side of the frame it comes in from: -1 left, +1 right."""
    goes: float = 0.0
    """Side of the frame it goes out at."""
    returns: float = 0.0
    """Goes out of the frame and comes back."""
    sways: float = 0.0
    """Swings away from and toward the camera on its way."""
    jumps: float = 0.0
    """Leaps once."""
    size_from: float = 1.0
    """Factor on its size when the motion starts."""
    size_to: float = 1.0
    """Factor on its size when the motion is over."""
    at_once: bool = False
    """Changes its size in a moment instead of over the whole motion."""
    follows: bool = False
    """Trails the first subject."""

    @property
    def stays(self) -> bool:
        """Whether it keeps to its place."""
        return not (self.lateral or self.depth or self.circle or self.leaves or self.follows)

    @property
    def leaves(self) -> bool:
        """Whether it is out of the frame at some time, whatever the camera does."""
        return bool(self.comes or self.goes or self.returns)


@dataclass(frozen=True, slots=True, kw_only=True)
class Material:
    """A surface that has a name."""

    name: str
    shine: float = 0.0
    """Strength of the sun's reflection."""
    stripes: float = 0.0
    """How much darker every other band is."""
    dots: float = 0.0
    """How much darker the dots are."""


COLOURS = (
    Colour(name="red", rgb=(0.86, 0.10, 0.12)),
    Colour(name="orange", rgb=(0.97, 0.50, 0.06)),
    Colour(name="yellow", rgb=(0.97, 0.87, 0.16)),
    Colour(name="green", rgb=(0.10, 0.62, 0.20)),
    Colour(name="cyan", rgb=(0.16, 0.82, 0.86)),
    Colour(name="blue", rgb=(0.13, 0.28, 0.90)),
    Colour(name="purple", rgb=(0.50, 0.15, 0.72)),
    Colour(name="pink", rgb=(0.98, 0.52, 0.74)),
    Colour(name="brown", rgb=(0.42, 0.25, 0.12)),
    Colour(name="white", rgb=(0.97, 0.97, 0.97)),
    Colour(name="gray", rgb=(0.50, 0.50, 0.52)),
    Colour(name="black", rgb=(0.05, 0.05, 0.06)),
)

MATERIALS = (
    Material(name="matte"),
    Material(name="shiny", shine=0.9),
    Material(name="striped", stripes=0.6),
    Material(name="dotted", dots=0.65),
)
"""The first is the one that goes without saying."""

SIZES = (
    Size(name="small", metres=0.68),
    Size(name="medium", metres=1.18),
    Size(name="large", metres=2.0),
)

GONE = 1e-3
"""Size factor of what cannot be seen."""

MOTIONS = (
    Motion(name="still"),
    Motion(name="left_to_right", lateral=1.0),
    Motion(name="right_to_left", lateral=-1.0),
    Motion(name="toward", depth=-1.0),
    Motion(name="away", depth=1.0),
    Motion(name="circle", circle=1.0),
    Motion(name="bounce", bounce=1.0),
    Motion(name="spin", spin=1.0),
    Motion(name="enter_left", comes=-1.0),
    Motion(name="enter_right", comes=1.0),
    Motion(name="exit_left", goes=-1.0),
    Motion(name="exit_right", goes=1.0),
    Motion(name="return", returns=1.0),
    Motion(name="appear", size_from=GONE, at_once=True),
    Motion(name="disappear", size_to=GONE, at_once=True),
    Motion(name="grow", size_from=0.55, size_to=1.35),
    Motion(name="shrink", size_from=1.35, size_to=0.55),
    Motion(name="zigzag", lateral=1.0, sways=1.0),
    Motion(name="jump", jumps=1.0),
    Motion(name="follow", follows=True),
    Motion(name="absent", size_from=GONE, size_to=GONE),
)

_COMES_AND_GOES = ("appear", "disappear", "grow", "shrink")
_GROUNDED = (
    "still",
    "left_to_right",
    "right_to_left",
    "toward",
    "away",
    "circle",
    "spin",
    *_COMES_AND_GOES,
    "enter_left",
    "enter_right",
    "exit_left",
    "exit_right",
    "return",
    "zigzag",
    "follow",
)
"""What rides, sails or flies: all but what leaves the ground by a leap."""

KINDS = (
    Kind(name="sphere", parts=(SPHERE,), faces_travel=True),
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
    Kind(name="ring", parts=(RING,)),
    Kind(name="figure", parts=FIGURE, faces_travel=True, rest_deg=-90.0, rest_spread_deg=35.0),
    Kind(
        name="car",
        parts=CAR,
        faces_travel=True,
        rest_deg=-25.0,
        rest_spread_deg=25.0,
        motions=_GROUNDED,
    ),
    Kind(name="tree", parts=TREE, motions=("still", *_COMES_AND_GOES), rest_spread_deg=90.0),
    Kind(name="capsule", parts=CAPSULE),
    Kind(name="star", parts=STAR, rest_spread_deg=15.0),
    Kind(
        name="house",
        parts=HOUSE,
        rest_deg=18.0,
        rest_spread_deg=10.0,
        motions=("still", *_COMES_AND_GOES),
    ),
    Kind(name="boat", parts=BOAT, faces_travel=True, rest_deg=-15.0, motions=_GROUNDED),
    Kind(
        name="bird",
        parts=BIRD,
        faces_travel=True,
        rest_deg=-40.0,
        rest_spread_deg=25.0,
        motions=_GROUNDED,
    ),
    Kind(name="flag", parts=FLAG, rest_spread_deg=15.0, motions=("still", *_COMES_AND_GOES)),
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
    ("blue", "capsule"),
    ("yellow", "star"),
    ("green", "house"),
    ("pink", "boat"),
    ("orange", "bird"),
    ("purple", "flag"),
    ("brown", "car"),
    ("white", "figure"),
    ("gray", "sphere"),
    ("black", "ring"),
)
"""Colour and kind pairs that training never sees; every colour and kind still occurs."""


def allowed_motions(kind: Kind) -> tuple[int, ...]:
    """Numbers of the motions a kind can make."""
    return tuple(i for i, m in enumerate(MOTIONS) if not kind.motions or m.name in kind.motions)
