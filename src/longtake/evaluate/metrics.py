"""From what a prompt states and what was seen to scores; pure functions.

A film that cannot be explained is wrong in all that its prompt states.
"""

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from longtake.evaluate.reader.readings import FilmReading, SubjectReading
from longtake.world.captions import Fact
from longtake.world.cast import Motion
from longtake.world.scene import SLOTS

APART = 0.1
"""Share of the frame's width by which two subjects must be apart to stand left or right."""
ANGLE_DEG = 30.0
"""Largest angle between the stated direction and the way."""
SHORTEST_M = 1.0
"""Metres that count as going somewhere; about 5 % of what the frame shows."""
SPEED = (0.6, 1.6)
"""Range of the way's length over the stated motion's own."""
CONTACT_FRAMES = 2.0
"""Largest error of the time between two contacts, in frames."""
EVENT_FRAMES = 8.0
"""Largest error, in frames, of the moment at which a subject begins or changes what it does."""
MOSTLY = 0.5
"""Share of the frames that must show a subject for it to be present."""

Stated = Mapping[int, Mapping[str, str]]
"""Attributes of each stated subject."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Expected:
    """What the world itself says of a motion."""

    motion: Motion
    way_m: float
    """Metres it goes within a film."""
    contact_s: float
    """Seconds between two contacts, if it bounces."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Interval:
    """A mean over films and how sure it is."""

    mean: float
    low: float
    high: float
    count: int
    """Answers it is made of."""


Marks = dict[str, list[float]]
"""Metric to 1 or 0 for each thing that was stated."""


def stated_subjects(facts: Sequence[Fact]) -> dict[int, dict[str, str]]:
    """Attributes of each subject that is stated."""
    subjects: dict[int, dict[str, str]] = {}
    for fact in facts:
        if fact.subject is not None:
            subjects.setdefault(fact.subject, {})[fact.attribute] = fact.value
    return subjects


def mark(facts: Sequence[Fact], reading: FilmReading, world: Mapping[str, Expected]) -> Marks:
    """Score one film against the facts its prompt states.

    Args:
        facts: What is stated.
        reading: What was seen.
        world: What to expect of each motion, by name.
    """
    stated = stated_subjects(facts)
    found = pair_up(stated, reading.subjects) if reading.explained else {}
    marks: Marks = {"explained": [float(reading.explained)]}
    if stated:
        right = reading.explained and len(reading.subjects) == len(stated)
        marks["count"] = [float(right)]
    for number, attributes in stated.items():
        for name, value in _subject_marks(attributes, found.get(number), world).items():
            marks.setdefault(name, []).append(float(value))
    for name, value in _relations(stated, found):
        marks.setdefault(name, []).append(value)
    if ordered := _order(stated, found):
        marks["order"] = ordered
    for fact in facts:
        if fact.subject is None:
            right = reading.explained and reading.value(fact.attribute) == fact.value
            marks.setdefault(fact.attribute, []).append(float(right))
    return marks


def pair_up(stated: Stated, seen: Sequence[SubjectReading]) -> dict[int, SubjectReading]:
    """Each stated subject with the seen one that fits it, so that most attributes agree."""
    numbers = list(stated)
    slots: list[SubjectReading | None] = [*seen[:6], *[None] * len(numbers)]
    best: dict[int, SubjectReading] = {}
    most = -1.0
    for choice in itertools.permutations(range(len(slots)), len(numbers)):
        pairs = {n: slots[c] for n, c in zip(numbers, choice, strict=True)}
        total = sum(_fit(stated[n], one) for n, one in pairs.items())
        if total > most:
            most = total
            best = {n: one for n, one in pairs.items() if one is not None}
    return best


def _fit(attributes: Mapping[str, str], one: SubjectReading | None) -> float:
    """How well a seen subject fits; colour and kind say who it is, the rest what it does."""
    if one is None:
        return 0.0
    weights = {"colour": 2.0, "kind": 2.0}
    agreed = sum(
        weights.get(name, 0.5) for name, value in attributes.items() if one.value(name) == value
    )
    # Nobody is better than one that shares neither colour nor kind.
    return agreed if agreed >= 2.0 else -0.1


def _subject_marks(
    attributes: Mapping[str, str], one: SubjectReading | None, world: Mapping[str, Expected]
) -> dict[str, bool]:
    marks = {"presence": one is not None and one.seen >= MOSTLY}
    for name, value in attributes.items():
        marks[name] = one is not None and one.value(name) == value
    marks["binding"] = all(marks.values())
    motion = world.get(attributes.get("motion", ""))
    if motion is not None and (motion.motion.lateral or motion.motion.depth):
        way = None if one is None else one.way_m
        marks["direction"] = way is not None and goes(way, motion.motion)
        marks["speed"] = way is not None and in_pace(way, motion.way_m)
    for name in ("start_s", "change_s"):
        if name in attributes:
            marks["moment"] = (
                marks.get("moment", True)
                and event_error(one, name, float(attributes[name])) <= EVENT_FRAMES
            )
    if motion is not None and motion.motion.bounce:
        error = math.inf if one is None else contact_error(one.contacts_s, motion.contact_s)
        marks["timing"] = error <= CONTACT_FRAMES
    return marks


def event_error(one: SubjectReading | None, name: str, stated_s: float, fps: float = 16.0) -> float:
    """Frames by which the moment of an event is off; inf if none was seen."""
    if one is None:
        return math.inf
    seen_s = one.start_s if name == "start_s" else one.change_s
    return math.inf if seen_s is None else abs(seen_s - stated_s) * fps


def _order(stated: Stated, found: Mapping[int, SubjectReading]) -> list[float]:
    """For pairs of which both beginnings are stated and differ: whether they come so."""
    marks = []
    for one, other in itertools.combinations(stated, 2):
        starts = [stated[n].get("start_s") for n in (one, other)]
        if None in starts or starts[0] == starts[1]:
            continue
        wanted = float(starts[0] or 0) - float(starts[1] or 0)
        first, second = (found[n].start_s if n in found else None for n in (one, other))
        told = first is not None and second is not None
        marks.append(float(told and (first - second) * wanted > 0))
    return marks


def goes(way_m: tuple[float, float], motion: Motion) -> bool:
    """Whether a way over the ground leads where the motion says."""
    length, wanted = math.hypot(*way_m), math.hypot(motion.lateral, motion.depth)
    if length < SHORTEST_M:
        return False
    cosine = (way_m[0] * motion.lateral + way_m[1] * motion.depth) / (length * wanted)
    return cosine >= math.cos(math.radians(ANGLE_DEG))


def in_pace(way_m: tuple[float, float], wanted_m: float) -> bool:
    """Whether a way is about as long as the motion's own."""
    return SPEED[0] * wanted_m <= math.hypot(*way_m) <= SPEED[1] * wanted_m


def contact_error(contacts_s: Sequence[float], period_s: float, fps: float = 16.0) -> float:
    """Frames by which the time between two contacts is off, in the middle; inf without two."""
    if len(contacts_s) < 2:
        return math.inf
    gaps = [after - before for before, after in itertools.pairwise(contacts_s)]
    return abs(float(np.median(gaps)) - period_s) * fps


def _relations(stated: Stated, found: Mapping[int, SubjectReading]) -> list[tuple[str, float]]:
    """Left and right of each other, for pairs of which both places are stated and differ."""
    marks = []
    for one, other in itertools.combinations(stated, 2):
        places = [stated[n].get("slot") for n in (one, other)]
        if None in places or places[0] == places[1]:
            continue
        wanted = SLOTS.index(places[1] or "") - SLOTS.index(places[0] or "")
        if one in found and other in found:
            gap = found[other].across - found[one].across
            marks.append(("relation", float(gap * wanted > 0 and abs(gap) >= APART)))
        else:
            marks.append(("relation", 0.0))
    return marks


def bootstrap(films: Sequence[Sequence[float]], seed: int = 0, draws: int = 1000) -> Interval:
    """Mean of all answers and a 95 % interval, films drawn anew with all their answers.

    Args:
        films: Answers of each film; some may have none.
        seed: Of the draws.
        draws: How many.
    """
    kept = [film for film in films if film]
    if not kept:
        return Interval(mean=math.nan, low=math.nan, high=math.nan, count=0)
    sums = np.array([sum(film) for film in kept])
    counts = np.array([len(film) for film in kept])
    rows = np.random.default_rng(seed).integers(0, len(kept), (draws, len(kept)))
    means = sums[rows].sum(1) / counts[rows].sum(1)
    low, high = np.quantile(means, [0.025, 0.975])
    return Interval(
        mean=float(sums.sum() / counts.sum()),
        low=float(low),
        high=float(high),
        count=int(counts.sum()),
    )


def confusion(pairs: Sequence[tuple[str, str | None]], names: Sequence[str]) -> list[list[int]]:
    """How often each stated name was seen as which; the last column counts what was not read."""
    table = [[0] * (len(names) + 1) for _ in names]
    for stated, seen in pairs:
        column = names.index(seen) if seen in names else len(names)
        table[names.index(stated)][column] += 1
    return table


def frechet(one: Float[np.ndarray, "n features"], other: Float[np.ndarray, "m features"]) -> float:
    """Distance between two clouds of features, each taken as a normal distribution.

    |mean - mean'|^2 + trace(C + C' - 2 (C C')^(1/2)); NaN for fewer than two rows.

    Source: Heusel et al. 2017 (arXiv 1706.08500), eq. 6, on the reader's features.
    """
    if min(len(one), len(other)) < 2:
        return math.nan
    first, second = np.cov(one, rowvar=False), np.cov(other, rowvar=False)
    values, vectors = np.linalg.eigh(np.atleast_2d(first))
    root = (vectors * np.sqrt(values.clip(min=0))) @ vectors.T
    cross = np.linalg.eigvalsh(root @ np.atleast_2d(second) @ root).clip(min=0)
    gap = one.mean(axis=0) - other.mean(axis=0)
    total = np.trace(np.atleast_2d(first)) + np.trace(np.atleast_2d(second))
    return float(gap @ gap + total - 2 * np.sqrt(cross).sum())
