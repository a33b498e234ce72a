"""How things are said: phrases for what is in a scene and where it plays, apart from grammar.

`held_out` phrases are never used in training captions; they use only words that training knows.
"""

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Family:
    """Phrases that mean the same."""

    train: tuple[str, ...]
    held_out: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Verb:
    """A verb in both forms that captions use."""

    finite: str
    participle: str
    kinds: tuple[str, ...] = ()
    """Kinds it suits; empty for all."""
    takes: Family | None = None
    """Complements of its own instead of the motion's."""


@dataclass(frozen=True, slots=True)
class MotionWording:
    """Verbs and what may follow them."""

    verbs: tuple[Verb, ...]
    complements: Family
    tags: Family


@dataclass(frozen=True, slots=True)
class GroundWording:
    """Where it plays, for anything and for what travels."""

    on: Family
    across: Family
    tags: Family


@dataclass(frozen=True, slots=True)
class LightWording:
    """When it plays."""

    phrases: Family
    tags: Family


@dataclass(frozen=True, slots=True)
class CameraWording:
    """What the camera does, as a clause and as a label."""

    clauses: Family
    labels: Family
    following: Family = field(default=Family(()))
    """Clauses for a camera that moves the way the only subject goes; {it} is the subject."""


KIND_WORDS = {
    "sphere": Family(("sphere", "ball", "orb")),
    "cube": Family(("cube", "box")),
    "cylinder": Family(("cylinder", "barrel")),
    "cone": Family(("cone",)),
    "pyramid": Family(("pyramid",)),
    "ring": Family(("ring", "hoop")),
    "figure": Family(("figure", "person", "man")),
    "car": Family(("car", "automobile")),
    "tree": Family(("tree",)),
    "capsule": Family(("capsule", "pill")),
    "star": Family(("star",)),
    "house": Family(("house", "cottage")),
    "boat": Family(("boat", "sailboat")),
    "bird": Family(("bird",)),
    "flag": Family(("flag",)),
}
COLOUR_WORDS = {
    name: Family((name,))
    for name in ("red", "orange", "yellow", "green", "cyan", "blue", "purple", "pink")
}
COLOUR_WORDS |= {
    "brown": Family(("brown",)),
    "white": Family(("white",)),
    "gray": Family(("gray", "grey")),
    "black": Family(("black",)),
}
MATERIAL_WORDS = {
    "matte": Family(("matte",)),
    "shiny": Family(("shiny", "glossy")),
    "striped": Family(("striped",)),
    "dotted": Family(("dotted", "spotted")),
}
SIZE_WORDS = {
    "small": Family(("small", "tiny", "little")),
    "medium": Family(("medium", "medium-sized")),
    "large": Family(("large", "big", "huge")),
}
SLOT_WORDS = {
    "left": Family(("on the left", "at the left", "on the left side"), ("at the left side",)),
    "centre": Family(("in the middle", "in the center", "in the centre")),
    "right": Family(("on the right", "at the right", "on the right side"), ("at the right side",)),
}

GROUND_WORDS = {
    "grass": GroundWording(
        Family(
            (
                "on grass",
                "on the grass",
                "on a meadow",
                "in a meadow",
                "in a field",
                "on a grassy field",
            ),
            ("on a grassy meadow", "in a field of grass"),
        ),
        Family(("across the grass", "across a meadow", "across a field", "over the grass")),
        Family(("grass", "meadow", "field")),
    ),
    "sand": GroundWording(
        Family(
            (
                "on sand",
                "on the sand",
                "in a desert",
                "in the desert",
                "on a beach",
                "on a sandy beach",
            ),
            ("in a sandy desert", "on the beach"),
        ),
        Family(("across the sand", "across a desert", "across the desert", "over a beach")),
        Family(("sand", "desert", "beach")),
    ),
    "snow": GroundWording(
        Family(
            ("on snow", "on the snow", "in the snow", "on a snowy field", "in a snowy field"),
            ("on a field of snow",),
        ),
        Family(("across the snow", "over the snow", "across a snowy field")),
        Family(("snow", "snowy field")),
    ),
    "asphalt": GroundWording(
        Family(
            (
                "on asphalt",
                "on the asphalt",
                "on a road",
                "on the road",
                "on a street",
                "in the street",
            ),
            ("on an asphalt road", "in a street"),
        ),
        Family(("across the asphalt", "across a road", "across a street", "over the road")),
        Family(("asphalt", "road", "street")),
    ),
    "checkerboard": GroundWording(
        Family(
            (
                "on a checkerboard",
                "on a checkerboard floor",
                "on a checkered floor",
                "on the checkerboard",
            ),
            ("on the checkered floor",),
        ),
        Family(("across a checkerboard", "across a checkered floor", "over the checkerboard")),
        Family(("checkerboard", "checkerboard floor", "checkered floor")),
    ),
    "water": GroundWording(
        Family(("on water", "on the water", "on a lake", "on the sea"), ("on the lake",)),
        Family(("across the water", "across a lake", "over the water")),
        Family(("water", "lake", "sea")),
    ),
}

LIGHT_WORDS = {
    "day": LightWording(
        Family(
            ("during the day", "in daylight", "at noon", "by day", "on a bright day"),
            ("in bright daylight",),
        ),
        Family(("day", "daylight", "noon")),
    ),
    "sunset": LightWording(
        Family(
            (
                "at sunset",
                "at dusk",
                "in the evening",
                "during sunset",
                "in the light of the sunset",
            ),
            ("in the light of dusk", "during the sunset"),
        ),
        Family(("sunset", "dusk", "evening")),
    ),
    "night": LightWording(
        Family(
            ("at night", "by night", "in the night", "under the moon", "in the moonlight"),
            ("during the night", "in the light of the moon"),
        ),
        Family(("night", "moonlight")),
    ),
    "fog": LightWording(
        Family(("in fog", "in the fog", "in thick fog"), ("in the thick fog",)),
        Family(("fog", "foggy")),
    ),
    "rain": LightWording(
        Family(
            ("in rain", "in the rain", "in heavy rain", "on a rainy day"), ("in the heavy rain",)
        ),
        Family(("rain", "rainy")),
    ),
}

LEADS = Family(
    ("a video of", "a shot of", "a clip of", "a film of", "we see"), ("a video clip of",)
)
JOINS = Family((" and ", " while ", " as "))
CAMERA_JOINS = Family((" while ", " as "))

PARAGRAPH = (
    Family(("this is {shot}", "we look at {shot}")),
    Family(("the scene plays {ground} {light}", "everything happens {ground} {light}")),
    Family(("there is", "we see")),
    Family(
        (
            "two ranges of low hills lie along the horizon far behind the scene",
            "far away low hills rise along the whole horizon under a wide sky",
        )
    ),
    Family(
        (
            "some plain gray stones and posts stand around in front and behind",
            "gray stones and thin posts stand here and there, near and far",
        )
    ),
    Family(
        (
            "the picture is a simple render with clean shapes and smooth shading",
            "all shapes are simple and clean, drawn with smooth shading and few details",
        )
    ),
    Family(
        (
            "it is one take without any cut, from the first frame to the last",
            "the take runs from the first frame to the last without a cut",
        )
    ),
)
"""Sentences of a paragraph: the shot, the place, a subject, and what is true of every scene."""
