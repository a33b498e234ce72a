"""What a reader says of a film; None where it cannot tell."""

import math
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class SubjectReading:
    """One subject as it was seen."""

    colour: str
    kind: str | None
    size: str | None
    motion: str | None
    material: str | None = None
    start_s: float | None = None
    """Second at which it begins to move, 0 for at once."""
    then: str | None = None
    """What it does after that, if anything."""
    change_s: float | None = None
    """Second from which it does."""
    slot: str | None
    """Where it stands, once the camera's move is undone."""
    seen: float
    """Share of the frames that show it."""
    across: float
    """Mean place in the picture from left to right, in [0, 1]."""
    way_m: tuple[float, float]
    """Metres it goes to the right and away from the camera, relative to the ground."""
    contacts_s: tuple[float, ...] = ()
    """Moments at which it is lowest, if it bounces."""

    def value(self, attribute: str) -> str | None:
        """What was seen of an attribute of a subject, in the words of captions."""
        seen = {
            "kind": self.kind,
            "colour": self.colour,
            "size": self.size,
            "material": self.material,
            "motion": self.motion,
            "start_s": _second(self.start_s),
            "then": self.then,
            "change_s": _second(self.change_s),
            "slot": self.slot,
        }
        return seen.get(attribute)


def _second(at_s: float | None) -> str | None:
    """The whole second that captions would name."""
    return None if at_s is None else str(math.floor(at_s + 0.5))


@dataclass(frozen=True, slots=True, kw_only=True)
class Detail:
    """How much fine detail there is; bytes squared, comparable between films of one scene."""

    space: float
    """Energy of the finest pattern within a frame."""
    time: float
    """Energy of the fastest flicker between frames."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ByRule:
    """What fixed rules tell without the network, to compare."""

    light: str
    ground: str
    camera: str
    colours: tuple[str, ...]
    """Of each subject."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FilmReading:
    """A whole film as it was seen."""

    explained: bool
    """Whether it is a film of the world; if not, nothing in it counts as right."""
    unexplained: float
    """Share of pixels without a colour of the world."""
    light: str | None
    ground: str | None
    camera: str | None
    shot: str | None = None
    """How large the first subject stands in the frame."""
    subjects: tuple[SubjectReading, ...]
    detail: Detail
    features: tuple[tuple[float, ...], ...] = ()
    """A row of the network's features for each subject."""
    by_rule: ByRule | None = None
    notes: tuple[str, ...] = ()
    """How the film had to be changed before it could be read."""

    def value(self, attribute: str) -> str | None:
        """What was seen of an attribute of the scene."""
        match attribute:
            case "light":
                return self.light
            case "ground":
                return self.ground
            case "camera":
                return self.camera
            case "shot":
                return self.shot
        return None
