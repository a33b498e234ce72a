"""How different the films of one prompt are from seed to seed, beside another model's; JSON.

python benchmarks/score_spread.py --against TEACHER [--steps 25] [--model previz] [--prompts 6]
    [--seeds 4] [--jobs 2] [--device cpu]

Few steps may cost variety: a student that always makes the same film of a prompt scores well. The
spread of a prompt is the mean distance between the films of its seeds, in pixels of an eighth of
the sides and in the reader's features of the first subject; a model's is the mean over prompts.
"""

import argparse
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from multiprocessing import get_context

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, UInt8
from torch import Tensor

from longtake.config import FPS
from longtake.evaluate.prompts import HELD_OUT_COUNTS, draw
from longtake.evaluate.reader.read import FOLDER, load_reader
from longtake.pipeline import load
from longtake.world.level import level_named

SHRUNK = 8
"""Sides of the pixels that are compared, in pixels of the film."""
Seen = tuple[Float[np.ndarray, " pixels"], Float[np.ndarray, " features"] | None]


@dataclass(frozen=True, slots=True)
class Side:
    """One of the two models."""

    model: str
    steps: int | None
    """None: its own."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="previz")
    parser.add_argument("--against", required=True, help="the model that it is measured by")
    parser.add_argument("--steps", type=int, default=25, help="of the model that it is measured by")
    parser.add_argument("--prompts", type=int, default=6)
    parser.add_argument("--seeds", type=int, default=4)
    parser.add_argument("--seed", type=int, default=4, help="of the prompts")
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--device", default="auto")
    asked = parser.parse_args()
    report = {
        "prompts": asked.prompts, "seeds": asked.seeds, "steps": asked.steps,
        "torch": torch.__version__,
    }  # fmt: skip
    sides = {"model": Side(asked.model, None), "against": Side(asked.against, asked.steps)}
    for name, side in sides.items():
        report[f"{name}_hash"] = load(side.model, device="cpu").model_hash
        with get_context("spawn").Pool(asked.jobs) as pool:
            shares = [(asked, side, job) for job in range(asked.jobs)]
            films = [prompt for rows in pool.map(share, shares) for prompt in rows]
        report[name] = {
            "pixels": round(float(np.mean([spread(p, lambda seen: seen[0]) for p in films])), 5),
            "reader": round(float(np.nanmean([spread(p, lambda seen: seen[1]) for p in films])), 5),
        }
        print(json.dumps({name: report[name]}), flush=True)
    report["share"] = {
        measure: round(report["model"][measure] / report["against"][measure], 4)
        for measure in ("pixels", "reader")
    }
    print(json.dumps(report))


def share(given: tuple[argparse.Namespace, Side, int]) -> list[list[Seen]]:
    """Every n-th prompt's films, as they are seen."""
    asked, side, job = given
    torch.set_num_threads(1)
    drawn = draw(4 * asked.prompts, asked.seed, level_named("first"))
    single = [one.prompt for one in drawn if one.split != HELD_OUT_COUNTS][: asked.prompts]
    pipe = load(side.model, device=asked.device)
    reader = load_reader(FOLDER, pipe.device)
    settings = replace(pipe.defaults, steps=side.steps or pipe.defaults.steps)
    prompts = []
    for prompt in single[job :: asked.jobs]:
        films: list[Seen] = []
        for seed in range(asked.seeds):
            film = pipe.generate(prompt, settings=replace(settings, seed=seed)).frames
            read = reader.read(film.to(reader.device), FPS)
            features = np.array(read.features[0]) if read.features else None
            films.append((small(film), features))
        prompts.append(films)
    return prompts


def small(film: UInt8[Tensor, "frames height width 3"]) -> Float[np.ndarray, " pixels"]:
    """A film in large pixels, every fourth frame, as one row."""
    frames = film[::4].permute(0, 3, 1, 2).float() / 255
    return F.avg_pool2d(frames, SHRUNK).flatten().numpy()


def spread(
    films: Sequence[Seen], part: Callable[[Seen], Float[np.ndarray, " values"] | None]
) -> float:
    """Mean root mean square distance between any two films; NaN if too few were understood."""
    rows = [row for row in map(part, films) if row is not None]
    pairs = [np.sqrt(np.mean((a - b) ** 2)) for a, b in combinations(rows, 2)]
    return float(np.mean(pairs)) if pairs else float("nan")


if __name__ == "__main__":
    main()
