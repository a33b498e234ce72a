"""Low-rank changes to a model: W + strength * alpha / rank * B A, folded in or trained beside it.

Only the matrices inside the layers change: projections of both attentions, and the Mix-FFN's.

Source: Hu et al. 2021 (LoRA, arXiv 2106.09685), section 4.1.
"""

from collections.abc import Mapping
from functools import partial
from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from longtake.model.transformer import Transformer


class Factors(NamedTuple):
    """What is added to one matrix, as a product of two thin ones."""

    a: Float[Tensor, "rank columns"]
    b: Float[Tensor, "rows rank"]


def matrices(model: Transformer) -> dict[str, nn.Linear]:
    """The matrices that can change, by name."""
    return {
        f"blocks.{name}": layer
        for name, layer in model.blocks.named_modules()
        if isinstance(layer, nn.Linear)
    }


def shapes(model: Transformer) -> dict[str, tuple[int, int]]:
    """Rows and columns of the matrices that can change."""
    return {name: (m.out_features, m.in_features) for name, m in matrices(model).items()}


def change(factors: Factors, scale: float) -> Float[Tensor, "rows columns"]:
    """What is added to a matrix, in fp32: scale * B A."""
    return scale * (factors.b.float() @ factors.a.float())


@torch.no_grad()
def fold(model: Transformer, changes: Mapping[str, Factors], scale: float) -> None:
    """Add changes to the weights, so that running the model costs what it did.

    Each sum is made in fp32 and rounded once.

    Args:
        model: Its weights change in place.
        changes: Factors by the name of the matrix.
        scale: strength * alpha / rank.
    """
    layers = matrices(model)
    for name, factors in changes.items():
        weight = layers[name].weight
        here = Factors(*(part.to(weight.device) for part in factors))
        weight.copy_(weight.float() + change(here, scale))


class Branches(nn.Module):
    """Thin branches beside a model's matrices: the only weights that are trained.

    y = W x + alpha / rank * B (A x). B begins at zero, so that the first step sees the model as it
    is. The model itself is frozen and computes with the branches until `detach`.
    """

    def __init__(self, model: Transformer, rank: int, alpha: float) -> None:
        """Attach branches to all matrices that can change.

        Args:
            model: Is frozen.
            rank: Rows of A; at most the smallest side of a matrix.
            alpha: The branches' weight times the rank.
        """
        super().__init__()
        self.scale = alpha / rank
        self.a, self.b = nn.ParameterDict(), nn.ParameterDict()
        model.requires_grad_(False)
        self._handles = []
        for name, layer in matrices(model).items():
            rows, columns = layer.weight.shape
            device = layer.weight.device
            key = _key(name)
            self.a[key] = nn.Parameter(torch.randn(rank, columns, device=device) / columns**0.5)
            self.b[key] = nn.Parameter(torch.zeros(rows, rank, device=device))
            self._handles.append(layer.register_forward_hook(partial(self._add, key)))

    def _add(self, key: str, _layer: nn.Module, inputs: tuple[Tensor], y: Tensor) -> Tensor:
        x = inputs[0]
        return y + self.scale * F.linear(F.linear(x, self.a[key].to(x)), self.b[key].to(x))

    def changes(self) -> dict[str, Factors]:
        """The factors as they are now, by the name of the matrix."""
        return {
            key.replace("/", "."): Factors(self.a[key].detach(), self.b[key].detach())
            for key in self.a
        }

    def detach(self) -> None:
        """Let the model compute without the branches again."""
        for handle in self._handles:
            handle.remove()
        self._handles.clear()


def _key(name: str) -> str:
    """A parameter's name has no dots."""
    return name.replace(".", "/")
