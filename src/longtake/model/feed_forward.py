"""Gated convolution with temporal mixing (Mix-FFN)."""

from itertools import accumulate
from typing import Protocol, runtime_checkable

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from longtake.kernels import ops
from longtake.kernels.planned import card_bytes
from longtake.kernels.reference.low_bits import taps_of
from longtake.model.share import Share

PASS_ELEMENTS = 2**27
"""Most values expanded at once: it bounds memory, and convolutions are slow from 2^31 on."""
LARGE_PASS, LARGE_CARD = 2**29, 60 * 2**30
"""Most on a card of so many bytes: products of few frames run at 94% of the speed of many."""


@runtime_checkable
class TimeProduct(Protocol):
    """Multiplies in place of a temporal convolution's weight."""

    def over_time(
        self,
        x: Float[Tensor, "b t s d"],
        past: Float[Tensor, "b s d"] | None,
        following: Float[Tensor, "b s d"] | None,
    ) -> Float[Tensor, "b t s d"]:
        """The convolution over these latent frames, those before and after them given."""
        ...


class TemporalConv(nn.Module):
    """Dense convolution over time, kernel 3, zero padding, no bias, zero at the start.

    Zero weights make the fresh model an image model that learns to look at its neighbours.
    """

    def __init__(self, width: int) -> None:
        """Make the three taps."""
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(width, width, 3))
        self.product: TimeProduct | None = None
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
        if self.product is not None:
            return self._in_few_bits(self.product, x, chunks, past, following)
        if card_bytes(x.device) and len(chunks) == 1 and not torch.is_grad_enabled():
            return self._convolve(x, past, following)
        before, here, after = taps_of(x, past, following).chunk(3, dim=-1)
        if len(chunks) > 1:
            last = torch.zeros(x.shape[1], dtype=torch.bool, device=x.device)
            last[[end - 1 for end in accumulate(chunks)]] = True
            after = after.masked_fill(last[:, None, None], 0)
        taps = torch.cat([before, here, after], dim=-1)
        return F.linear(taps, rearrange(self.weight, "o i taps -> o (taps i)").to(x.dtype))

    @staticmethod
    def _in_few_bits(
        product: TimeProduct,
        x: Float[Tensor, "b t s d"],
        chunks: tuple[int, ...],
        past: Float[Tensor, "b s d"] | None,
        following: Float[Tensor, "b s d"] | None,
    ) -> Float[Tensor, "b t s d"]:
        parts = []
        *_, last = chunks_of_x = x.split(chunks, dim=1)
        for part in chunks_of_x:
            parts.append(product.over_time(part, past, following if part is last else None))
            past = part[:, -1]
        return parts[0] if len(parts) == 1 else torch.cat(parts, dim=1)

    def _convolve(
        self,
        x: Float[Tensor, "b t s d"],
        past: Float[Tensor, "b s d"] | None,
        following: Float[Tensor, "b s d"] | None = None,
    ) -> Float[Tensor, "b t s d"]:
        """The same as a convolution over pictures of t rows: tokens lie as it wants them."""
        taps = self.weight.to(x.dtype)[..., None]
        y = F.conv2d(rearrange(x, "b t s d -> b d t s"), taps, padding=(1, 0))
        y = rearrange(y, "b d t s -> b t s d")
        if past is not None:
            y[:, 0] += F.linear(past, taps[:, :, 0, 0])
        if following is not None:
            y[:, -1] += F.linear(following, taps[:, :, 2, 0])
        return y


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
    ) -> tuple[Float[Tensor, "b t s d"], Float[Tensor, "b t s d"], Float[Tensor, "b s d"]]:
        """Transform the tokens, s = height x width of them in each latent frame.

        Returns:
            y and temporal(y), whose sum it is: the layer adds both to its stream in one pass;
            and the last latent frame of y, the next `past`.
        """
        frames = max(_pass_elements(x.device) // (x[:, 0, :, 0].numel() * self.up.out_features), 1)
        parts = [self._each_frame(part, height) for part in x.split(frames, dim=1)]
        y = torch.cat(parts, dim=1) if len(parts) > 1 else parts[0]
        if share is None:
            return y, self.temporal(y, chunks, past), y[:, -1]
        before, after, last = share.neighbours(y[:, 0], y[:, -1])
        return y, self.temporal(y, chunks, past if before is None else before, after), last

    def _each_frame(self, x: Float[Tensor, "b t s d"], height: int) -> Float[Tensor, "b t s d"]:
        weight, bias = self.depthwise.weight, self.depthwise.bias
        assert bias is not None
        return self.down(ops.gated_depthwise(self.up(x), weight, bias, height))


def _pass_elements(device: torch.device) -> int:
    return LARGE_PASS if card_bytes(device) >= LARGE_CARD else PASS_ELEMENTS
