"""The room each kernel takes, for plans: its results and what it works in, without any values.

Plans run shapes on the meta device. References keep more there than kernels do on a card, so while
a plan for a card is made, `ops` asks here.
"""

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from longtake.kernels.reference.attention import Memory
from longtake.kernels.trial import LARGEST_ERROR

_CARD: ContextVar[int] = ContextVar("card", default=0)
_RUNS = 256
"""Programs that share the tokens of a pass of linear attention, and keep sums each."""


@contextmanager
def planned_on(card_bytes: int) -> Iterator[None]:
    """Count what a card of so much memory would; 0 counts the references."""
    before = _CARD.set(card_bytes)
    try:
        yield
    finally:
        _CARD.reset(before)


def card_bytes(device: torch.device) -> int:
    """Memory of a card, or of the one that is planned for; 0 for a CPU."""
    match device.type:
        case "cuda":
            return torch.cuda.get_device_properties(device).total_memory
        case "meta":
            return _CARD.get()
        case _:
            return 0


def applies(x: Float[Tensor, "*shape"]) -> bool:
    """Whether a plan is made and a kernel would run."""
    return x.is_meta and _CARD.get() > 0 and x.dtype in LARGEST_ERROR


def like(x: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """A result of the input's shape."""
    return x.new_empty(x.shape)


def gated_depthwise(x: Float[Tensor, "b t s hidden_hidden"]) -> Float[Tensor, "b t s hidden"]:
    """Half the channels."""
    return x.new_empty(*x.shape[:-1], x.shape[-1] // 2)


def eight_bits(
    x: Float[Tensor, "*shape"], rows: int, columns: int
) -> tuple[UInt8[Tensor, "rows columns"], Float[Tensor, " rows"]]:
    """Codes and a scale a row."""
    return x.new_empty(rows, columns, dtype=torch.uint8), x.new_empty(rows, dtype=torch.float32)


def packed_linear_attention(
    qkv: Float[Tensor, "b n d_d_d"], heads: int, chunks: Sequence[int], past: Memory | None
) -> tuple[Float[Tensor, "b n d"], Memory]:
    """The result, sizes of the keys, and sums of every run of tokens."""
    b, n, width = qkv.shape
    size, runs = width // 3 // heads, math.ceil(_RUNS / (b * heads))
    out, memory = qkv.new_empty(b, n, width // 3), past
    for length in chunks:
        sizes = qkv.new_empty(b, length, dtype=torch.float32)
        sums = qkv.new_empty(b, heads, runs, size, size, dtype=torch.float32)
        total = qkv.new_empty(b, heads, runs, size, dtype=torch.float32)
        own = Memory(sums.sum(dim=2), total.sum(dim=2)[:, :, None])
        memory = own if memory is None else memory + own
        del sizes
    assert memory is not None, "no chunks"
    return out, memory
