"""How a piece of film looks, in five numbers: told early, so that drift is seen early."""

from jaxtyping import UInt8
from torch import Tensor

from longtake.config import FPS
from longtake.evaluate.drift import MEASURES, measure

_DIGITS = 2


def look(pixels: UInt8[Tensor, "frames height width 3"]) -> dict[str, float]:
    """Means over a piece of film, by the names that `longtake drift` uses."""
    means = measure(pixels, None)[0].mean(dim=1).tolist()
    found = dict(zip(MEASURES, means, strict=True))
    found["motion"] *= FPS
    return {name: round(value, _DIGITS) for name, value in found.items()}
