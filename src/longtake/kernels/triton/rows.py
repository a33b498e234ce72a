"""Norms, modulation and residuals of a token's row; the maths is in `reference.rows`.

One program walks over a few rows of one latent frame, so that the frame's shift, scale and gate
are read once. A row of d channels is a HEAD, the largest power of two in d, and a TAIL, the
smallest that holds the rest: 2240 is 2048 + 256, where one power of two would idle 45% of the
lanes. Everything between the loads and the store is float32.
"""

# Values on the device have no Python type.

import torch
import triton
import triton.language as tl
from jaxtyping import Float
from torch import Tensor

from longtake.kernels.reference.rows import Channels, PerFrame, Tokens

ROWS = 2 if triton.knobs.runtime.interpret else 8
"""Rows a program walks over; the interpreter is slow."""


def modulated_norm(
    x: Tokens,
    shift: PerFrame,
    scale: PerFrame,
    eps: float,
    weight: Channels | None = None,
    bias: Channels | None = None,
) -> Tokens:
    """LayerNorm, shifted and scaled, in one pass: 2 units of memory traffic."""
    normed = torch.empty_like(x)
    _launch(x, normed=normed, shift=shift, scale=scale, eps=eps, weight=weight, bias=bias)
    return normed


def gated_residual(x: Tokens, gate: PerFrame, y: Tokens, z: Tokens | None = None) -> Tokens:
    """X + gate * (y + z) in one pass: 3 units, 4 with z."""
    total = torch.empty_like(x)
    _launch(x, total=total, gate=gate, y=y, z=z)
    return total


def residual_norm(
    x: Tokens,
    y: Tokens,
    shift: PerFrame,
    scale: PerFrame,
    eps: float,
    weight: Channels | None = None,
    bias: Channels | None = None,
) -> tuple[Tokens, Tokens]:
    """X + y and its modulated norm in one pass: 4 units in place of 5."""
    total, normed = torch.empty_like(x), torch.empty_like(x)
    _launch(
        x, total=total, normed=normed, y=y, shift=shift, scale=scale, eps=eps, weight=weight,
        bias=bias,
    )  # fmt: skip
    return total, normed


def rms_norm(
    x: Float[Tensor, "*batch c"], weight: Float[Tensor, " c"], eps: float
) -> Float[Tensor, "*batch c"]:
    """RMSNorm in one pass."""
    rows = x.reshape(1, 1, -1, x.shape[-1])
    normed = torch.empty_like(rows)
    _launch(rows, normed=normed, eps=eps, weight=weight, rms=True)
    return normed.view(x.shape)


def split_of(channels: int) -> tuple[int, int]:
    """HEAD and TAIL of a row; of a power of two the tail is empty, and masked."""
    head = 1 << (channels.bit_length() - 1)
    return head, max(1 << (channels - head - 1).bit_length() if channels > head else 0, 16)


def warps_of(channels: int) -> int:
    """Warps for a row: 8 values a lane, so that loads are 16 bytes wide."""
    return min(max((1 << (channels - 1).bit_length()) // 256, 1), 8)


def _launch(
    x: Tokens,
    *,
    total: Tokens | None = None,
    normed: Tokens | None = None,
    y: Tokens | None = None,
    z: Tokens | None = None,
    gate: PerFrame | None = None,
    shift: PerFrame | None = None,
    scale: PerFrame | None = None,
    weight: Channels | None = None,
    bias: Channels | None = None,
    eps: float = 0.0,
    rms: bool = False,
) -> None:
    b, t, s, d = x.shape
    x, (y, z) = x.contiguous(), (v if v is None else v.contiguous() for v in (y, z))
    # A frame's values are rows of a table, one stride for all three.
    gate, shift, scale = (v if v is None else v.expand(b, t, 1, d).contiguous()
                          for v in (gate, shift, scale))  # fmt: skip
    head, tail = split_of(d)
    _rows[(triton.cdiv(s, ROWS), b * t)](
        x, y, z, gate, shift, scale, weight, bias, total, normed, s, d, eps,
        HAS_Y=y is not None, HAS_Z=z is not None, GATED=gate is not None,  # pyrefly: ignore
        WRITES=total is not None, NORMS=normed is not None, RMS=rms,  # pyrefly: ignore
        MODULATES=shift is not None, WEIGHTED=weight is not None,  # pyrefly: ignore
        BIASED=bias is not None, HEAD=head, TAIL=tail, ROWS=ROWS,  # pyrefly: ignore
        num_warps=warps_of(d),  # pyrefly: ignore
    )  # fmt: skip


@triton.jit
def _load(pointer, at, mask):
    return tl.load(pointer + at, mask=mask, other=0.0).to(tl.float32)


@triton.jit
def _sum(x, y, z, gate, at, frame_at, mask, HAS_Y: tl.constexpr, HAS_Z: tl.constexpr,
         GATED: tl.constexpr):  # fmt: skip
    total = _load(x, at, mask)
    if HAS_Y:
        added = _load(y, at, mask)
        if HAS_Z:
            added += _load(z, at, mask)
        if GATED:
            added *= _load(gate, frame_at, mask)
        total += added
    return total


@triton.jit
def _finish(value, weight, bias, shift, scale, channel, frame_at, mask, WEIGHTED: tl.constexpr,
            BIASED: tl.constexpr, MODULATES: tl.constexpr):  # fmt: skip
    if WEIGHTED:
        value *= _load(weight, channel, mask)
    if BIASED:
        value += _load(bias, channel, mask)
    if MODULATES:
        value = value * (1 + _load(scale, frame_at, mask)) + _load(shift, frame_at, mask)
    return value


@triton.jit
def _rows(
    x, y, z, gate, shift, scale, weight, bias, total, normed, s, d, eps,
    HAS_Y: tl.constexpr, HAS_Z: tl.constexpr, GATED: tl.constexpr, WRITES: tl.constexpr,
    NORMS: tl.constexpr, RMS: tl.constexpr, MODULATES: tl.constexpr, WEIGHTED: tl.constexpr,
    BIASED: tl.constexpr, HEAD: tl.constexpr, TAIL: tl.constexpr,
    ROWS: tl.constexpr,
):  # fmt: skip
    frame = tl.program_id(1).to(tl.int64)
    first = tl.program_id(0) * ROWS
    at_head = tl.arange(0, HEAD)  # [HEAD]
    at_tail = HEAD + tl.arange(0, TAIL)  # [TAIL]
    in_head, in_tail = at_head < d, at_tail < d
    for step in range(ROWS):
        row = first + step
        start = (frame * s + row) * d
        head_mask, tail_mask = in_head & (row < s), in_tail & (row < s)
        head = _sum(x, y, z, gate, start + at_head, frame * d + at_head, head_mask,
                    HAS_Y, HAS_Z, GATED)  # fmt: skip
        tail = _sum(x, y, z, gate, start + at_tail, frame * d + at_tail, tail_mask,
                    HAS_Y, HAS_Z, GATED)  # fmt: skip
        if WRITES:
            kept_head = head.to(total.dtype.element_ty)
            kept_tail = tail.to(total.dtype.element_ty)
            tl.store(total + start + at_head, kept_head, mask=head_mask)
            tl.store(total + start + at_tail, kept_tail, mask=tail_mask)
            # The norm is of what is stored, as if a later kernel had read it.
            head, tail = kept_head.to(tl.float32), kept_tail.to(tl.float32)
        if NORMS:
            if not RMS:
                mean = (tl.sum(head, 0) + tl.sum(tail, 0)) / d
                head = tl.where(in_head, head - mean, 0.0)
                tail = tl.where(in_tail, tail - mean, 0.0)
            size = 1 / tl.sqrt((tl.sum(head * head, 0) + tl.sum(tail * tail, 0)) / d + eps)
            head = _finish(head * size, weight, bias, shift, scale, at_head, frame * d + at_head,
                           in_head, WEIGHTED, BIASED, MODULATES)  # fmt: skip
            tail = _finish(tail * size, weight, bias, shift, scale, at_tail, frame * d + at_tail,
                           in_tail, WEIGHTED, BIASED, MODULATES)  # fmt: skip
            tl.store(normed + start + at_head, head.to(normed.dtype.element_ty), mask=head_mask)
            tl.store(normed + start + at_tail, tail.to(normed.dtype.element_ty), mask=tail_mask)
