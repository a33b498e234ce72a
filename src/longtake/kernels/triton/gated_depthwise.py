"""SiLU, depthwise 3x3 convolution and gate in one pass; the maths is in its namesake.

A program owns four rows of one frame and some pairs of channels (c, c + hidden), and sweeps the
columns. It reads six values a column and half, takes the SiLU of each once, and adds them to the
sums of the column before, this one and the next, which stay in registers: the one before is then
complete, gated and stored. A lane needs nothing of another, and a value is read and activated 1.5
times in all, where shifted loads would do so three times. As even so the units for exponentials
would be busy longer than memory, silu(x) = x/2 (1 + tanh(x/2)) takes the hardware's tanh, one such
operation in place of two. Sums are float32.
"""

# Values on the device have no Python type.

import torch
import triton
import triton.language as tl
from jaxtyping import Float
from torch import Tensor

CHANNELS, WARPS = 128, 2
"""Pairs of channels of a program, two a lane, and its warps."""
INTERPRETED = triton.knobs.runtime.interpret
"""The interpreter has no hardware tanh."""


def gated_depthwise(
    x: Float[Tensor, "b t s hidden_hidden"],
    weight: Float[Tensor, "hidden_hidden 1 3 3"],
    bias: Float[Tensor, " hidden_hidden"],
    height: int,
    tile: tuple[int, int] = (CHANNELS, WARPS),
) -> Float[Tensor, "b t s hidden"]:
    """SiLU, convolve each frame, gate the first half of the channels by the second."""
    b, t, s, double = x.shape
    x, hidden, width = x.contiguous(), double // 2, s // height
    # Taps first, so that a tap's channels lie side by side.
    taps = weight.reshape(double, 9).t().contiguous()
    out = torch.empty(b, t, s, hidden, dtype=x.dtype, device=x.device)
    channels, warps = tile
    _sweep[(triton.cdiv(hidden, channels), triton.cdiv(height, 4), b * t)](
        x, taps, bias, out, height, width, hidden,
        CHANNELS=channels, TANH=not INTERPRETED, num_warps=warps,  # pyrefly: ignore
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
def _load(x, row, column, height, width, stride, channel, fits, TANH: tl.constexpr):
    """Activated values of one place; zeros outside the frame, of which the SiLU is zero."""
    here = fits & (row >= 0) & (row < height) & (column < width)
    value = tl.load(x + (row * width + column) * stride + channel, mask=here, other=0.0)
    return _silu(value.to(tl.float32), TANH)


@triton.jit
def _tap(taps, number: tl.constexpr, stride, channel, fits):
    return tl.load(taps + number * stride + channel, mask=fits, other=0.0).to(tl.float32)


@triton.jit
def _row(last, own, bias, top, mid, low, w00, w01, w02, w10, w11, w12, w20, w21, w22):
    """One input column for one output row: to the column before, its own, and the next.

    One by one, so that each product is added as it is made.
    """
    last = last + top * w02
    last = last + mid * w12
    last = last + low * w22
    own = own + top * w01
    own = own + mid * w11
    own = own + low * w21
    after = bias + top * w00
    after = after + mid * w10
    return last, own, after + low * w20


@triton.jit
def _store(out, row, column, height, width, hidden, channel, fits, a, b, TANH: tl.constexpr):
    value = a * _silu(b, TANH)
    here = fits & (row < height) & (column >= 0)
    at = out + (row * width + column) * hidden + channel
    tl.store(at, value.to(out.dtype.element_ty), mask=here)


@triton.jit
def _sweep(
    x, taps, bias, out, height, width, hidden, CHANNELS: tl.constexpr, TANH: tl.constexpr
):  # fmt: skip
    channel = tl.program_id(0) * CHANNELS + tl.arange(0, CHANNELS)  # [CHANNELS]
    row, frame = tl.program_id(1) * 4, tl.program_id(2).to(tl.int64)
    fits, stride, gate = channel < hidden, 2 * hidden, channel + hidden
    x += frame * height * width * stride
    out += frame * height * width * hidden
    # a and b: the two halves of the channels. Digits of a tap: its row and column.
    a00, b00 = _tap(taps, 0, stride, channel, fits), _tap(taps, 0, stride, gate, fits)
    a01, b01 = _tap(taps, 1, stride, channel, fits), _tap(taps, 1, stride, gate, fits)
    a02, b02 = _tap(taps, 2, stride, channel, fits), _tap(taps, 2, stride, gate, fits)
    a10, b10 = _tap(taps, 3, stride, channel, fits), _tap(taps, 3, stride, gate, fits)
    a11, b11 = _tap(taps, 4, stride, channel, fits), _tap(taps, 4, stride, gate, fits)
    a12, b12 = _tap(taps, 5, stride, channel, fits), _tap(taps, 5, stride, gate, fits)
    a20, b20 = _tap(taps, 6, stride, channel, fits), _tap(taps, 6, stride, gate, fits)
    a21, b21 = _tap(taps, 7, stride, channel, fits), _tap(taps, 7, stride, gate, fits)
    a22, b22 = _tap(taps, 8, stride, channel, fits), _tap(taps, 8, stride, gate, fits)
    bias_a, bias_b = _tap(bias, 0, stride, channel, fits), _tap(bias, 0, stride, gate, fits)
    # Sums of four output rows, at the column before and at this one; both begin with the bias.
    last_a0, last_a1, last_a2, last_a3 = bias_a, bias_a, bias_a, bias_a
    last_b0, last_b1, last_b2, last_b3 = bias_b, bias_b, bias_b, bias_b
    own_a0, own_a1, own_a2, own_a3 = bias_a, bias_a, bias_a, bias_a
    own_b0, own_b1, own_b2, own_b3 = bias_b, bias_b, bias_b, bias_b
    # One column more than there are: the last of the frame is complete after it.
    for column in range(width + 1):
        u0 = _load(x, row - 1, column, height, width, stride, channel, fits, TANH)
        u1 = _load(x, row, column, height, width, stride, channel, fits, TANH)
        u2 = _load(x, row + 1, column, height, width, stride, channel, fits, TANH)
        u3 = _load(x, row + 2, column, height, width, stride, channel, fits, TANH)
        u4 = _load(x, row + 3, column, height, width, stride, channel, fits, TANH)
        u5 = _load(x, row + 4, column, height, width, stride, channel, fits, TANH)
        last_a0, own_a0, next_a0 = _row(
            last_a0, own_a0, bias_a, u0, u1, u2, a00, a01, a02, a10, a11, a12, a20, a21, a22,
        )  # fmt: skip
        last_a1, own_a1, next_a1 = _row(
            last_a1, own_a1, bias_a, u1, u2, u3, a00, a01, a02, a10, a11, a12, a20, a21, a22,
        )  # fmt: skip
        last_a2, own_a2, next_a2 = _row(
            last_a2, own_a2, bias_a, u2, u3, u4, a00, a01, a02, a10, a11, a12, a20, a21, a22,
        )  # fmt: skip
        last_a3, own_a3, next_a3 = _row(
            last_a3, own_a3, bias_a, u3, u4, u5, a00, a01, a02, a10, a11, a12, a20, a21, a22,
        )  # fmt: skip
        u0 = _load(x, row - 1, column, height, width, stride, gate, fits, TANH)
        u1 = _load(x, row, column, height, width, stride, gate, fits, TANH)
        u2 = _load(x, row + 1, column, height, width, stride, gate, fits, TANH)
        u3 = _load(x, row + 2, column, height, width, stride, gate, fits, TANH)
        u4 = _load(x, row + 3, column, height, width, stride, gate, fits, TANH)
        u5 = _load(x, row + 4, column, height, width, stride, gate, fits, TANH)
        last_b0, own_b0, next_b0 = _row(
            last_b0, own_b0, bias_b, u0, u1, u2, b00, b01, b02, b10, b11, b12, b20, b21, b22,
        )  # fmt: skip
        last_b1, own_b1, next_b1 = _row(
            last_b1, own_b1, bias_b, u1, u2, u3, b00, b01, b02, b10, b11, b12, b20, b21, b22,
        )  # fmt: skip
        last_b2, own_b2, next_b2 = _row(
            last_b2, own_b2, bias_b, u2, u3, u4, b00, b01, b02, b10, b11, b12, b20, b21, b22,
        )  # fmt: skip
        last_b3, own_b3, next_b3 = _row(
            last_b3, own_b3, bias_b, u3, u4, u5, b00, b01, b02, b10, b11, b12, b20, b21, b22,
        )  # fmt: skip
        at = column - 1
        _store(out, row, at, height, width, hidden, channel, fits, last_a0, last_b0, TANH)
        _store(out, row + 1, at, height, width, hidden, channel, fits, last_a1, last_b1, TANH)
        _store(out, row + 2, at, height, width, hidden, channel, fits, last_a2, last_b2, TANH)
        _store(out, row + 3, at, height, width, hidden, channel, fits, last_a3, last_b3, TANH)
        last_a0, last_a1, last_a2, last_a3 = own_a0, own_a1, own_a2, own_a3
        last_b0, last_b1, last_b2, last_b3 = own_b0, own_b1, own_b2, own_b3
        own_a0, own_a1, own_a2, own_a3 = next_a0, next_a1, next_a2, next_a3
        own_b0, own_b1, own_b2, own_b3 = next_b0, next_b1, next_b2, next_b3
