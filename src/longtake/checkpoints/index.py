"""The list beside the weights: which shard holds which tensor, and each shard's checksum."""

import hashlib
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from longtake.errors import WeightsError

INDEX_SUFFIX = ".index.json"
"""Added to the weights' name, as public checkpoints do."""
MAX_JSON_BYTES = 8 * 2**20
"""Largest index, or file of shapes."""
_PLAIN_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]*\.safetensors")
_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class Index:
    """Shards of one set of weights."""

    weight_map: dict[str, str]
    """File of each tensor."""
    sha256: dict[str, str]
    """Checksum of each file; empty in a foreign index without checksums."""

    @property
    def files(self) -> tuple[str, ...]:
        """Names of the shards, in order."""
        return tuple(sorted(set(self.weight_map.values())))

    def to_json(self, total_bytes: int) -> str:
        """The file's text; public loaders read it too."""
        content = {
            "metadata": {"total_size": total_bytes},
            "sha256": self.sha256,
            "weight_map": self.weight_map,
        }
        return json.dumps(content, indent=1, sort_keys=True) + "\n"


def index_path(path: Path) -> Path:
    """Where the index of these weights lies."""
    return path.with_name(path.name + INDEX_SUFFIX)


def read_index(path: Path) -> Index:
    """Read an index; its file names cannot lead out of the folder.

    Raises:
        WeightsError: damaged, oversized, or naming files elsewhere.
    """
    content = read_json(path)
    weight_map, sha256 = content.get("weight_map", []), content.get("sha256", {})
    if not (_all_match(weight_map, _PLAIN_NAME) and _all_match(sha256, _SHA256)):
        msg = (
            f"the index {path} is damaged: it does not map tensors to files in its folder and "
            "files to checksums; get it again"
        )
        raise WeightsError(msg)
    if sha256 and set(sha256) != set(weight_map.values()):
        msg = (
            f"the index {path} is damaged: it lists other files than it has checksums of; "
            "get it again"
        )
        raise WeightsError(msg)
    return Index(weight_map, sha256)


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object that belongs to a model: its index or its shapes.

    Raises:
        WeightsError: missing, oversized, or no JSON object.
    """
    try:
        if path.stat().st_size > MAX_JSON_BYTES:
            msg = f"{path} is larger than {MAX_JSON_BYTES:,} bytes; get it again"
            raise WeightsError(msg)
        content = json.loads(path.read_bytes().decode("utf-8"))
    except OSError as error:
        msg = f"cannot read {path}: {error.strerror}; get it again"
        raise WeightsError(msg) from error
    except (ValueError, RecursionError) as error:
        msg = f"{path} is damaged: {error}; get it again"
        raise WeightsError(msg) from error
    if not isinstance(content, dict):
        msg = f"{path} is damaged: it is no JSON object; get it again"
        raise WeightsError(msg)
    return content


def sha256_of(path: Path) -> str:
    """Checksum of a file's bytes.

    Raises:
        WeightsError: the file cannot be read.
    """
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        msg = f"cannot read the weights {path}: {error.strerror}"
        raise WeightsError(msg) from error


def content_hash(path: Path) -> str:
    """The model hash: one number for the weights and shapes in a file or folder.

    sha256 over the lines `name sha256` of every .safetensors and .json file, sorted by name;
    indexes, which follow from the rest, do not count.

    Raises:
        WeightsError: no weights there.
    """
    files = [path]
    if path.is_dir():
        files = sorted(
            file
            for file in path.iterdir()
            if file.suffix in {".safetensors", ".json"} and not file.name.endswith(INDEX_SUFFIX)
        )
    if not any(file.suffix == ".safetensors" for file in files):
        msg = f"no .safetensors file in {path}"
        raise WeightsError(msg)
    total = hashlib.sha256()
    for file in files:
        total.update(f"{file.name} {sha256_of(file)}\n".encode())
    return total.hexdigest()


def _all_match(mapping: object, pattern: re.Pattern[str]) -> bool:
    return isinstance(mapping, dict) and all(
        isinstance(value, str) and pattern.fullmatch(value) for value in mapping.values()
    )
