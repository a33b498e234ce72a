"""Linear attention in three kernels; the maths is in `reference.attention`.

1. `_key_sizes`: 1 / rms of each token's keys over all heads. The queries' statistic is not needed:
   numerator and denominator are both linear in q, so it cancels.
2. `_gather`: a program takes one head and one run of tokens, and adds up k' v^T and k in float32.
   The runs are summed after it in a fixed order, on top of the memory of earlier chunks, so that
   the same tokens give the same bytes. The number of runs depends on the shape alone.
3. `_read`: q' S / (q . total + eps), written with the heads side by side for the next projection.

Rotation needs pairs of channels, so a tile is split into even and odd ones in registers, and each
half has a product of its own with the values. Products are taken of
bfloat16 (or what the inputs are) and summed in float32; the denominator is float32 throughout.

In float16 (NARROW) nothing is rounded before it is in range. The sums grow with the tokens: each
channel of the values is read divided by a power of two that brings its largest sum to 2^14 or more,
below 2^15. Queries are not normed here: each is divided by a power of two that leaves its largest
channel in [1, 2). Both powers are multiplied in again in float32, and the denominator has neither,
so that eps means what it does elsewhere. Normed keys are at most sqrt(d) times their weight. A key
that left float16 before makes its token NaN, which must stay: the card's max drops it unless asked.
"""

# Values on the device have no Python type.

import math
from collections.abc import Sequence

import torch
import triton
import triton.language as tl
from jaxtyping import Float
from torch import Tensor

from longtake.kernels.reference.attention import EPS, NORM_EPS, Memory
from longtake.kernels.triton.rows import split_of, warps_of

EXPONENT = tl.constexpr(0x7F800000)
"""The bits of the exponent of a float32: alone they are a power of two."""
ONE_OVER = tl.constexpr(0x7F000000)
"""From which the bits of a power of two are taken away, for those of one over it."""
LEAST, MOST = tl.constexpr(2.0**-100), tl.constexpr(2.0**100)
"""Powers of two that have an inverse, with room to multiply."""
TOKENS = 64
"""Tokens of a tile; 64 of float32 spill registers, hence bfloat16 only on a card."""
TILES = 1 if triton.knobs.runtime.interpret else 4
"""Tiles that a program reads the sums for, which are as large as two of them."""
INTERPRETED = triton.knobs.runtime.interpret
"""The interpreter multiplies the bits of bfloat16, so there the rounded values are widened."""
PROGRAMS = 2 if INTERPRETED else 256
"""Programs that share the tokens; about two for each multiprocessor of a large card."""


def packed_linear_attention(
    qkv: Float[Tensor, "b n d_d_d"],
    norm_q: Float[Tensor, " d"] | None,
    norm_k: Float[Tensor, " d"] | None,
    rotary: tuple[Float[Tensor, "n half_k"], Float[Tensor, "n half_k"]],
    heads: int,
    chunks: Sequence[int],
    past: Memory | None = None,
    eps: float = EPS,
) -> tuple[Float[Tensor, "b n d"], Memory]:
    """Attend to all tokens of the own chunk and of those before it."""
    b, n, width = qkv.shape
    qkv, (cos, sin) = qkv.contiguous(), (angle.contiguous() for angle in rotary)
    out = torch.empty(b, n, width // 3, dtype=qkv.dtype, device=qkv.device)
    memory, start = past, 0
    for length in chunks:
        place = (start, length)
        memory = _remembered(qkv, norm_k, cos, sin, heads, place, memory)
        _recall(qkv, norm_q, cos, sin, heads, place, memory, eps, out)
        start += length
    assert memory is not None, "no chunks"
    return out, memory


def runs_of(tokens: int, programs: int) -> int:
    """How many runs of whole tiles some tokens are cut into."""
    return max(min(math.ceil(PROGRAMS / programs), math.ceil(tokens / TOKENS)), 1)


def _remembered(
    qkv: Float[Tensor, "b n d_d_d"],
    norm_k: Float[Tensor, " d"] | None,
    cos: Float[Tensor, "n half_k"],
    sin: Float[Tensor, "n half_k"],
    heads: int,
    place: tuple[int, int],
    past: Memory | None,
) -> Memory:
    b, n, width = qkv.shape
    d = width // 3
    (start, length), size, kind = place, d // heads, {"device": qkv.device}
    normed = norm_k is not None
    sizes = torch.empty(b, length if normed else 1, dtype=torch.float32, **kind)
    if normed:
        head, tail = split_of(d)
        _key_sizes[(length, b)](
            qkv, sizes, start, length, n, d, NORM_EPS, HEAD=head, TAIL=tail,  # pyrefly: ignore
            num_warps=warps_of(d),  # pyrefly: ignore
        )  # fmt: skip
    runs = runs_of(length, b * heads)
    sums = torch.empty(b, heads, runs, size, size, dtype=torch.float32, **kind)
    total = torch.empty(b, heads, runs, size, dtype=torch.float32, **kind)
    half = max(triton.next_power_of_2(size // 2), 16)
    _gather[(heads, runs, b)](
        qkv, norm_k, sizes, cos, sin, sums, total, start, length, n, d, size, heads, runs,
        triton.cdiv(triton.cdiv(length, TOKENS), runs), NORMED=normed,  # pyrefly: ignore
        NARROW=qkv.dtype == torch.float16,  # pyrefly: ignore
        TOKENS=TOKENS, HALF=half, WIDE=INTERPRETED,  # pyrefly: ignore
        num_warps=8 if half >= 64 else 4, num_stages=1,  # pyrefly: ignore
    )  # fmt: skip
    own = Memory(sums.sum(dim=2), total.sum(dim=2)[:, :, None])
    return own if past is None else past + own


def _recall(
    qkv: Float[Tensor, "b n d_d_d"],
    norm_q: Float[Tensor, " d"] | None,
    cos: Float[Tensor, "n half_k"],
    sin: Float[Tensor, "n half_k"],
    heads: int,
    place: tuple[int, int],
    memory: Memory,
    eps: float,
    out: Float[Tensor, "b n d"],
) -> None:
    b, n, width = qkv.shape
    start, length = place
    size = width // 3 // heads
    half = max(triton.next_power_of_2(size // 2), 16)
    sums, total, units = memory.sums, memory.total.contiguous(), None
    if qkv.dtype == torch.float16:
        units = units_of(sums)
        sums = sums / units
    # Once here, or every program would round them for itself.
    sums = sums.to(qkv.dtype).contiguous()
    _read[(heads, triton.cdiv(length, TOKENS * TILES), b)](
        qkv, norm_q, cos, sin, sums, total, units, out, start, length, n, width // 3, size, heads,
        eps, NARROW=units is not None, NORMED=norm_q is not None,  # pyrefly: ignore
        TOKENS=TOKENS, HALF=half, WIDE=INTERPRETED, TILES=TILES,  # pyrefly: ignore
        num_warps=4, num_stages=1,  # pyrefly: ignore
    )  # fmt: skip


def units_of(sums: Float[Tensor, "b heads k v"]) -> Float[Tensor, "b heads 1 v"]:
    """Powers of two in which the largest sum of each channel of the values is in [2^14, 2^15)."""
    most = sums.float().abs().amax(dim=2, keepdim=True)
    power = (most.view(torch.int32) & EXPONENT.value).view(torch.float32)
    # Of nothing but zeros any unit will do, and what is no number is none in any unit.
    return power.clamp(LEAST.value, MOST.value) * 2.0**-14


@triton.jit
def _key_sizes(qkv, sizes, start, length, n, d, eps, HEAD: tl.constexpr, TAIL: tl.constexpr):
    token, sample = tl.program_id(0), tl.program_id(1).to(tl.int64)
    base = (sample * n + start + token) * 3 * d + d
    at = tl.arange(0, HEAD)  # [HEAD]
    key = tl.load(qkv + base + at, mask=at < d, other=0.0).to(tl.float32)
    rest = HEAD + tl.arange(0, TAIL)  # [TAIL]
    more = tl.load(qkv + base + rest, mask=rest < d, other=0.0).to(tl.float32)
    square = tl.sum(key * key, 0) + tl.sum(more * more, 0)
    tl.store(sizes + sample * length + token, 1 / tl.sqrt(square / d + eps))


@triton.jit
def _product(one, two, WIDE: tl.constexpr):
    if WIDE:
        one, two = one.to(tl.float32), two.to(tl.float32)
    return tl.dot(one, two, input_precision="ieee")


@triton.jit
def _relu(x, NARROW: tl.constexpr):
    if NARROW:
        value = tl.maximum(x, 0.0, propagate_nan=tl.PropagateNan.ALL)
    else:
        value = tl.maximum(x, 0.0)
    return value


@triton.jit
def _power_in(size):
    """The largest power of two not above a size, and one over it."""
    bits = tl.minimum(tl.maximum(size, LEAST), MOST).to(tl.int32, bitcast=True) & EXPONENT
    return bits.to(tl.float32, bitcast=True), (-bits + ONE_OVER).to(tl.float32, bitcast=True)


@triton.jit
def _pairs(pointer, row, column, mask, TOKENS: tl.constexpr, HALF: tl.constexpr):
    x = tl.load(pointer + row[:, None] + column[None, :], mask=mask, other=0.0)
    even, odd = tl.split(tl.reshape(x, [TOKENS, HALF, 2]))  # [TOKENS, HALF] each
    return even.to(tl.float32), odd.to(tl.float32)


@triton.jit
def _weights(norm, head, size, pair, fits, NORMED: tl.constexpr, HALF: tl.constexpr):
    even = tl.full([HALF], 1.0, tl.float32)
    odd = tl.full([HALF], 1.0, tl.float32)
    if NORMED:
        even = tl.load(norm + head * size + 2 * pair, mask=fits, other=0.0).to(tl.float32)
        odd = tl.load(norm + head * size + 2 * pair + 1, mask=fits, other=0.0).to(tl.float32)
    return even, odd


@triton.jit
def _gather(
    qkv, norm, sizes, cos, sin, sums, total, start, length, n, d, size, heads, runs, tiles,
    NARROW: tl.constexpr, NORMED: tl.constexpr, TOKENS: tl.constexpr, HALF: tl.constexpr,
    WIDE: tl.constexpr,
):  # fmt: skip
    head, run, sample = tl.program_id(0), tl.program_id(1), tl.program_id(2).to(tl.int64)
    pair = tl.arange(0, HALF)  # [HALF]
    column = tl.arange(0, 2 * HALF)  # [2 HALF]
    fits, column_fits = pair < size // 2, column < size
    weight_even, weight_odd = _weights(norm, head, size, pair, fits, NORMED, HALF)
    sum_even = tl.zeros([HALF, 2 * HALF], tl.float32)
    sum_odd = tl.zeros([HALF, 2 * HALF], tl.float32)
    total_even = tl.zeros([HALF], tl.float32)
    total_odd = tl.zeros([HALF], tl.float32)
    for tile in range(tiles):
        token = (run * tiles + tile) * TOKENS + tl.arange(0, TOKENS)  # [TOKENS]
        here = token < length
        mask = here[:, None] & fits[None, :]
        wide_mask = here[:, None] & column_fits[None, :]
        row = (sample * n + start + token) * 3 * d + head * size
        even, odd = _pairs(qkv, row + d, column, wide_mask, TOKENS, HALF)
        value = tl.load(
            qkv + row[:, None] + 2 * d + column[None, :], mask=wide_mask, other=0.0
        )  # [TOKENS, 2 HALF]
        kind = value.dtype
        scale_even, scale_odd = weight_even[None, :], weight_odd[None, :]
        if NORMED:
            key_size = tl.load(sizes + sample * length + token, mask=here, other=0.0)
            scale_even = scale_even * key_size[:, None]
            scale_odd = scale_odd * key_size[:, None]
        even = _relu(even * scale_even, NARROW)
        odd = _relu(odd * scale_odd, NARROW)
        total_even += tl.sum(even, 0)
        total_odd += tl.sum(odd, 0)
        angle = (start + token)[:, None] * (size // 2) + pair[None, :]
        c = tl.load(cos + angle, mask=mask, other=0.0)
        s = tl.load(sin + angle, mask=mask, other=0.0)
        turned_even = (even * c - odd * s).to(kind)
        turned_odd = (even * s + odd * c).to(kind)
        sum_even += _product(tl.trans(turned_even), value, WIDE)
        sum_odd += _product(tl.trans(turned_odd), value, WIDE)
    place = (sample * heads + head) * runs + run
    tl.store(total + place * size + 2 * pair, total_even, mask=fits)
    tl.store(total + place * size + 2 * pair + 1, total_odd, mask=fits)
    kept = fits[:, None] & column_fits[None, :]
    at = place * size * size + 2 * pair[:, None] * size + column[None, :]
    tl.store(sums + at, sum_even, mask=kept)
    tl.store(sums + at + size, sum_odd, mask=kept)


@triton.jit
def _read(
    qkv, norm, cos, sin, sums, total, units, out, start, length, n, d, size, heads, eps,
    NARROW: tl.constexpr, NORMED: tl.constexpr, TOKENS: tl.constexpr, HALF: tl.constexpr,
    WIDE: tl.constexpr, TILES: tl.constexpr,
):  # fmt: skip
    head, group, sample = tl.program_id(0), tl.program_id(1), tl.program_id(2).to(tl.int64)
    pair = tl.arange(0, HALF)  # [HALF]
    column = tl.arange(0, 2 * HALF)  # [2 HALF]
    fits, column_fits = pair < size // 2, column < size
    weight_even, weight_odd = _weights(norm, head, size, pair, fits, NORMED, HALF)
    place = sample * heads + head
    total_even = tl.load(total + place * size + 2 * pair, mask=fits, other=0.0)
    total_odd = tl.load(total + place * size + 2 * pair + 1, mask=fits, other=0.0)
    kept = fits[:, None] & column_fits[None, :]
    at = place * size * size + 2 * pair[:, None] * size + column[None, :]  # [HALF, 2 HALF]
    kind = qkv.dtype.element_ty
    sum_even = tl.load(sums + at, mask=kept, other=0.0)
    sum_odd = tl.load(sums + at + size, mask=kept, other=0.0)
    for tile in range(TILES):
        token = (group * TILES + tile) * TOKENS + tl.arange(0, TOKENS)  # [TOKENS]
        here = token < length
        mask = here[:, None] & fits[None, :]
        wide_mask = here[:, None] & column_fits[None, :]
        row = sample * n + start + token
        even, odd = _pairs(qkv, row * 3 * d + head * size, column, wide_mask, TOKENS, HALF)
        even = _relu(even * weight_even[None, :], NARROW)
        odd = _relu(odd * weight_odd[None, :], NARROW)
        below = tl.sum(even * total_even[None, :] + odd * total_odd[None, :], 1) + eps  # [TOKENS]
        if NARROW:
            power, inverse = _power_in(tl.maximum(tl.max(even, 1), tl.max(odd, 1)))  # [TOKENS]
            even, odd = even * inverse[:, None], odd * inverse[:, None]
        angle = (start + token)[:, None] * (size // 2) + pair[None, :]
        c = tl.load(cos + angle, mask=mask, other=0.0)
        s = tl.load(sin + angle, mask=mask, other=0.0)
        turned_even = (even * c - odd * s).to(kind)
        turned_odd = (even * s + odd * c).to(kind)
        above = _product(turned_even, sum_even, WIDE)
        above += _product(turned_odd, sum_odd, WIDE)
        if NARROW:
            unit = tl.load(units + place * size + column, mask=column_fits, other=0.0)
            value = above * unit[None, :] * (power / below)[:, None]  # pyrefly: ignore
        else:
            value = above / below[:, None]
        tl.store(
            out + row[:, None] * d + head * size + column[None, :],
            value.to(kind),
            mask=wide_mask,
        )
