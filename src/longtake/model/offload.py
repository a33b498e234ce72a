"""Networks and layers whose weights wait in host memory and visit the device for their turn."""

import copy
from itertools import pairwise
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.func import functional_call

from longtake.model.attention import CrossAttention, LayerText
from longtake.model.transformer import Transformer


class Guest:
    """A network that keeps its weights on the host and has a copy on a device while it works.

    Nothing is copied back: a network that makes films does not change its weights.
    """

    def __init__(self, network: nn.Module) -> None:
        """Take a network that lies on the host."""
        self.network = network
        self._tensors = [*network.parameters(), *network.buffers()]
        self._at_home = [tensor.data for tensor in self._tensors]
        self._where: torch.device | None = None

    def arrive(self, device: torch.device) -> None:
        """Be on a device; who is there already is not copied again."""
        if device == self._where:
            return
        for tensor, home in zip(self._tensors, self._at_home, strict=True):
            tensor.data = home.to(device)
        self._where = device

    def leave(self) -> None:
        """Be on the host alone."""
        for tensor, home in zip(self._tensors, self._at_home, strict=True):
            tensor.data = home
        self._where = None


class Visiting(nn.Module):
    """A layer that keeps its weights on the host and runs on a device.

    While one layer computes, the weights of the next are on their way, on a stream of their own;
    so two layers' weights are on the device at a time.
    """

    def __init__(self, layer: nn.Module, device: torch.device) -> None:
        """Take a layer that lies on the host."""
        super().__init__()
        self.device = device
        self.after: list[Visiting] = []
        """The next layer, in a list, or it would count as a part of this one."""
        self._coming: dict[str, Tensor] | None = None
        self._copies = torch.cuda.Stream(device) if device.type == "cuda" else None
        if self._copies is not None:
            for weight in layer.parameters():
                weight.data = weight.data.pin_memory()
        self.layer = layer

    def fetch(self) -> None:
        """Start the way of the weights to the device."""
        if self._copies is None:
            self._coming = self._copy()
            return
        with torch.cuda.stream(self._copies):
            self._coming = self._copy()

    def forward(self, *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401 - the layer's own
        """Run the layer with weights that are there by then."""
        if self._coming is None:
            self.fetch()
        weights, self._coming = self._coming, None
        assert weights is not None
        if self._copies is not None:
            here = torch.cuda.current_stream(self.device)
            here.wait_stream(self._copies)
            for weight in weights.values():
                # The allocator must not hand this memory on before the layer has read it.
                weight.record_stream(here)
        for following in self.after:
            following.fetch()
        return functional_call(self.layer, weights, args, kwargs)

    def read(self, text: Float[Tensor, "b m d"], mask: Bool[Tensor, "b m"]) -> LayerText:
        """Run the layer's reading of a prompt with a copy of the weights that do it."""
        attention = self.layer.cross_attention
        assert isinstance(attention, CrossAttention)
        return copy.deepcopy(attention).to(self.device).read(text, mask)

    def _copy(self) -> dict[str, Tensor]:
        return {
            name: weight.to(self.device, non_blocking=True)
            for name, weight in self.layer.named_parameters()
        }


def keep_on_host(model: Transformer, device: torch.device) -> None:
    """Leave the layers of a model that lies on the host there; move the rest to the device."""
    layers = [Visiting(layer, device) for layer in model.blocks]
    for layer, following in pairwise(layers):
        layer.after = [following]
    model.blocks = nn.ModuleList()
    model.to(device)
    model.blocks = nn.ModuleList(layers)
