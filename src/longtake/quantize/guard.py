"""Values that left the range of the arithmetic are named, and no picture is made of them."""

from typing import Any

import torch
from jaxtyping import Bool
from torch import Tensor, nn

from longtake.errors import CannotHere


def guard(blocks: nn.ModuleList, head: nn.Module, precision: str) -> None:
    """Stop at the first pass in which a layer leaves a number that is none.

    Each layer's output is looked at on the device; the one question to it comes after the head.

    Args:
        blocks: The layers.
        head: What comes after them.
        precision: Name of the arithmetic, for the message.
    """
    seen: list[Bool[Tensor, ""]] = []

    def note(_module: nn.Module, _inputs: Any, output: Any) -> None:  # noqa: ANN401 - any layer's
        x = output[0] if isinstance(output, tuple) else output
        seen.append(x.isfinite().all())

    def judge(_module: nn.Module, _inputs: Any, output: Tensor) -> None:  # noqa: ANN401
        fine = torch.stack([*seen, output.isfinite().all()]).tolist()
        seen.clear()
        if not all(fine):
            first = fine.index(False)
            where = f"layer {first} of {len(blocks)}" if first < len(blocks) else "the head"
            msg = (
                f"numbers left the range of {precision} in {where}, and no picture is made of "
                "that; try --precision bf16 or fp32"
            )
            raise CannotHere(msg)

    for block in blocks:
        block.register_forward_hook(note)
    head.register_forward_hook(judge)
