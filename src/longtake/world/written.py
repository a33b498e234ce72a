"""Scenes written by hand."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from longtake.errors import SettingError
from longtake.world.cast import COLOURS, KINDS, MATERIALS, MOTIONS, SIZES, Kind, allowed_motions
from longtake.world.level import FIRST
from longtake.world.sampling import draw_rows, keep_apart, sample_scenes
from longtake.world.scene import MAX_SUBJECTS, SLOTS, Scenes, Subject
from longtake.world.stage import CAMERAS, GROUNDS, LIGHTS, SHOTS

_SLOTS = {1: (1, 1), 2: (0, 2), 3: (0, 2, 1), 4: (0, 2, 0, 2)}
_ASIDE = {1: (0, 0), 2: (0, 0), 3: (0, 0, 0), 4: (-1.05, 1.05, 0.95, -0.95)}


def scene_of(
    subjects: Sequence[Subject],
    *,
    ground: str = "grass",
    light: str = "day",
    camera: str = "static",
    shot: str = "wide",
    wind: float = 0.0,
    seed: int = 0,
) -> Scenes:
    """Write one scene by hand; what is not named is drawn from the seed.

    Raises:
        SettingError: an unknown word, a motion the kind cannot make, or too many subjects.
    """
    count = len(subjects)
    if not 1 <= count <= MAX_SUBJECTS:
        msg = f"a scene has 1 to {MAX_SUBJECTS} subjects, got {count}"
        raise SettingError(msg)
    level = FIRST if count <= FIRST.most_subjects else replace(FIRST, most_subjects=count)
    base = sample_scenes(1, np.random.default_rng(seed), level=level)
    names = ("kind", "colour", "size", "motion", "material", "start_s", "then", "change_s")
    columns = {name: getattr(base, name).copy() for name in names}
    slot = np.array([_SLOTS[count]])
    for i, subject in enumerate(subjects):
        for name, value in _numbers(subject).items():
            columns[name][0, i] = value
        if subject.slot is not None:
            slot[0, i] = _index("slot", SLOTS, subject.slot)
    drawn_alike = base.num_subjects[0] == count
    counts = np.array([count])
    written = replace(
        base,
        **columns,
        num_subjects=counts,
        slot=slot,
        row=base.row if drawn_alike else draw_rows(counts, np.random.default_rng(seed), count),
        aside=np.array([_ASIDE[count]], dtype=np.float32),
        ground=np.array([number_of("ground", GROUNDS, ground)]),
        light=np.array([number_of("light", LIGHTS, light)]),
        camera=np.array([number_of("camera", CAMERAS, camera)]),
        shot=np.array([number_of("shot", SHOTS, shot)]),
        wind=np.array([wind], dtype=np.float32),
    )
    return keep_apart(written)


def _numbers(subject: Subject) -> dict[str, float]:
    """The columns of one subject."""
    kind = KINDS[number_of("kind", KINDS, subject.kind)]
    then = subject.then or "still"
    return {
        "kind": KINDS.index(kind),
        "colour": number_of("colour", COLOURS, subject.colour),
        "size": number_of("size", SIZES, subject.size),
        "material": number_of("material", MATERIALS, subject.material),
        "motion": _motion(kind, subject.motion),
        "start_s": subject.start_s,
        "then": _motion(kind, then),
        "change_s": subject.change_s,
    }


def _motion(kind: Kind, name: str) -> int:
    motion = number_of("motion", MOTIONS, name)
    if motion not in allowed_motions(kind):
        msg = f"a {kind.name} cannot make the motion {name!r}"
        raise SettingError(msg)
    return motion


def number_of(what: str, table: Sequence[Any], name: str) -> int:
    """Where a table has a name.

    Raises:
        SettingError: nowhere.
    """
    return _index(what, [entry.name for entry in table], name)


def _index(what: str, names: Sequence[str], name: str) -> int:
    if name not in names:
        msg = f"{what} must be one of {', '.join(names)}, got {name!r}"
        raise SettingError(msg)
    return names.index(name)
