"""The front of a safetensors file, checked in full before a byte of data is read."""

import json
import math
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from longtake.errors import WeightsError

MAX_HEADER_BYTES = 4 * 2**20
"""Largest header; the models known need a twentieth of it."""
MAX_TENSORS = 20_000
"""Most tensors of a file."""
MAX_AXES = 8
"""Most axes of a tensor."""
BYTES_OF = {
    "BOOL": 1,
    "U8": 1,
    "I8": 1,
    "F8_E4M3": 1,
    "F8_E5M2": 1,
    "I16": 2,
    "U16": 2,
    "F16": 2,
    "BF16": 2,
    "I32": 4,
    "U32": 4,
    "F32": 4,
    "I64": 8,
    "U64": 8,
    "F64": 8,
}
"""Bytes of a value of each type the format knows."""
FOREIGN = (
    (0, b"PK\x03\x04", "a zip archive (torch.save or .npz)"),
    (0, b"PK\x05\x06", "an empty zip archive"),
    (0, b"\x93NUMPY", "a numpy array"),
    (0, b"\x89HDF\r\n\x1a\n", "an HDF5 file"),
    (0, b"\x1f\x8b", "a gzip archive"),
    (0, b"BZh", "a bzip2 archive"),
    (0, b"\xfd7zXZ\x00", "an xz archive"),
    (0, b"GGUF", "a GGUF file"),
    (0, b"\x7fELF", "a program"),
    (257, b"ustar", "a tar archive"),
    *((0, bytes((0x80, version)), "a pickle") for version in range(6)),
    *(
        (0, opcode, "a pickle")
        for opcode in (b"(dp", b"(lp", b"c__", b"ccopy_reg", b"cos\n", b"cposix")
    ),
)
"""Where which bytes stand in files that are no safetensors, whatever their name says."""
_SNIFF_BYTES = 512


@dataclass(frozen=True, slots=True)
class Entry:
    """What a header says of one tensor."""

    dtype: str
    """Type in the format's spelling, as `BF16`."""
    shape: tuple[int, ...]
    start: int
    """First byte, counted from the end of the header."""
    end: int


@dataclass(frozen=True, slots=True)
class Header:
    """What a safetensors file says of itself; its sizes are proven to add up."""

    tensors: dict[str, Entry]
    metadata: dict[str, str]


def read_header(path: Path) -> Header:
    """Read and check the header: the size of the file follows from it, or it is refused.

    Needs less than a second and 100 MB whatever the file holds; allocates nothing for tensors.

    Raises:
        WeightsError: no regular file, a foreign format, truncated, or a header out of bounds.
    """
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            kind = "a folder" if stat.S_ISDIR(status.st_mode) else "not a regular file"
            msg = f"{path} is {kind}; name a .safetensors file"
            raise WeightsError(msg)
        with path.open("rb") as file:
            length = _header_length(path, file.read(_SNIFF_BYTES), status.st_size)
            file.seek(8)
            raw = file.read(length)
    except OSError as error:
        msg = f"cannot read the weights {path}: {error.strerror}"
        raise WeightsError(msg) from error
    return _checked(path, _parse(path, raw), status.st_size - 8 - length)


def shown(name: str) -> str:
    """A tensor's name, quoted and cut, fit for one line of a message."""
    return repr(name if len(name) <= 80 else name[:77] + "...")


def _header_length(path: Path, head: bytes, size: int) -> int:
    length = int.from_bytes(head[:8], "little")
    looks_right = len(head) > 8 and head[8:9] == b"{"
    if not looks_right or length > MAX_HEADER_BYTES:
        for offset, magic, kind in FOREIGN:
            if head[offset : offset + len(magic)] == magic:
                msg = (
                    f"{path} is {kind}, not safetensors; it is not opened, for such files can run "
                    "code; convert it to safetensors where you trust it"
                )
                raise WeightsError(msg)
    if looks_right and length > MAX_HEADER_BYTES:
        msg = f"{path} declares a header of {length:,} bytes; the most is {MAX_HEADER_BYTES:,}"
        raise WeightsError(msg)
    if not looks_right and len(head) > 8:
        msg = f"{path} is not a safetensors file; convert it to safetensors"
        raise WeightsError(msg)
    if len(head) <= 8 or 8 + length > size:
        msg = f"{path} is truncated: it ends after {size:,} bytes, inside its header; get it again"
        raise WeightsError(msg)
    return length


def _parse(path: Path, raw: bytes) -> dict[str, Any]:
    # Counted before parsing: millions of tiny objects would fill the memory.
    if raw.count(b"{") > MAX_TENSORS + 2 or raw.count(b"[") > 2 * MAX_TENSORS:
        msg = f"{path} declares more than {MAX_TENSORS:,} tensors; that is too many"
        raise WeightsError(msg)
    try:
        # An object and nothing else: the first byte is a brace.
        return json.loads(raw.decode("utf-8"), object_pairs_hook=_without_repeats)
    except (ValueError, RecursionError) as error:
        msg = f"{path} has a damaged header: {error}; get it again"
        raise WeightsError(msg) from error


def _without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        msg = "a name stands there twice"
        raise ValueError(msg)
    return found


def _checked(path: Path, header: dict[str, Any], data_bytes: int) -> Header:
    metadata = header.pop("__metadata__", {})
    texts = isinstance(metadata, dict) and all(isinstance(v, str) for v in metadata.values())
    if not texts:
        msg = f"{path} has a damaged header: its metadata are not texts; get it again"
        raise WeightsError(msg)
    tensors = {name: _entry(path, name, value) for name, value in header.items()}
    expected = 0
    for name, entry in sorted(tensors.items(), key=lambda item: (item[1].start, item[1].end)):
        if entry.start != expected:
            msg = (
                f"{path}: tensor {shown(name)} starts at byte {entry.start:,} and not at "
                f"{expected:,}, where the one before ends; get it again"
            )
            raise WeightsError(msg)
        expected = entry.end
    if data_bytes < expected:
        msg = (
            f"{path} is truncated: it holds {data_bytes:,} of {expected:,} bytes of data; "
            "get it again"
        )
        raise WeightsError(msg)
    if data_bytes > expected:
        msg = f"{path} has {data_bytes - expected:,} bytes after its last tensor; get it again"
        raise WeightsError(msg)
    return Header(tensors, metadata)


def _entry(path: Path, name: str, value: object) -> Entry:
    """Check one tensor's type, shape and place on their own."""
    where = f"{path}: tensor {shown(name)}"
    if not isinstance(value, dict) or set(value) != {"dtype", "shape", "data_offsets"}:
        msg = f"{where} is not described by dtype, shape and data_offsets"
        raise WeightsError(msg)
    dtype, shape, offsets = value["dtype"], value["shape"], value["data_offsets"]
    if not isinstance(dtype, str) or dtype not in BYTES_OF:
        msg = f"{where} has the unknown type {shown(str(dtype))}"
        raise WeightsError(msg)
    if not _counts(shape) or len(shape) > MAX_AXES:
        msg = f"{where} has no possible shape; axes are at most {MAX_AXES} counts"
        raise WeightsError(msg)
    if not _counts(offsets) or len(offsets) != 2:
        msg = f"{where} has no possible place in the file"
        raise WeightsError(msg)
    if 0 in shape:
        msg = f"{where} has the empty shape {tuple(shape)}"
        raise WeightsError(msg)
    needed = math.prod(shape) * BYTES_OF[dtype]
    if offsets[1] - offsets[0] != needed:
        msg = (
            f"{where} of shape {tuple(shape)} needs {needed:,} bytes "
            f"but has {offsets[1] - offsets[0]:,}"
        )
        raise WeightsError(msg)
    return Entry(dtype, tuple(shape), offsets[0], offsets[1])


def _counts(value: object) -> bool:
    return isinstance(value, list) and all(type(n) is int and 0 <= n < 2**63 for n in value)
