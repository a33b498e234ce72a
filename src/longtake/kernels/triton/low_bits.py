"""Rows of numbers to e4m3 with a scale each, in one pass; the maths is in `reference.low_bits`.

A row of d channels is a HEAD and a TAIL as in `rows`. A row of taps is the same position of three
latent frames, before, here and after, and has one scale for all three: what the temporal
convolution multiplies with, without the copies in bfloat16 that lie between.
"""

# Values on the device have no Python type.

import torch
import triton
import triton.language as tl
from jaxtyping import Float, UInt8
from torch import Tensor

from longtake.kernels.triton.rows import split_of, warps_of

E4M3_MAX = tl.constexpr(448.0)
LEAST_SCALE = tl.constexpr(2.0**-117)


def to_fp8(
    x: Float[Tensor, "n d"],
) -> tuple[UInt8[Tensor, "n d"], Float[Tensor, " n"]]:
    """Codes and scales of rows."""
    x = x.contiguous()
    n, d = x.shape
    codes, scales = torch.empty_like(x, dtype=torch.uint8), x.new_empty(n, dtype=torch.float32)
    head, tail = split_of(d)
    _to_fp8[(n,)](
        x, None, None, codes.view(torch.float8_e4m3fn), scales, d, 1, 1,
        TAPS=False,  # pyrefly: ignore
        HAS_PAST=False, HAS_FOLLOWING=False,  # pyrefly: ignore
        HEAD=head, TAIL=tail, num_warps=warps_of(d),  # pyrefly: ignore
    )  # fmt: skip
    return codes, scales


def taps_to_fp8(
    x: Float[Tensor, "b t s d"],
    past: Float[Tensor, "b s d"] | None,
    following: Float[Tensor, "b s d"] | None,
) -> tuple[UInt8[Tensor, "n d_d_d"], Float[Tensor, " n"]]:
    """Codes and scales of each position with those of the frames before and after; zero beyond."""
    b, t, s, d = x.shape
    x = x.contiguous()
    codes = x.new_empty(b * t * s, 3 * d, dtype=torch.uint8)
    scales = x.new_empty(b * t * s, dtype=torch.float32)
    head, tail = split_of(d)
    past, following = (v if v is None else v.contiguous() for v in (past, following))
    _to_fp8[(b * t * s,)](
        x, past, following, codes.view(torch.float8_e4m3fn), scales, d, s, t,
        TAPS=True,  # pyrefly: ignore
        HAS_PAST=past is not None, HAS_FOLLOWING=following is not None,  # pyrefly: ignore
        HEAD=head, TAIL=tail, num_warps=warps_of(d),  # pyrefly: ignore
    )  # fmt: skip
    return codes, scales


@triton.jit
def _part(x, start, channel, mask):
    return tl.load(x + start + channel, mask=mask, other=0.0).to(tl.float32)


@triton.jit
def _scale(most, scales, row):
    scale = tl.maximum(tl.div_rn(most, E4M3_MAX), LEAST_SCALE)
    tl.store(scales + row, scale)
    return scale


@triton.jit
def _store(codes, start, channel, value, scale, mask):
    # Clamped, for beyond its range the type has nothing but NaN.
    code = tl.minimum(tl.maximum(tl.div_rn(value, scale), -E4M3_MAX), E4M3_MAX)
    tl.store(codes + start + channel, code.to(tl.float8e4nv), mask=mask)


@triton.jit
def _to_fp8(
    x, past, following, codes, scales, d, s, t, TAPS: tl.constexpr,
    HAS_PAST: tl.constexpr, HAS_FOLLOWING: tl.constexpr, HEAD: tl.constexpr, TAIL: tl.constexpr,
):  # fmt: skip
    row = tl.program_id(0).to(tl.int64)
    at_head = tl.arange(0, HEAD)  # [HEAD]
    at_tail = HEAD + tl.arange(0, TAIL)  # [TAIL]
    in_head, in_tail = at_head < d, at_tail < d
    here = row * d
    head = _part(x, here, at_head, in_head)
    tail = _part(x, here, at_tail, in_tail)
    most = tl.maximum(tl.max(tl.abs(head), 0), tl.max(tl.abs(tail), 0))
    if not TAPS:
        scale = _scale(most, scales, row)
        _store(codes, here, at_head, head, scale, in_head)
        _store(codes, here, at_tail, tail, scale, in_tail)
    else:
        frame = (row // s) % t
        edge = ((row // s) // t * s + row % s) * d
        first, last = frame == 0, frame == t - 1
        head_a = _part(x, here - s * d, at_head, in_head & (frame > 0))
        tail_a = _part(x, here - s * d, at_tail, in_tail & (frame > 0))
        head_c = _part(x, here + s * d, at_head, in_head & (frame < t - 1))
        tail_c = _part(x, here + s * d, at_tail, in_tail & (frame < t - 1))
        if HAS_PAST:
            head_a += _part(past, edge, at_head, in_head & first)
            tail_a += _part(past, edge, at_tail, in_tail & first)
        if HAS_FOLLOWING:
            head_c += _part(following, edge, at_head, in_head & last)
            tail_c += _part(following, edge, at_tail, in_tail & last)
        most = tl.maximum(most, tl.maximum(tl.max(tl.abs(head_a), 0), tl.max(tl.abs(tail_a), 0)))
        most = tl.maximum(most, tl.maximum(tl.max(tl.abs(head_c), 0), tl.max(tl.abs(tail_c), 0)))
        scale = _scale(most, scales, row)
        _store(codes, 3 * here, at_head, head_a, scale, in_head)
        _store(codes, 3 * here, at_tail, tail_a, scale, in_tail)
        _store(codes, 3 * here + d, at_head, head, scale, in_head)
        _store(codes, 3 * here + d, at_tail, tail, scale, in_tail)
        _store(codes, 3 * here + 2 * d, at_head, head_c, scale, in_head)
        _store(codes, 3 * here + 2 * d, at_tail, tail_c, scale, in_tail)
