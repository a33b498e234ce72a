"""A take while it is made: its folder, and the film that grows beside it and plays meanwhile."""

from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType

from jaxtyping import UInt8
from torch import Tensor

from longtake.config import FPS
from longtake.errors import StateError
from longtake.media.segments import LiveFilm, join_segments
from longtake.rollout.folder import HEAD, TakeFolder, end_name, segment_name
from longtake.rollout.manifest import TakeManifest
from longtake.rollout.snapshot import Identity, Snapshot


class Recording:
    """Takes up a take where its folder ends, stores chunk after chunk, and joins the film.

    >>> with Recording(folder, film, manifest, identity) as recording:
    ...     for border in borders(recording.start):
    ...         recording.add(border.pixels, border.snapshot)
    ...     recording.finish(tags)
    """

    def __init__(
        self,
        folder: TakeFolder,
        film: Path,
        manifest: TakeManifest,
        identity: Identity,
        *,
        allow_different: bool = False,
    ) -> None:
        """Name the parts; nothing is read or written before `with`."""
        self.folder, self.film, self.manifest, self.identity = folder, film, manifest, identity
        self.allow_different = allow_different
        self.start: Snapshot | None = None
        """Where to go on; None at the beginning."""
        self.chunk = manifest.begins
        """The chunk that comes next."""
        self.notes: tuple[str, ...] = ()
        """What was found damaged."""
        self._keep = manifest.kept
        self.began = False
        """Whether the film's file is this take's."""
        self._stack = ExitStack()
        self._live: LiveFilm | None = None

    def __enter__(self) -> "Recording":  # noqa: PYI034 - the shape checker knows no Self
        """Find the newest border whose past is whole, and begin the film up to there.

        Raises:
            StateError: made with other weights or arithmetic, or damaged where nothing older is.
            OutputError: folder or film cannot be written.
        """
        manifest, path = self.manifest, self.folder.path
        manifest.check_identity(self.identity, path, allow_different=self.allow_different)
        self.folder.begin()
        if manifest.before:
            self._pieces([HEAD])
        self._take_up()
        if self.chunk < manifest.chunks:
            with ExitStack() as stack:
                self._live = stack.enter_context(LiveFilm(self.film, fps=FPS))
                self.began = True
                for piece in self._pieces(self._names(self.chunk)):
                    self._live.append(piece)
                self._stack = stack.pop_all()
        return self

    def add(self, pixels: UInt8[Tensor, "frames height width 3"], snapshot: Snapshot) -> None:
        """Store a finished chunk; its frames can be watched when this returns.

        Args:
            pixels: All frames of the chunk, those beyond the end of the film among them.
            snapshot: The take after it.

        Raises:
            OutputError: the disk is full; everything stored before stands.
        """
        manifest = self.manifest
        shown = None
        if snapshot.chunk == manifest.chunks and manifest.trimmed:
            frames = manifest.settings.frames
            wanted = frames - manifest.grid.frames(snapshot.chunk - 1).start
            shown = self.folder.store(end_name(frames), [pixels[:wanted]])
        segment = self.folder.add(pixels, snapshot, self.identity, keep=self._keep)
        self.chunk = snapshot.chunk
        if self._live is not None:
            self._live.append(shown or segment)

    def finish(self, tags: Mapping[str, str]) -> None:
        """Join the film from its pieces; the same take gives the same bytes.

        Raises:
            OutputError: the disk is full.
        """
        assert self.chunk == self.manifest.chunks, "chunks are missing"
        self._stack.close()
        pieces = self._pieces(self._names(self.chunk))
        join_segments(pieces, self.film, fps=FPS, metadata=tags)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close the film; what is stored stays."""
        self._stack.__exit__(kind, error, trace)

    def _names(self, chunk: int) -> list[str]:
        """Pieces of the film up to a chunk."""
        manifest = self.manifest
        names = [HEAD] if manifest.before else []
        names += [segment_name(n) for n in range(manifest.begins, chunk)]
        if chunk == manifest.chunks and manifest.trimmed:
            names[-1] = end_name(manifest.settings.frames)
        return names

    def _pieces(self, names: list[str]) -> list[Path]:
        found, problem = self.folder.whole(names)
        if problem:
            msg = f"{problem}; nothing older is left to go on from, so make the take again"
            raise StateError(msg)
        return found

    def _take_up(self) -> None:
        manifest = self.manifest
        names = [segment_name(n) for n in range(manifest.begins, manifest.chunks)]
        segments, problem = self.folder.whole(names)
        most = manifest.begins + len(segments)
        if most == manifest.chunks and manifest.trimmed:
            _, problem = self.folder.whole([end_name(manifest.settings.frames)])
            most -= bool(problem)
        different = self.allow_different
        self.start, self.notes = self.folder.newest(
            self.identity, manifest, most, allow_different=different
        )
        if any(chunk > most for chunk in self.folder.states()):
            self.notes += (problem,)
        if self.start is not None:
            self.chunk = self.start.chunk
        elif manifest.begins:
            wrong = "; ".join(self.notes) or f"{self.folder.path} holds no state"
            msg = f"{wrong}; nothing older is left to go on from, so make the take again"
            raise StateError(msg)
