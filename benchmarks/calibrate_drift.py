"""What drift of true films looks like: quantiles of every measure, and false alarms; JSON.

python benchmarks/calibrate_drift.py [--films 40] [--seed 0] [--seconds 60,20,5]

Half of the shortest films are clips of the widest level, all others scripts from a random second
on. Then drift of known size is put into the same films: which share of its slope is found.
"""

import argparse
import json
from collections import Counter

import numpy as np
import torch
from faults import drifted, known_slope
from jaxtyping import UInt8
from torch import Tensor

from longtake.config import FPS
from longtake.evaluate.drift import (
    MEASURES,
    Drift,
    Measure,
    alarms,
    curves,
    cuts_of,
    drift_of,
    slope,
)
from longtake.rollout.grid import Grid
from longtake.world import render, sample_scenes
from longtake.world.level import WHOLE
from longtake.world.screenwriter import sample_script
from longtake.world.script import render_script

QUANTILES = (0.01, 0.05, 0.5, 0.95, 0.99)
CLIP_S = 5
CHUNK = 5
SIZES: dict[Measure, float] = {
    "luma": 20.0, "saturation": 0.3, "contrast": 0.3, "sharpness": 0.5, "motion": 12.0,
}  # fmt: skip
"""Of the drift that is put in; see `faults.drifted`."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--films", type=int, default=40)
    parser.add_argument("--injected", type=int, default=16, help="films that drift is put into")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--seconds", default="60,20,5")
    parser.add_argument("--height", type=int, default=128)
    parser.add_argument("--samples", type=int, default=1)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    options = parser.parse_args()
    told = {}
    for seconds in (int(text) for text in options.seconds.split(",")):
        rng = np.random.default_rng((options.seed, seconds))
        found: list[Drift] = []
        shares: dict[str, list[float]] = {name: [] for name in SIZES}
        for number in range(options.films):
            film = true_film(rng, seconds, options, clip=seconds == CLIP_S and number % 2 == 0)
            borders = [Grid(CHUNK).frames(n).start for n in range(1, Grid(CHUNK).chunks(len(film)))]
            found.append(drift_of(curves([film.cpu()], FPS), borders))
            for name, size in SIZES.items() if number < options.injected else ():
                shares[name].append(share_found(film.cpu(), name, size, found[-1]))
        told[f"{seconds} s"] = {**summary(found), "injected": spread(shares)}
        print(json.dumps({seconds: told[f"{seconds} s"]}), flush=True)
    print(json.dumps({"what": "drift of true films", "films": options.films, **told}))


def true_film(
    rng: np.random.Generator, seconds: int, options: argparse.Namespace, *, clip: bool
) -> UInt8[Tensor, "frames height width 3"]:
    size = {
        "frames": FPS * seconds + 1, "height": options.height, "width": options.height * 7 // 4,
        "device": options.device, "samples": options.samples,
    }  # fmt: skip
    if clip:
        return render(sample_scenes(1, rng, level=WHOLE), **size)[0]
    script = sample_script(rng, WHOLE)
    start = int(rng.integers(0, script.length_s - seconds + 1))
    return render_script(script, start_s=start, **size)


def share_found(
    film: UInt8[Tensor, "frames height width 3"], name: Measure, size: float, clean: Drift
) -> float:
    """Slope that is found beyond that of the film itself, over that which was put in."""
    faulty = curves([drifted(film, name, size)], FPS)
    gained = slope(faulty, name, cuts_of(faulty.change)).per_s - clean.slopes[name].per_s
    return gained / known_slope(film, name, size, FPS)


def spread(shares: dict[str, list[float]]) -> dict[str, dict[str, float]]:
    """Median, and how often it is within 15 and 5 %."""
    return {
        name: {
            "median": round(float(np.median(values)), 3),
            "within_15": round(float(np.mean(np.abs(np.array(values) - 1) < 0.15)), 3),
            "within_5": round(float(np.mean(np.abs(np.array(values) - 1) < 0.05)), 3),
        }
        for name, values in shares.items()
        if values
    }


def summary(found: list[Drift]) -> dict:
    """Quantiles of every measure, how often each alarms, and how often any does."""
    columns = {name: [one.slopes[name].total for one in found] for name in MEASURES}
    columns["flicker"] = [one.flicker for one in found]
    columns["seam"] = [1.0 if one.seam is None else one.seam.ratio for one in found]
    names = [alarms(one) for one in found]
    return {
        "quantiles": {
            name: [round(float(x), 3) for x in np.quantile(values, QUANTILES)]
            for name, values in columns.items()
        },
        "most": {name: round(max(map(abs, values)), 3) for name, values in columns.items()},
        "loops": sum(one.loop_s is not None for one in found),
        "alarms": dict(Counter(name for some in names for name in some)),
        "false_alarms": round(float(np.mean([bool(some) for some in names])), 4),
    }


if __name__ == "__main__":
    main()
