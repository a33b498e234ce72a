"""Causal 3D convolution, residual, up, down; channels last, so that memory is walked in order."""

import math

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from longtake.kernels import ops

Grid = Float[Tensor, "b t h w c"]
Resized = Float[Tensor, "b t_new h_new w_new c_new"]
Cache = Float[Tensor, "b 2 h w c"] | None


class SpatialConv(nn.Module):
    """3x3 convolution of every frame."""

    def __init__(self, inputs: int, outputs: int) -> None:
        """Make the kernel."""
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, 3, padding=1)

    def forward(self, x: Grid) -> Float[Tensor, "b t h w c_new"]:
        """Convolve height and width."""
        y = rearrange(x, "b t h w c -> (b t) c h w")
        return rearrange(self.conv(y), "(b t) c h w -> b t h w c", b=x.shape[0])


class CausalConv(nn.Module):
    """Convolution over time, kernel 3, that sees the present and two frames before it.

    Before the first frame stand copies of it; in a stream the last two frames of the chunk before.
    """

    def __init__(self, channels: int) -> None:
        """Make the three taps, small at the start so that the residual branch is gentle."""
        super().__init__()
        self.taps = nn.Linear(3 * channels, channels)
        with torch.no_grad():
            self.taps.weight.mul_(0.1)
            self.taps.bias.zero_()

    def forward(self, x: Grid, cache: Cache) -> tuple[Grid, Cache]:
        """Convolve a chunk; the cache is None at the start of a clip."""
        frames = x.shape[1]
        before = x[:, :1].expand(-1, 2, -1, -1, -1) if cache is None else cache
        padded = torch.cat((before, x), dim=1)
        taps = torch.cat([padded[:, i : i + frames] for i in range(3)], dim=-1)
        return self.taps(taps), padded[:, -2:]


class Residual(nn.Module):
    """Norm, SiLU, 3x3; norm, SiLU, causal time; added to its input."""

    def __init__(self, channels: int) -> None:
        """Make both convolutions."""
        super().__init__()
        self.norm_space = nn.Parameter(torch.ones(channels))
        self.norm_time = nn.Parameter(torch.ones(channels))
        self.space = SpatialConv(channels, channels)
        self.time = CausalConv(channels)

    def forward(self, x: Grid, cache: Cache) -> tuple[Grid, Cache]:
        """Refine a chunk."""
        y = self.space(F.silu(ops.rms_norm(x, self.norm_space, 1e-5)))
        y, cache = self.time(F.silu(ops.rms_norm(y, self.norm_time, 1e-5)), cache)
        return x + y, cache


class Down(nn.Module):
    """Halve frame rate, height and width: fold into channels, project, add channel means.

    Source: Chen et al. 2024 (DC-AE, arXiv 2410.10733), section 3.1, residual space-to-channel.
    """

    def __init__(self, inputs: int, outputs: int) -> None:
        """Make the projection."""
        super().__init__()
        self.project = nn.Linear(8 * inputs, outputs)
        self.groups = math.gcd(8 * inputs, outputs)
        self.repeats = outputs // self.groups

    def forward(self, x: Grid, *, first: bool) -> Resized:
        """Fold pairs of frames; the first frame of a clip pairs with a copy of itself."""
        if first:
            x = torch.cat((x[:, :1], x), dim=1)
        x = rearrange(x, "b (t p) (h q) (w r) c -> b t h w (c p q r)", p=2, q=2, r=2)
        means = x.unflatten(-1, (self.groups, -1)).mean(dim=-1)
        return self.project(x) + means.repeat_interleave(self.repeats, dim=-1)


class Up(nn.Module):
    """Double frame rate, height and width: project, add repeated channels, unfold.

    Source: Chen et al. 2024 (DC-AE, arXiv 2410.10733), section 3.1, residual channel-to-space.
    """

    def __init__(self, inputs: int, outputs: int) -> None:
        """Make the projection."""
        super().__init__()
        self.project = nn.Linear(inputs, 8 * outputs)
        self.repeats = -(-8 * outputs // inputs)

    def forward(self, x: Grid, *, first: bool) -> Resized:
        """Unfold to pairs of frames; the first frame of a clip is single, so its copy is cut."""
        copies = x.repeat_interleave(self.repeats, dim=-1)[..., : self.project.out_features]
        y = self.project(x) + copies
        y = rearrange(y, "b t h w (c p q r) -> b (t p) (h q) (w r) c", p=2, q=2, r=2)
        return y[:, 1:] if first else y
