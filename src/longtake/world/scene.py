"""Scenes: what is in each clip, drawn from a generator or written by hand."""

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, Literal

import numpy as np
from jaxtyping import Float32, Int64

from longtake.errors import SettingError
from longtake.world.cast import COLOURS, HELD_OUT_PAIRS, KINDS, MOTIONS, SIZES, allowed_motions
from longtake.world.stage import CAMERAS, GROUNDS, LIGHTS, PROP_PLACES

WORLD_VERSION = 2
"""Changes whenever the same scene would look different."""
MAX_SUBJECTS = 2
SLOTS = ("left", "centre", "right")
ROWS = ("near", "middle", "far")
Split = Literal["train", "held_out_pairs"]

_ONE_SUBJECT = 0.55
_SAME_KIND = 0.15
_CENTRE = 0.5


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

    def __len__(self) -> int:
        """Number of scenes."""
        return len(self.num_subjects)

    def select(self, index: Any) -> "Scenes":  # noqa: ANN401 - whatever numpy indexes with
        """The scenes at a slice, mask or list of positions."""
        if isinstance(index, (int, np.integer)):
            index = [index]
        return Scenes(**{f.name: getattr(self, f.name)[index] for f in fields(self)})


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """One subject of a scene written by hand."""

    kind: str
    colour: str
    size: str = "medium"
    motion: str = "still"
    slot: str | None = None
    """`left`, `centre` or `right`; None for the centre alone, left then right in pairs."""


def sample_scenes(num: int, rng: np.random.Generator, split: Split = "train") -> Scenes:
    """Draw scenes with attributes jointly uniform.

    Args:
        num: Scenes to draw.
        rng: Where all randomness comes from.
        split: `train` never draws a held-out pair of colour and kind; `held_out_pairs` draws
            nothing else, one subject per scene.
    """
    held_out = split == "held_out_pairs"
    count = 1 + (rng.random(num) >= (1.0 if held_out else _ONE_SUBJECT)).astype(np.int64)
    kind = rng.integers(0, len(KINDS), (num, MAX_SUBJECTS))
    other = (kind[:, 0] + rng.integers(1, len(KINDS), num)) % len(KINDS)
    kind[:, 1] = np.where(rng.random(num) < _SAME_KIND, kind[:, 0], other)
    colour = _draw_colours(kind, rng, held_out=held_out)
    motion = _draw_motions(kind, rng)
    drawn = Scenes(
        num_subjects=count,
        kind=kind,
        colour=colour,
        size=rng.integers(0, len(SIZES), (num, MAX_SUBJECTS)),
        motion=motion,
        slot=_draw_slots(count, rng),
        row=_draw_rows(count, rng),
        ground=rng.integers(0, len(GROUNDS), num),
        light=rng.integers(0, len(LIGHTS), num),
        camera=rng.integers(0, len(CAMERAS), num),
        prop=rng.integers(0, 4, (num, len(PROP_PLACES))),
        subject_jitter=rng.random((num, MAX_SUBJECTS, 6), dtype=np.float32),
        scene_jitter=rng.random((num, 12), dtype=np.float32),
        prop_jitter=rng.random((num, len(PROP_PLACES), 4), dtype=np.float32),
    )
    return _keep_apart(drawn)


def scene_of(
    subjects: Sequence[Subject],
    *,
    ground: str = "grass",
    light: str = "day",
    camera: str = "static",
    seed: int = 0,
) -> Scenes:
    """Write one scene by hand; what is not named is drawn from the seed.

    Raises:
        SettingError: an unknown word, a motion the kind cannot make, or too many subjects.
    """
    if not 1 <= len(subjects) <= MAX_SUBJECTS:
        msg = f"a scene has 1 to {MAX_SUBJECTS} subjects, got {len(subjects)}"
        raise SettingError(msg)
    base = sample_scenes(1, np.random.default_rng(seed))
    columns = {name: getattr(base, name).copy() for name in ("kind", "colour", "size", "motion")}
    slot = np.array([[1, 1]] if len(subjects) == 1 else [[0, 2]])
    for i, subject in enumerate(subjects):
        columns["kind"][0, i] = _number("kind", KINDS, subject.kind)
        columns["colour"][0, i] = _number("colour", COLOURS, subject.colour)
        columns["size"][0, i] = _number("size", SIZES, subject.size)
        motion = _number("motion", MOTIONS, subject.motion)
        if motion not in allowed_motions(KINDS[columns["kind"][0, i]]):
            msg = f"a {subject.kind} cannot make the motion {subject.motion!r}"
            raise SettingError(msg)
        columns["motion"][0, i] = motion
        if subject.slot is not None:
            if subject.slot not in SLOTS:
                msg = f"slot must be one of {', '.join(SLOTS)}, got {subject.slot!r}"
                raise SettingError(msg)
            slot[0, i] = SLOTS.index(subject.slot)
    count = np.array([len(subjects)])
    row = (
        base.row
        if base.num_subjects[0] == len(subjects)
        else _draw_rows(count, np.random.default_rng(seed))
    )
    written = replace(
        base,
        **columns,
        num_subjects=count,
        slot=slot,
        row=row,
        ground=np.array([_number("ground", GROUNDS, ground)]),
        light=np.array([_number("light", LIGHTS, light)]),
        camera=np.array([_number("camera", CAMERAS, camera)]),
    )
    return _keep_apart(written)


def _number(what: str, table: Sequence[Any], name: str) -> int:
    names = [entry.name for entry in table]
    if name not in names:
        msg = f"{what} must be one of {', '.join(names)}, got {name!r}"
        raise SettingError(msg)
    return names.index(name)


def _held_out_table() -> Int64[np.ndarray, "kinds colours"]:
    table = np.zeros((len(KINDS), len(COLOURS)), dtype=np.int64)
    for colour, kind in HELD_OUT_PAIRS:
        table[_number("kind", KINDS, kind), _number("colour", COLOURS, colour)] = 1
    return table


def _draw_colours(
    kind: Int64[np.ndarray, "b subjects"], rng: np.random.Generator, *, held_out: bool
) -> Int64[np.ndarray, "b subjects"]:
    """Colours that differ within a scene, on the wanted side of the held-out table."""
    lots = rng.random((*kind.shape, len(COLOURS)))
    wanted = _held_out_table()[kind] == int(held_out)
    first = np.where(wanted[:, 0], lots[:, 0], -1.0).argmax(-1)
    free = np.arange(len(COLOURS)) != first[:, None]
    # In the held-out split the second colour is never shown, so any free one will do.
    allowed = free if held_out else free & wanted[:, 1]
    second = np.where(allowed, lots[:, 1], -1.0).argmax(-1)
    return np.stack([first, second], axis=1)


def _draw_motions(
    kind: Int64[np.ndarray, "b subjects"], rng: np.random.Generator
) -> Int64[np.ndarray, "b subjects"]:
    can = np.zeros((len(KINDS), len(MOTIONS)), dtype=bool)
    for i, entry in enumerate(KINDS):
        can[i, list(allowed_motions(entry))] = True
    lots = rng.random((*kind.shape, len(MOTIONS)))
    return np.where(can[kind], lots, -1.0).argmax(-1)


def _draw_slots(
    count: Int64[np.ndarray, " b"], rng: np.random.Generator
) -> Int64[np.ndarray, "b subjects"]:
    side = 2 * rng.integers(0, 2, len(count))
    alone = np.where(rng.random(len(count)) < _CENTRE, 1, side)
    return np.stack([np.where(count == 1, alone, side), 2 - side], axis=1)


def _draw_rows(
    count: Int64[np.ndarray, " b"], rng: np.random.Generator
) -> Int64[np.ndarray, "b subjects"]:
    near = 2 * rng.integers(0, 2, len(count))
    return np.stack([np.where(count == 1, 1, near), 2 - near], axis=1)


def _keep_apart(scenes: Scenes) -> Scenes:
    """Settle rows and slots so that two subjects do not run through each other.

    A subject that crosses the frame has no slot of its own. Where one crosses and the other comes
    or goes, the crossing one takes the far row: they pass half-way, when it is in the middle.
    """
    lateral = np.array([m.lateral != 0 for m in MOTIONS])[scenes.motion]
    depth = np.array([m.depth != 0 for m in MOTIONS])[scenes.motion]
    pair = (scenes.num_subjects == 2)[:, None]
    row = np.where(pair & lateral & depth[:, ::-1], 2, scenes.row)
    row = np.where(pair & depth & lateral[:, ::-1], 0, row)
    slot = np.where(lateral & ~pair, 1, scenes.slot)
    return replace(scenes, row=row, slot=slot)
