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
    angle_i = position * theta^(-2 i / axis_channels). Positions are integers from 0, in time from
    `start`, and never rescaled.

    Source: SANA-Video (arXiv 2509.24695), section 3.2.
    """
    space = 2 * (channels // 6)
    sizes = (channels - 2 * space, space, space)
    angles = []
    for axis, (length, size) in enumerate(zip(grid, sizes, strict=True)):
        steps = torch.arange(0, size, 2, device=device, dtype=torch.float32) / size
        first = start if axis == 0 else 0
        places = torch.arange(first, first + length, device=device, dtype=torch.float32)
        angle = places[:, None] * theta**-steps
        shape = [1, 1, 1, size // 2]
        shape[axis] = length
        angles.append(angle.view(shape).expand(*grid, size // 2))
    flat = torch.cat(angles, dim=-1).flatten(0, 2)
    return Rotary(flat.cos(), flat.sin())


FEW_ROWS = 12
"""From so many rows on a product has the same bytes for any thread count on a CPU.

MKL adds up products of 5 to 11 rows in an order that depends on the number of threads.
"""


class NoiseLevelEmbedding(nn.Module):
    """Sigma of each latent frame to an embedding and the shared modulation (adaLN-single)."""

    def __init__(self, width: int, channels: int = 256) -> None:
        """Make the two-layer MLP and the one modulation layer that all blocks share."""
        super().__init__()
        self.channels = channels
        self.hidden = nn.Linear(channels, width)
        self.out = nn.Linear(width, width)
        self.modulation = nn.Linear(width, 6 * width)

    def forward(
        self, sigma: Float[Tensor, "b t"]
    ) -> tuple[Float[Tensor, "b t d"], Float[Tensor, "b t 6 d"]]:
        """Embed sigma in [0, 1] through sinusoids of 1000 * sigma, longest period 10,000."""
        shape, rows = sigma.shape, sigma.numel()
        sigma = F.pad(sigma.flatten(), (0, max(FEW_ROWS - rows, 0)))
        half = self.channels // 2
        rate = torch.exp(-math.log(1e4) * torch.arange(half, device=sigma.device) / half)
        angle = 1000 * sigma.float()[..., None] * rate
        wave = torch.cat((angle.cos(), angle.sin()), dim=-1).to(self.hidden.weight.dtype)
        embedding = self.out(F.silu(self.hidden(wave)))
        modulation = self.modulation(F.silu(embedding)).unflatten(-1, (6, -1))
        return embedding[:rows].unflatten(0, shape), modulation[:rows].unflatten(0, shape)
