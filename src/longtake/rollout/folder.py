"""The folder beside a take: its segments and the states it can be gone on from."""

import json
import re
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from jaxtyping import UInt8
from torch import Tensor

from longtake.config import FPS
from longtake.errors import WeightsError
from longtake.media.segments import join_segments
from longtake.media.video import VideoWriter
from longtake.rollout.snapshot import Identity, Snapshot, load_snapshot, save_snapshot
from longtake.storage import TEMP_PREFIX, TEMP_SUFFIX, atomic_write, output_errors

_MANIFEST = "take.json"
_STATE = re.compile(r"state-(\d{6})\.safetensors")


class TakeFolder:
    """Segments and states, one of each a chunk; whatever a kill leaves can be gone on with.

    A chunk's segment is written before its state, so that a state always stands on segments that
    are whole.
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

    def segment(self, chunk: int) -> Path:
        """Where the frames of a chunk lie."""
        return self.path / f"segment-{chunk:06}.mp4"

    def state(self, chunk: int) -> Path:
        """Where the state before a chunk lies."""
        return self.path / f"state-{chunk:06}.safetensors"

    def states(self) -> list[int]:
        """Chunks that can be gone on with, in order."""
        found = (_STATE.fullmatch(path.name) for path in self.path.glob("state-*.safetensors"))
        return sorted(int(match[1]) for match in found if match)

    def add(
        self,
        pixels: UInt8[Tensor, "frames height width 3"],
        snapshot: Snapshot,
        identity: Identity,
        *,
        keep: frozenset[int] = frozenset(),
    ) -> None:
        """Store a finished chunk.

        Args:
            pixels: Its frames.
            snapshot: The take after it.
            identity: Of the model that makes it.
            keep: Chunks whose states stay; others go as soon as a newer one is written.

        Raises:
            OutputError: the disk is full; everything stored before stands.
        """
        _, height, width, _ = pixels.shape
        with VideoWriter(
            self.segment(snapshot.chunk - 1), width=width, height=height, fps=FPS
        ) as writer:
            writer.write(pixels)
        save_snapshot(self.state(snapshot.chunk), snapshot, identity)
        for chunk in self.states():
            if chunk < snapshot.chunk and chunk not in keep:
                self.state(chunk).unlink()

    def newest(self, identity: Identity, *, allow_different: bool = False) -> Snapshot | None:
        """The newest state whose segments are all there; None if there is none to go on from.

        A damaged state is passed over for an older one.

        Raises:
            StateError: of other weights, precision or arithmetic.
        """
        for chunk in reversed(self.states()):
            if all(self.segment(n).is_file() for n in range(chunk)):
                snapshot = _read(self.state(chunk), identity, allow_different=allow_different)
                if snapshot is not None:
                    return snapshot
        return None

    def join(self, path: Path, chunks: int, metadata: Mapping[str, str]) -> None:
        """Copy the segments into the film.

        Raises:
            MediaError: a segment is missing or damaged.
            OutputError: it cannot be written.
        """
        join_segments([self.segment(n) for n in range(chunks)], path, fps=FPS, metadata=metadata)

    def write_manifest(self, manifest: Mapping[str, str]) -> None:
        """Store what the take is made from.

        Raises:
            OutputError: it cannot be written.
        """
        path = self.path / _MANIFEST
        with atomic_write(path) as temp, output_errors(path):
            temp.write_text(json.dumps(dict(manifest), indent=1) + "\n", "utf-8")

    def remove(self) -> None:
        """Delete what is the take's own, and the folder if nothing else lies in it."""
        with output_errors(self.path):
            for pattern in ("segment-*.mp4", "state-*.safetensors", _MANIFEST):
                for path in self.path.glob(pattern):
                    path.unlink()
            with suppress(OSError):
                self.path.rmdir()


def _read(path: Path, identity: Identity, *, allow_different: bool) -> Snapshot | None:
    try:
        return load_snapshot(path, identity, allow_different=allow_different)
    except WeightsError:
        return None
