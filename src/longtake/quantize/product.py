"""Products in few bits, by the library's kernels, where a card has the units for them.

fp8 needs Ada, Hopper or newer and was written for them; nvfp4 needs Blackwell and has not been
run on one by us: `longtake selftest nvfp4` does, and nothing uses it that failed there.
"""

import torch
import torch.nn.functional as F
from jaxtyping import Float, UInt8
from torch import Tensor

from longtake.kernels import ops
from longtake.kernels.reference.low_bits import E4M3
from longtake.quantize.codec import BLOCK, Format, Packed, encode

FIRST_WITH: dict[Format, tuple[int, int]] = {"fp8": (8, 9), "nvfp4": (10, 0)}
"""Compute capability from which a card multiplies in a format."""
STEP: dict[Format, int] = {"fp8": 16, "nvfp4": 2 * BLOCK}
"""What divides rows and columns of a matrix that the library multiplies."""
_TILE = (128, 4)
"""Rows and columns of the tiles in which nvfp4 wants its scales."""


def has_units(how: Format, device: torch.device) -> bool:
    """True if the device multiplies in a format, by what it says of itself."""
    if device.type != "cuda" or torch.version.hip is not None:
        return False
    return torch.cuda.get_device_capability(device) >= FIRST_WITH[how]


def product_fp8(
    x: Float[Tensor, "n columns"], packed: Packed, bias: Float[Tensor, " rows"] | None = None
) -> Float[Tensor, "n rows"]:
    """X W^T + b with a scale for each row of x and of W; sums in fp32, the result in bf16."""
    return _scaled(*ops.to_fp8(x), packed, bias)


def taps_product_fp8(
    x: Float[Tensor, "b t s d"],
    past: Float[Tensor, "b s d"] | None,
    following: Float[Tensor, "b s d"] | None,
    packed: Packed,
) -> Float[Tensor, "n rows"]:
    """The same of each position with those of the latent frames before and after."""
    return _scaled(*ops.taps_to_fp8(x, past, following), packed, None)


def _scaled(
    codes: UInt8[Tensor, "n columns"],
    scales: Float[Tensor, " n"],
    packed: Packed,
    bias: Float[Tensor, " rows"] | None,
) -> Float[Tensor, "n rows"]:
    return torch._scaled_mm(
        codes.view(E4M3),
        packed.codes.view(E4M3).T,
        scale_a=scales[:, None],
        scale_b=packed.scales[None],
        bias=None if bias is None else bias.to(torch.bfloat16),
        out_dtype=torch.bfloat16,
        use_fast_accum=True,
    )


def product_nvfp4(x: Float[Tensor, "n columns"], packed: Packed) -> Float[Tensor, "n rows"]:
    """Product x W^T with scales of blocks and tensors; sums in fp32, the result in bf16."""
    rounded = encode(x, "nvfp4")
    assert rounded.tensor_scale is not None
    assert packed.tensor_scale is not None
    y = torch._scaled_mm(
        rounded.codes.view(torch.float4_e2m1fn_x2),
        packed.codes.view(torch.float4_e2m1fn_x2).T,
        scale_a=tiled(rounded.scales).view(E4M3),
        scale_b=tiled(packed.scales).view(E4M3),
        out_dtype=torch.bfloat16,
    )
    return y * (rounded.tensor_scale * packed.tensor_scale)


def tiled(scales: UInt8[Tensor, "rows blocks"]) -> UInt8[Tensor, " values"]:
    """Scales of blocks in the order in which the matrix units read them.

    Tiles of 128 x 4 follow each other row by row; inside one, row r and column c lie at
    16 (r mod 32) + 4 (r div 32) + c.

    Source: cuBLAS documentation, block scaling factors layout.
    """
    high, wide = _TILE
    padded = F.pad(scales, (0, -scales.shape[1] % wide, 0, -scales.shape[0] % high))
    tiles = padded.view(padded.shape[0] // high, 4, 32, padded.shape[1] // wide, wide)
    return tiles.permute(0, 3, 2, 1, 4).flatten()
