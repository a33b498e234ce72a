"""Root-mean-square norm in plain PyTorch."""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor


def rms_norm(
    x: Float[Tensor, "*batch c"], weight: Float[Tensor, " c"], eps: float
) -> Float[Tensor, "*batch c"]:
    """Scale to unit size: x / sqrt(mean(x^2) + eps) * weight, in float32 or wider, as x after.

    Source: Zhang and Sennrich 2019 (RMSNorm), eq. 4.
    """
    wide = torch.promote_types(x.dtype, torch.float32)
    return F.rms_norm(x.to(wide), weight.shape, weight.to(wide), eps).to(x.dtype)
