"""A denoiser in few bits: to its files and back."""

import json
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from longtake.checkpoints import open_tensors, read_json, save_tensors
from longtake.checkpoints.index import sha256_of
from longtake.config import to_dict
from longtake.model import Transformer
from longtake.quantize import (
    QUANTIZED_FILE,
    Format,
    Layout,
    check_filled,
    describe,
    prepare,
    read_layout,
)
from longtake.quantize.layer import QuantizedLinear
from longtake.storage import atomic_write


def stored_format(folder: Path) -> Format | None:
    """The format that the weights in a folder say they have; None: none of few bits.

    Raises:
        WeightsError: a damaged description.
    """
    path = folder / QUANTIZED_FILE
    if not path.is_file():
        return None
    named = read_json(path).get("format")
    return "nvfp4" if named == "nvfp4" else "fp8"


def save_quantized(
    model: Transformer, weights: Path, how: Format, config: Path, *, shard_bytes: int
) -> Layout:
    """Write weights and description; what is not in few bits is written in bf16.

    Args:
        model: With low-bit layers.
        weights: The file, or what its shards are named after.
        how: The format.
        config: Description of the network, which lies beside them.
        shard_bytes: Largest file.

    Raises:
        OutputError: the folder cannot be written.
    """
    packed = packed_types(model)
    tensors = {
        name: value if name in packed else value.to(torch.bfloat16)
        for name, value in model.state_dict().items()
    }
    layout = describe(model, how, sha256_of(config))
    save_tensors(weights, tensors, shard_bytes=shard_bytes, packed=packed)
    with atomic_write(weights.with_name(QUANTIZED_FILE)) as temp:
        temp.write_text(json.dumps(to_dict(layout), indent=1) + "\n", "utf-8")
    return layout


def fill_quantized(
    model: Transformer, weights: Path, config: Path, dtype: torch.dtype, device: torch.device
) -> Layout:
    """Put stored low-bit layers into an empty network and fill all of it, tensor by tensor.

    Args:
        model: On the meta device, without low-bit layers.
        weights: The file, or what its shards are named after.
        config: Description of the network, which lies beside them.
        dtype: Of what is not in few bits.
        device: Where the weights go.

    Raises:
        WeightsError: damaged, of another model, version or block size, or impossible scales.
    """
    path = weights.with_name(QUANTIZED_FILE)
    layout = read_layout(read_json(path), str(path), model, sha256_of(config))
    prepare(model, layout.how, layout.names)
    packed = packed_types(model)
    shapes = {name: tuple(value.shape) for name, value in model.state_dict().items()}
    with open_tensors(weights, shapes, packed) as read:
        for name in shapes:
            to = packed.get(name, dtype)
            tensor = read(name).to(device, to, copy=True)
            model.load_state_dict({name: tensor}, strict=False, assign=True)
    model.requires_grad_(False)
    check_filled(model, layout, str(weights))
    return layout


def packed_types(model: Transformer) -> Mapping[str, torch.dtype]:
    """Tensors of low-bit layers whose type is a part of the format."""
    return {
        f"{name}.{own}": value.dtype
        for name, module in model.named_modules()
        if isinstance(module, QuantizedLinear)
        for own, value in _own(module)
    }


def _own(layer: QuantizedLinear) -> list[tuple[str, Tensor]]:
    return [(n, v) for n, v in layer.named_parameters(recurse=False) if n != "bias"]
