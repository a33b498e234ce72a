"""Each hot operation by one name; picks who runs it."""

from jaxtyping import Float, Int32, UInt8
from torch import Tensor

from longtake.kernels.reference.attention import (
    Memory,
    block_attention,
    causal_block_attention,
    causal_linear_attention,
    linear_attention,
    recall,
    remember,
    softmax_attention,
)
from longtake.kernels.reference.norm import rms_norm
from longtake.kernels.reference.raycast import raycast as _raycast_reference

__all__ = [
    "Memory",
    "block_attention",
    "causal_block_attention",
    "causal_linear_attention",
    "linear_attention",
    "raycast",
    "recall",
    "remember",
    "rms_norm",
    "softmax_attention",
]


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

        return fast(frame, parts, groups, spans, height, width, samples)
    return _raycast_reference(frame, parts, groups, spans, height, width, samples)
