"""Which clips are kept: settings of `longtake data prepare`, and the reason of every drop."""

import math
from collections.abc import Iterator
from dataclasses import dataclass

from longtake.config import FPS, TEMPORAL_STRIDE, check_sides
from longtake.data.scores import Scores
from longtake.errors import SettingError


@dataclass(frozen=True, slots=True, kw_only=True)
class PrepareConfig:
    """How films become clips, and which clips are kept."""

    frames: int = 81
    """Frames of a clip at 16 a second; 4n + 1. A shot gives as many clips as fit into it."""
    sizes: tuple[str, ...] = ("448x256", "256x448", "320x320")
    """Sizes that clips are scaled to, WIDTHxHEIGHT; each film takes the one nearest its shape."""
    cut_threshold: float = 27.0
    """Change of colour from frame to frame above which a shot ends; PySceneDetect's content."""
    least_side: int = 160
    """Smallest side of a film that is not too small."""
    least_motion: float = 0.2
    """Clips below stand still; a still picture has 0."""
    most_motion: float = 50.0
    """Clips above flicker or shake."""
    least_spatial: float = 5.0
    """Clips below show next to nothing."""
    least_sharpness: float = 10.0
    """Clips below are out of focus."""
    most_saturation: float = 200.0
    """Clips above are garish."""
    most_frozen: float = 0.5
    """Share of repeated frames above which a clip is a slide show."""
    least_brightness: float = 8.0
    """Clips below are black."""
    motion_suffix: bool = False
    """Append ` motion score: N.` to captions, as public models read it; ours does not."""

    def __post_init__(self) -> None:
        """Check the ranges."""
        if not 5 <= self.frames <= 1601 or self.frames % TEMPORAL_STRIDE != 1:
            msg = f"frames must be 4n + 1 from 5 to 1601, got {self.frames}; try 81 (5 seconds)"
            raise SettingError(msg)
        if not self.sizes:
            msg = "sizes must name one size or more, as 448x256"
            raise SettingError(msg)
        for width, height in self.buckets:
            check_sides(width, height)
        for name in (
            "cut_threshold", "least_motion", "most_motion", "least_spatial", "least_sharpness",
            "most_saturation", "most_frozen", "least_brightness",
        ):  # fmt: skip
            value: float = getattr(self, name)
            if not (math.isfinite(value) and value >= 0):
                msg = f"{name} must be a number from 0 on, got {value}"
                raise SettingError(msg)

    @property
    def buckets(self) -> tuple[tuple[int, int], ...]:
        """Width and height of each size.

        Raises:
            SettingError: a size that is none.
        """
        found = []
        for size in self.sizes:
            width, _, height = size.partition("x")
            if not (width.isdecimal() and height.isdecimal()):
                msg = f"a size is WIDTHxHEIGHT as 448x256, got {size!r}"
                raise SettingError(msg)
            found.append((int(width), int(height)))
        return tuple(found)

    @property
    def seconds(self) -> float:
        """Of a clip."""
        return (self.frames - 1) / FPS

    def bucket_for(self, width: int, height: int) -> tuple[int, int]:
        """The size whose shape is nearest."""
        shape = math.log(width / height)
        return min(self.buckets, key=lambda size: abs(math.log(size[0] / size[1]) - shape))

    def limits(self) -> tuple[tuple[str, str, float, bool], ...]:
        """Reason, measure, limit, and whether it is the least, in the order they are asked."""
        return (
            ("black", "brightness", self.least_brightness, True),
            ("frozen", "frozen", self.most_frozen, False),
            ("still", "motion", self.least_motion, True),
            ("shaky", "motion", self.most_motion, False),
            ("empty", "spatial", self.least_spatial, True),
            ("blurred", "sharpness", self.least_sharpness, True),
            ("garish", "saturation", self.most_saturation, False),
        )


def reasons(scores: Scores, config: PrepareConfig) -> Iterator[tuple[str, str]]:
    """Why a clip is dropped, in a word and with its number; nothing for a clip that is kept."""
    for reason, measure, limit, least in config.limits():
        value: float = getattr(scores, measure)
        if value < limit if least else value > limit:
            bound = "least" if least else "most"
            yield reason, f"{measure} {value:.3g}, the {bound} is {limit:g}"
