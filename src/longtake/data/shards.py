"""Samples in tar files, with an index beside each that tells what lies where and what was dropped.

The tars are ordinary ones in webdataset's layout (`key.mp4`, `key.json`), so that its readers
stream them. Ours opens a sample by its place, which makes the order of an epoch exact and lets a
killed run go on: a shard counts from the moment its index is there, and its sources are done.
"""

import hashlib
import io
import json
import tarfile
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from longtake.errors import MediaError, OutputError
from longtake.storage import atomic_write, output_errors

FORMAT = 1
"""Layout of the index; newer releases read older ones."""
SHARD_BYTES = 64 * 2**20
"""Size from which on a shard is closed; a killed run loses no more work than one shard."""
_BLOCK = 512
_MOST_INDEX_BYTES = 256 * 2**20


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """A sample, and where it lies."""

    key: str
    """Its name inside the tar, before the first dot."""
    shard: str
    """Name of the tar."""
    parts: dict[str, tuple[int, int]]
    """First byte and number of bytes by ending."""
    sha256: str
    """Of all parts, in the order of their endings."""
    told: dict[str, Any]
    """What is known of it: source, size, scores."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Drop:
    """Something that is not in the shards, and why."""

    source: str
    reason: str
    """In a word or two; drops are counted by it."""
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Shards:
    """A folder of shards."""

    folder: Path
    kind: str
    """What the samples are: `clips` or `latents`."""
    settings: dict[str, Any]
    """What they were made with."""
    samples: tuple[Sample, ...]
    drops: tuple[Drop, ...]
    sources: frozenset[str]
    """What has been gone through, kept or not."""

    @property
    def digest(self) -> str:
        """One number for all samples."""
        lines = "".join(f"{sample.key} {sample.sha256}\n" for sample in self.samples)
        return hashlib.sha256(lines.encode()).hexdigest()

    def read(self, sample: Sample) -> dict[str, bytes]:
        """The bytes of a sample by ending.

        Raises:
            MediaError: the shard is gone, shorter, or holds other bytes.
        """
        path = self.folder / sample.shard
        try:
            with path.open("rb") as file:
                parts = {}
                for name, (start, size) in sample.parts.items():
                    file.seek(start)
                    parts[name] = file.read(size)
        except OSError as error:
            msg = f"cannot read the shard {path}: {error.strerror}"
            raise MediaError(msg) from error
        if _sha256(parts) != sample.sha256:
            msg = f"{path}: the sample {sample.key} does not have its checksum; it is damaged"
            raise MediaError(msg)
        return parts


@dataclass(slots=True)
class ShardWriter:
    """Fills a folder with shards; what a killed run had finished stays and is not made again.

    >>> with ShardWriter(Path("shards"), "clips", {"fps": 16}) as writer:
    ...     if "film.mp4" not in writer.sources:
    ...         writer.add("film-000", {"mp4": b"...", "json": b"{}"}, {"source": "film.mp4"})
    ...         writer.finish("film.mp4")
    """

    folder: Path
    kind: str
    settings: dict[str, Any]
    shard_bytes: int = SHARD_BYTES
    sources: set[str] = field(default_factory=set[str])
    """What has been gone through before and now."""
    _number: int = 0
    _rows: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])
    _held: list[tuple[str, Mapping[str, bytes], dict[str, Any]]] = field(
        default_factory=list[tuple[str, Mapping[str, bytes], dict[str, Any]]]
    )
    _bytes: int = 0

    def __enter__(self) -> "ShardWriter":  # noqa: PYI034 - the shape checker knows no Self
        """Make the folder, or go on in one that an earlier run with the same settings filled.

        Raises:
            OutputError: it holds something else, or cannot be made.
        """
        with output_errors(self.folder / "shard"):
            self.folder.mkdir(parents=True, exist_ok=True)
        if indexes := _indexes(self.folder):
            old = read_shards(self.folder)
            plain = json.loads(json.dumps(self.settings))
            if (old.kind, old.settings) != (self.kind, plain):
                msg = (
                    f"{self.folder} holds shards that were made with other settings; "
                    "delete it, or choose another folder"
                )
                raise OutputError(msg)
            self.sources |= old.sources
            self._number = len(indexes)
        return self

    def add(self, key: str, parts: Mapping[str, bytes], told: dict[str, Any]) -> None:
        """Keep a sample; it is written with its shard."""
        self._held.append((key, parts, told))
        self._bytes += sum(map(len, parts.values()))

    def drop(self, drop: Drop) -> None:
        """Write down what is left out."""
        self._rows.append({"drop": asdict(drop)})

    def finish(self, source: str) -> None:
        """All of a source has been added or dropped."""
        self._rows.append({"done": source})
        self.sources.add(source)
        if self._bytes >= self.shard_bytes:
            self._close()

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        """Write the last shard; a run that fails leaves those before it."""
        if error is None and (self._held or self._rows):
            self._close()

    def _close(self) -> None:
        name = f"shard-{self._number:05d}"
        head = {"format": FORMAT, "kind": self.kind, "settings": self.settings}
        lines = [json.dumps(head, sort_keys=True)]
        if self._held:
            lines += self._tar(name)
        lines += [json.dumps(row, sort_keys=True, ensure_ascii=False) for row in self._rows]
        index = self.folder / f"{name}.jsonl"
        with atomic_write(index) as temp, output_errors(index):
            temp.write_text("\n".join(lines) + "\n", "utf-8")
        self._rows, self._held, self._bytes = [], [], 0
        self._number += 1

    def _tar(self, name: str) -> list[str]:
        path = self.folder / f"{name}.tar"
        lines = []
        with (
            atomic_write(path) as temp,
            output_errors(path),
            tarfile.open(temp, "w", format=tarfile.USTAR_FORMAT) as tar,
        ):
            for key, parts, told in self._held:
                places = {}
                for ending in sorted(parts):
                    info = tarfile.TarInfo(f"{key}.{ending}")
                    info.size = len(parts[ending])
                    places[ending] = (tar.offset + _BLOCK, info.size)
                    tar.addfile(info, io.BytesIO(parts[ending]))
                sample = Sample(
                    key=key, shard=path.name, parts=places, sha256=_sha256(parts), told=told
                )
                lines.append(
                    json.dumps({"sample": asdict(sample)}, sort_keys=True, ensure_ascii=False)
                )
        return lines


def read_shards(folder: Path) -> Shards:
    """What a folder of shards holds; samples are read later.

    Raises:
        MediaError: no shards there, a damaged index, or shards of several kinds.
    """
    indexes = _indexes(folder)
    if not indexes:
        msg = f"{folder} holds no shards; longtake data prepare makes them from a folder of films"
        raise MediaError(msg)
    samples: list[Sample] = []
    drops: list[Drop] = []
    sources: set[str] = set()
    heads = []
    for path in indexes:
        head, *rows = _lines(path)
        heads.append(head)
        try:
            for row in rows:
                match row:
                    case {"sample": told}:
                        samples.append(_sample(told))
                    case {"drop": told}:
                        drops.append(Drop(**told))
                    case {"done": str(source)}:
                        sources.add(source)
                    case _:
                        raise ValueError
        except (ValueError, TypeError, KeyError) as error:
            msg = f"the index {path} is damaged; delete it and its tar, and make them again"
            raise MediaError(msg) from error
    first = heads[0]
    if any(head != first for head in heads):
        msg = f"{folder} holds shards that were made with different settings; keep one kind"
        raise MediaError(msg)
    return Shards(
        folder, first["kind"], first["settings"], tuple(samples), tuple(drops), frozenset(sources)
    )


def _indexes(folder: Path) -> list[Path]:
    return sorted(folder.glob("shard-*.jsonl")) if folder.is_dir() else []


def _lines(path: Path) -> Iterator[dict[str, Any]]:
    try:
        if path.stat().st_size > _MOST_INDEX_BYTES:
            raise ValueError
        rows = [json.loads(line) for line in path.read_text("utf-8").splitlines()]
        whole = all(isinstance(row, dict) for row in rows)
        if not rows or not whole or not {"format", "kind", "settings"} <= set(rows[0]):
            raise ValueError
        if rows[0]["format"] > FORMAT:
            msg = f"{path} is of a newer release; this one reads format {FORMAT}"
            raise MediaError(msg)
    except (OSError, ValueError, TypeError, RecursionError) as error:
        msg = f"the index {path} is damaged; delete it and its tar, and make them again"
        raise MediaError(msg) from error
    yield from rows


def _sample(told: dict[str, Any]) -> Sample:
    if Path(told["shard"]).name != told["shard"]:
        raise ValueError
    parts = {name: (int(start), int(size)) for name, (start, size) in told["parts"].items()}
    return Sample(
        key=str(told["key"]),
        shard=told["shard"],
        parts=parts,
        sha256=str(told["sha256"]),
        told=dict(told["told"]),
    )


def _sha256(parts: Mapping[str, bytes]) -> str:
    total = hashlib.sha256()
    for name in sorted(parts):
        total.update(f"{name} {len(parts[name])}\n".encode() + parts[name])
    return total.hexdigest()
