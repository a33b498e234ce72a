"""Gated convolution with temporal mixing (Mix-FFN)."""

from itertools import accumulate

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from longtake.model.share import Share

PASS_ELEMENTS = 2**27
"""Most values expanded at once: it bounds memory, and convolutions are slow from 2^31 on."""


class TemporalConv(nn.Module):
    """Dense convolution over time, kernel 3, zero padding, no bias, zero at the start.

    Zero weights make the fresh model an image model that learns to look at its neighbours.
    """

    def __init__(self, width: int) -> None:
        """Make the three taps."""
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(width, width, 3))
        self.product: nn.Module | None = None
        """What multiplies in place of the weight, as one matrix: weights in few bits."""

    def forward(
        self,
        x: Float[Tensor, "b t s d"],
        chunks: tuple[int, ...],
        past: Float[Tensor, "b s d"] | None = None,
        following: Float[Tensor, "b s d"] | None = None,
    ) -> Float[Tensor, "b t s d"]:
        """Mix each position with the same position one latent frame before and after.

        The last frame of a chunk sees zero after it, as the next chunk does not exist yet. The
        first sees the last frame of the chunk before, which is `past` for the first chunk here.
        What another device has of the last chunk goes on with `following`.
        """
        frames = x.shape[1]
        padded = F.pad(x, (0, 0, 0, 0, 1, 1))
        if past is not None:
            padded = torch.cat([past[:, None], padded[:, 1:]], dim=1)
        if following is not None:
            padded = torch.cat([padded[:, :-1], following[:, None]], dim=1)
        before, after = padded[:, :frames], padded[:, 2:]
        if len(chunks) > 1:
            last = torch.zeros(frames, dtype=torch.bool, device=x.device)
            last[[end - 1 for end in accumulate(chunks)]] = True
            after = after.masked_fill(last[:, None, None], 0)
        taps = torch.cat([before, x, after], dim=-1)
        if self.product is not None:
            return self.product(taps)
        return F.linear(taps, rearrange(self.weight, "o i taps -> o (taps i)").to(x.dtype))


class MixFeedForward(nn.Module):
    """Expand, look around in space, gate, contract, look around in time.

    u = silu(W_up x); a, b = split(depthwise_3x3(u)); y = W_down (a * silu(b)); y + temporal(y).

    Source: SANA-Video (arXiv 2509.24695), section 3.2; SANA (arXiv 2410.10629), section 2.2.
    """

    def __init__(self, width: int, hidden: int) -> None:
        """Make the convolutions."""
        super().__init__()
        self.up = nn.Linear(width, 2 * hidden)
        self.depthwise = nn.Conv2d(2 * hidden, 2 * hidden, 3, padding=1, groups=2 * hidden)
        self.down = nn.Linear(hidden, width, bias=False)
        self.temporal = TemporalConv(width)

    def forward(
        self,
        x: Float[Tensor, "b t s d"],
        height: int,
        chunks: tuple[int, ...],
        past: Float[Tensor, "b s d"] | None = None,
        share: Share | None = None,
    ) -> tuple[Float[Tensor, "b t s d"], Float[Tensor, "b s d"]]:
        """Transform the tokens, s = height x width of them in each latent frame.

        Returns the last latent frame before the temporal convolution as well: the next `past`.
        """
        frames = max(PASS_ELEMENTS // (x[:, 0, :, 0].numel() * self.up.out_features), 1)
        parts = [self._each_frame(part, height) for part in x.split(frames, dim=1)]
        y = torch.cat(parts, dim=1) if len(parts) > 1 else parts[0]
        if share is None:
            return y + self.temporal(y, chunks, past), y[:, -1]
        before, after, last = share.neighbours(y[:, 0], y[:, -1])
        return y + self.temporal(y, chunks, past if before is None else before, after), last

    def _each_frame(self, x: Float[Tensor, "b t s d"], height: int) -> Float[Tensor, "b t s d"]:
        u = F.silu(self.up(x))
        u = rearrange(u, "b t (h w) c -> (b t) c h w", h=height)
        u = rearrange(self.depthwise(u), "(b t) c h w -> b t (h w) c", b=len(x))
        a, b = u.chunk(2, dim=-1)
        return self.down(a * F.silu(b))
