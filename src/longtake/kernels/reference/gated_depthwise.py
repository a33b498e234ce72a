"""SiLU, depthwise convolution and gate of the Mix-FFN, in plain PyTorch: the kernel's contract."""

import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float
from torch import Tensor


def gated_depthwise(
    x: Float[Tensor, "b t s hidden_hidden"],
    weight: Float[Tensor, "hidden_hidden 1 3 3"],
    bias: Float[Tensor, " hidden_hidden"],
    height: int,
) -> Float[Tensor, "b t s hidden"]:
    """Convolve each frame's activated tokens, and gate one half of the channels by the other.

    a, b = split(depthwise_3x3(silu(x)) + bias); a * silu(b). Outside a frame is zero.

    Args:
        x: Expanded tokens, s = height x width of them in each latent frame.
        weight: Nine taps of each channel.
        bias: Of each channel.
        height: Rows of the latent grid.

    Source: SANA (arXiv 2410.10629), section 2.2.
    """
    u = rearrange(F.silu(x), "b t (h w) c -> (b t) c h w", h=height)
    u = F.conv2d(u, weight, bias, padding=1, groups=len(weight))
    one, two = rearrange(u, "(b t) c h w -> b t (h w) c", b=len(x)).chunk(2, dim=-1)
    return one * F.silu(two)
