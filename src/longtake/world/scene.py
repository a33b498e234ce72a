"""Scenes: what is in each clip, as columns of numbers into the tables of `cast` and `stage`."""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any, Literal

import numpy as np
from jaxtyping import Float32, Int64

WORLD_VERSION = 2
"""Changes whenever the same scene would look different."""
MAX_SUBJECTS = 4
NEVER = float("inf")
"""Second of a change that does not come."""
CAMERA_COORDINATES = (
    "pan_deg",
    "truck",
    "dolly",
    "orbit_deg",
    "crane",
    "tilt_deg",
    "roll_deg",
    "pedestal",
    "zoom",
)
"""Fields of a camera move that travel; the order of `Scenes.camera_base`."""
SLOTS = ("left", "centre", "right")
ROWS = ("near", "middle", "far")
Split = Literal["train", "held_out_pairs"]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Scenes:
    """A batch of scenes; attributes are numbers into the tables of `cast` and `stage`."""

    num_subjects: Int64[np.ndarray, " b"]
    kind: Int64[np.ndarray, "b subjects"]
    colour: Int64[np.ndarray, "b subjects"]
    size: Int64[np.ndarray, "b subjects"]
    motion: Int64[np.ndarray, "b subjects"]
    slot: Int64[np.ndarray, "b subjects"]
    row: Int64[np.ndarray, "b subjects"]
    ground: Int64[np.ndarray, " b"]
    light: Int64[np.ndarray, " b"]
    camera: Int64[np.ndarray, " b"]
    prop: Int64[np.ndarray, "b props"]
    subject_jitter: Float32[np.ndarray, "b subjects 6"]
    scene_jitter: Float32[np.ndarray, "b 12"]
    prop_jitter: Float32[np.ndarray, "b props 4"]
    material: Int64[np.ndarray, "b subjects"]
    shot: Int64[np.ndarray, " b"]
    start_s: Float32[np.ndarray, "b subjects"]
    """Second at which each motion starts."""
    then: Int64[np.ndarray, "b subjects"]
    """Motion after the change."""
    change_s: Float32[np.ndarray, "b subjects"]
    """Second at which the second motion takes over, `NEVER` for none."""
    aside: Float32[np.ndarray, "b subjects"]
    """Metres to the right of the slot."""
    camera_base: Float32[np.ndarray, "b coordinates"]
    """Where the camera stands half-way of its move, by `CAMERA_COORDINATES`; degrees and metres."""
    wind: Float32[np.ndarray, " b"]
    """How far grass sways, 0 for none and 1 for as much as it can."""
    since_s: Float32[np.ndarray, " b"]
    """Seconds of wind and rain before the scene's time begins."""

    def __len__(self) -> int:
        """Number of scenes."""
        return len(self.num_subjects)

    def select(self, index: Any) -> "Scenes":  # noqa: ANN401 - whatever numpy indexes with
        """The scenes at a slice, mask or list of positions."""
        if isinstance(index, (int, np.integer)):
            index = [index]
        return Scenes(**{f.name: getattr(self, f.name)[index] for f in fields(self)})


def join_scenes(batches: Sequence[Scenes]) -> Scenes:
    """One batch of several, of equal numbers of subjects."""
    names = [field.name for field in fields(Scenes)]
    return Scenes(**{name: np.concatenate([getattr(b, name) for b in batches]) for name in names})


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """One subject of a scene written by hand."""

    kind: str
    colour: str
    size: str = "medium"
    motion: str = "still"
    slot: str | None = None
    """`left`, `centre` or `right`; None for the centre alone, left then right in pairs."""
    material: str = "matte"
    start_s: float = 0.0
    """Second at which it starts to move."""
    then: str | None = None
    """What it does from `change_s` on."""
    change_s: float = NEVER
