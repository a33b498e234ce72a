"""Each hot operation by one name; picks who runs it.

On a CUDA card inference in bfloat16 and float16 runs the Triton kernels, once each has agreed with
its reference on that card; everything else runs the reference: a CPU, other numbers, training, and
a graph that torch.compile makes, which fuses for itself.
"""

from collections.abc import Sequence
from contextlib import AbstractContextManager

import torch
from jaxtyping import Float, Int32, UInt8
from torch import Tensor

from longtake.kernels import cudnn, planned, trial
from longtake.kernels.reference import attention as plain_attention
from longtake.kernels.reference import gated_depthwise as plain_depthwise
from longtake.kernels.reference import low_bits as plain_low_bits
from longtake.kernels.reference import rows as plain_rows
from longtake.kernels.reference.attention import (
    EPS,
    Memory,
    block_attention,
    causal_block_attention,
    causal_linear_attention,
    linear_attention,
    packed_heads,
    recall,
    remember,
    softmax_attention,
)
from longtake.kernels.reference.raycast import raycast as _raycast_reference
from longtake.kernels.reference.rows import Channels, PerFrame, Tokens

__all__ = [
    "Memory",
    "block_attention",
    "causal_block_attention",
    "causal_linear_attention",
    "gated_depthwise",
    "gated_residual",
    "linear_attention",
    "modulated_norm",
    "packed_heads",
    "packed_linear_attention",
    "paths",
    "raycast",
    "recall",
    "remember",
    "residual_norm",
    "rms_norm",
    "rms_silu",
    "softmax_attention",
    "taps_to_fp8",
    "text_attention",
    "to_fp8",
]

WIDEST = 8192
"""Channels of a row that one program can hold."""
WIDEST_SHORT = 4096
"""Channels of a row of which one program holds several."""
LARGEST_HEAD = 128
"""Channels of a head whose sums fit a program's registers."""


def modulated_norm(
    x: Tokens,
    shift: PerFrame,
    scale: PerFrame,
    eps: float,
    weight: Channels | None = None,
    bias: Channels | None = None,
) -> Tokens:
    """LayerNorm of each token, shifted and scaled; see `reference.rows`."""
    if planned.applies(x):
        return planned.like(x)
    if _fast(x) and x.shape[-1] <= WIDEST and trial.passed("rows", x):
        from longtake.kernels.triton import rows

        with _own_card(x):
            return rows.modulated_norm(x, shift, scale, eps, weight, bias)
    return plain_rows.modulated_norm(x, shift, scale, eps, weight, bias)


def gated_residual(x: Tokens, gate: PerFrame, y: Tokens, z: Tokens | None = None) -> Tokens:
    """X + gate * (y + z); see `reference.rows`."""
    if planned.applies(x):
        return planned.like(x)
    if _fast(x) and x.shape[-1] <= WIDEST and trial.passed("rows", x):
        from longtake.kernels.triton import rows

        with _own_card(x):
            return rows.gated_residual(x, gate, y, z)
    return plain_rows.gated_residual(x, gate, y, z)


def residual_norm(
    x: Tokens,
    y: Tokens,
    shift: PerFrame,
    scale: PerFrame,
    eps: float,
    weight: Channels | None = None,
    bias: Channels | None = None,
) -> tuple[Tokens, Tokens]:
    """X + y, and its modulated norm; see `reference.rows`."""
    if planned.applies(x):
        return planned.like(x), planned.like(x)
    if _fast(x) and x.shape[-1] <= WIDEST and trial.passed("rows", x):
        from longtake.kernels.triton import rows

        with _own_card(x):
            return rows.residual_norm(x, y, shift, scale, eps, weight, bias)
    return plain_rows.residual_norm(x, y, shift, scale, eps, weight, bias)


def rms_norm(
    x: Float[Tensor, "*batch c"], weight: Float[Tensor, " c"], eps: float
) -> Float[Tensor, "*batch c"]:
    """Scale each row to unit size; see `reference.rows`."""
    if planned.applies(x):
        return planned.like(x)
    if _fast(x) and 128 <= x.shape[-1] <= WIDEST and trial.passed("rows", x):
        from longtake.kernels.triton import rows

        with _own_card(x):
            return rows.rms_norm(x, weight, eps)
    return plain_rows.rms_norm(x, weight, eps)


def rms_silu(
    x: Float[Tensor, "*batch c"],
    weight: Float[Tensor, " c"] | None,
    eps: float,
    bias: Float[Tensor, " c"] | None = None,
) -> Float[Tensor, "*batch c"]:
    """silu(rms_norm(x + bias)) of channels-last rows; see `reference.rows`."""
    if planned.applies(x):
        return planned.like(x)
    if _fast(x) and x.shape[-1] <= WIDEST_SHORT and trial.passed("rms_silu", x):
        from longtake.kernels.triton.rms_silu import rms_silu as fast

        with _own_card(x):
            return fast(x, weight, eps, bias)
    return plain_rows.rms_silu(x, weight, eps, bias)


def gated_depthwise(
    x: Float[Tensor, "b t s hidden_hidden"],
    weight: Float[Tensor, "hidden_hidden 1 3 3"],
    bias: Float[Tensor, " hidden_hidden"],
    height: int,
) -> Float[Tensor, "b t s hidden"]:
    """SiLU, depthwise 3x3, gate; see `reference.gated_depthwise`."""
    if planned.applies(x):
        return planned.gated_depthwise(x)
    if _fast(x) and trial.passed("gated_depthwise", x):
        from longtake.kernels.triton.gated_depthwise import gated_depthwise as fast

        with _own_card(x):
            return fast(x, weight, bias, height)
    return plain_depthwise.gated_depthwise(x, weight, bias, height)


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
    """Linear attention from one projection to the next; see `reference.attention`."""
    if planned.applies(qkv):
        return planned.packed_linear_attention(qkv, heads, chunks, past)
    size = qkv.shape[-1] // 3 // heads
    if _fast(qkv) and size <= LARGEST_HEAD and trial.passed("attention", qkv):
        from longtake.kernels.triton.attention import packed_linear_attention as fast

        with _own_card(qkv):
            return fast(qkv, norm_q, norm_k, rotary, heads, chunks, past, eps)
    return plain_attention.packed_linear_attention(
        qkv, norm_q, norm_k, rotary, heads, chunks, past, eps
    )


def text_attention(
    query: Float[Tensor, "b heads n k"],
    key: Float[Tensor, "b heads m k"],
    value: Float[Tensor, "b heads m k"],
    scores: Float[Tensor, "b 1 1 m"] | None,
) -> Float[Tensor, "b heads n k"]:
    """Attend to text tokens; see `reference.attention`."""
    if planned.applies(query):
        return planned.like(query)
    if _fast(query) and trial.passed("text_attention", query):
        return cudnn.text_attention(query, key, value, scores)
    return plain_attention.text_attention(query, key, value, scores)


def to_fp8(
    x: Float[Tensor, "n columns"],
) -> tuple[UInt8[Tensor, "n columns"], Float[Tensor, " n"]]:
    """Rows in eight bits with a scale each; see `reference.low_bits`."""
    if planned.applies(x):
        return planned.eight_bits(x, *x.shape)
    if _fast(x) and x.shape[-1] <= WIDEST and trial.passed("low_bits", x):
        from longtake.kernels.triton import low_bits

        with _own_card(x):
            return low_bits.to_fp8(x)
    return plain_low_bits.to_fp8(x)


def taps_to_fp8(
    x: Float[Tensor, "b t s d"],
    past: Float[Tensor, "b s d"] | None,
    following: Float[Tensor, "b s d"] | None,
) -> tuple[UInt8[Tensor, "n d_d_d"], Float[Tensor, " n"]]:
    """What a convolution over time reads, in eight bits; see `reference.low_bits`."""
    if planned.applies(x):
        return planned.eight_bits(x, x[..., 0].numel(), 3 * x.shape[-1])
    if _fast(x) and x.shape[-1] <= WIDEST_SHORT and trial.passed("low_bits", x):
        from longtake.kernels.triton import low_bits

        with _own_card(x):
            return low_bits.taps_to_fp8(x, past, following)
    return plain_low_bits.taps_to_fp8(x, past, following)


def raycast(
    frame: Float[Tensor, "f params"],
    parts: Float[Tensor, "f parts part_params"],
    groups: Float[Tensor, "f groups group_params"],
    spans: Int32[Tensor, "groups 2"],
    height: int,
    width: int,
    samples: int = 2,
) -> UInt8[Tensor, "f height width 3"]:
    """Film frames of the previz world; see `reference.raycast` for the tables."""
    if frame.is_cuda:
        from longtake.kernels.triton.raycast import raycast as fast

        with _own_card(frame):
            return fast(frame, parts, groups, spans, height, width, samples)
    return _raycast_reference(frame, parts, groups, spans, height, width, samples)


def paths(device: torch.device) -> dict[str, str]:
    """Which path each kernel takes on a device in each arithmetic, and why."""
    return {name: trial.told(name, device) for name in trial.CASES}


def _own_card(x: Float[Tensor, "*shape"]) -> AbstractContextManager[object]:
    """Where a kernel is launched: Triton takes the thread's card, whatever its tensors lie on."""
    return torch.cuda.device_of(x)


def _fast(x: Float[Tensor, "*shape"]) -> bool:
    """Whether kernels may run at all: they know inference in 16 bits, and no derivatives."""
    return (
        x.is_cuda
        and x.dtype in trial.LARGEST_ERROR
        and x.numel() > 0
        and not torch.is_grad_enabled()
        and not torch.compiler.is_compiling()
    )
