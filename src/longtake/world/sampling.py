"""Scenes drawn from a generator, with attributes jointly uniform over what a level has."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from jaxtyping import Bool, Float32, Int64

from longtake.world.cast import (
    COLOURS,
    HELD_OUT_PAIRS,
    KINDS,
    MATERIALS,
    MOTIONS,
    SIZES,
    Motion,
    allowed_motions,
)
from longtake.world.level import FIRST, LATE_S, Level
from longtake.world.scene import CAMERA_COORDINATES, NEVER, Scenes, Split
from longtake.world.stage import CAMERAS, GROUNDS, LIGHTS, PROP_PLACES, SHOTS

_MORE_SUBJECTS = (0.55, 0.82, 0.93)
"""Share of scenes with at most one, two and three subjects."""
_SAME_KIND = 0.15
_CENTRE = 0.5
_PLACES = {3: ((0, 2, 1), (0, 1, 2)), 4: ((0, 2, 0, 2), (1, 1, 0, 2))}
"""Slots and rows of larger groups."""
_ASIDE = (-1.05, 1.05, 0.95, -0.95)
"""What keeps four apart in three slots."""
_BACK = 3
"""The row behind the others."""
_LATE = 0.3
"""Share of motions that start late."""
_TWO_PHASES, _CHANGES = 0.3, (2, 3)
"""Share of subjects that do one thing and then another, and when."""
_DARK = 0.1
"""Brightness below which no darker pattern shows."""
_WIDE = 0.5
"""Share of the usual shot."""


def numbers(table: Sequence[Any], names: Sequence[str]) -> Int64[np.ndarray, " n"]:
    """Where a table has each of the names."""
    at = {entry.name: i for i, entry in enumerate(table)}
    return np.array([at[name] for name in names])


def sample_scenes(
    num: int, rng: np.random.Generator, split: Split = "train", level: Level = FIRST
) -> Scenes:
    """Draw scenes with attributes jointly uniform.

    Args:
        num: Scenes to draw.
        rng: Where all randomness comes from.
        split: `train` never draws a held-out pair of colour and kind; `held_out_pairs` draws
            nothing else, one subject per scene.
        level: What can occur.
    """
    held_out, most = split == "held_out_pairs", level.most_subjects
    lot = rng.random(num)
    more = [lot >= (1.0 if held_out else share) for share in _MORE_SUBJECTS[: most - 1]]
    count = 1 + np.sum(more, axis=0).astype(np.int64)
    kind = _draw_kinds(num, rng, level)
    drawn = Scenes(
        num_subjects=count,
        kind=kind,
        colour=_draw_colours(kind, rng, level, held_out=held_out),
        motion=_draw_motions(kind, rng, level),
        size=rng.integers(0, len(SIZES), (num, most)),
        slot=_draw_slots(count, rng, most),
        row=draw_rows(count, rng, most),
        ground=numbers(GROUNDS, level.grounds)[rng.integers(0, len(level.grounds), num)],
        light=numbers(LIGHTS, level.lights)[rng.integers(0, len(level.lights), num)],
        camera=numbers(CAMERAS, level.cameras)[rng.integers(0, len(level.cameras), num)],
        prop=rng.integers(0, 4, (num, len(PROP_PLACES))),
        subject_jitter=rng.random((num, most, 6), dtype=np.float32),
        scene_jitter=rng.random((num, 12), dtype=np.float32),
        prop_jitter=rng.random((num, len(PROP_PLACES), 4), dtype=np.float32),
        material=np.zeros((num, most), dtype=np.int64),
        shot=np.zeros(num, dtype=np.int64),
        start_s=np.zeros((num, most), dtype=np.float32),
        then=np.zeros((num, most), dtype=np.int64),
        change_s=np.full((num, most), NEVER, dtype=np.float32),
        aside=_aside(count, most),
        camera_base=np.zeros((num, len(CAMERA_COORDINATES)), dtype=np.float32),
        wind=np.full(num, float(level.wind), dtype=np.float32),
        since_s=np.zeros(num, dtype=np.float32),
    )
    # What only wider levels have is drawn last, so that the first level's scenes stay the same.
    return keep_apart(_widen(drawn, rng, level) if level != FIRST else drawn)


def _draw_kinds(
    num: int, rng: np.random.Generator, level: Level
) -> Int64[np.ndarray, "b subjects"]:
    kinds = len(level.kinds)
    kind = rng.integers(0, kinds, (num, level.most_subjects))
    other = (kind[:, 0] + rng.integers(1, kinds, num)) % kinds
    kind[:, 1] = np.where(rng.random(num) < _SAME_KIND, kind[:, 0], other)
    return numbers(KINDS, level.kinds)[kind]


def _held_out_table(level: Level) -> Int64[np.ndarray, "kinds colours"]:
    return np.array(
        [[int((c, kind.name) in HELD_OUT_PAIRS) for c in level.colours] for kind in KINDS]
    )


def _draw_colours(
    kind: Int64[np.ndarray, "b subjects"],
    rng: np.random.Generator,
    level: Level,
    *,
    held_out: bool,
) -> Int64[np.ndarray, "b subjects"]:
    """Colours that differ within a scene, on the wanted side of the held-out table."""
    lots = rng.random((*kind.shape, len(level.colours)))
    wanted = _held_out_table(level)[kind] == int(held_out)
    free = np.ones((len(kind), len(level.colours)), dtype=bool)
    chosen = []
    for i in range(kind.shape[1]):
        # In the held-out split the second colour is never shown, so any free one will do.
        allowed = free if held_out and i else free & wanted[:, i]
        chosen.append(np.where(allowed, lots[:, i], -1.0).argmax(-1))
        free = free & (np.arange(len(level.colours)) != chosen[i][:, None])
    return numbers(COLOURS, level.colours)[np.stack(chosen, axis=1)]


def _able(names: Sequence[str]) -> Bool[np.ndarray, "kinds motions"]:
    """Which kind can make which of the motions."""
    motion = numbers(MOTIONS, names)
    return np.array([np.isin(motion, allowed_motions(kind)) for kind in KINDS])


def _draw_motions(
    kind: Int64[np.ndarray, "b subjects"], rng: np.random.Generator, level: Level
) -> Int64[np.ndarray, "b subjects"]:
    lots = rng.random((*kind.shape, len(level.motions)))
    best = np.where(_able(level.motions)[kind], lots, -1.0).argmax(-1)
    return numbers(MOTIONS, level.motions)[best]


def _draw_slots(
    count: Int64[np.ndarray, " b"], rng: np.random.Generator, most: int
) -> Int64[np.ndarray, "b subjects"]:
    side = 2 * rng.integers(0, 2, len(count))
    alone = np.where(rng.random(len(count)) < _CENTRE, 1, side)
    pair = np.stack([np.where(count == 1, alone, side), 2 - side], axis=1)
    return _place(pair, count, most, 0)


def draw_rows(
    count: Int64[np.ndarray, " b"], rng: np.random.Generator, most: int
) -> Int64[np.ndarray, "b subjects"]:
    """Rows in depth: one subject in the middle, two apart."""
    near = 2 * rng.integers(0, 2, len(count))
    return _place(np.stack([np.where(count == 1, 1, near), 2 - near], axis=1), count, most, 1)


def _place(
    pair: Int64[np.ndarray, "b 2"], count: Int64[np.ndarray, " b"], most: int, which: int
) -> Int64[np.ndarray, "b subjects"]:
    """Slots (0) or rows (1) of pairs as drawn, of larger groups from a table."""
    placed = np.concatenate([pair, np.ones((len(count), max(most, 2) - 2), dtype=np.int64)], axis=1)
    for size in range(3, most + 1):
        placed[count == size, :size] = _PLACES[size][which]
    return placed


def _aside(count: Int64[np.ndarray, " b"], most: int) -> Float32[np.ndarray, "b subjects"]:
    aside = np.zeros((len(count), most), dtype=np.float32)
    aside[count == len(_ASIDE)] = _ASIDE[:most]
    return aside


def _flags(wanted: str) -> Bool[np.ndarray, " motions"]:
    return np.array([bool(getattr(m, wanted)) for m in MOTIONS])


def keep_apart(scenes: Scenes) -> Scenes:
    """Settle rows and slots so that subjects do not run through each other.

    A subject that crosses the frame has no slot of its own. Where one crosses and the other comes
    or goes, the crossing one takes the far row: they pass half-way, when it is in the middle. In
    larger groups it goes behind the others.
    """
    lateral, depth = _flags("lateral")[scenes.motion], _flags("depth")[scenes.motion]
    pair = (scenes.num_subjects == 2)[:, None]
    crowd = (scenes.num_subjects > 2)[:, None]
    one, other = lateral[:, :2], depth[:, :2]
    row = scenes.row.copy()
    row[:, :2] = np.where(pair & one & other[:, ::-1], 2, row[:, :2])
    row[:, :2] = np.where(pair & other & one[:, ::-1], 0, row[:, :2])
    row = np.where(crowd & (lateral | _flags("leaves")[scenes.motion]), _BACK, row)
    slot = np.where(lateral & ~pair & ~crowd, 1, scenes.slot)
    return replace(scenes, row=row, slot=slot)


def _widen(scenes: Scenes, rng: np.random.Generator, level: Level) -> Scenes:
    """Draw what the first level lacks, and settle what does not go together."""
    shape = scenes.kind.shape
    material = numbers(MATERIALS, level.materials)[rng.integers(0, len(level.materials), shape)]
    gleams = np.array([kind.gleams for kind in KINDS])[scenes.kind]
    shines = np.array([bool(m.shine) for m in MATERIALS])[material]
    material = np.where(shines & ~gleams, 0, material)
    dark = np.array([max(colour.rgb) < _DARK for colour in COLOURS])[scenes.colour]
    patterned = np.array([bool(m.stripes or m.dots) for m in MATERIALS])[material]
    material = np.where(patterned & dark, 0, material)
    scenes = _make_room(replace(scenes, material=material), rng)
    if level.timing:
        scenes = _draw_times(scenes, rng, level)
    return _draw_shots(_suit_camera(scenes, rng, level), rng, level)


def _make_room(scenes: Scenes, rng: np.random.Generator) -> Scenes:
    """In larger groups only the first subject goes about; followers have somebody to follow."""
    motion, still = scenes.motion.copy(), int(numbers(MOTIONS, ["still"])[0])
    crowd = scenes.num_subjects > 2
    motion[:, 1:] = np.where(crowd[:, None] & ~_flags("stays")[motion[:, 1:]], still, motion[:, 1:])
    circling = crowd & _flags("circle")[motion[:, 0]]
    follows = _flags("follows")[motion]
    motion[:, 0] = np.where(circling | follows[:, 0], still, motion[:, 0])
    led = follows[:, 1] & (scenes.num_subjects == 2)
    motion = _go_sideways(replace(scenes, motion=motion), led, rng)
    lost = _flags("follows")[motion] & ~_flags("lateral")[motion[:, :1]]
    size = np.where(crowd[:, None], np.minimum(scenes.size, 1), scenes.size)
    return replace(scenes, motion=np.where(lost, still, motion), size=size)


def _go_sideways(
    scenes: Scenes, where: Bool[np.ndarray, " b"], rng: np.random.Generator
) -> Int64[np.ndarray, "b subjects"]:
    """Motions with the first subject crossing the frame, if it can."""
    ways = numbers(MOTIONS, ["left_to_right", "right_to_left"])
    drawn = ways[rng.integers(0, 2, len(scenes))]
    able = _able(["left_to_right"])[scenes.kind[:, 0], 0]
    here = where & able & ~_flags("lateral")[scenes.motion[:, 0]]
    motion = scenes.motion.copy()
    motion[:, 0] = np.where(here, drawn, motion[:, 0])
    return motion


def _second(motion: Motion) -> bool:
    """Whether a motion can take over from another."""
    return motion.stays and motion.size_from == 1.0


def _first(motion: Motion) -> bool:
    """Whether another motion can take over from it."""
    sizes = motion.size_from == motion.size_to == 1.0
    return sizes and not (motion.leaves or motion.follows or motion.jumps or motion.sways)


def _draw_times(scenes: Scenes, rng: np.random.Generator, level: Level) -> Scenes:
    """Seconds at which motions start, and second motions."""
    shape = scenes.motion.shape
    momentary = np.array([m.at_once or bool(m.jumps) for m in MOTIONS])[scenes.motion]
    idle = scenes.motion == numbers(MOTIONS, ["still"])[0]
    late = momentary | ((rng.random(shape) < _LATE) & ~idle)
    start = np.where(late, np.array(LATE_S)[rng.integers(0, len(LATE_S), shape)], 0)
    names = [name for name in level.motions if _second(MOTIONS[numbers(MOTIONS, [name])[0]])]
    lots = np.where(_able(names)[scenes.kind], rng.random((*shape, len(names))), -1.0)
    then = numbers(MOTIONS, names)[lots.argmax(-1)]
    can = np.array([_first(m) for m in MOTIONS])[scenes.motion] & (then != scenes.motion)
    led = _flags("follows")[scenes.motion].any(axis=1, keepdims=True)
    twice = can & ~led & (rng.random(shape) < _TWO_PHASES)
    change = np.array(_CHANGES)[rng.integers(0, len(_CHANGES), shape)]
    # A follower keeps step with its leader from the start.
    start = np.where(twice | led, 0, start)
    return replace(
        scenes,
        start_s=start.astype(np.float32),
        then=np.where(twice, then, 0),
        change_s=np.where(twice, change, NEVER).astype(np.float32),
    )


def _shown(scenes: Scenes) -> Bool[np.ndarray, "b subjects"]:
    return np.arange(scenes.kind.shape[1]) < scenes.num_subjects[:, None]


def _suit_camera(scenes: Scenes, rng: np.random.Generator, level: Level) -> Scenes:
    """A camera that follows has somebody to follow; who leaves the frame is not panned after."""
    follows = np.array([bool(c.follows) for c in CAMERAS])
    few = scenes.num_subjects <= 2
    motion = _go_sideways(scenes, follows[scenes.camera] & few & (scenes.start_s[:, 0] == 0), rng)
    lateral = _flags("lateral")[motion[:, 0]]
    static = numbers(CAMERAS, ["static"])[0]
    lost = follows[scenes.camera] & ~(lateral & few)
    camera = np.where(lost, static, scenes.camera)
    quiet = np.array([c for c in numbers(CAMERAS, level.cameras) if CAMERAS[c].keeps_sides])
    leaving = (_flags("leaves")[motion] & _shown(scenes)).any(axis=1)
    loud = ~np.isin(camera, quiet)
    camera = np.where(leaving & loud, quiet[rng.integers(0, len(quiet), len(scenes))], camera)
    # Who was made to cross the frame does only that.
    changed = motion != scenes.motion
    change = np.where(changed, NEVER, scenes.change_s).astype(np.float32)
    then = np.where(changed, 0, scenes.then)
    return replace(scenes, motion=motion, camera=camera, change_s=change, then=then)


def _draw_shots(scenes: Scenes, rng: np.random.Generator, level: Level) -> Scenes:
    """Closer shots of one subject that keeps to its place; nothing small from afar."""
    shots = numbers(SHOTS, level.shots)
    others = shots[rng.integers(1, len(shots), len(scenes))] if len(shots) > 1 else shots[:1]
    shot = np.where(rng.random(len(scenes)) < _WIDE, shots[0], others)
    calm = np.array([_second(m) and not (m.bounce or m.jumps) for m in MOTIONS])
    posed = (scenes.num_subjects == 1) & calm[scenes.motion[:, 0]] & calm[scenes.then[:, 0]]
    sideways = np.array([bool(c.truck or c.follows) for c in CAMERAS])[scenes.camera]
    close = np.array([s.share is not None for s in SHOTS])
    shot = np.where(close[shot] & ~(posed & ~sideways), shots[0], shot)
    far = np.array([s.distance for s in SHOTS]) > SHOTS[0].distance
    size = np.where(far[shot][:, None], np.maximum(scenes.size, 1), scenes.size)
    slot = scenes.slot.copy()
    slot[:, 0] = np.where(close[shot], 1, slot[:, 0])
    return replace(scenes, shot=shot, size=size, slot=slot)
