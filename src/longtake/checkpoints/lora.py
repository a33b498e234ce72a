"""LoRA files: safetensors that say which model they change, checked in full before use."""

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load, save
from torch import Tensor

from longtake.checkpoints.header import Header, read_header, shown
from longtake.checkpoints.weights import SUFFIX, check_entry, check_values
from longtake.config import Grain, from_dict
from longtake.errors import SettingError, WeightsError
from longtake.storage import atomic_write, output_errors

FORMAT = 2
"""Layout of the file; newer releases read older ones."""
MOST_ALPHA = 10_000.0
"""Largest alpha."""
_KEY = "longtake.lora"
Pair = tuple[Tensor, Tensor]


@dataclass(frozen=True, slots=True, kw_only=True)
class LoraHead:
    """What a LoRA says of itself."""

    base: str
    """Content hash of the model that it changes."""
    rank: int
    """Rows of each factor A, and columns of each B."""
    alpha: float
    """The change is alpha / rank * B A."""
    targets: tuple[str, ...]
    """Names of the matrices it changes, sorted."""
    made: str = ""
    """How it was trained, in words."""
    grain: Grain = field(default_factory=Grain)
    """What lies over its films at strength 1."""

    @property
    def scale(self) -> float:
        """What the product of the factors is multiplied with at strength 1."""
        return self.alpha / self.rank


@dataclass(frozen=True, slots=True)
class LoraFile:
    """A LoRA that was read and found to fit."""

    head: LoraHead
    factors: dict[str, Pair]
    """A and B by the name of the matrix."""
    sha256: str
    """Checksum of the file."""


def save_lora(path: Path, head: LoraHead, factors: Mapping[str, Pair]) -> None:
    """Write a LoRA in one file; the same factors give the same bytes.

    Raises:
        WeightsError: a name of another ending, or factors that could not be loaded again.
        OutputError: the folder is missing or not writable, or the disk is full.
    """
    if path.suffix != SUFFIX:
        msg = f"a LoRA ends in {SUFFIX}, got {path}; try {path.with_suffix(SUFFIX)}"
        raise WeightsError(msg)
    tensors: dict[str, Tensor] = {}
    for name, (a, b) in factors.items():
        tensors[f"{name}.a"], tensors[f"{name}.b"] = (
            part.detach().to("cpu", torch.float32, copy=True).contiguous() for part in (a, b)
        )
    for name, tensor in tensors.items():
        check_values(path, name, tensor)
    text = json.dumps({"format": FORMAT, **asdict(head)}, sort_keys=True)
    with atomic_write(path) as temp, output_errors(path):
        temp.write_bytes(save(tensors, {_KEY: text}))


def read_lora(path: Path, base: str, shapes: Mapping[str, tuple[int, int]]) -> LoraFile:
    """Read a LoRA for a model; everything but the values is settled before they are read.

    Args:
        path: The file.
        base: Content hash of the model.
        shapes: Rows and columns of the matrices that can change.

    Raises:
        WeightsError: damaged, hostile, of another model, or not of the rank it states.
    """
    header = read_header(path)
    head = _head(path, header)
    if head.base != base:
        msg = (
            f"{path} was trained on another model, {head.base[:12]}, and this one is {base[:12]}; "
            "name its own with --model, or train it anew"
        )
        raise WeightsError(msg)
    _check_rank(path, head, shapes)
    _check_tensors(path, head, header, shapes)
    raw = _bytes(path)
    tensors = load(raw)
    for name, tensor in tensors.items():
        check_values(path, name, tensor)
    factors = {name: (tensors[f"{name}.a"], tensors[f"{name}.b"]) for name in head.targets}
    return LoraFile(head, factors, hashlib.sha256(raw).hexdigest())


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        msg = f"cannot read the LoRA {path}: {error.strerror}"
        raise WeightsError(msg) from error


def _head(path: Path, header: Header) -> LoraHead:
    if _KEY not in header.metadata:
        msg = f"{path} is no LoRA that Longtake wrote; longtake finetune makes one"
        raise WeightsError(msg)
    try:
        told: dict[str, Any] = json.loads(header.metadata[_KEY])
        if told.pop("format") > FORMAT:
            msg = f"{path} is of a newer release; this one reads format {FORMAT}"
            raise WeightsError(msg)
        targets = told.pop("targets")
        if not isinstance(targets, list) or not all(isinstance(name, str) for name in targets):
            raise TypeError
        grain = from_dict(Grain, told.pop("grain", {}))
        head = LoraHead(targets=tuple(targets), grain=grain, **told)
        texts = isinstance(head.base, str) and isinstance(head.made, str)
        if not texts or type(head.rank) is not int or type(head.alpha) not in (int, float):
            raise TypeError
    except (SettingError, ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        msg = f"{path} has a damaged LoRA header; get it again"
        raise WeightsError(msg) from error
    return head


def _check_rank(path: Path, head: LoraHead, shapes: Mapping[str, tuple[int, int]]) -> None:
    most = min((min(shape) for shape in shapes.values()), default=0)
    if not 1 <= head.rank <= most:
        msg = f"{path} has rank {head.rank:,}; this model takes 1 to {most}"
        raise WeightsError(msg)
    # Written so that NaN fails.
    if not 0 < head.alpha <= MOST_ALPHA or not math.isfinite(head.alpha):
        msg = f"{path} has alpha {head.alpha:g}; it is above 0 and at most {MOST_ALPHA:g}"
        raise WeightsError(msg)


def _check_tensors(
    path: Path, head: LoraHead, header: Header, shapes: Mapping[str, tuple[int, int]]
) -> None:
    if odd := next((name for name in head.targets if name not in shapes), None):
        msg = f"{path} changes {shown(odd)}, which this model does not have"
        raise WeightsError(msg)
    expected: dict[str, tuple[int, int]] = {}
    for name in head.targets:
        rows, columns = shapes[name]
        expected |= {f"{name}.a": (head.rank, columns), f"{name}.b": (rows, head.rank)}
    if not expected:
        msg = f"{path} changes nothing; get it again"
        raise WeightsError(msg)
    if missing := sorted(set(expected) - set(header.tensors)):
        msg = f"{path}: tensor {shown(missing[0])} is missing, and {len(missing) - 1} more"
        raise WeightsError(msg)
    if extra := sorted(set(header.tensors) - set(expected)):
        msg = f"{path}: tensor {shown(extra[0])} belongs to no matrix that it says it changes"
        raise WeightsError(msg)
    for name, shape in expected.items():
        check_entry(path, name, header.tensors[name], shape)
