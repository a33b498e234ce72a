"""Time and memory of a piece of work: the first run apart, then the median of many."""

import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch


@dataclass(frozen=True, slots=True, kw_only=True)
class Timing:
    """What some runs of the same work took."""

    first_s: float
    """The first run: with compiling, tuning and first allocations."""
    median_s: float
    fastest_s: float
    slowest_s: float
    runs: int
    """Counted ones, after two to warm up."""
    peak_gib: float
    """Most memory of the card in a warm run, weights counted; 0 on a CPU."""


@dataclass(slots=True)
class Lap:
    """Seconds and peak of one piece of work, filled in when it is over."""

    seconds: float = 0.0
    peak_gib: float = 0.0


@contextmanager
def lap(device: torch.device) -> Iterator[Lap]:
    """Time what happens inside, with the card idle at both ends."""
    found = Lap()
    settle(device)
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    start = time.perf_counter()
    yield found
    settle(device)
    found.seconds = time.perf_counter() - start
    if device.type == "cuda":
        found.peak_gib = torch.cuda.max_memory_allocated(device) / 2**30


def settle(device: torch.device) -> None:
    """Wait until the card has done all it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def time_of(work: Callable[[], object], device: torch.device, runs: int) -> Timing:
    """Run work once cold, twice to warm up, then as often as asked.

    Args:
        work: The same each time.
        device: Where it computes.
        runs: How many are counted, at least 1.
    """
    with lap(device) as first:
        work()
    laps: list[Lap] = []
    for _ in range(runs + 2):
        with lap(device) as warm:
            work()
        laps.append(warm)
    seconds = [each.seconds for each in laps[2:]]
    return Timing(
        first_s=round(first.seconds, 6),
        median_s=round(statistics.median(seconds), 6),
        fastest_s=round(min(seconds), 6),
        slowest_s=round(max(seconds), 6),
        runs=runs,
        peak_gib=round(laps[-1].peak_gib, 3),
    )
