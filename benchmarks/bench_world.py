"""Frames per second of the previz world, from scenes to pixels; prints one JSON line."""

import argparse
import json
import statistics
import time

import numpy as np
import torch

from longtake.world.level import level_named
from longtake.world.render import render
from longtake.world.sampling import sample_scenes


def main() -> None:
    """Render batches of fresh scenes and report the median rate."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--clips", type=int, default=16)
    parser.add_argument("--frames", type=int, default=81)
    parser.add_argument("--height", type=int, default=256)
    parser.add_argument("--width", type=int, default=448)
    parser.add_argument("--samples", type=int, default=2)
    parser.add_argument("--runs", type=int, default=9)
    parser.add_argument("--level", default="first")
    options = parser.parse_args()
    level = level_named(options.level)
    device = torch.device(options.device)
    cuda = device.type == "cuda"
    rng = np.random.default_rng(0)
    rates = []
    for run in range(options.runs + 2):
        start = time.perf_counter()
        render(
            sample_scenes(options.clips, rng, level=level),
            frames=options.frames,
            height=options.height,
            width=options.width,
            samples=options.samples,
            device=device,
        )
        if cuda:
            torch.cuda.synchronize()
        if run >= 2:
            rates.append(options.clips * options.frames / (time.perf_counter() - start))
    result = {
        "what": "world",
        "level": level.name,
        "frames_per_s": round(statistics.median(rates), 1),
        "slowest": round(min(rates), 1),
        "fastest": round(max(rates), 1),
        "size": f"{options.width}x{options.height}",
        "clips": options.clips,
        "frames": options.frames,
        "samples": options.samples,
        "runs": options.runs,
        "card": torch.cuda.get_device_name() if cuda else "cpu",
        "torch": torch.__version__,
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
