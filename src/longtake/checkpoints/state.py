"""State of a training run or a take: one file that proves itself, replaced in one step."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors.torch import load, save
from torch import Tensor

from longtake.checkpoints.header import read_header
from longtake.errors import WeightsError
from longtake.storage import atomic_write, output_errors

_KEY = "longtake.state"


def save_state(path: Path, tensors: Mapping[str, Tensor], settings: Mapping[str, str]) -> None:
    """Write a state; a run killed meanwhile keeps the one before.

    Args:
        path: The one file.
        tensors: Of any type, none empty.
        settings: Texts that belong to it.

    Raises:
        OutputError: the folder is missing or not writable, or the disk is full.
    """
    ready = {
        name: tensor.detach().to("cpu", copy=True).contiguous() for name, tensor in tensors.items()
    }
    seal = {"settings": dict(settings), "sha256": _digest(ready, settings)}
    raw = save(ready, {_KEY: json.dumps(seal, sort_keys=True)})
    with atomic_write(path) as temp, output_errors(path):
        temp.write_bytes(raw)


def load_state(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Load a state whose checksum holds.

    Raises:
        WeightsError: truncated, damaged, or no state written by `save_state`.
    """
    metadata = read_header(path).metadata
    if _KEY not in metadata:
        msg = f"{path} is no state that Longtake wrote; start without it"
        raise WeightsError(msg)
    try:
        seal = json.loads(metadata[_KEY])
        settings, checksum = seal["settings"], seal["sha256"]
        whole = all(isinstance(value, str) for value in [checksum, *settings.values()])
        tensors = load(path.read_bytes())
    except OSError as error:
        msg = f"cannot read the state {path}: {error.strerror}"
        raise WeightsError(msg) from error
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        msg = f"the state {path} is damaged: {error}; use an older one"
        raise WeightsError(msg) from error
    if not whole or _digest(tensors, settings) != checksum:
        msg = f"the state {path} does not have its checksum; use an older one"
        raise WeightsError(msg)
    return tensors, settings


def _digest(tensors: Mapping[str, Tensor], settings: Mapping[str, str]) -> str:
    """Checksum of names, types, shapes, values and settings, whatever their order."""
    total = hashlib.sha256(json.dumps(dict(settings), sort_keys=True).encode())
    for name in sorted(tensors):
        tensor = tensors[name]
        total.update(f"{name}|{tensor.dtype}|{tuple(tensor.shape)}|".encode())
        total.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return total.hexdigest()
