"""RMSNorm and SiLU of short rows in one pass; the maths is in `reference.rows`.

A decoder's rows are its channels, at most 1024 and millions of them, so a program takes as many
whole rows as make a tile. Sums are float32.
"""

# Values on the device have no Python type.

import torch
import triton
import triton.language as tl
from jaxtyping import Float
from torch import Tensor

TILE = 4096
"""Values of a tile, padding counted."""


def rms_silu(
    x: Float[Tensor, "*batch c"],
    weight: Float[Tensor, " c"] | None,
    eps: float,
    bias: Float[Tensor, " c"] | None = None,
) -> Float[Tensor, "*batch c"]:
    """silu(rms_norm(x + bias)) in one pass."""
    x = x.contiguous()
    out, channels = torch.empty_like(x), x.shape[-1]
    rows, padded = x.numel() // channels, triton.next_power_of_2(channels)
    _short_rows[(triton.cdiv(rows, max(TILE // padded, 1)),)](
        x, weight, bias, out, rows, channels, eps,
        WEIGHTED=weight is not None, BIASED=bias is not None,  # pyrefly: ignore
        ROWS=max(TILE // padded, 1), CHANNELS=padded, num_warps=4,  # pyrefly: ignore
    )  # fmt: skip
    return out


@triton.jit
def _short_rows(
    x, weight, bias, out, rows, channels, eps,
    WEIGHTED: tl.constexpr, BIASED: tl.constexpr, ROWS: tl.constexpr, CHANNELS: tl.constexpr,
):  # fmt: skip
    row = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)  # [ROWS]
    channel = tl.arange(0, CHANNELS)  # [CHANNELS]
    fits = channel < channels
    mask = (row < rows)[:, None] & fits[None, :]
    at = row[:, None] * channels + channel[None, :]  # [ROWS, CHANNELS]
    value = tl.load(x + at, mask=mask, other=0.0).to(tl.float32)
    if BIASED:
        value += tl.load(bias + channel, mask=fits, other=0.0).to(tl.float32)[None, :]
    value = value / tl.sqrt(tl.sum(value * value, 1) / channels + eps)[:, None]
    if WEIGHTED:
        value *= tl.load(weight + channel, mask=fits, other=0.0).to(tl.float32)[None, :]
    value = value / (1 + tl.exp(-value))
    tl.store(out + at, value.to(out.dtype.element_ty), mask=mask)
