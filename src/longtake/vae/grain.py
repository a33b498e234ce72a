"""Film grain: measured in clips as what the autoencoder loses, and laid over finished films.

An autoencoder of a thousand pixels a cell carries no grain, and no network on its latents can learn
it. Video codecs have the same trouble and the same way out, film grain synthesis: Norkin and
Birkbeck 2018, Film grain synthesis for AV1. Ours is white.
"""

import math
from collections.abc import Iterable

import torch
import torch.nn.functional as F
from jaxtyping import Float, UInt8
from torch import Tensor

from longtake.config import MOST_GRAIN, Grain
from longtake.flow import frame_noise

GRAIN_STEP = 2**32
"""Counter of grain's noise, beyond every step of a sampler."""
_MASK = torch.tensor([[1.0, -2.0, 1.0], [-2.0, 4.0, -2.0], [1.0, -2.0, 1.0]])
"""Sees no ramp and no straight edge; noise of deviation 1 comes out with deviation 6."""
_SMOOTH = 0.9
"""Share of the pixels that count; in the others are corners and what is fine."""
_MEAN = 0.6574
"""Mean of the smallest nine tenths of what normal noise of deviation 1 has without its signs."""
Clip = UInt8[Tensor, "frames height width 3"]


def lay_grain(
    frames: Float[Tensor, "frames height width 3"], grain: Grain, seed: int, first: int
) -> Float[Tensor, "frames height width 3"]:
    """Frames with grain over them: x + shared n_0 + own (n_1, n_2, n_3), n standard normal.

    The noise of a frame depends on the seed and its number alone.

    Args:
        frames: In [-1, 1].
        grain: How strong; none leaves the frames as they are.
        seed: Of the film.
        first: Number of the first of these frames in the film.
    """
    count, height, width, _ = frames.shape
    where = range(first, first + count)
    for number, (deviation, channels) in enumerate(((grain.shared, 1), (grain.own, 3))):
        if deviation:
            step = GRAIN_STEP + number
            noise = frame_noise(seed, where, (channels, height, width), step=step)
            frames = frames + deviation * noise.movedim(0, -1).to(frames)
    return frames


def measure_grain(clip: Clip, kept: Clip) -> Grain:
    """Grain that a clip has and its round trip through the autoencoder has lost.

    Of a channel or their mean, the deviation is mean |mask * x| / (6 * 0.6574) over the smoothest
    nine tenths of the pixels: Immerkaer 1996, Fast noise variance estimation, trimmed.
    A channel's variance is shared² + own², that of the mean of three shared² + own² / 3.

    Args:
        clip: As it is.
        kept: After the round trip.
    """
    lost = [a - b for a, b in zip(_variances(clip), _variances(kept), strict=True)]
    channel, mean = (max(value, 0.0) for value in lost)
    own = max(1.5 * (channel - mean), 0.0)
    return _grain(max(mean - own / 3, 0.0), own)


def sum_of_grains(grains: Iterable[tuple[float, Grain]]) -> Grain:
    """Grains over each other, each so many times as strong: their variances add up."""
    shared, own = 0.0, 0.0
    for times, grain in grains:
        shared += (times * grain.shared) ** 2
        own += (times * grain.own) ** 2
    return _grain(shared, own)


def mean_grain(grains: Iterable[Grain]) -> Grain:
    """The grain whose variance is the mean of theirs; of none, none."""
    found = list(grains)
    return sum_of_grains((len(found) ** -0.5, grain) for grain in found)


def _grain(shared: float, own: float) -> Grain:
    """Of variances."""
    return Grain(shared=min(math.sqrt(shared), MOST_GRAIN), own=min(math.sqrt(own), MOST_GRAIN))


def _variances(clip: Clip) -> tuple[float, float]:
    """Of the noise in a channel, on average, and in their mean."""
    signed = clip.float().movedim(-1, 1) / 127.5
    channel = sum(_variance(signed[:, c]) for c in range(3)) / 3
    return channel, _variance(signed.mean(dim=1))


def _variance(plane: Float[Tensor, "frames height width"]) -> float:
    seen = F.conv2d(plane[:, None], _MASK.to(plane)[None, None]).abs().flatten().sort().values
    return (seen[: round(_SMOOTH * len(seen))].mean().item() / (6 * _MEAN)) ** 2
