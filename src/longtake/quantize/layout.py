"""What a file of few bits says of itself, and how it proves that it was read as it was written."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from longtake.config import from_dict
from longtake.errors import SettingError, WeightsError
from longtake.quantize.codec import BLOCK, E4M3, Format, Packed, decode
from longtake.quantize.swap import all_layers, quantized_layers

QUANTIZED_FILE = "quantized.json"
"""Name of the description, beside the weights."""
VERSION = 1
"""Of the layout; another one is refused."""
SUMS = 16
"""Numbers of a layer's check."""
TOLERANCE = 1e-6
"""Of a check, relative: sums in another order differ by 1e-12, one wrong nibble by 1e-5 or more."""
LARGEST_SCALE = 1e6
"""Largest believable scale; the largest believable weight itself."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Layer:
    """One layer in few bits."""

    name: str
    """In the denoiser."""
    check: tuple[float, ...]
    """Sums of its weights with signs that look random; they tell one order of bits from another."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """A denoiser with weights in few bits, as its file has them."""

    version: int
    """Of this description."""
    format: str
    """`fp8` or `nvfp4`."""
    block: int
    """Values that share a scale in nvfp4; rows have one each in fp8, and this is 0."""
    model: str
    """sha256 of the description of the network that these weights are of."""
    layers: tuple[Layer, ...]
    """Layers in few bits; the others are as they were."""

    @property
    def how(self) -> Format:
        """The format, which is known to be one."""
        return "fp8" if self.format == "fp8" else "nvfp4"

    @property
    def names(self) -> tuple[str, ...]:
        """Of the layers."""
        return tuple(layer.name for layer in self.layers)


def describe(model: nn.Module, how: Format, model_hash: str) -> Layout:
    """The description of a denoiser whose layers are in few bits."""
    layers = quantized_layers(model)
    return Layout(
        version=VERSION,
        format=how,
        block=_block(how),
        model=model_hash,
        layers=tuple(
            Layer(name=name, check=tuple(check_sums(layer.packed, layer.in_features).tolist()))
            for name, layer in layers.items()
        ),
    )


def read_layout(
    content: Mapping[str, Any], where: str, model: nn.Module, model_hash: str
) -> Layout:
    """A description, if it is one that we read and of this network.

    Args:
        content: The file's content.
        where: The file, for messages.
        model: The network, without low-bit layers.
        model_hash: sha256 of the network's own description.

    Raises:
        WeightsError: another version, format, block size, network or layer.
    """
    version = content.get("version")
    if version != VERSION:
        msg = (
            f"{where} has version {str(version)[:20]!r}, known is {VERSION}; quantize the model "
            "again with this release"
        )
        raise WeightsError(msg)
    try:
        layout = from_dict(Layout, content)
    except SettingError as error:
        msg = f"{where} is damaged: {error}; quantize the model again"
        raise WeightsError(msg) from error
    if layout.format not in ("fp8", "nvfp4"):
        msg = f"{where} names the format {layout.format[:40]!r}; known are fp8 and nvfp4"
        raise WeightsError(msg)
    if layout.block != _block(layout.how):
        msg = f"{where} has blocks of {layout.block}; {layout.format} has {_block(layout.how)} here"
        raise WeightsError(msg)
    if layout.model != model_hash:
        msg = f"{where} is of another model than the one it lies beside; quantize this one"
        raise WeightsError(msg)
    known = set(all_layers(model))
    for layer in layout.layers:
        if layer.name not in known or len(layer.check) != SUMS:
            msg = f"{where}: this model has no layer {layer.name[:80]!r} that goes into few bits"
            raise WeightsError(msg)
    if not layout.layers or len(set(layout.names)) != len(layout.layers):
        msg = f"{where} names no layers, or one twice; quantize the model again"
        raise WeightsError(msg)
    return layout


def check_filled(model: nn.Module, layout: Layout, where: str) -> None:
    """Prove that every low-bit layer holds what was stored, before anything is made with it.

    Raises:
        WeightsError: a scale that is none, or weights that are others than those written.
    """
    expected = {layer.name: layer.check for layer in layout.layers}
    for name, layer in quantized_layers(model).items():
        if fault := fault_of(layer.packed):
            msg = f"{where}: layer {name} has {fault}; get the file again"
            raise WeightsError(msg)
        sums = check_sums(layer.packed, layer.in_features)
        wanted = torch.tensor(expected[name], dtype=torch.float64)
        # Written so that NaN fails.
        if not (sums - wanted).norm() <= TOLERANCE * wanted.norm() + 1e-30:
            msg = (
                f"{where}: the weights of layer {name} are not those that were written: their "
                "order of bits or scales is another, or they are of another model"
            )
            raise WeightsError(msg)


def fault_of(packed: Packed) -> str | None:
    """What is impossible about a layer's scales and codes; None if nothing is."""
    checked = [packed.scales]
    if packed.tensor_scale is not None:
        checked = [packed.scales.view(E4M3).float(), packed.tensor_scale]
    for values in checked:
        if values.isnan().any():
            return "a scale that is no number"
        if (values == 0).any():
            return "a scale of zero"
        if not ((values > 0) & (values <= LARGEST_SCALE)).all():
            return f"a scale that is negative or above {LARGEST_SCALE:g}"
    if packed.tensor_scale is None and (packed.codes & 0x7F == 0x7F).any():
        return "a weight that is no number"
    return None


def check_sums(packed: Packed, columns: int) -> Float[Tensor, " sums"]:
    """Sums of the weights with factors that look random, in float64.

    Every column has a factor of its own and every row another, so that weights in another order
    have other sums.
    """
    weights = decode(packed, columns, torch.float32).double()
    rows = torch.arange(len(weights), device=weights.device)
    products = (weights @ _factors(columns, weights.device)) * (1 + (rows % 251).double() / 256)
    return F.pad(products, (0, -len(products) % SUMS)).view(-1, SUMS).sum(0).cpu()


def _factors(count: int, device: torch.device) -> Float[Tensor, " count"]:
    """Numbers between 1 and 2, or -2 and -1, that look random."""
    mixed = (torch.arange(count, device=device) * 2_654_435_761 + 12_345) % 2**32
    return (1 + (mixed % 65_521).double() / 65_521) * (1 - 2 * (mixed // 2**31)).double()


def _block(how: Format) -> int:
    return BLOCK if how == "nvfp4" else 0
