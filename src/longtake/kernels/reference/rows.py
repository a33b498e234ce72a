"""Norms, modulation and residuals of a token's row, in plain PyTorch: the kernels' contract."""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

Tokens = Float[Tensor, "b t s d"]
PerFrame = Float[Tensor, "b t 1 d"]
Channels = Float[Tensor, " d"]


def modulated_norm(
    x: Tokens,
    shift: PerFrame,
    scale: PerFrame,
    eps: float,
    weight: Channels | None = None,
    bias: Channels | None = None,
) -> Tokens:
    """LayerNorm of each token, then shifted and scaled as its latent frame wants.

    (x - mean) / sqrt(var + eps) * weight + bias, times (1 + scale), plus shift.

    Args:
        x: Tokens.
        shift: Of each latent frame.
        scale: Of each latent frame, 0 for none.
        eps: Floor inside the norm.
        weight: The norm's own; None for ones.
        bias: The norm's own; None for zeros.

    Source: Ba et al. 2016 (LayerNorm); adaLN: Peebles and Xie 2022 (arXiv 2212.09748).
    """
    normed = F.layer_norm(x, x.shape[-1:], weight, bias, eps).to(x.dtype)
    return torch.addcmul(shift, normed, 1 + scale)


def gated_residual(x: Tokens, gate: PerFrame, y: Tokens, z: Tokens | None = None) -> Tokens:
    """What a layer adds, times its frame's gate, on the stream: x + gate * (y + z)."""
    return torch.addcmul(x, gate, y if z is None else y + z)


def residual_norm(
    x: Tokens,
    y: Tokens,
    shift: PerFrame,
    scale: PerFrame,
    eps: float,
    weight: Channels | None = None,
    bias: Channels | None = None,
) -> tuple[Tokens, Tokens]:
    """X + y, and its `modulated_norm`."""
    total = x + y
    return total, modulated_norm(total, shift, scale, eps, weight, bias)


def rms_norm(
    x: Float[Tensor, "*batch c"], weight: Float[Tensor, " c"], eps: float
) -> Float[Tensor, "*batch c"]:
    """Scale to unit size: x / sqrt(mean(x^2) + eps) * weight, in float32 or wider, as x after.

    Source: Zhang and Sennrich 2019 (RMSNorm), eq. 4.
    """
    wide = torch.promote_types(x.dtype, torch.float32)
    return F.rms_norm(x.to(wide), weight.shape, weight.to(wide), eps).to(x.dtype)


def rms_silu(
    x: Float[Tensor, "*batch c"],
    weight: Float[Tensor, " c"] | None,
    eps: float,
    bias: Float[Tensor, " c"] | None = None,
) -> Float[Tensor, "*batch c"]:
    """silu(rms_norm(x + bias)): how the layers of a video decoder begin.

    Args:
        x: Channels last.
        weight: The norm's; None for ones.
        eps: Floor inside the norm.
        bias: What the convolution before left out; None for none.
    """
    x = x if bias is None else (x + bias).to(x.dtype)
    ones = x.new_ones(x.shape[-1]) if weight is None else weight
    return F.silu(rms_norm(x, ones, eps))
