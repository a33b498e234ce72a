"""The folder beside a take: its pieces of film and the states it can be gone on from."""

import hashlib
import re
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from jaxtyping import UInt8
from torch import Tensor

from longtake.config import FPS, TAKE_SUFFIX
from longtake.errors import WeightsError
from longtake.media.video import VideoWriter
from longtake.rollout.manifest import NAME, TakeManifest
from longtake.rollout.snapshot import Identity, Snapshot, load_snapshot, save_snapshot
from longtake.storage import TEMP_PREFIX, TEMP_SUFFIX, output_errors, rename

HEAD = "head"
"""The piece of film that another film gave."""
PICTURE = "first.png"
"""The picture a take begins with, at the film's size."""
_STATE = re.compile(r"state-(\d{6})\.safetensors")
_PIECE = re.compile(r"(head|segment-\d{6}|end-\d{7})-([0-9a-f]{16})\.mp4")


class TakeFolder:
    """Pieces and states, one of each a chunk; whatever a kill leaves can be gone on with.

    A chunk's segment is written before its state, so that a state always stands on segments that
    are whole. The name of a piece holds its checksum, so that each proves itself.
    """

    def __init__(self, path: Path) -> None:
        """Name the folder; `begin` makes it."""
        self.path = path

    def begin(self) -> None:
        """Make the folder, and clear away what a killed run left half-written.

        Raises:
            OutputError: it cannot be made.
        """
        with output_errors(self.path):
            self.path.mkdir(exist_ok=True)
            for leftover in self.path.glob(f"{TEMP_PREFIX}*{TEMP_SUFFIX}"):
                leftover.unlink()

    def state(self, chunk: int) -> Path:
        """Where the state before a chunk lies."""
        return self.path / f"state-{chunk:06}.safetensors"

    def states(self) -> list[int]:
        """Chunks that can be gone on with, in order."""
        found = (_STATE.fullmatch(path.name) for path in self.path.glob("state-*.safetensors"))
        return sorted(int(match[1]) for match in found if match)

    def pieces(self) -> dict[str, Path]:
        """Pieces of film by their names without checksum; not yet proven whole."""
        found = (_PIECE.fullmatch(path.name) for path in self.path.glob("*.mp4"))
        return {match[1]: self.path / match[0] for match in found if match}

    def store(self, name: str, pixels: Iterable[UInt8[Tensor, "_ _height _width 3"]]) -> Path:
        """Encode a piece of film of its own.

        Args:
            name: `segment_name`, `end_name` or `HEAD`.
            pixels: Its frames, in parts of one size.

        Raises:
            OutputError: the disk is full; everything stored before stands.
        """
        parts = iter(pixels)
        first = next(parts)
        unnamed = self.path / f"{TEMP_PREFIX}piece{TEMP_SUFFIX}"
        with VideoWriter(unnamed, width=first.shape[2], height=first.shape[1], fps=FPS) as writer:
            writer.write(first)
            for part in parts:
                writer.write(part)
        named = self.path / f"{name}-{_checksum(unnamed)}.mp4"
        old = self.pieces().get(name)
        rename(unnamed, named)
        if old is not None and old != named:
            with output_errors(old):
                old.unlink()
        return named

    def add(
        self,
        pixels: UInt8[Tensor, "frames height width 3"],
        snapshot: Snapshot,
        identity: Identity,
        *,
        keep: frozenset[int] = frozenset(),
    ) -> Path:
        """Store a finished chunk and return its segment.

        The two newest states stay, so that a damaged one costs a chunk and not the take.

        Args:
            pixels: Its frames.
            snapshot: The take after it.
            identity: Of the model that makes it.
            keep: Chunks whose states stay; others go when two newer ones are written.

        Raises:
            OutputError: the disk is full; everything stored before stands.
        """
        segment = self.store(segment_name(snapshot.chunk - 1), [pixels])
        save_snapshot(self.state(snapshot.chunk), snapshot, identity)
        for chunk in self.states():
            if chunk < snapshot.chunk - 1 and chunk not in keep:
                with output_errors(self.state(chunk)):
                    self.state(chunk).unlink()
        return segment

    def whole(self, names: Iterable[str]) -> tuple[list[Path], str]:
        """The leading ones of these pieces that are there and whole, and what stopped the count."""
        pieces = self.pieces()
        found: list[Path] = []
        for name in names:
            if name not in pieces:
                return found, f"{self.path / name} is missing"
            if not is_whole(pieces[name]):
                return found, f"{pieces[name]} is damaged"
            found.append(pieces[name])
        return found, ""

    def newest(
        self,
        identity: Identity,
        manifest: TakeManifest,
        most: int,
        *,
        allow_different: bool = False,
    ) -> tuple[Snapshot | None, tuple[str, ...]]:
        """The newest state of this take that can be read, and what is wrong with newer ones.

        Args:
            identity: Of the model that goes on.
            manifest: What the take is made from.
            most: Chunk that the pieces of film reach; later states stand on nothing.
            allow_different: Take a state of other arithmetic too.

        Raises:
            StateError: of other weights, precision or arithmetic.
        """
        damaged: list[str] = []
        for chunk in reversed(self.states()):
            if chunk <= most:
                try:
                    path = self.state(chunk)
                    found = load_snapshot(path, identity, allow_different=allow_different)
                except WeightsError as error:
                    damaged.append(str(error))
                    continue
                if dict(found.notes) == manifest.told_before(chunk) and found.chunk == chunk:
                    return found, tuple(damaged)
                damaged.append(f"{path} is the state of another take")
        return None, tuple(damaged)

    def remove(self) -> None:
        """Delete what is the take's own, and the folder if nothing else lies in it."""
        with output_errors(self.path):
            own = [self.path / NAME, self.path / PICTURE, *self.pieces().values()]
            own += [self.state(chunk) for chunk in self.states()]
            own += self.path.glob(f"{TEMP_PREFIX}*{TEMP_SUFFIX}")
            for path in own:
                path.unlink(missing_ok=True)
            with suppress(OSError):
                self.path.rmdir()


def folder_of(film: Path) -> Path:
    """The folder beside a film."""
    return film.with_suffix(TAKE_SUFFIX)


def segment_name(chunk: int) -> str:
    """Name of the piece that holds all frames of a chunk."""
    return f"segment-{chunk:06}"


def end_name(frames: int) -> str:
    """Name of the last piece of a film that ends inside a chunk."""
    return f"end-{frames:07}"


def is_whole(piece: Path) -> bool:
    """Whether a piece has the checksum that its name holds."""
    match = _PIECE.fullmatch(piece.name)
    return match is not None and match[2] == _checksum(piece)


def _checksum(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()[:16]
    except OSError:
        return ""
