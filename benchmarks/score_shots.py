"""Whether shots show what their own line says, and nothing of the shot before; one JSON line.

python benchmarks/score_shots.py [--model previz] [--lists 40] [--shots 4] [--transition cut]

Held-out shot lists are made as `longtake shoot` makes them and read shot by shot. `inside` is the
share of stated facts that are read inside the shot, `alone` the same for the prompt filmed alone
with the same seed, `leak` the share of facts that only the shot before states and that are read
all the same, `chance` the same share in the film made alone. `cut` is the share of cuts whose
step between two frames is the largest around, exactly where the list has them.
"""

import argparse
import json
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from jaxtyping import UInt8
from torch import Tensor

from longtake.config import FPS, SampleConfig
from longtake.evaluate.metrics import Expected, mark
from longtake.evaluate.prompts import Asked, draw
from longtake.evaluate.reader.read import FOLDER, Reader, load_reader
from longtake.evaluate.reader.readings import FilmReading
from longtake.evaluate.suite import expectations
from longtake.media.lossless import lossless_frames
from longtake.pipeline import Pipeline, device_of, load
from longtake.shots.plan import plan
from longtake.shots.render import Rendering
from longtake.shots.shot import Shot, ShotList, Transition
from longtake.shots.store import Store
from longtake.shots.timecode import rate_of
from longtake.world.level import LEVELS, level_named
from longtake.world.speaker import Fact

NEAR = 8
"""Frames on both sides of a cut among which its step is the largest."""
Film = UInt8[Tensor, "frames height width 3"]


@dataclass(frozen=True)
class Seen:
    """Facts of one shot that were asked for and read."""

    inside: list[float]
    alone: list[float]
    leak: list[float]
    chance: list[float]
    cut: list[float]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="previz")
    parser.add_argument("--level", default="first", choices=[level.name for level in LEVELS])
    parser.add_argument("--lists", type=int, default=40)
    parser.add_argument("--shots", type=int, default=4)
    parser.add_argument("--seconds", type=float, default=3.0, help="of a shot")
    parser.add_argument("--transition", default="cut", choices=["cut", "continue", "dissolve"])
    parser.add_argument("--seed", type=int, default=1000)
    parser.add_argument("--steps", type=int, help="in place of the model's own")
    parser.add_argument("--device", default="auto")
    options = parser.parse_args()
    began = time.perf_counter()
    asked = draw(options.lists * options.shots, options.seed, level_named(options.level))
    pipe = load(options.model, device=device_of(options.device))
    reader = load_reader(FOLDER, pipe.device)
    steps = options.steps or pipe.defaults.steps
    settings = replace(pipe.defaults, steps=steps, frames=round(options.seconds * FPS))
    rows = [
        seen
        for number in range(options.lists)
        for seen in film_list(
            pipe,
            reader,
            asked[number * options.shots : (number + 1) * options.shots],
            replace(settings, seed=options.seed + number),
            options.transition,
        )
    ]
    told = {key: value for key, value in vars(options).items() if key != "device"}
    told |= {"model_hash": pipe.model_hash, **scores(rows)}
    print(json.dumps({**told, "elapsed_s": round(time.perf_counter() - began, 1)}))


def film_list(
    pipe: Pipeline,
    reader: Reader,
    asked: Sequence[Asked],
    settings: SampleConfig,
    transition: Transition,
) -> Iterator[Seen]:
    """Make one shot list and read each of its shots, and the film of its line alone."""
    shots = tuple(
        Shot(
            code=f"SH{number:04}",
            frames=settings.frames,
            prompt=one.prompt,
            seed=settings.seed + 10_000 * number,
            transition=transition if number else "cut",
            dissolve=settings.frames // 4 if number and transition == "dissolve" else 0,
        )
        for number, one in enumerate(asked)
    )
    world = expectations()
    films = list(_films(pipe, shots, settings))
    for number, (shot, one, film) in enumerate(zip(shots, asked, films, strict=True)):
        single = pipe.generate(one.prompt, settings=replace(settings, seed=shot.seed)).frames
        inside, alone = (reader.read(f.to(reader.device), FPS) for f in (film, single))
        others = foreign(asked[number - 1].facts, one.facts) if number else ()
        step = [is_cut(films[number - 1], film)] if number and transition == "cut" else []
        yield Seen(
            inside=_marks(one.facts, inside, world),
            alone=_marks(one.facts, alone, world),
            leak=[float(fact_seen(fact, inside)) for fact in others],
            chance=[float(fact_seen(fact, alone)) for fact in others],
            cut=step,
        )


def _films(pipe: Pipeline, shots: tuple[Shot, ...], settings: SampleConfig) -> Iterator[Film]:
    scene = ShotList(title="score", rate=rate_of("16"), shots=shots)
    planned = plan(scene, pipe.name, pipe.config, settings)
    with tempfile.TemporaryDirectory() as folder:
        store = Store(Path(folder))
        rendering = Rendering(pipe, scene, planned, store, "duplicate")
        for _ in rendering.run():
            pass
        for made in rendering.cut:
            frames = list(lossless_frames(store.source(made.record)))
            yield torch.stack(frames[: made.planned.shot.frames])


def foreign(before: Sequence[Fact], own: Sequence[Fact]) -> tuple[Fact, ...]:
    """Facts that only the shot before states; a value that both state cannot leak."""
    said = {(fact.attribute, fact.value) for fact in own}
    return tuple(fact for fact in before if (fact.attribute, fact.value) not in said)


def fact_seen(fact: Fact, reading: FilmReading) -> bool:
    """Whether a fact is read of the scene, or of anybody in it."""
    if not reading.explained:
        return False
    if fact.subject is None:
        return reading.value(fact.attribute) == fact.value
    return any(one.value(fact.attribute) == fact.value for one in reading.subjects)


def is_cut(before: Film, after: Film) -> float:
    """1 if of all steps around a cut that from one shot to the next is the largest."""
    film = torch.cat([before[-NEAR:], after[:NEAR]]).float()
    steps = (film[1:] - film[:-1]).abs().mean((1, 2, 3))
    return float(int(steps.argmax()) == len(before[-NEAR:]) - 1)


def _marks(facts: Sequence[Fact], reading: FilmReading, world: dict[str, Expected]) -> list[float]:
    return [value for values in mark(facts, reading, world).values() for value in values]


def scores(rows: Sequence[Seen]) -> dict[str, float | None]:
    """Shares over all shots, and the score inside over that alone."""
    found: dict[str, float | None] = {}
    for name in ("inside", "alone", "leak", "chance", "cut"):
        values = [value for row in rows for value in getattr(row, name)]
        found[name] = round(sum(values) / len(values), 4) if values else None
    inside, alone = found["inside"], found["alone"]
    found["ratio"] = round(inside / alone, 4) if inside is not None and alone else None
    return found


if __name__ == "__main__":
    main()
