"""Numbers of four and eight bits and their scales, as tensors; `reference` says what they mean."""

from collections.abc import Iterator
from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float, UInt8
from torch import Tensor

from longtake.kernels import ops
from longtake.kernels.reference.low_bits import E4M3, E4M3_MAX, LEAST_SCALE, over

Format = Literal["fp8", "nvfp4"]
"""`fp8`: e4m3, a scale a row. `nvfp4`: e2m1, a scale in e4m3 a block and one a tensor."""
BLOCK = 16
"""Values of nvfp4 that share a scale."""
E2M1_MAX = 6.0
LEAST_E4M3 = 2.0**-9
"""Smallest positive e4m3; a block of zeros has it for scale, so that no scale is zero."""
E2M1 = (0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0)
"""Values of the codes 0 to 7; bit 3 is the sign."""
AT_ONCE = 2**23
"""Most values of nvfp4 packed or unpacked at once: it bounds the memory beside the result."""
STEPS = (-1, 1, 4, 5)
"""Codes away from the plain one of a block's scale that are tried for weights.

One below cuts the largest value off; those above put it to where the next below it lie better. Of
normal numbers they take 13% off the error; all from -8 to 8 would take 14%.
"""
# A tie goes to the code whose last bit is 0: up at 0.75, 1.75 and 3.5, whose borders are the
# numbers of fp32 just below them; down at the others.
_BORDERS = (0.25, 0.75 - 2.0**-24, 1.25, 1.75 - 2.0**-23, 2.5, 3.5 - 2.0**-22, 5.0)


class Packed(NamedTuple):
    """A matrix in few bits."""

    codes: UInt8[Tensor, "rows bytes"]
    """Bits of e4m3, or two e2m1 a byte, the first in the low half."""
    scales: Tensor
    """fp8: fp32 of shape (rows,). nvfp4: bits of e4m3, (rows, blocks)."""
    tensor_scale: Float[Tensor, " one"] | None
    """nvfp4: what all scales are multiplied with."""


def encode(values: Float[Tensor, "rows columns"], how: Format, *, fit: bool = False) -> Packed:
    """Round a matrix to a format, in fp32; columns are filled up to whole blocks with zeros.

    Plainly, the scale of a block of nvfp4 makes its largest value 6. Fitted, it is the one of that
    and `STEPS` whose squared errors sum to the least; of sums as small, the first.

    Args:
        values: The matrix.
        how: The format.
        fit: For weights, which are rounded once; it takes six times as long. fp8 has no blocks.

    Source: Cook et al. 2025 (Four Over Six, arXiv 2512.02010), with more scales than two.
    """
    if how == "fp8":
        return Packed(*ops.to_fp8(values), None)
    padded = F.pad(values.float(), (0, -values.shape[1] % BLOCK))
    whole = over(padded.abs().amax(), E4M3_MAX * E2M1_MAX).clamp_min(LEAST_SCALE)
    rows = max(AT_ONCE // padded.shape[1], 1)
    parts = [_pack(part.unflatten(1, (-1, BLOCK)), whole, fit) for part in padded.split(rows)]
    codes, scales = (torch.cat(each) for each in zip(*parts, strict=True))
    return Packed(codes, scales, whole[None])


def decode(packed: Packed, columns: int, dtype: torch.dtype) -> Float[Tensor, "rows columns"]:
    """The numbers a packed matrix stands for, rounded once, to a type."""
    if packed.tensor_scale is None:
        wide = packed.codes.view(E4M3).float() * packed.scales[:, None]
        return wide.to(dtype)
    rows = max(AT_ONCE // columns, 1)
    parts = [part[:, :columns] for part in _unpacked(packed, rows, dtype)]
    return parts[0] if len(parts) == 1 else torch.cat(parts)


def stored_shape(rows: int, columns: int, how: Format) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Shapes of the codes and the scales of a matrix."""
    if how == "fp8":
        return (rows, columns), (rows,)
    blocks = -(-columns // BLOCK)
    return (rows, blocks * BLOCK // 2), (rows, blocks)


def _pack(
    blocks: Float[Tensor, "rows blocks block"], whole: Float[Tensor, ""], fit: bool
) -> tuple[UInt8[Tensor, "rows bytes"], UInt8[Tensor, "rows blocks"]]:
    most = blocks.abs().amax(dim=2)
    plain = (over(most, E2M1_MAX) / whole).clamp(LEAST_E4M3, E4M3_MAX).to(E4M3).view(torch.uint8)
    scales, codes = plain, _codes(blocks, plain, whole)
    if fit:
        least = _squares(blocks, codes, scales, whole)
        for step in STEPS:
            # The codes of e4m3 above zero rise as their numbers do, up to that of 448.
            tried = (plain.int() + step).clamp(1, 0x7E).to(torch.uint8)
            other = _codes(blocks, tried, whole)
            squares = _squares(blocks, other, tried, whole)
            better = squares < least
            least = torch.where(better, squares, least)
            scales = torch.where(better, tried, scales)
            codes = torch.where(better[:, :, None], other, codes)
    codes = codes.flatten(1)
    return codes[:, 0::2] | codes[:, 1::2] << 4, scales


def _codes(
    blocks: Float[Tensor, "rows blocks block"],
    scales: UInt8[Tensor, "rows blocks"],
    whole: Float[Tensor, ""],
) -> UInt8[Tensor, "rows blocks block"]:
    scaled = blocks / (scales.view(E4M3).float() * whole)[:, :, None]
    borders = torch.tensor(_BORDERS, device=blocks.device)
    codes = torch.bucketize(scaled.abs(), borders, out_int32=True).to(torch.uint8)
    return codes | (scaled < 0).to(torch.uint8) << 3


def _squares(
    blocks: Float[Tensor, "rows blocks block"],
    codes: UInt8[Tensor, "rows blocks block"],
    scales: UInt8[Tensor, "rows blocks"],
    whole: Float[Tensor, ""],
) -> Float[Tensor, "rows blocks"]:
    """Sums of the squared errors, in the tensor's scale, which keeps them in the range of fp32."""
    said = _signed(blocks.device)[codes.int()] * scales.view(E4M3).float()[:, :, None]
    squares = (said - blocks / whole).square()
    # In a fixed order, so that sums that are nearly the same compare alike everywhere.
    while squares.shape[2] > 1:
        squares = torch.add(*squares.chunk(2, dim=2))
    return squares[:, :, 0]


def _unpacked(
    packed: Packed, rows: int, dtype: torch.dtype
) -> Iterator[Float[Tensor, "rows columns"]]:
    """A few rows at a time, with the zeros that fill up the last block."""
    assert packed.tensor_scale is not None
    signed = _signed(packed.codes.device)
    # Both values of each byte.
    pairs = torch.stack((signed.repeat(16), signed.repeat_interleave(16)), dim=1)
    for codes, scales in zip(
        packed.codes.split(rows), packed.scales.view(E4M3).split(rows), strict=True
    ):
        blocks = F.embedding(codes.int(), pairs).flatten(1).unflatten(1, (-1, BLOCK))
        wide = blocks * scales.float()[:, :, None] * packed.tensor_scale
        yield wide.flatten(1).to(dtype)


def _signed(device: torch.device) -> Float[Tensor, " 16"]:
    """The values of the codes 0 to 15."""
    return torch.tensor((*E2M1, *(-v for v in E2M1)), device=device)
