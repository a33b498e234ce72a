"""Noise level and 3D position, as the layers want them."""

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn


class Rotary(NamedTuple):
    """Cosine and sine of each token's angles."""

    cos: Float[Tensor, "n half_k"]
    sin: Float[Tensor, "n half_k"]


def rotary_3d(
    grid: tuple[int, int, int],
    channels: int,
    theta: float,
    device: torch.device,
    *,
    start: int = 0,
) -> Rotary:
    """Angles of every token of a (time, height, width) grid, time-major.

    Height and width get 2 * floor(channels / 6) channels each and time the rest; within an axis
    angle_i = position * theta^(-2 i / axis_channels), in float64. Positions are integers from 0,
    in time from `start`, and never rescaled.

    Source: SANA-Video (arXiv 2509.24695), section 3.2.
    """
    space = 2 * (channels // 6)
    sizes = (channels - 2 * space, space, space)
    angles = []
    for axis, (length, size) in enumerate(zip(grid, sizes, strict=True)):
        steps = torch.arange(0, size, 2, device=device, dtype=torch.float64) / size
        first = start if axis == 0 else 0
        places = torch.arange(first, first + length, device=device, dtype=torch.float64)
        angle = places[:, None] * theta**-steps
        shape = [1, 1, 1, size // 2]
        shape[axis] = length
        angles.append(angle.view(shape).expand(*grid, size // 2))
    flat = torch.cat(angles, dim=-1).flatten(0, 2)
    return Rotary(flat.cos().float(), flat.sin().float())


FEW_ROWS = 12
"""From so many rows on a product has the same bytes for any thread count on a CPU.

MKL adds up products of 5 to 11 rows in an order that depends on the number of threads.
"""


class NoiseLevelEmbedding(nn.Module):
    """Sigma of each latent frame to an embedding and the shared modulation (adaLN-single)."""

    def __init__(self, width: int, channels: int = 256, *, guidance: bool = False) -> None:
        """Make the two-layer MLP and the one modulation layer that all blocks share.

        Args:
            width: Channels of an embedding.
            channels: Sinusoids of the noise level, cosines and sines together.
            guidance: Also embed the guidance scale, in a second MLP.
        """
        super().__init__()
        self.channels = channels
        self.hidden = nn.Linear(channels, width)
        self.out = nn.Linear(width, width)
        self.modulation = nn.Linear(width, 6 * width)
        self.guidance_hidden = nn.Linear(channels, width) if guidance else None
        self.guidance_out = nn.Linear(width, width) if guidance else None

    def forward(
        self, sigma: Float[Tensor, "b t"], guidance: Float[Tensor, " b"] | None = None
    ) -> tuple[Float[Tensor, "b t d"], Float[Tensor, "b t 6 d"]]:
        """Embed sigma in [0, 1] through sinusoids of 1000 * sigma, longest period 10,000.

        At least in float32: the few values made here scale every token of every layer. Sigma in
        float64 keeps whole multiples of 1/1000 whole. The guidance scale is taken as is.
        """
        shape, rows = sigma.shape, sigma.numel()
        more = (0, max(FEW_ROWS - rows, 0))
        embedding = _embed(self.hidden, self.out, self._waves(F.pad(1000 * sigma.flatten(), more)))
        if self.guidance_hidden is not None and self.guidance_out is not None:
            assert guidance is not None, "a model with guidance embedding needs a guidance scale"
            scales = F.pad(guidance.repeat_interleave(shape[1]), more)
            waves = self._waves(scales)
            embedding = embedding + _embed(self.guidance_hidden, self.guidance_out, waves)
        modulation = _linear(self.modulation, F.silu(embedding)).unflatten(-1, (6, -1))
        return embedding[:rows].unflatten(0, shape), modulation[:rows].unflatten(0, shape)

    def _waves(self, values: Float[Tensor, "*batch"]) -> Float[Tensor, "*batch channels"]:
        half = self.channels // 2
        rate = torch.exp(-math.log(1e4) * torch.arange(half, device=values.device) / half)
        angle = values.float()[..., None] * rate
        wave = torch.cat((angle.cos(), angle.sin()), dim=-1)
        return wave.to(torch.promote_types(self.hidden.weight.dtype, torch.float32))


def _embed(
    hidden: nn.Linear, out: nn.Linear, waves: Float[Tensor, "*batch channels"]
) -> Float[Tensor, "*batch d"]:
    return _linear(out, F.silu(_linear(hidden, waves)))


def _linear(layer: nn.Linear, x: Float[Tensor, "*batch c"]) -> Float[Tensor, "*batch d"]:
    """The layer in the arithmetic of x."""
    return F.linear(x, layer.weight.to(x.dtype), layer.bias.to(x.dtype))
