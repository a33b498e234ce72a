"""Self-attention over video tokens in three forms, in plain PyTorch: the kernels' contract."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float
from torch import Tensor

from longtake.kernels.reference.rows import rms_norm

EPS = 1e-8
"""Floor of the linear normaliser; the published value."""


NORM_EPS = 1e-5
"""Floor inside the norms of queries and keys; the published value."""


class Memory(NamedTuple):
    """Running sums of linear attention: as large after a minute as after a second."""

    sums: Float[Tensor, "b heads k v"]
    """Sum of rotated features of the keys times values, k'_n v_n^T."""
    total: Float[Tensor, "b heads 1 k"]
    """Sum of the features of the keys, not rotated."""

    def __add__(self, other: "Memory") -> "Memory":  # pyrefly: ignore
        """What both have seen."""
        return Memory(self.sums + other.sums, self.total + other.total)


def rotate(
    x: Float[Tensor, "b heads n k"],
    cos: Float[Tensor, "n half_k"],
    sin: Float[Tensor, "n half_k"],
) -> Float[Tensor, "b heads n k"]:
    """Turn each adjacent pair of channels by its position's angle.

    (a, b) -> (a cos - b sin, a sin + b cos), in float32, returned in the dtype of x.

    Source: Su et al. 2021 (rotary position embedding), eq. 13, interleaved layout.
    """
    even, odd = _wide(x).unflatten(-1, (-1, 2)).unbind(-1)
    turned = torch.stack((even * cos - odd * sin, even * sin + odd * cos), dim=-1)
    return turned.flatten(-2).to(x.dtype)


def linear_attention(
    query: Float[Tensor, "b heads n k"],
    key: Float[Tensor, "b heads n k"],
    value: Float[Tensor, "b heads n k"],
    cos: Float[Tensor, "n half_k"],
    sin: Float[Tensor, "n half_k"],
    eps: float = EPS,
) -> Float[Tensor, "b heads n k"]:
    """Attend to all tokens through a sum that does not grow with their number.

    o_j = (sum_n v_n k'_n^T) q'_j / (q_j . sum_n k_n + eps), with q = relu(query), k = relu(key)
    and ' for rotated. Rotation stays out of the denominator, so that it is never negative.
    Sums run in float32.

    Args:
        query: Normalised queries, before the ReLU.
        key: Normalised keys, before the ReLU.
        value: Values.
        cos: Cosine of each position's angles.
        sin: Sine of each position's angles.
        eps: Floor of the normaliser.

    Source: SANA-Video (arXiv 2509.24695), section 3.2.
    """
    memory = remember(key, value, cos, sin)
    return recall(query, cos, sin, memory, eps).to(value.dtype)


def remember(
    key: Float[Tensor, "b heads n k"],
    value: Float[Tensor, "b heads n k"],
    cos: Float[Tensor, "n half_k"],
    sin: Float[Tensor, "n half_k"],
) -> Memory:
    """The sums of `linear_attention` over some tokens; those of all are the sums of these.

    Args:
        key: Normalised keys, before the ReLU.
        value: Values.
        cos: Cosine of each position's angles.
        sin: Sine of each position's angles.
    """
    k = _wide(F.relu(key))
    return Memory(rotate(k, cos, sin).mT @ _wide(value), k.sum(dim=2, keepdim=True))


def recall(
    query: Float[Tensor, "b heads n k"],
    cos: Float[Tensor, "n half_k"],
    sin: Float[Tensor, "n half_k"],
    memory: Memory,
    eps: float = EPS,
) -> Float[Tensor, "b heads n v"]:
    """What queries find in sums that were made before, in float32.

    `linear_attention` is `remember` and then this; between the two, sums of other tokens can be
    added.

    Args:
        query: Normalised queries, before the ReLU.
        cos: Cosine of each position's angles.
        sin: Sine of each position's angles.
        memory: Sums over the tokens to attend to.
        eps: Floor of the normaliser.
    """
    q = _wide(F.relu(query))
    return _read(q, rotate(q, cos, sin), memory, eps)


def causal_linear_attention(
    query: Float[Tensor, "b heads n k"],
    key: Float[Tensor, "b heads n k"],
    value: Float[Tensor, "b heads n k"],
    cos: Float[Tensor, "n half_k"],
    sin: Float[Tensor, "n half_k"],
    chunks: Sequence[int],
    past: Memory | None = None,
    eps: float = EPS,
) -> tuple[Float[Tensor, "b heads n k"], Memory]:
    """Attend to all tokens of the own chunk and of those before it.

    As `linear_attention` with sums over the chunks up to the token's own, which for the next
    chunk go on where they are: one chunk and no past is `linear_attention` itself.

    Args:
        query: Normalised queries, before the ReLU.
        key: Normalised keys, before the ReLU.
        value: Values.
        cos: Cosine of each position's angles, counted from the start of the take.
        sin: Sine of each position's angles.
        chunks: Tokens of each chunk, in order; they sum to n.
        past: What the chunks before these left; None at the start of a take.
        eps: Floor of the normaliser.

    Returns:
        The output, and the memory after the last chunk.

    Source: SANA-Video (arXiv 2509.24695), section 3.3 (block linear attention).
    """
    outputs, memory = [], past
    for s in _slices(chunks):
        own = remember(key[:, :, s], value[:, :, s], cos[s], sin[s])
        memory = own if memory is None else memory + own
        outputs.append(recall(query[:, :, s], cos[s], sin[s], memory, eps))
    assert memory is not None, "no chunks"
    return torch.cat(outputs, dim=2).to(value.dtype), memory


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
    """`causal_linear_attention` from one projection to the next.

    Queries, keys and values lie side by side as a linear layer leaves them; queries and keys are
    normalised over all heads (RMSNorm, floor 1e-5), then split into heads. One chunk without a
    past is attention to all tokens.

    Args:
        qkv: Queries, keys and values of each token, d of each.
        norm_q: Weight of the queries' norm; None for no norm.
        norm_k: Weight of the keys' norm; None for no norm.
        rotary: Cosine and sine of each position's angles.
        heads: They divide d.
        chunks: Tokens of each chunk, in order; they sum to n.
        past: What the chunks before these left.
        eps: Floor of the normaliser.

    Returns:
        The output with its heads side by side, and the memory after the last chunk.
    """
    q, k, v = packed_heads(qkv, norm_q, norm_k, heads)
    y, memory = causal_linear_attention(q, k, v, *rotary, chunks, past, eps)
    return rearrange(y, "b heads n k -> b n (heads k)"), memory


def packed_heads(
    qkv: Float[Tensor, "b n d_d_d"],
    norm_q: Float[Tensor, " d"] | None,
    norm_k: Float[Tensor, " d"] | None,
    heads: int,
) -> tuple[
    Float[Tensor, "b heads n k"], Float[Tensor, "b heads n k"], Float[Tensor, "b heads n k"]
]:
    """Normalised queries and keys, and values, split into heads."""
    q, k, v = qkv.chunk(3, dim=-1)
    q = q if norm_q is None else rms_norm(q, norm_q, NORM_EPS)
    k = k if norm_k is None else rms_norm(k, norm_k, NORM_EPS)
    q, k, v = (rearrange(y, "b n (heads k) -> b heads n k", heads=heads) for y in (q, k, v))
    return q, k, v


def causal_block_attention(
    query: Float[Tensor, "b heads n k"],
    key: Float[Tensor, "b heads n k"],
    value: Float[Tensor, "b heads n k"],
    cos: Float[Tensor, "n half_k"],
    sin: Float[Tensor, "n half_k"],
    gate: Float[Tensor, " heads"],
    chunks: Sequence[int],
    past: Memory | None = None,
) -> tuple[Float[Tensor, "b heads n k"], Memory]:
    """Attend exactly inside the own chunk and linearly to the chunks before it.

    As `block_attention` with the chunks for segments, and of the others only those before. The
    first chunk of a take has none and is plain softmax attention.

    Args:
        query: Normalised queries, before the ReLU of the linear part.
        key: Normalised keys, before the ReLU of the linear part.
        value: Values.
        cos: Cosine of each position's angles, counted from the start of the take.
        sin: Sine of each position's angles.
        gate: Share of the exact part in each head, in [0, 1].
        chunks: Tokens of each chunk, in order; they sum to n.
        past: What the chunks before these left; None at the start of a take.

    Returns:
        The output, and the memory after the last chunk.
    """
    share = _wide(gate)[:, None, None]
    outputs, memory = [], past
    for s in _slices(chunks):
        q, k, v = query[:, :, s], key[:, :, s], value[:, :, s]
        y = softmax_attention(q, k, v, cos[s], sin[s])
        own = remember(k, v, cos[s], sin[s])
        if memory is not None:
            before = recall(q, cos[s], sin[s], memory)
            y = (share * _wide(y) + (1 - share) * before).to(value.dtype)
        memory = own if memory is None else memory + own
        outputs.append(y)
    assert memory is not None, "no chunks"
    return torch.cat(outputs, dim=2), memory


def softmax_attention(
    query: Float[Tensor, "b heads n k"],
    key: Float[Tensor, "b heads n k"],
    value: Float[Tensor, "b heads n k"],
    cos: Float[Tensor, "n half_k"],
    sin: Float[Tensor, "n half_k"],
) -> Float[Tensor, "b heads n k"]:
    """Attend to all tokens exactly, at quadratic cost: the baseline of comparisons.

    o = softmax(q' k'^T / sqrt(k)) v, with ' for rotated.
    """
    return F.scaled_dot_product_attention(rotate(query, cos, sin), rotate(key, cos, sin), value)


def text_attention(
    query: Float[Tensor, "b heads n k"],
    key: Float[Tensor, "b heads m k"],
    value: Float[Tensor, "b heads m k"],
    scores: Float[Tensor, "b 1 1 m"] | None,
) -> Float[Tensor, "b heads n k"]:
    """Attend to text tokens exactly, with a score added to each: softmax(q k^T / sqrt(k) + s) v."""
    return F.scaled_dot_product_attention(query, key, value, attn_mask=scores)


def block_attention(
    query: Float[Tensor, "b heads n k"],
    key: Float[Tensor, "b heads n k"],
    value: Float[Tensor, "b heads n k"],
    cos: Float[Tensor, "n half_k"],
    sin: Float[Tensor, "n half_k"],
    gate: Float[Tensor, " heads"],
    segments: Sequence[int],
) -> Float[Tensor, "b heads n k"]:
    """Attend exactly inside a segment and linearly to all other segments.

    o_j = g * softmax(q'_j K'_s^T / sqrt(k)) V_s
        + (1 - g) * (sum_{n not in s} v_n k'_n^T) q'_j / (q_j . sum_{n not in s} k_n + eps),
    where s is the segment of j. A single segment has no others and is plain softmax attention.

    Args:
        query: Normalised queries, before the ReLU of the linear part.
        key: Normalised keys, before the ReLU of the linear part.
        value: Values.
        cos: Cosine of each position's angles.
        sin: Sine of each position's angles.
        gate: Share of the exact part in each head, in [0, 1].
        segments: Tokens of each segment, in order; they sum to n.
    """
    q_turned, k_turned = rotate(query, cos, sin), rotate(key, cos, sin)
    exact = torch.cat(
        [
            F.scaled_dot_product_attention(q_turned[:, :, s], k_turned[:, :, s], value[:, :, s])
            for s in _slices(segments)
        ],
        dim=2,
    )
    if len(segments) == 1:
        return exact
    q = _wide(F.relu(query))
    q_linear = rotate(q, cos, sin)
    memories = [remember(key[:, :, s], value[:, :, s], cos[s], sin[s]) for s in _slices(segments)]
    sums, total = (torch.stack(part).sum(0) for part in zip(*memories, strict=True))
    across = torch.cat(
        [
            _read(q[:, :, s], q_linear[:, :, s], Memory(sums - own.sums, total - own.total))
            for s, own in zip(_slices(segments), memories, strict=True)
        ],
        dim=2,
    )
    share = _wide(gate)[:, None, None]
    return (share * _wide(exact) + (1 - share) * across).to(value.dtype)


def _wide(x: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """At least float32, in which sums run."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


def _read(
    q: Float[Tensor, "b heads n k"],
    q_turned: Float[Tensor, "b heads n k"],
    memory: Memory,
    eps: float = EPS,
) -> Float[Tensor, "b heads n v"]:
    """What the queries find in a memory: numerator over the never negative denominator."""
    return (q_turned @ memory.sums) / (q @ memory.total.mT + eps)


def _slices(lengths: Sequence[int]) -> Iterator[slice]:
    start = 0
    for length in lengths:
        yield slice(start, start + length)
        start += length
