"""A whole film stage by stage, as its pipeline makes it: once cold, then warm."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

import torch

from longtake.bench.clock import Lap, lap
from longtake.pipeline import Event, Frames, Progress


@dataclass(slots=True)
class Stages:
    """Seconds and peak of each stage of one film, and of all of it."""

    whole: Lap = field(default_factory=Lap)
    each: dict[str, Lap] = field(default_factory=dict)
    frames: int = 0
    """Frames that came out."""

    def as_dict(self) -> dict[str, object]:
        """Plain values, rounded."""
        stages = {
            name: {"seconds": round(lap.seconds, 4), "peak_gib": round(lap.peak_gib, 3)}
            for name, lap in self.each.items()
        }
        return {
            "seconds": round(self.whole.seconds, 4),
            "frames": self.frames,
            "stages": stages,
            "peak_gib": max((lap.peak_gib for lap in self.each.values()), default=0.0),
        }


def stages_of(events: Iterable[Event], device: torch.device) -> Stages:
    """Make a film and tell what each of its stages took.

    Work between two events counts for the stage that the second one is of.
    """
    found, walk = Stages(), iter(events)
    stage = "start"
    with lap(device) as whole:
        while True:
            with lap(device) as part:
                event = next(walk, None)
            if event is None:
                break
            if isinstance(event, Progress):
                stage = event.stage
            elif isinstance(event, Frames):
                stage, found.frames = "decode", found.frames + len(event.pixels)
            kept = found.each.setdefault(stage, Lap())
            kept.seconds += part.seconds
            kept.peak_gib = max(kept.peak_gib, part.peak_gib)
    found.whole = whole
    return found


def cold_and_warm(
    film: Callable[[], Iterable[Event]], device: torch.device, runs: int
) -> dict[str, object]:
    """The first film of a process, and the one of median length of those after it."""
    cold = stages_of(film(), device)
    warm = sorted((stages_of(film(), device) for _ in range(runs)), key=lambda s: s.whole.seconds)
    return {"cold": cold.as_dict(), "warm": warm[runs // 2].as_dict(), "warm_runs": runs}
