"""How things are said: phrases for every value a scene can have, apart from grammar.

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


_BLOCKS = ("cube", "cylinder", "cone", "pyramid")
_SOLIDS = ("sphere", *_BLOCKS, "ring")
_WHEELED = ("car",)
_THINGS = (*_SOLIDS, "car")

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
}
COLOUR_WORDS = {
    name: Family((name,))
    for name in ("red", "orange", "yellow", "green", "cyan", "blue", "purple", "pink")
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


def _sideways(origin: str, goal: str) -> MotionWording:
    return MotionWording(
        verbs=(
            Verb("moves", "moving"),
            Verb("travels", "travelling"),
            Verb("heads", "heading"),
            Verb("goes", "going"),
            Verb("slides", "sliding", _SOLIDS),
            Verb("glides", "gliding", _BLOCKS),
            Verb("rolls", "rolling", ("sphere", "ring", "car")),
            Verb("drives", "driving", _WHEELED),
            Verb("walks", "walking", ("figure",)),
            Verb("crosses", "crossing", takes=Family((f"from {origin} to {goal}",))),
        ),
        complements=Family(
            (
                f"from {origin} to {goal}",
                f"from the {origin} to the {goal}",
                f"to the {goal}",
                f"{goal}",
                f"{goal}ward",
                f"toward the {goal}",
                f"{origin} to {goal}",
            ),
            (f"from the {origin} side to the {goal} side", f"towards the {goal}"),
        ),
        tags=Family((f"{origin} to {goal}", f"moving {goal}", f"moving {origin} to {goal}")),
    )


_AT_CAMERA = Family(("the camera", "the viewer", "us"))

MOTION_WORDS = {
    "still": MotionWording(
        verbs=(
            Verb("stands", "standing"),
            Verb("stays", "staying"),
            Verb("sits", "sitting", _THINGS),
            Verb("rests", "resting", _THINGS),
            Verb("does not", "that does not", takes=Family(("move", "move at all"))),
        ),
        complements=Family(("still", "motionless", "in place"), ("still in place",)),
        tags=Family(("still", "standing still", "motionless")),
    ),
    "left_to_right": _sideways("left", "right"),
    "right_to_left": _sideways("right", "left"),
    "toward": MotionWording(
        verbs=(
            Verb("comes", "coming"),
            Verb("moves", "moving"),
            Verb("heads", "heading"),
            Verb("slides", "sliding", _SOLIDS),
            Verb("rolls", "rolling", ("sphere", "car")),
            Verb("drives", "driving", _WHEELED),
            Verb("walks", "walking", ("figure",)),
            Verb("approaches", "approaching", takes=_AT_CAMERA),
        ),
        complements=Family(
            (
                "toward the camera",
                "towards the camera",
                "closer to the camera",
                "toward us",
                "straight at the camera",
            ),
            ("closer to us", "straight toward the viewer"),
        ),
        tags=Family(("toward the camera", "coming toward the camera", "approaching")),
    ),
    "away": MotionWording(
        verbs=(
            Verb("moves", "moving"),
            Verb("heads", "heading"),
            Verb("goes", "going"),
            Verb("slides", "sliding", _SOLIDS),
            Verb("rolls", "rolling", ("sphere", "car")),
            Verb("drives", "driving", _WHEELED),
            Verb("walks", "walking", ("figure",)),
            Verb("recedes", "receding", takes=Family(("into the distance", "from the camera"))),
        ),
        complements=Family(
            (
                "away from the camera",
                "away",
                "away from us",
                "into the distance",
                "off into the distance",
            ),
            ("away into the distance", "away from the viewer"),
        ),
        tags=Family(("away from the camera", "moving away", "receding")),
    ),
    "circle": MotionWording(
        verbs=(
            Verb("moves", "moving"),
            Verb("goes", "going"),
            Verb("travels", "travelling"),
            Verb("runs", "running", ("figure",)),
            Verb("walks", "walking", ("figure",)),
            Verb("drives", "driving", _WHEELED),
            Verb("rolls", "rolling", ("sphere", "car")),
            Verb("circles", "circling", takes=Family(("around", "round and round", ""))),
        ),
        complements=Family(
            ("in a circle", "in circles", "around in a circle", "round in circles"),
            ("around in circles", "round and round in a circle"),
        ),
        tags=Family(("circling", "moving in a circle", "in circles")),
    ),
    "bounce": MotionWording(
        verbs=(
            Verb("bounces", "bouncing"),
            Verb("hops", "hopping"),
            Verb("jumps", "jumping", ("figure",)),
            Verb("keeps", "that keeps", takes=Family(("bouncing", "bouncing up and down"))),
        ),
        complements=Family(
            ("", "up and down", "on the spot", "in place"), ("up and down on the spot",)
        ),
        tags=Family(("bouncing", "bouncing up and down")),
    ),
    "spin": MotionWording(
        verbs=(
            Verb("spins", "spinning"),
            Verb("rotates", "rotating"),
            Verb("turns", "turning", takes=Family(("on the spot", "around on the spot"))),
            Verb("keeps", "that keeps", takes=Family(("spinning", "rotating"))),
        ),
        complements=Family(
            ("", "in place", "on the spot", "around"), ("around in place", "around and around")
        ),
        tags=Family(("spinning", "rotating", "spinning in place")),
    ),
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
}


def _pan(way: str) -> CameraWording:
    return CameraWording(
        Family(
            (
                f"the camera pans {way}",
                f"the camera pans to the {way}",
                f"the camera turns to the {way}",
                f"the shot pans {way}",
                f"we pan {way}",
            ),
            (f"we pan to the {way}", f"the camera pans {way}ward"),
        ),
        Family(
            (f"pan {way}", f"camera pans {way}", f"panning {way}", f"pan to the {way}"),
            (f"panning to the {way}",),
        ),
        Family(("the camera pans with {it}", "the camera follows {it}", "panning with {it}")),
    )


def _truck(way: str) -> CameraWording:
    return CameraWording(
        Family(
            (
                f"the camera trucks {way}",
                f"the camera tracks {way}",
                f"the camera trucks to the {way}",
                f"the camera slides {way}",
                f"the camera moves sideways to the {way}",
            ),
            (f"the camera tracks to the {way}", f"the camera slides sideways to the {way}"),
        ),
        Family(
            (f"truck {way}", f"camera trucks {way}", f"trucking {way}", f"truck to the {way}"),
            (f"trucking to the {way}",),
        ),
        Family(("the camera trucks with {it}", "the camera tracks along with {it}")),
    )


CAMERA_WORDS = {
    "static": CameraWording(
        Family(
            (
                "the camera does not move",
                "the camera is static",
                "the camera stays still",
                "the camera is locked-off",
                "the shot is static",
                "the camera stays in place",
            ),
            ("the shot does not move", "the shot is locked-off"),
        ),
        Family(
            (
                "static camera",
                "static shot",
                "locked-off camera",
                "locked-off shot",
                "camera static",
            ),
            ("locked-off static shot",),
        ),
    ),
    "pan_left": _pan("left"),
    "pan_right": _pan("right"),
    "dolly_in": CameraWording(
        Family(
            (
                "the camera dollies in",
                "the camera pushes in",
                "the camera moves closer",
                "the camera moves in",
                "the camera moves forward",
                "the shot pushes in",
            ),
            ("the camera dollies forward", "the camera comes closer"),
        ),
        Family(
            ("dolly in", "push in", "camera dollies in", "camera pushes in", "camera moves closer"),
            ("camera moves forward",),
        ),
    ),
    "dolly_out": CameraWording(
        Family(
            (
                "the camera dollies out",
                "the camera pulls back",
                "the camera pulls out",
                "the camera moves back",
                "the camera backs away",
                "the shot pulls out",
            ),
            ("the camera dollies back", "the shot pulls back"),
        ),
        Family(
            ("dolly out", "pull back", "camera dollies out", "camera pulls back", "pull out"),
            ("camera pulls out",),
        ),
    ),
    "truck_left": _truck("left"),
    "truck_right": _truck("right"),
    "orbit": CameraWording(
        Family(
            (
                "the camera orbits",
                "the camera orbits around the scene",
                "the camera circles around the scene",
                "the camera circles the scene",
                "the camera moves around the scene",
                "the shot orbits around",
            ),
            ("the camera orbits the scene", "the shot circles around the scene"),
        ),
        Family(
            ("orbit", "orbit shot", "camera orbits", "orbiting camera", "camera circles the scene"),
            ("orbiting shot",),
        ),
    ),
    "crane_up": CameraWording(
        Family(
            (
                "the camera cranes up",
                "the camera rises",
                "the camera moves up",
                "the camera goes up",
                "the shot cranes up",
                "the camera rises up",
            ),
            ("the shot rises up", "the shot rises"),
        ),
        Family(
            ("crane up", "crane shot up", "camera cranes up", "camera rises", "rising camera"),
            ("camera rises up",),
        ),
    ),
}

LEADS = Family(
    ("a video of", "a shot of", "a clip of", "a film of", "we see"), ("a video clip of",)
)
JOINS = Family((" and ", " while ", " as "))
CAMERA_JOINS = Family((" while ", " as "))
