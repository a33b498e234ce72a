"""Self-attention over video tokens in three forms, in plain PyTorch: the kernels' contract."""

from collections.abc import Iterator, Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

EPS = 1e-8
"""Floor of the linear normaliser; the published value."""


def rotate(
    x: Float[Tensor, "b heads n k"],
    cos: Float[Tensor, "n half_k"],
    sin: Float[Tensor, "n half_k"],
) -> Float[Tensor, "b heads n k"]:
    """Turn each adjacent pair of channels by its position's angle.

    (a, b) -> (a cos - b sin, a sin + b cos), in float32, returned in the dtype of x.

    Source: Su et al. 2021 (rotary position embedding), eq. 13, interleaved layout.
    """
    even, odd = x.float().unflatten(-1, (-1, 2)).unbind(-1)
    turned = torch.stack((even * cos - odd * sin, even * sin + odd * cos), dim=-1)
    return turned.flatten(-2).to(x.dtype)


def linear_attention(
    query: Float[Tensor, "b heads n k"],
    key: Float[Tensor, "b heads n k"],
    value: Float[Tensor, "b heads n k"],
    cos: Float[Tensor, "n half_k"],
    sin: Float[Tensor, "n half_k"],
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

    Source: SANA-Video (arXiv 2509.24695), section 3.2.
    """
    q, k = F.relu(query).float(), F.relu(key).float()
    memory = rotate(k, cos, sin).mT @ value.float()
    total = k.sum(dim=2, keepdim=True)
    return _read(q, rotate(q, cos, sin), memory, total).to(value.dtype)


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
    q, k = F.relu(query).float(), F.relu(key).float()
    q_linear, k_linear, v = rotate(q, cos, sin), rotate(k, cos, sin), value.float()
    memories = [k_linear[:, :, s].mT @ v[:, :, s] for s in _slices(segments)]
    totals = [k[:, :, s].sum(dim=2, keepdim=True) for s in _slices(segments)]
    memory, total = torch.stack(memories).sum(0), torch.stack(totals).sum(0)
    across = torch.cat(
        [
            _read(q[:, :, s], q_linear[:, :, s], memory - own, total - own_total)
            for s, own, own_total in zip(_slices(segments), memories, totals, strict=True)
        ],
        dim=2,
    )
    share = gate.float()[:, None, None]
    return (share * exact.float() + (1 - share) * across).to(value.dtype)


def _read(
    q: Float[Tensor, "b heads n k"],
    q_turned: Float[Tensor, "b heads n k"],
    memory: Float[Tensor, "b heads k v"],
    total: Float[Tensor, "b heads 1 k"],
) -> Float[Tensor, "b heads n v"]:
    """What the queries find in a memory: numerator over the never negative denominator."""
    return (q_turned @ memory) / (q @ total.mT + EPS)


def _slices(lengths: Sequence[int]) -> Iterator[slice]:
    start = 0
    for length in lengths:
        yield slice(start, start + length)
        start += length
