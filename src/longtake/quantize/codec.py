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
"""Most values of nvfp4 unpacked at once: it bounds the memory beside the result."""
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


def encode(values: Float[Tensor, "rows columns"], how: Format) -> Packed:
    """Round a matrix to a format, in fp32; columns are filled up to whole blocks with zeros."""
    return Packed(*ops.to_fp8(values), None) if how == "fp8" else _encode_nvfp4(values.float())


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


def _encode_nvfp4(values: Float[Tensor, "rows columns"]) -> Packed:
    padded = F.pad(values, (0, -values.shape[1] % BLOCK))
    blocks = padded.unflatten(1, (-1, BLOCK))
    whole = over(values.abs().amax(), E4M3_MAX * E2M1_MAX).clamp_min(LEAST_SCALE)
    most = blocks.abs().amax(dim=2)
    scales = (over(most, E2M1_MAX) / whole).clamp(LEAST_E4M3, E4M3_MAX).to(E4M3)
    scaled = (blocks / (scales.float() * whole)[:, :, None]).flatten(1)
    borders = torch.tensor(_BORDERS, device=values.device)
    codes = torch.bucketize(scaled.abs(), borders, out_int32=True).to(torch.uint8)
    codes |= (scaled < 0).to(torch.uint8) << 3
    bytes_ = codes[:, 0::2] | codes[:, 1::2] << 4
    return Packed(bytes_, scales.view(torch.uint8), whole[None])


def _unpacked(
    packed: Packed, rows: int, dtype: torch.dtype
) -> Iterator[Float[Tensor, "rows columns"]]:
    """A few rows at a time, with the zeros that fill up the last block."""
    assert packed.tensor_scale is not None
    signed = torch.tensor((*E2M1, *(-v for v in E2M1)), device=packed.codes.device)
    # Both values of each byte.
    pairs = torch.stack((signed.repeat(16), signed.repeat_interleave(16)), dim=1)
    for codes, scales in zip(
        packed.codes.split(rows), packed.scales.view(E4M3).split(rows), strict=True
    ):
        blocks = F.embedding(codes.int(), pairs).flatten(1).unflatten(1, (-1, BLOCK))
        wide = blocks * scales.float()[:, :, None] * packed.tensor_scale
        yield wide.flatten(1).to(dtype)
