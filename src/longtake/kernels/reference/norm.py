"""Root-mean-square norm in plain PyTorch."""

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor


def rms_norm(
    x: Float[Tensor, "*batch c"], weight: Float[Tensor, " c"], eps: float
) -> Float[Tensor, "*batch c"]:
    """Scale to unit size: x / sqrt(mean(x^2) + eps) * weight, in float32, then the dtype of x.

    Source: Zhang and Sennrich 2019 (RMSNorm), eq. 4.
    """
    return F.rms_norm(x.float(), weight.shape, weight.float(), eps).to(x.dtype)
