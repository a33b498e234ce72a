"""SiLU, depthwise 3x3 convolution and gate in one pass; the maths is in its namesake.

A program owns one frame, a few columns and a few pairs of channels (c, c + hidden), and sweeps
the rows. Each input row is read with its left and right neighbours and adds to three output rows,
whose sums stay in registers: the one above is then complete, gated and stored. So a value comes
from memory once and from the cache twice more, and its SiLU is taken three times. That would keep
the units for exponentials busy longer than memory, hence silu(x) = x/2 (1 + tanh(x/2)) with the
hardware's tanh, one such operation in place of two. Sums are float32.
"""

# Values on the device have no Python type.

import torch
import triton
import triton.language as tl
from jaxtyping import Float
from torch import Tensor

COLUMNS, CHANNELS, WARPS = 4, 64, 4
"""Tile of a program: two values a lane and half, in 64 registers, so that 32 warps fit a
multiprocessor; it divides the published shapes, of 52 and 40 columns and 6720 channels."""
INTERPRETED = triton.knobs.runtime.interpret
"""The interpreter has no hardware tanh."""


def gated_depthwise(
    x: Float[Tensor, "b t s hidden_hidden"],
    weight: Float[Tensor, "hidden_hidden 1 3 3"],
    bias: Float[Tensor, " hidden_hidden"],
    height: int,
    tile: tuple[int, int, int] = (COLUMNS, CHANNELS, WARPS),
) -> Float[Tensor, "b t s hidden"]:
    """SiLU, convolve each frame, gate the first half of the channels by the second."""
    b, t, s, double = x.shape
    x, hidden, width = x.contiguous(), double // 2, s // height
    # Taps first, so that a tap's channels lie side by side.
    taps = weight.reshape(double, 9).t().contiguous()
    out = torch.empty(b, t, s, hidden, dtype=x.dtype, device=x.device)
    columns, channels, warps = tile
    _sweep[(triton.cdiv(hidden, channels), triton.cdiv(width, columns), b * t)](
        x, taps, bias, out, height, width, hidden,
        COLUMNS=columns, CHANNELS=channels, TANH=not INTERPRETED,  # pyrefly: ignore
        num_warps=warps,  # pyrefly: ignore
    )  # fmt: skip
    return out


@triton.jit
def _silu(x, TANH: tl.constexpr):
    if TANH:
        half = 0.5 * x
        tanh = tl.inline_asm_elementwise(
            "tanh.approx.f32 $0, $1;", "=f,f", [half], dtype=tl.float32, is_pure=True, pack=1
        )
        value = half * tanh + half
    else:
        value = x / (1 + tl.exp(-x))
    return value


@triton.jit
def _tap(taps, number: tl.constexpr, channel, hidden, fits):
    one = tl.load(taps + number * 2 * hidden + channel, mask=fits, other=0.0).to(tl.float32)
    two = tl.load(taps + number * 2 * hidden + hidden + channel, mask=fits, other=0.0).to(
        tl.float32
    )
    return one[None, :], two[None, :]


@triton.jit
def _sweep(
    x, taps, bias, out, height, width, hidden,
    COLUMNS: tl.constexpr, CHANNELS: tl.constexpr, TANH: tl.constexpr,
):  # fmt: skip
    channel = tl.program_id(0) * CHANNELS + tl.arange(0, CHANNELS)  # [CHANNELS]
    column = tl.program_id(1) * COLUMNS + tl.arange(0, COLUMNS)  # [COLUMNS]
    frame = tl.program_id(2).to(tl.int64)
    fits = channel < hidden
    # a and b: the two halves. Digits: row and column of the tap.
    a00, b00 = _tap(taps, 0, channel, hidden, fits)
    a01, b01 = _tap(taps, 1, channel, hidden, fits)
    a02, b02 = _tap(taps, 2, channel, hidden, fits)
    a10, b10 = _tap(taps, 3, channel, hidden, fits)
    a11, b11 = _tap(taps, 4, channel, hidden, fits)
    a12, b12 = _tap(taps, 5, channel, hidden, fits)
    a20, b20 = _tap(taps, 6, channel, hidden, fits)
    a21, b21 = _tap(taps, 7, channel, hidden, fits)
    a22, b22 = _tap(taps, 8, channel, hidden, fits)
    bias_a = tl.load(bias + channel, mask=fits, other=0.0).to(tl.float32)[None, :]
    bias_b = tl.load(bias + hidden + channel, mask=fits, other=0.0).to(tl.float32)[None, :]
    above_a = tl.zeros([COLUMNS, CHANNELS], tl.float32)
    above_b = tl.zeros([COLUMNS, CHANNELS], tl.float32)
    own_a = tl.zeros([COLUMNS, CHANNELS], tl.float32)
    own_b = tl.zeros([COLUMNS, CHANNELS], tl.float32)
    at_column = column[:, None] * (2 * hidden) + channel[None, :]  # [COLUMNS, CHANNELS]
    middle = (column < width)[:, None] & fits[None, :]
    left = ((column > 0) & (column <= width))[:, None] & fits[None, :]
    right = (column + 1 < width)[:, None] & fits[None, :]
    # One row more than there are: the last of the picture is complete after it.
    for row in range(height + 1):
        inside = row < height
        at = x + (frame * height + row) * width * 2 * hidden + at_column
        u = _silu(tl.load(at - 2 * hidden, mask=left & inside, other=0.0).to(tl.float32), TANH)
        above_a += u * a20
        own_a += u * a10
        below_a = u * a00
        u = _silu(tl.load(at, mask=middle & inside, other=0.0).to(tl.float32), TANH)
        above_a += u * a21
        own_a += u * a11
        below_a += u * a01
        u = _silu(tl.load(at + 2 * hidden, mask=right & inside, other=0.0).to(tl.float32), TANH)
        above_a += u * a22
        own_a += u * a12
        below_a += u * a02
        u = _silu(tl.load(at - hidden, mask=left & inside, other=0.0).to(tl.float32), TANH)
        above_b += u * b20
        own_b += u * b10
        below_b = u * b00
        u = _silu(tl.load(at + hidden, mask=middle & inside, other=0.0).to(tl.float32), TANH)
        above_b += u * b21
        own_b += u * b11
        below_b += u * b01
        u = _silu(tl.load(at + 3 * hidden, mask=right & inside, other=0.0).to(tl.float32), TANH)
        above_b += u * b22
        own_b += u * b12
        below_b += u * b02
        done = (above_a + bias_a) * _silu(above_b + bias_b, TANH)
        place = ((frame * height + row - 1) * width + column[:, None]) * hidden + channel[None, :]
        tl.store(out + place, done.to(out.dtype.element_ty), mask=middle & (row > 0))
        above_a, above_b = own_a, own_b
        own_a, own_b = below_a, below_b
