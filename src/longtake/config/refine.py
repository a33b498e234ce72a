"""Films larger than a model was trained on: how they are made over a small one."""

import math
from dataclasses import dataclass

from longtake.config.limits import CELL, check_ranges, check_sides


@dataclass(frozen=True, slots=True, kw_only=True)
class Refine:
    """A small film decides what is seen; enlarged, it is noised up to a level and denoised."""

    width: int
    """Frame width in pixels that the model was trained on; a multiple of 32."""
    height: int
    """Frame height in pixels; a multiple of 32."""
    level: float = 0.6
    """Noise level that enlarged frames are refined from: higher makes more anew."""
    above: float = 1.5
    """Films of more than so many times those pixels are made so; smaller ones directly."""

    def __post_init__(self) -> None:
        """Check the ranges."""
        check_sides(self.width, self.height)
        check_ranges(("level", self.level, 0.01, 1), ("above", self.above, 1, 100))

    def small(self, width: int, height: int) -> tuple[int, int] | None:
        """Width and height of the small film of a large one; None if it is made directly.

        It has about as many pixels as the model was trained on, in the large one's proportions.
        """
        ratio = width * height / (self.width * self.height)
        if ratio <= self.above:
            return None
        sides = (max(round(side / math.sqrt(ratio) / CELL), 2) * CELL for side in (width, height))
        return next(sides), next(sides)
