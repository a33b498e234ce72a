"""What a model gets right, over many films by several processes; prints one JSON line.

python benchmarks/score_films.py [--model previz] [--level first] [--films 200] [--jobs 8]
    [--precision fp8] [--emulate] [--size 1280x704]

The films and marks are those of `longtake evaluate` with the same seed; it runs without the command
line's libraries, as on a bare GPU machine.
"""

import argparse
import json
import time
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path
from typing import get_args

import torch

from longtake.evaluate.prompts import draw
from longtake.evaluate.reader.read import FOLDER, load_reader
from longtake.evaluate.report import write_json, write_worst
from longtake.evaluate.suite import Read, films, scores
from longtake.pipeline import Precision, load
from longtake.quantize import choose_way
from longtake.world.level import LEVELS, level_named


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="previz")
    parser.add_argument("--level", default="first", choices=[level.name for level in LEVELS])
    parser.add_argument("--films", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--steps", type=int, help="in place of the model's own")
    parser.add_argument("--size", help="in place of the model's own; read at the reader's")
    parser.add_argument("--reader", type=Path, default=FOLDER)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--precision", default="auto", choices=get_args(Precision))
    parser.add_argument("--emulate", action="store_true", help="round what is multiplied as well")
    parser.add_argument("--jobs", type=int, default=1, help="processes that share the device")
    parser.add_argument("--out", type=Path, default=Path("evaluation"))
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    start = time.perf_counter()
    shares = [(options, job) for job in range(options.jobs)]
    with get_context("spawn").Pool(options.jobs) as pool:
        numbered = [row for rows in pool.map(share, shares) for row in rows]
    read = [one for _, one in sorted(numbered, key=lambda row: row[0])]
    report = {
        "model": options.model,
        "model_hash": load(options.model, device="cpu").model_hash,
        "level": options.level,
        "seed": options.seed,
        "steps": options.steps,
        "size": options.size,
        "precision": options.precision,
        "emulated": options.emulate,
        **scores(read),
        "elapsed_s": round(time.perf_counter() - start, 1),
        "processor": torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu",
        "torch": torch.__version__,
    }
    write_json(options.out / "report.json", report)
    write_worst(options.out / "worst.png", read)
    print(json.dumps(report))


def share(given: tuple[argparse.Namespace, int]) -> list[tuple[int, Read]]:
    """Every n-th film, with its number."""
    options, job = given
    torch.set_num_threads(1)
    asked = draw(options.films, options.seed, level_named(options.level))
    pipe = load(options.model, device=options.device, precision=options.precision)
    if options.emulate:
        choose_way(pipe.transformer, "emulate")
    reader = load_reader(options.reader, pipe.device)
    steps = options.steps or pipe.defaults.steps
    settings = replace(pipe.defaults, steps=steps, seed=options.seed)
    if options.size:
        width, height = map(int, options.size.split("x"))
        settings = replace(settings, width=width, height=height)
    numbers = range(job, len(asked), options.jobs)
    made = films([asked[number] for number in numbers], pipe, reader, settings)
    read = [event for event in made if isinstance(event, Read)]
    return list(zip(numbers, read, strict=True))


if __name__ == "__main__":
    main()
