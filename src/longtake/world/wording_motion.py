"""How motions are said: verbs, the kinds they suit, and what may follow them.

{leader} stands for the subject that another one follows.
"""

from longtake.world.wording import Family, MotionWording, Verb

_BLOCKS = ("cube", "cylinder", "cone", "pyramid")
_SOLIDS = ("sphere", *_BLOCKS, "ring", "capsule", "star")
_WHEELED = ("car",)
_THINGS = (*_SOLIDS, "car", "house", "boat")


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
            Verb("sails", "sailing", ("boat",)),
            Verb("flies", "flying", ("bird",)),
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


def _enters(side: str) -> MotionWording:
    return MotionWording(
        verbs=(
            Verb("enters", "entering"),
            Verb("comes in", "coming in"),
            Verb("enters", "entering", takes=Family((f"the frame from the {side}",))),
        ),
        complements=Family(
            (f"from the {side}", f"on the {side} side of the frame"), (f"from the {side} side",)
        ),
        tags=Family((f"entering from the {side}", f"coming in from the {side}")),
    )


def _exits(side: str) -> MotionWording:
    return MotionWording(
        verbs=(
            Verb("exits", "exiting"),
            Verb("goes out", "going out"),
            Verb("leaves", "leaving", takes=Family((f"the frame on the {side}",))),
        ),
        complements=Family(
            (f"to the {side}", f"on the {side}", f"at the {side} side of the frame"),
            (f"at the {side} side",),
        ),
        tags=Family((f"exiting on the {side}", f"leaving to the {side}")),
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
            Verb("sails", "sailing", ("boat",)),
            Verb("flies", "flying", ("bird",)),
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
            Verb("sails", "sailing", ("boat",)),
            Verb("flies", "flying", ("bird",)),
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
            Verb("sails", "sailing", ("boat",)),
            Verb("flies", "flying", ("bird",)),
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
    "enter_left": _enters("left"),
    "enter_right": _enters("right"),
    "exit_left": _exits("left"),
    "exit_right": _exits("right"),
    "return": MotionWording(
        verbs=(
            Verb("goes", "going"),
            Verb("moves", "moving"),
            Verb("leaves", "leaving", takes=Family(("the frame for a while", "for a while"))),
        ),
        complements=Family(
            ("out of the frame and back in", "out of the frame and back again"),
            ("out of the frame and back",),
        ),
        tags=Family(("leaving and coming back", "out of the frame and back in")),
    ),
    "appear": MotionWording(
        verbs=(Verb("appears", "that appears"), Verb("pops up", "popping up")),
        complements=Family(("", "suddenly", "out of nowhere"), ("suddenly out of nowhere",)),
        tags=Family(("appearing", "suddenly appearing")),
    ),
    "disappear": MotionWording(
        verbs=(Verb("disappears", "that disappears"), Verb("vanishes", "vanishing")),
        complements=Family(("", "suddenly", "at a stroke"), ("suddenly at a stroke",)),
        tags=Family(("disappearing", "vanishing")),
    ),
    "grow": MotionWording(
        verbs=(
            Verb("grows", "growing"),
            Verb("gets", "getting", takes=Family(("bigger", "larger", "bigger and bigger"))),
        ),
        complements=Family(("", "larger", "bigger"), ("larger and larger",)),
        tags=Family(("growing", "getting bigger")),
    ),
    "shrink": MotionWording(
        verbs=(
            Verb("shrinks", "shrinking"),
            Verb("gets", "getting", takes=Family(("smaller", "smaller and smaller"))),
        ),
        complements=Family(("", "away", "more and more"), ("more and more away",)),
        tags=Family(("shrinking", "getting smaller")),
    ),
    "zigzag": MotionWording(
        verbs=(
            Verb("zigzags", "zigzagging"),
            Verb("weaves", "weaving"),
            Verb("moves", "moving", takes=Family(("in a zigzag to the right",))),
        ),
        complements=Family(
            ("to the right", "from left to right", "rightward"), ("toward the right",)
        ),
        tags=Family(("zigzag", "zigzagging to the right")),
    ),
    "jump": MotionWording(
        verbs=(
            Verb("jumps", "jumping"),
            Verb("leaps", "leaping"),
            Verb("makes", "making", takes=Family(("a jump", "one jump"))),
        ),
        complements=Family(("once", "into the air", "up once"), ("once into the air",)),
        tags=Family(("jumping once", "one jump")),
    ),
    "follow": MotionWording(
        verbs=(Verb("follows", "following"), Verb("trails", "trailing")),
        complements=Family(("the {leader}", "behind the {leader}"), ("right behind the {leader}",)),
        tags=Family(("following the {leader}",)),
    ),
}
