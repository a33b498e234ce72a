"""How alike two films are: their bytes, and their frames."""

import math
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path

from longtake.media.frames import frames_of


@dataclass(frozen=True, slots=True)
class Likeness:
    """What two films have in common."""

    same_bytes: bool
    frames: tuple[int, int]
    """Of each film."""
    mean_db: float
    """PSNR of all common frames together; infinite if they are equal."""
    worst_db: float
    """PSNR of the frame that differs most."""


def compare(one: Path, other: Path) -> Likeness:
    """Compare two films of one size.

    PSNR = 10 log10(255^2 / mean squared error of 8-bit RGB), in dB.

    Raises:
        MediaError: one of them cannot be read.
    """
    errors, counts = list[float](), [0, 0]
    for first, second in zip_longest(frames_of(one), frames_of(other)):
        counts[0] += first is not None
        counts[1] += second is not None
        if first is not None and second is not None:
            error = math.inf
            if first.shape == second.shape:
                error = float((first.double() - second.double()).square().mean())
            errors.append(error)
    mean = sum(errors) / max(len(errors), 1)
    worst = max(errors, default=0.0)
    same = one.read_bytes() == other.read_bytes()
    return Likeness(same, (counts[0], counts[1]), _db(mean), _db(worst))


def _db(error: float) -> float:
    if error == 0:
        return math.inf
    return 10 * math.log10(255**2 / error) if error < math.inf else -math.inf
