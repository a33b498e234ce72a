"""What a reader says of a film; None where it cannot tell."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class SubjectReading:
    """One subject as it was seen."""

    colour: str
    kind: str | None
    size: str | None
    motion: str | None
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
        """What was seen of an attribute of a subject."""
        match attribute:
            case "kind":
                return self.kind
            case "colour":
                return self.colour
            case "size":
                return self.size
            case "motion":
                return self.motion
            case "slot":
                return self.slot
        return None


@dataclass(frozen=True, slots=True, kw_only=True)
class Detail:
    """How much fine detail there is; bytes squared, comparable between films of one scene."""

    space: float
    """Energy of the finest pattern within a frame."""
    time: float
    """Energy of the fastest flicker between frames."""


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
    subjects: tuple[SubjectReading, ...]
    detail: Detail
    features: tuple[tuple[float, ...], ...] = ()
    """A row of the network's features for each subject."""
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
        return None
