"""Which layers of a denoiser go into few bits, and putting them in their places."""

from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from longtake.quantize.codec import Format
from longtake.quantize.layer import QuantizedLinear, Way

LOW = (
    "self_attention.qkv",
    "self_attention.out",
    "cross_attention.q",
    "cross_attention.kv",
    "cross_attention.out",
    "feed_forward.up",
    "feed_forward.down",
    "feed_forward.temporal",
)
"""What goes into few bits in every layer: nine tenths of the weights and of the time.

High stay the queries, keys and values themselves and the sums over them, norms, noise level,
patches, head, the text's projections, and the depthwise convolution. So did the low-bit releases of
this family (SVDQuant for SANA, SANA-Streaming), apart from the temporal convolution and the weights
that make the text's keys and values, which some of them kept; `longtake precision-report` shows
what each costs.
"""
HIGH: dict[Format, tuple[str, ...]] = {"fp8": (), "nvfp4": ("self_attention.out",)}
"""What of these stays high in a format, as what costs nvfp4 the most for its size.

A twentieth of the weights makes a sixth of the squared error in the embedded model; next would be
the temporal convolution, a third for a seventh.
"""
PRODUCT = "product"
"""Where a temporal convolution keeps a stand-in for its taps."""


def all_layers(model: nn.Module) -> tuple[str, ...]:
    """Names of the layers that can go into few bits, in order."""
    return tuple(name for name, _ in model.named_modules() if name.endswith(LOW))


def low_layers(model: nn.Module, how: Format, keep: Collection[str] = ()) -> tuple[str, ...]:
    """Names of the layers that go into a format, in order.

    Args:
        model: A denoiser.
        how: The format.
        keep: Names, or ends of names, of more layers that stay as they are.
    """
    high = (*HIGH[how], *keep)
    return tuple(name for name in all_layers(model) if not (high and name.endswith(high)))


def matrix_of(module: nn.Module) -> Float[Tensor, "rows columns"]:
    """A layer's weights as the matrix it multiplies with; taps lie behind each other."""
    weight = module.get_parameter("weight").detach()
    return weight if weight.ndim == 2 else rearrange(weight, "o i taps -> o (taps i)")


def quantize(
    model: nn.Module,
    how: Format,
    names: Iterable[str],
    encoder: torch.device | None = None,
) -> None:
    """Put layers into few bits, one after the other, in place.

    Args:
        model: A denoiser.
        how: The format.
        names: The layers.
        encoder: Where the rounding runs; None: where the weights lie.
    """
    for name in names:
        module = model.get_submodule(name)
        matrix, bias = matrix_of(module), _bias(module)
        lies = matrix.device
        layer = QuantizedLinear.of(matrix.to(encoder or lies), bias, how)
        put(model, name, layer.to(lies))


@contextmanager
def swapped(model: nn.Module, how: Format, names: Iterable[str], way: Way) -> Iterator[None]:
    """Layers in few bits for a while; then they are as they were, to the bit."""
    before = [(name, model.get_submodule(name)) for name in names]
    weights = {name: module.get_parameter("weight") for name, module in before}
    quantize(model, how, [name for name, _ in before])
    choose_way(model, way)
    try:
        yield
    finally:
        for name, module in before:
            if hasattr(module, PRODUCT):
                setattr(module, PRODUCT, None)
                module.weight = weights[name]
            else:
                put(model, name, module)


def prepare(model: nn.Module, how: Format, names: Sequence[str]) -> None:
    """Put empty low-bit layers without memory in their places, for a file to fill."""
    for name in names:
        module = model.get_submodule(name)
        rows, columns = matrix_of(module).shape
        with torch.device("meta"):
            layer = QuantizedLinear(rows, columns, how, _bias(module))
        put(model, name, layer)


def put(model: nn.Module, name: str, layer: nn.Module) -> None:
    """A layer in the place of that name; a temporal convolution goes on multiplying by it."""
    module = model.get_submodule(name)
    if hasattr(module, PRODUCT):
        module.register_parameter("weight", None)
        setattr(module, PRODUCT, layer)
        return
    parent, _, own = name.rpartition(".")
    setattr(model.get_submodule(parent), own, layer)


def quantized_layers(model: nn.Module) -> dict[str, QuantizedLinear]:
    """Low-bit layers by the names they have when they are not."""
    return {
        name.removesuffix(f".{PRODUCT}"): module
        for name, module in model.named_modules()
        if isinstance(module, QuantizedLinear)
    }


def choose_way(model: nn.Module, way: Way) -> None:
    """How all low-bit layers multiply."""
    for layer in quantized_layers(model).values():
        layer.way = way


def _bias(module: nn.Module) -> nn.Parameter | None:
    bias = getattr(module, "bias", None)
    return bias if isinstance(bias, nn.Parameter) else None
