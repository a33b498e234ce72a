"""A film out of segments: each a film of its own, joined without encoding anything again."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from types import TracebackType

import av
from av.container import OutputContainer
from av.packet import Packet
from av.video.stream import VideoStream

from longtake.errors import MediaError
from longtake.media.video import clean_tags, closing, open_mp4, reason
from longtake.storage import atomic_write, output_errors

_LIVE = "frag_every_frame+empty_moov+default_base_moof"
"""Every frame can be played as soon as it is written, and a cut file up to where it was cut."""
_AHEAD = 2
"""Frames that are decoded before the first is shown, where a segment is long enough for it."""


def join_segments(
    segments: Sequence[Path],
    path: Path,
    *,
    fps: int | Fraction,
    metadata: Mapping[str, str] | None = None,
) -> None:
    """Copy segments one after the other into an mp4; the same segments give the same bytes.

    Args:
        segments: Films of one size and rate, in order.
        path: The mp4; a file there is replaced.
        fps: Frames per second.
        metadata: Container tags.

    Raises:
        MediaError: a segment that cannot be read, or that does not fit the first.
        OutputError: the folder is missing or not writable, or the disk is full.
    """
    with atomic_write(path) as temp:
        with output_errors(path):
            container = open_mp4(temp, clean_tags(metadata or {}), fps)
        with closing(container, path):
            copier = _Copier(container, path)
            for segment in segments:
                copier.append(segment)


class LiveFilm:
    """A film that can be watched while segments are still being added; not the final one.

    >>> with LiveFilm(Path("live.mp4"), fps=16) as live:
    ...     live.append(Path("0000.mp4"))
    """

    def __init__(self, path: Path, *, fps: int) -> None:
        """Prepare; a file of that name is replaced when the block begins."""
        self.path, self.fps = path, fps
        self._container: OutputContainer
        self._copier: _Copier

    def __enter__(self) -> "LiveFilm":  # noqa: PYI034 - the shape checker knows no Self
        """Begin the file.

        Raises:
            OutputError: the folder is missing or cannot be written.
        """
        with output_errors(self.path):
            self.path.write_bytes(b"")  # the library opens it only when it has something to write
            self._container = open_mp4(self.path, {}, self.fps, _LIVE)
        self._copier = _Copier(self._container, self.path)
        return self

    def append(self, segment: Path) -> None:
        """Add a segment; it can be watched when this returns.

        Raises:
            MediaError: a segment that cannot be read, or that does not fit the first.
            OutputError: the disk is full.
        """
        self._copier.append(segment)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """End the file."""
        with output_errors(self.path):
            self._container.close()


class _Copier:
    """Copies packets and moves their times to where the segment begins."""

    def __init__(self, container: OutputContainer, path: Path) -> None:
        self.container, self.path = container, path
        self.stream: VideoStream | None = None
        self.looks: tuple[object, ...] = ()
        self.begins = Fraction(0)

    def append(self, segment: Path) -> None:
        with _reading(segment), av.open(str(segment.absolute())) as source:
            video = source.streams.video[0]
            context = video.codec_context
            looks = (context.width, context.height, video.average_rate, context.extradata)
            if self.stream is None:
                self.stream, self.looks = self.container.add_stream_from_template(video), looks
            if looks != self.looks:
                msg = f"the segment {segment} has another size, rate or encoder than the first"
                raise MediaError(msg)
            wait: int | None = None
            for packet in source.demux(video):
                if packet.dts is not None:
                    wait = self._wait(packet, video.average_rate) if wait is None else wait
                    self._mux(packet, wait)
            duration = video.duration
            if duration is None or video.time_base is None:
                msg = f"the segment {segment} has no length; make it again"
                raise MediaError(msg)
            self.begins += duration * video.time_base

    @staticmethod
    def _wait(first: Packet, rate: Fraction | None) -> int:
        """Ticks by which a short segment's decoding must be earlier, to run on without a jump."""
        assert first.dts is not None, "asked for before"
        assert first.pts is not None, "a film's packets have times"
        ahead = int(_AHEAD / ((rate or 1) * first.time_base))
        return max(ahead - (first.pts - first.dts), 0)

    def _mux(self, packet: Packet, wait: int) -> None:
        assert packet.dts is not None, "asked for before"
        assert packet.pts is not None, "a film's packets have times"
        shift = int(self.begins / packet.time_base)
        packet.dts += shift - wait
        packet.pts += shift
        packet.stream = self.stream
        with output_errors(self.path):
            self.container.mux(packet)


@contextmanager
def _reading(segment: Path) -> Iterator[None]:
    try:
        yield
    except (av.error.FFmpegError, IndexError, FileNotFoundError) as error:
        msg = f"cannot read the segment {segment}: {reason(error)}"
        raise MediaError(msg) from error
