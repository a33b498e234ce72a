"""One take beside chained clips of the same script: all films of it, and what is measured of each.

Every side gets the same captions and, of our own model, the same steps; the true film after the
autoencoder stands beside them as the most that any model of this autoencoder can reach.
"""

from collections.abc import Generator, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Literal, get_args

import numpy as np
import torch
from jaxtyping import UInt8
from torch import Tensor

from longtake.config import FPS, TEMPORAL_STRIDE
from longtake.errors import CannotHere, SettingError
from longtake.evaluate.chain_public import PublicClips, chained_public
from longtake.evaluate.drift import MEASURES, Curves, Drift, Measure, curves, drift_of, limit_of
from longtake.evaluate.metrics import Marks
from longtake.evaluate.reader.read import Reader
from longtake.evaluate.rolls import (
    Maker,
    Picture,
    borders_of,
    by_beat,
    chained,
    chunks_of,
    first_frame,
    overlapping,
    script_of,
    texts_of,
    true_parts,
)
from longtake.evaluate.takes import (
    Recalled,
    change_over,
    excess_change,
    marks_in,
    plain_captions,
    recall,
    recall_script,
    returned,
    share_right,
    truth_of,
)
from longtake.world.screenwriter import BEAT_S
from longtake.world.script import GAPS_S, SCRIPT_S, Script, ScriptTruth

# Underscores: films in one call differ in length.
Film = UInt8[Tensor, "_frames _height _width 3"]
Side = Literal["take", "chain", "overlap", "public", "truth"]
SIDES: tuple[Side, ...] = get_args(Side)
SHORTEST_S = 10
BIN_S = 10
"""Seconds over which what is right is told."""
RECALL_S = 20
"""Seconds of a film of an absence beyond the absence itself."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Contest:
    """What is compared."""

    scripts: int = 4
    """Scripts; each is filmed by every side."""
    seconds: int = SCRIPT_S
    """Length of every film, whole beats."""
    seed: int = 0
    """Which scripts are drawn, and which films of them."""
    clip_chunks: int = 5
    """Chunks of a clip of the chain."""
    shared: int = 5
    """Latent frames of the clip before that a clip of the overlapping chain knows; 0: none such."""

    def __post_init__(self) -> None:
        """Check the ranges."""
        if self.scripts < 1:
            msg = f"scripts must be 1 or more, got {self.scripts}; try 4"
            raise SettingError(msg)
        if self.seconds % BEAT_S or not SHORTEST_S <= self.seconds <= SCRIPT_S:
            near = min(max(BEAT_S * round(self.seconds / BEAT_S), SHORTEST_S), SCRIPT_S)
            msg = (
                f"seconds must be {SHORTEST_S} to {SCRIPT_S} in steps of {BEAT_S}, "
                f"got {self.seconds}; the nearest is {near}"
            )
            raise SettingError(msg)

    def gap_s(self, number: int) -> int:
        """Seconds of the absence of a script's second film: those that fit, by turns."""
        fitting = [gap for gap in GAPS_S if gap + RECALL_S <= self.seconds] or GAPS_S[:1]
        return fitting[number % len(fitting)]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Told:
    """What every side is asked to film."""

    script: Script
    seconds: int
    texts: tuple[str, ...]
    """The caption in force in each chunk."""
    picture: Picture | None = None
    """What the film begins with."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Seen:
    """What is measured of a side's films of one script."""

    right: tuple[Marks, ...]
    """Answers about attributes in each ten seconds."""
    curves: Curves
    drift: Drift
    joins: tuple[int, ...]
    """Frames with which clips begin; for a take those with which the chain's would."""
    returned: float | None
    """Share of colour and kind of who has returned; None where the film is too short."""
    recalled: Recalled
    """Of the film in which no caption names a colour."""


@dataclass(frozen=True, slots=True)
class Progress:
    """Frames were made."""

    frames: int


@dataclass(frozen=True, slots=True)
class Lost:
    """The public checkpoint failed; it is left out from here on."""

    reason: str


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Compared:
    """One script, filmed and measured by every side."""

    number: int
    told: Told
    films: Mapping[Side, Film]
    seen: Mapping[Side, Seen]


Event = Progress | Lost | Compared


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """A side's films of one script in numbers."""

    at_joins: float
    """Change from frame to frame at joins, over that of the same frames of the true film."""
    elsewhere: float
    """The same of all other frames."""
    excess: float
    """Levels of change beyond the true film's, summed over the whole film."""
    excess_at_joins: float
    """The part of it at joins."""
    returned: float | None
    """Percent of colour and kind, both named, that are right after an absence."""
    recalled: float
    """100 if a colour that no caption names is the same after an absence, else 0."""
    right: tuple[float, ...]
    """Percent of attributes that are right, for each ten seconds."""
    apart: dict[Measure, float]
    """How far the slope of each measure is from the true film's, a minute."""
    inside: float
    """Percent of the slopes within the range of true films."""


def sides_of(contest: Contest, public: PublicClips | None) -> tuple[Side, ...]:
    """The columns, in order."""
    left_out = {*(["overlap"] if contest.shared == 0 else []), *(["public"] if not public else [])}
    return tuple(side for side in SIDES if side not in left_out)


def frames_in_all(contest: Contest, sides: int) -> int:
    """Frames that a comparison makes."""
    each = [
        (contest.seconds + contest.gap_s(number) + RECALL_S) * FPS + 2
        for number in range(contest.scripts)
    ]
    return sides * sum(each)


def clip_chunks_of(maker: Maker, clip_s: float, seconds: int) -> int:
    """Whole chunks that come nearest to the length of a clip.

    Raises:
        SettingError: clips that are no part of the film.
    """
    chunk_s = TEMPORAL_STRIDE * maker.grid.size / FPS
    if not 0 < clip_s <= seconds / 2:
        msg = (
            f"clip must be above 0 and at most half of the {seconds} seconds, got {clip_s:g}; try 6"
        )
        raise SettingError(msg)
    return max(round(clip_s / chunk_s), 1)


def compare(
    maker: Maker, contest: Contest, reader: Reader, public: PublicClips | None = None
) -> Iterator[Event]:
    """Film and measure one script after the other; yields often, so that a caller can stop it.

    Args:
        maker: Our model, with the settings of its films.
        contest: What is compared.
        reader: Tells what films show.
        public: A public checkpoint that makes a chain of its own.
    """
    for number in range(contest.scripts):
        settings = replace(maker.settings, seed=maker.settings.seed + number)
        mine = replace(maker, settings=settings)
        script = script_of(contest.seed, number)
        told = Told(
            script=script,
            seconds=contest.seconds,
            texts=texts_of(script, mine.grid, contest.seconds, number),
        )
        away, truth = away_told(mine, script, contest.gap_s(number)), truth_of(script)
        films: dict[Side, Film] = {}
        seen: dict[Side, Seen] = {}
        begun = None
        for side in sides_of(contest, public):
            try:
                pair = yield from _pair(side, mine, contest, (told, away), public, begun)
            except CannotHere as error:
                if side != "public":
                    raise
                public = None
                yield Lost(str(error))
                continue
            # The take is the first side; frames alone are kept of the films of absences.
            begun = begun or (pair[0][0].clone(), pair[1][0].clone())
            joins = joins_of(mine, contest, side, public)
            films[side], seen[side] = pair[0], look(pair, (told, away), truth, joins, reader)
            del pair
        yield Compared(number=number, told=told, films=films, seen=seen)


def away_told(maker: Maker, script: Script, gap_s: int) -> Told:
    """One subject leaves and returns; which colour it has, only the first frame says."""
    away = recall_script(script, gap_s)
    texts = by_beat(plain_captions(away, colours=False), maker.per_beat)
    picture = first_frame(maker, away)
    return Told(script=away, seconds=away.length_s, texts=texts, picture=picture)


def joins_of(
    maker: Maker, contest: Contest, side: Side, public: PublicClips | None
) -> tuple[int, ...]:
    """Frames with which a side's clips begin."""
    every = contest.clip_chunks if side != "public" or public is None else public.chunks
    return tuple(borders_of(maker.grid, contest.seconds * FPS + 1, every))


def look(
    films: tuple[Film, Film],
    told: tuple[Told, Told],
    truth: ScriptTruth,
    joins: tuple[int, ...],
    reader: Reader,
) -> Seen:
    """Measure a side's films of a script: that of all beats, and that of an absence."""
    (film, absence), (whole, away) = films, told
    beats, wide = range(whole.seconds // BEAT_S), BIN_S // BEAT_S
    bins = [tuple(beats[first : first + wide]) for first in range(0, len(beats), wide)]
    measured = curves([film], FPS)
    return Seen(
        right=tuple(marks_in(film, whole.script, truth, some, reader) for some in bins),
        curves=measured,
        drift=drift_of(measured, joins),
        joins=joins,
        returned=returned(film, whole.script, truth, reader),
        recalled=recall(absence, away.script, reader),
    )


def figures(seen: Seen, truth: Seen) -> Figures:
    """A side in numbers, beside the true film of the same script."""
    across, elsewhere = change_over(seen.curves, truth.curves, seen.joins)
    excess = excess_change(seen.curves, truth.curves)
    ours, true = seen.drift.slopes, truth.drift.slopes
    inside = [abs(ours[name].total) <= limit_of(name, seen.drift.seconds) for name in MEASURES]
    return Figures(
        at_joins=across,
        elsewhere=elsewhere,
        excess=float(excess.sum()),
        excess_at_joins=float(excess[list(seen.joins)].sum()),
        returned=None if seen.returned is None else 100 * seen.returned,
        recalled=100 * seen.recalled.same,
        right=tuple(share_right([marks]) for marks in seen.right),
        apart={name: 60 * abs(ours[name].per_s - true[name].per_s) for name in MEASURES},
        inside=100 * float(np.mean(inside)),
    )


def _pair(
    side: Side,
    maker: Maker,
    contest: Contest,
    told: tuple[Told, Told],
    public: PublicClips | None,
    begun: tuple[Picture, Picture] | None,
) -> Generator[Progress, None, tuple[Film, Film]]:
    """A side's films of all beats and of an absence."""
    made = []
    for number, one in enumerate(told):
        parts = []
        # A public chain is shown how the take begins, for it cannot begin without a picture.
        picture = None if begun is None else begun[number]
        for part in _parts(side, maker, contest, one, public, picture):
            parts.append(part)
            yield Progress(len(part))
        made.append(torch.cat(parts))
    return made[0], made[1]


def _parts(
    side: Side,
    maker: Maker,
    contest: Contest,
    told: Told,
    public: PublicClips | None,
    picture: Picture | None,
) -> Iterator[Film]:
    match side:
        case "take":
            return chunks_of(maker, told.texts, picture=told.picture)
        case "chain":
            return chained(maker, told.texts, contest.clip_chunks, told.picture)
        case "overlap":
            shared = contest.shared
            return overlapping(maker, told.texts, contest.clip_chunks, shared, told.picture)
        case "public":
            assert public is not None, "a column of its own"
            assert picture is not None, "the take was filmed before"
            return chained_public(public, told.texts, picture, maker.settings.seed)
        case "truth":
            return true_parts(maker, told.script, told.seconds)
