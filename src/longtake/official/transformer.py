"""The public transformer from its folder into ours, and back."""

import json
from collections.abc import Callable
from pathlib import Path

import torch

from longtake.checkpoints import open_tensors, read_json, save_tensors
from longtake.checkpoints.public_config import (
    CAUSAL,
    read_transformer_config,
    write_transformer_config,
)
from longtake.checkpoints.public_keys import joined, key_map, public_shapes, to_public
from longtake.config import TransformerConfig
from longtake.model import Transformer
from longtake.pipeline.quantized import fill_quantized, stored_format
from longtake.quantize import Format, low_layers, quantize
from longtake.storage import atomic_write, output_errors

WEIGHTS = "diffusion_pytorch_model.safetensors"
"""Name of a part's weights, or what its shards' names are made from."""
CONFIG = "config.json"
HOST = torch.device("cpu")
SHARD_BYTES = 5 * 2**30
"""Shards as the public library cuts them."""


def empty_transformer(config: TransformerConfig) -> Transformer:
    """The network without memory for its weights."""
    with torch.device("meta"):
        return Transformer(config).eval().requires_grad_(False)


def load_transformer(
    folder: Path,
    dtype: torch.dtype,
    device: torch.device,
    how: Format | None = None,
    encoder: torch.device | None = None,
    lay: Callable[[Transformer], None] = lambda _: None,
) -> Transformer:
    """Load a `transformer` folder, one tensor after the other.

    Args:
        folder: With a config.json and safetensors, whole or in shards.
        dtype: Arithmetic and memory of the weights that are not in few bits; beside few bits
            their numbers are those of bf16, as when they are stored so.
        device: Where they go.
        how: Format that weights stored in full are put into, on the host; None: they stay.
        encoder: Where the rounding runs; None: on the host.
        lay: Changes weights before they are put into few bits; stored in few bits they stay.

    Raises:
        WeightsError: another class, or weights that are damaged or not this model's.
        SettingError: an unknown key in the config.
    """
    config = read_transformer_config(read_json(folder / CONFIG), str(folder / CONFIG))
    model = empty_transformer(config)
    if stored_format(folder):
        fill_quantized(model, folder / WEIGHTS, folder / CONFIG, dtype, device)
        return model
    # In full it need not fit the device.
    place, full = (HOST, torch.bfloat16) if how else (device, dtype)
    keys = key_map(config, shapes_of(model), "diffusers")
    with open_tensors(folder / WEIGHTS, public_shapes(keys)) as read:
        for name, stored in keys.items():
            tensor = joined(stored, (read(n) for n in stored.names)).to(place, full, copy=True)
            model.load_state_dict({name: tensor}, strict=False, assign=True)
    lay(model)
    if how:
        quantize(model, how, low_layers(model, how), encoder)
    return model.to(device, dtype).requires_grad_(False)


def save_transformer(model: Transformer, folder: Path, *, causal: bool = False) -> None:
    """Write a folder that diffusers' own `from_pretrained` loads.

    Args:
        model: The network.
        folder: Made if it is not there.
        causal: The weights are LongSANA's, whose class no release of diffusers has.

    Raises:
        WeightsError: a model the public class cannot express.
        OutputError: the folder cannot be written.
    """
    config = write_transformer_config(model.config)
    if causal:
        config["_class_name"] = CAUSAL
    with output_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
    keys = key_map(model.config, shapes_of(model), "diffusers")
    tensors = to_public(keys, model.state_dict())
    save_tensors(folder / WEIGHTS, tensors, {"format": "pt"}, shard_bytes=SHARD_BYTES)
    with atomic_write(folder / CONFIG) as temp:
        temp.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", "utf-8")


def shapes_of(model: Transformer) -> dict[str, tuple[int, ...]]:
    """Name and shape of every tensor of ours."""
    return {name: tuple(value.shape) for name, value in model.state_dict().items()}
