"""Weights of a model: saved in shards with checksums, loaded only if they are what is expected."""

import hashlib
import json
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from difflib import get_close_matches
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import load, save
from torch import Tensor

from longtake.checkpoints.header import Entry, read_header, shown
from longtake.checkpoints.index import INDEX_SUFFIX, Index, index_path, read_index, sha256_of
from longtake.errors import WeightsError
from longtake.storage import atomic_write, output_errors

SHARD_BYTES = 16 * 2**20
"""Largest shard; only a single larger tensor gives a larger file."""
MAX_MAGNITUDE = 1e6
"""Largest believable weight."""
SUFFIX = ".safetensors"
"""What every weights file ends in."""
_ALLOWED = {"F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}
_PACKED = {torch.uint8: "U8", torch.float32: "F32"}
"""Types that tensors of few bits may be asked to have."""
_NONE: Mapping[str, torch.dtype] = {}
_HEADER_BYTES = 200
"""Allowance for a tensor's place in the header, beside its name."""
_CANDIDATES = 1000


def save_tensors(
    path: Path,
    tensors: Mapping[str, Tensor],
    metadata: Mapping[str, str] | None = None,
    *,
    shard_bytes: int = SHARD_BYTES,
    packed: Mapping[str, torch.dtype] = _NONE,
) -> None:
    """Write weights as `name.safetensors` or shards, and an index with their checksums.

    The same tensors give the same bytes. Files appear whole, the index last; if the machine
    stops in between, the old index does not fit the new shards and loading refuses them.

    Args:
        path: Ends in `.safetensors`; shards are `name-00001-of-00002.safetensors` beside it.
        tensors: Finite weights of type fp32, fp16 or bf16.
        metadata: Texts stored in every file.
        shard_bytes: Largest file.
        packed: Type of each tensor that belongs to weights of few bits.

    Raises:
        WeightsError: a name of another ending, or tensors that could not be loaded again.
        OutputError: the folder is missing or not writable, or the disk is full.
    """
    if path.suffix != SUFFIX:
        msg = f"weights end in {SUFFIX}, got {path}; try {path.with_suffix(SUFFIX)}"
        raise WeightsError(msg)
    for name, tensor in tensors.items():
        _check_savable(path, name, tensor, packed.get(name))
    shards = _named(path, list(_shards(tensors, shard_bytes)))
    weight_map = {name: file for file, names in shards.items() for name in names}
    checksums: dict[str, str] = {}
    total_bytes = 0
    with ExitStack() as stack:
        # Entered first, so that it is renamed last.
        temp_index = stack.enter_context(atomic_write(index_path(path)))
        for file, names in shards.items():
            temp = stack.enter_context(atomic_write(path.with_name(file)))
            raw = _serialised({name: tensors[name] for name in names}, metadata or {})
            with output_errors(path):
                temp.write_bytes(raw)
            checksums[file] = hashlib.sha256(raw).hexdigest()
            total_bytes += len(raw)
        with output_errors(path):
            temp_index.write_text(Index(weight_map, checksums).to_json(total_bytes), "utf-8")
    _remove_older_shards(path, keep=set(shards))


def load_tensors(path: Path, expected: Mapping[str, tuple[int, ...]]) -> dict[str, Tensor]:
    """Load weights that have exactly these names and shapes, and believable values.

    Names, shapes and types are settled from the headers before any data is read. Checksums are
    compared when the index has them. Nothing in a file is ever run.

    Args:
        path: As it was given to `save_tensors`.
        expected: Shape of every tensor.

    Raises:
        WeightsError: anything else than expected, naming the file and the tensor.
    """
    index, _ = _settled(path, expected, _NONE)
    tensors: dict[str, Tensor] = {}
    for file in index.files:
        tensors.update(_read_shard(path.with_name(file), index.sha256.get(file)))
    return {name: tensors[name] for name in expected}


@contextmanager
def open_tensors(
    path: Path,
    expected: Mapping[str, tuple[int, ...]],
    packed: Mapping[str, torch.dtype] = _NONE,
) -> Iterator[Callable[[str], Tensor]]:
    """Weights checked as `load_tensors` does, but read one by one, for memory's sake.

    Yields a function from a name to its tensor, which is read from disk when it is asked for.

    Args:
        path: As it was given to `save_tensors`.
        expected: Shape of every tensor.
        packed: Type of each tensor that belongs to weights of few bits.

    Raises:
        WeightsError: anything else than expected, naming the file and the tensor.
    """
    index, found = _settled(path, expected, packed)
    for file, checksum in index.sha256.items():
        if sha256_of(path.with_name(file)) != checksum:
            raise WeightsError(_wrong_checksum(path.with_name(file)))
    with ExitStack() as stack:
        files = {f: stack.enter_context(safe_open(path.with_name(f), "pt")) for f in index.files}

        def read(name: str) -> Tensor:
            tensor = files[found[name]].get_tensor(name)
            check_values(path.with_name(found[name]), name, tensor)
            return tensor

        yield read


def _settled(
    path: Path, expected: Mapping[str, tuple[int, ...]], packed: Mapping[str, torch.dtype]
) -> tuple[Index, dict[str, str]]:
    """Index and file of every tensor, once headers have proven to hold just what is expected."""
    index = _index_of(path)
    found: dict[str, str] = {}
    for file in index.files:
        entries = read_header(path.with_name(file)).tensors
        _check_listed(path.with_name(file), entries, index)
        found.update(dict.fromkeys(entries, file))
        for name, entry in entries.items():
            if name in expected:
                types = (_PACKED[packed[name]],) if name in packed else tuple(_ALLOWED)
                check_entry(path.with_name(file), name, entry, expected[name], types)
    _check_names(path, found, expected)
    return index, found


def _check_savable(path: Path, name: str, tensor: Tensor, wanted: torch.dtype | None) -> None:
    if tensor.dtype != wanted and tensor.dtype not in _ALLOWED.values():
        msg = f"{path}: tensor {shown(name)} is {tensor.dtype}; weights are fp32, fp16 or bf16"
        raise WeightsError(msg)
    if not tensor.numel():
        msg = f"{path}: tensor {shown(name)} has the empty shape {tuple(tensor.shape)}"
        raise WeightsError(msg)
    check_values(path, name, tensor)


def check_values(path: Path, name: str, tensor: Tensor) -> None:
    """Check that values are finite and believable.

    Raises:
        WeightsError: they are not.
    """
    low, high = (bound.item() for bound in torch.aminmax(tensor))
    # Written so that NaN fails.
    if not (-MAX_MAGNITUDE <= low and high <= MAX_MAGNITUDE):
        msg = (
            f"{path}: tensor {shown(name)} has values from {low:g} to {high:g}; "
            f"weights are finite and at most {MAX_MAGNITUDE:g}; the file is damaged"
        )
        raise WeightsError(msg)


def check_entry(
    path: Path,
    name: str,
    entry: Entry,
    shape: tuple[int, ...],
    types: tuple[str, ...] = tuple(_ALLOWED),
) -> None:
    """Check a tensor's type and shape before its data are read.

    Raises:
        WeightsError: of another type or shape.
    """
    if entry.dtype not in types:
        msg = f"{path}: tensor {shown(name)} has type {entry.dtype}; weights are {', '.join(types)}"
        raise WeightsError(msg)
    if entry.shape != shape:
        msg = f"{path}: tensor {shown(name)} has shape {entry.shape}, the model wants {shape}"
        raise WeightsError(msg)


def _check_listed(path: Path, entries: Mapping[str, Entry], index: Index) -> None:
    """A shard holds what the index says it holds."""
    listed = {name for name, file in index.weight_map.items() if file == path.name}
    if odd := (listed ^ set(entries)) if index.sha256 else (set(entries) - set(index.weight_map)):
        msg = (
            f"{path}: tensor {shown(min(odd))} is in the file or in its index, not in both; "
            "get both again"
        )
        raise WeightsError(msg)


def _check_names(path: Path, found: Mapping[str, str], expected: Mapping[str, tuple]) -> None:
    missing = [name for name in expected if name not in found]
    extra = [name for name in found if name not in expected]
    if missing:
        near = get_close_matches(missing[0], [name[:200] for name in extra[:_CANDIDATES]], n=1)
        hint = f"; it has {shown(near[0])} instead: was it renamed?" if near else ""
        more = f" and {len(missing) - 1} more are" if len(missing) > 1 else " is"
        msg = f"{path}: tensor {shown(missing[0])}{more} missing{hint}"
        raise WeightsError(msg)
    if extra:
        near = get_close_matches(extra[0][:200], list(expected)[:_CANDIDATES], n=1)
        hint = f"; the nearest it has is {shown(near[0])}" if near else ""
        file = path.with_name(found[extra[0]])
        msg = f"{file}: tensor {shown(extra[0])} is not part of the model{hint}"
        raise WeightsError(msg)


def _index_of(path: Path) -> Index:
    """The index beside the weights, or one made up for a single file without."""
    index = index_path(path)
    if index.exists():
        return read_index(index)
    if not path.exists():
        pattern = f"{path.stem}-*-of-*{SUFFIX}"
        if any(path.parent.glob(pattern)):
            msg = f"the shards {pattern} in {path.parent} have lost their {index.name}"
            raise WeightsError(msg)
        msg = f"no weights at {path}, and no {path.name}{INDEX_SUFFIX}"
        raise WeightsError(msg)
    return Index(dict.fromkeys(read_header(path).tensors, path.name), {})


def _read_shard(path: Path, checksum: str | None) -> dict[str, Tensor]:
    try:
        raw = path.read_bytes()
    except OSError as error:
        msg = f"cannot read the weights {path}: {error.strerror}"
        raise WeightsError(msg) from error
    if checksum is not None and hashlib.sha256(raw).hexdigest() != checksum:
        raise WeightsError(_wrong_checksum(path))
    tensors = load(raw)
    for name, tensor in tensors.items():
        check_values(path, name, tensor)
    return tensors


def _wrong_checksum(path: Path) -> str:
    return (
        f"{path} does not have the checksum its index lists: it was damaged or changed; "
        "get it again"
    )


def _shards(tensors: Mapping[str, Tensor], limit: int) -> Iterator[list[str]]:
    """Names in order, cut into groups that fit a file."""
    names: list[str] = []
    filled = _HEADER_BYTES
    for name in sorted(tensors):
        size = tensors[name].nbytes + len(name.encode()) + _HEADER_BYTES
        if names and filled + size > limit:
            yield names
            names, filled = [], _HEADER_BYTES
        names.append(name)
        filled += size
    yield names


def _named(path: Path, shards: list[list[str]]) -> dict[str, list[str]]:
    if len(shards) == 1:
        return {path.name: shards[0]}
    count = len(shards)
    return {
        f"{path.stem}-{number:05d}-of-{count:05d}{SUFFIX}": names
        for number, names in enumerate(shards, start=1)
    }


def _serialised(tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> bytes:
    ready = {
        name: tensor.detach().to("cpu", copy=True).contiguous() for name, tensor in tensors.items()
    }
    # The library writes several entries in no fixed order; one entry keeps the bytes the same.
    texts = {"longtake": json.dumps(dict(metadata), sort_keys=True)}
    return save(ready, texts)


def _remove_older_shards(path: Path, keep: set[str]) -> None:
    pattern = re.compile(rf"{re.escape(path.stem)}(-\d{{5}}-of-\d{{5}})?{re.escape(SUFFIX)}")
    for file in path.parent.iterdir():
        if pattern.fullmatch(file.name) and file.name not in keep:
            file.unlink()
