"""The state of a sharded run: safetensors written by all at once, whole or absent."""

import hashlib
import json
import secrets
import shutil
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

import torch.distributed as dist
import torch.distributed.checkpoint as dcp
from torch import Tensor
from torch.distributed.checkpoint import HuggingFaceStorageReader, HuggingFaceStorageWriter

from longtake.errors import WeightsError
from longtake.parallel.contact import contact
from longtake.storage import TEMP_PREFIX, TEMP_SUFFIX, output_errors, sync

MANIFEST = "manifest.json"
"""Checksums of the files, and what belongs to them; it is written last."""
KEPT = 2
"""States that stay, the newest."""


def save_sharded(
    folder: Path, step: int, tensors: Mapping[str, Tensor], settings: Mapping[str, str]
) -> None:
    """Write the state of a step; a run killed meanwhile keeps the ones before.

    Everybody writes its parts into a folder that takes its name when all of it is on disk and its
    checksums are known. Then older states than the newest few go.

    Args:
        folder: Of the states, on a disk that everybody sees.
        step: Names the state.
        tensors: Whole or in parts.
        settings: Texts that belong to it.

    Raises:
        OutputError: the folder cannot be written, or the disk is full.
    """
    first = dist.get_rank() == 0
    with contact(), output_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        temp = folder / f"{TEMP_PREFIX}{_agreed(secrets.token_hex(8))}{TEMP_SUFFIX}"
        try:
            temp.mkdir(exist_ok=True)
            writer = HuggingFaceStorageWriter(str(temp), save_distributed=True)
            dcp.save(dict(tensors), storage_writer=writer)
            sums = _sums(temp)
            if first:
                _seal(temp, step_path(folder, step), sums, settings)
        finally:
            if first:
                shutil.rmtree(temp, ignore_errors=True)
        dist.barrier()
    if first:
        for old in states(folder)[:-KEPT]:
            shutil.rmtree(old, ignore_errors=True)


def load_sharded(path: Path, tensors: Mapping[str, Tensor]) -> dict[str, str]:
    """Fill tensors from a state that any number of devices wrote; returns its settings.

    Args:
        path: One of `states`.
        tensors: Filled in place, each with its own parts.

    Raises:
        WeightsError: damaged, or of another network.
    """
    sums, settings = read_manifest(path)
    wrong = _together(_damaged(path, sums))
    if wrong:
        msg = f"{path / wrong[0]} does not have its checksum; delete {path}, an older state is used"
        raise WeightsError(msg)
    try:
        with contact():
            reader = HuggingFaceStorageReader(str(path))
            dcp.load(dict(tensors), storage_reader=reader)
    except (KeyError, ValueError, dcp.CheckpointException) as error:
        msg = f"the state {path} is of another network: {str(error).splitlines()[0][:120]}"
        raise WeightsError(msg) from error
    return settings


def read_manifest(path: Path) -> tuple[dict[str, str], dict[str, str]]:
    """Checksums of a state's files, and its settings.

    Raises:
        WeightsError: none there, or damaged.
    """
    try:
        content = json.loads((path / MANIFEST).read_text("utf-8"))
        sums, settings = dict(content["sha256"]), dict(content["settings"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        msg = f"the state {path} is damaged: {error}; delete it, an older one is used"
        raise WeightsError(msg) from error
    return sums, settings


def states(folder: Path) -> list[Path]:
    """Whole states in a folder, the newest last."""
    with suppress(OSError):
        return sorted(path.parent for path in folder.glob(f"step-*/{MANIFEST}"))
    return []


def step_path(folder: Path, step: int) -> Path:
    """Where the state of a step lies."""
    return folder / f"step-{step:08d}"


def _agreed(text: str) -> str:
    """The first process's text, everywhere."""
    shared = [text]
    dist.broadcast_object_list(shared, src=0)
    return shared[0]


def _together(own: list[str]) -> list[str]:
    """What any process found."""
    every: list[list[str]] = [[] for _ in range(dist.get_world_size())]
    with contact():
        dist.all_gather_object(every, own)
    return [entry for part in every for entry in part]


def _mine(names: list[str]) -> list[str]:
    return names[dist.get_rank() :: dist.get_world_size()]


def _sums(folder: Path) -> dict[str, str]:
    """Checksum of every file, each taken by one process, which also brings it to the disk."""
    dist.barrier()
    lines = []
    for name in _mine(sorted(path.name for path in folder.iterdir())):
        sync(folder / name)
        lines.append(f"{name} {_digest(folder / name)}")
    return dict(line.split(" ") for line in _together(lines))


def _damaged(folder: Path, sums: Mapping[str, str]) -> list[str]:
    wrong = []
    for name in _mine(sorted(sums)):
        path = folder / name
        if not path.is_file() or _digest(path) != sums[name]:
            wrong.append(name)
    return wrong


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _seal(temp: Path, path: Path, sums: Mapping[str, str], settings: Mapping[str, str]) -> None:
    """Write the manifest and give the folder its name."""
    content = {"settings": dict(settings), "sha256": dict(sums)}
    manifest = temp / MANIFEST
    manifest.write_text(json.dumps(content, indent=1, sort_keys=True) + "\n", "utf-8")
    sync(manifest)
    sync(temp)
    # A folder cannot replace another; a state of this step is of a run that was gone back on.
    shutil.rmtree(path, ignore_errors=True)
    temp.rename(path)
    sync(path.parent)
