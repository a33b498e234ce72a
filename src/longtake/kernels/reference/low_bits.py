"""Rows of numbers in eight bits, in plain PyTorch: the kernels' contract."""

import torch
import torch.nn.functional as F
from jaxtyping import Float, UInt8
from torch import Tensor

E4M3 = torch.float8_e4m3fn
E4M3_MAX = 448.0
LEAST_SCALE = 2.0**-117
"""Smallest fp32 scale: its product with the smallest e4m3 is still a normal number."""


def to_fp8(
    x: Float[Tensor, "n columns"],
) -> tuple[UInt8[Tensor, "n columns"], Float[Tensor, " n"]]:
    """Bits of e4m3 and a scale for each row, computed in fp32; the largest value becomes 448."""
    values = x.float()
    scales = over(values.abs().amax(dim=1), E4M3_MAX).clamp_min(LEAST_SCALE)
    # Clamped, for beyond its range the type has nothing but NaN.
    codes = (values / scales[:, None]).clamp(-E4M3_MAX, E4M3_MAX).to(E4M3)
    return codes.view(torch.uint8), scales


def taps_to_fp8(
    x: Float[Tensor, "b t s d"],
    past: Float[Tensor, "b s d"] | None,
    following: Float[Tensor, "b s d"] | None,
) -> tuple[UInt8[Tensor, "n d_d_d"], Float[Tensor, " n"]]:
    """What a convolution over time reads at each position, in eight bits; see `taps_of`."""
    return to_fp8(taps_of(x, past, following).flatten(0, 2))


def taps_of(
    x: Float[Tensor, "b t s d"],
    past: Float[Tensor, "b s d"] | None,
    following: Float[Tensor, "b s d"] | None,
) -> Float[Tensor, "b t s d_d_d"]:
    """Each position with the same one a latent frame before and after, which is zero beyond.

    Args:
        x: Tokens of some latent frames.
        past: The frame before them; None for zeros.
        following: The frame after them; None for zeros.
    """
    frames = x.shape[1]
    padded = F.pad(x, (0, 0, 0, 0, 1, 1))
    if past is not None:
        padded = torch.cat([past[:, None], padded[:, 1:]], dim=1)
    if following is not None:
        padded = torch.cat([padded[:, :-1], following[:, None]], dim=1)
    return torch.cat([padded[:, :frames], x, padded[:, 2:]], dim=-1)


def over(values: Float[Tensor, "*any"], divisor: float) -> Float[Tensor, "*any"]:
    """A quotient rounded once; by a plain number a CUDA card multiplies with its inverse."""
    return values / values.new_full((), divisor)
