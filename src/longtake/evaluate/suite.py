"""Three columns for every prompt: the truth after a round trip, the model, shuffled captions."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from jaxtyping import UInt8
from torch import Tensor

from longtake.config import FPS, SampleConfig
from longtake.evaluate.metrics import Expected, Marks, bootstrap, confusion, frechet, mark
from longtake.evaluate.prompts import HELD_OUT_COUNTS, Asked
from longtake.evaluate.reader.read import Reader
from longtake.evaluate.reader.readings import FilmReading
from longtake.evaluate.round_trip import film_scenes
from longtake.pipeline import Frames, Pipeline
from longtake.world import sample_scenes
from longtake.world.cast import MOTIONS
from longtake.world.choreography import BOUNCE_S, CLIP_S, track
from longtake.world.stage import CAMERAS

COLUMNS = ("ceiling", "model", "floor")
STRIP = 8
"""Frames of a film that are kept for the sheet of the worst cases."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Read:
    """One prompt with what was seen in the model's film and in the true one."""

    asked: Asked
    model: FilmReading
    truth: FilmReading | None
    """None where no scene is known in which the prompt is true."""
    strip: UInt8[Tensor, "frames height width 3"]


@dataclass(frozen=True, slots=True)
class Step:
    """How far a film is: 1 once it is made and read."""

    film: int


def films(
    asked: Sequence[Asked], pipe: Pipeline, reader: Reader, settings: SampleConfig
) -> Iterator[Step | Read]:
    """Make and read a film for every prompt; yields often, so that a caller can stop it."""
    for number, one in enumerate(asked):
        chunks = []
        for event in pipe.stream(one.prompt, settings):
            yield Step(number)
            if isinstance(event, Frames):
                chunks.append(event.pixels)
        film = torch.cat(chunks)
        truth = None
        if one.scene is not None:
            device = pipe.device
            size = {"height": settings.height, "width": settings.width}
            true = next(
                film_scenes(one.scene, pipe.autoencoder, device, frames=settings.frames, **size)
            )
            yield Step(number)
            truth = reader.read(true.to(reader.device), FPS)
        every = np.linspace(0, len(film) - 1, min(STRIP, len(film))).round().astype(int)
        yield Read(
            asked=one,
            model=reader.read(film.to(reader.device), FPS),
            truth=truth,
            strip=film[every],
        )


def expectations() -> dict[str, Expected]:
    """What the world itself makes of each motion, alone in the middle."""
    count = len(MOTIONS)
    scenes = sample_scenes(count, np.random.default_rng(0))
    rows = np.arange(count, dtype=np.int64)[:, None]
    scenes = replace(
        scenes,
        num_subjects=np.ones(count, dtype=np.int64),
        motion=rows.repeat(scenes.motion.shape[1], 1),
        subject_jitter=np.full_like(scenes.subject_jitter, 0.5),
    )
    ends = track(scenes, torch.tensor([0.0, CLIP_S]).expand(count, -1)).position[:, :, 0]
    lengths = (ends[:, 1] - ends[:, 0]).norm(dim=-1).tolist()
    return {
        motion.name: Expected(motion=motion, way_m=length, contact_s=BOUNCE_S)
        for motion, length in zip(MOTIONS, lengths, strict=True)
    }


def marks_of(read: Sequence[Read]) -> dict[str, list[Marks]]:
    """Marks of every film in each column; the floor asks each film for another's facts."""
    world = expectations()
    count = len(read)
    # By half the list, so that no film meets a neighbour of its own split.
    shuffled = [read[(n + max(count // 2, 1)) % count].asked.facts for n in range(count)]
    return {
        "ceiling": [mark(r.asked.facts, r.truth, world) for r in read if r.truth is not None],
        "model": [mark(r.asked.facts, r.model, world) for r in read],
        "floor": [
            mark(facts, r.model, world) for facts, r in zip(shuffled, read, strict=True)
        ] if count > 1 else [],
    }  # fmt: skip


def table_of(columns: Mapping[str, Sequence[Marks]]) -> dict[str, dict[str, dict[str, float]]]:
    """Metric to column to mean, interval and number of answers."""
    names = dict.fromkeys(name for films in columns.values() for film in films for name in film)
    table: dict[str, dict[str, dict[str, float]]] = {}
    for name in names:
        table[name] = {}
        for column, marks in columns.items():
            score = bootstrap([film.get(name, []) for film in marks])
            if score.count:
                table[name][column] = {
                    "mean": round(score.mean, 4), "low": round(score.low, 4),
                    "high": round(score.high, 4), "count": score.count,
                }  # fmt: skip
    return table


def scores(read: Sequence[Read]) -> dict[str, Any]:
    """Everything that is measured, ready for JSON."""
    usual = [r for r in read if r.asked.split != HELD_OUT_COUNTS] or read
    columns = marks_of(usual)
    by_split = {}
    for split in dict.fromkeys(r.asked.split for r in read):
        rows = [r for r in read if r.asked.split == split]
        by_split[split] = table_of({k: v for k, v in marks_of(rows).items() if k != "floor"})
    names = [camera.name for camera in CAMERAS]
    return {
        "films": len(read),
        "metrics": table_of(columns),
        "splits": by_split,
        "camera_confusion": {
            "names": [*names, "not read"],
            "model": confusion(list(_cameras(read, "model")), names),
            "ceiling": confusion(list(_cameras(read, "truth")), names),
        },
        "detail": _detail(read),
        "reader_fd": _distance(read),
    }


def _cameras(read: Sequence[Read], which: str) -> Iterator[tuple[str, str | None]]:
    for r in read:
        seen = r.model if which == "model" else r.truth
        for fact in r.asked.facts:
            if fact.attribute == "camera" and seen is not None:
                yield fact.value, seen.camera if seen.explained else None


def _detail(read: Sequence[Read]) -> dict[str, float]:
    """Median over prompts of the model's fine detail over that of the true film."""
    pairs = [(r.model.detail, r.truth.detail) for r in read if r.truth is not None]
    if not pairs:
        return {}
    return {
        "space": round(float(np.median([m.space / max(t.space, 1e-6) for m, t in pairs])), 4),
        "time": round(float(np.median([m.time / max(t.time, 1e-6) for m, t in pairs])), 4),
    }


def _distance(read: Sequence[Read]) -> dict[str, float | None]:
    """reader-FD of the model's films, and of two halves of the true ones as the least there is."""
    model = [row for r in read for row in r.model.features]
    true = [row for r in read if r.truth is not None for row in r.truth.features]
    both = {"model": (model, true), "ceiling": (true[::2], true[1::2])}
    found: dict[str, float | None] = {}
    for name, (one, other) in both.items():
        few = min(len(one), len(other)) < 2
        found[name] = None if few else round(frechet(np.array(one), np.array(other)), 4)
    return {**found, "subjects": len(model)}


def worst(read: Sequence[Read], most: int = 8) -> list[tuple[Read, list[str]]]:
    """Films with most that is wrong, and what that is."""
    world = expectations()
    rows = [
        (r, [name for name, marks in mark(r.asked.facts, r.model, world).items() if 0 in marks])
        for r in read
    ]
    return sorted((row for row in rows if row[1]), key=lambda row: -len(row[1]))[:most]
