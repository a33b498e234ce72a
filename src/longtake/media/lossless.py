"""Frames kept exactly, for being cut again later: FFV1 in Matroska."""

from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from types import TracebackType

import av
import numpy as np
import torch
from av.video.frame import VideoFrame
from av.video.stream import VideoStream
from jaxtyping import UInt8
from torch import Tensor

from longtake.config import FPS
from longtake.errors import MediaError
from longtake.media.video import reason
from longtake.storage import output_errors

_LAYOUT = "bgr0"
"""Red, green and blue as they are, so that nothing is rounded."""


class LosslessWriter:
    """Takes frames one after the other; the file is whole when the block ends.

    >>> with LosslessWriter(Path("source.mkv"), width=448, height=256) as writer:
    ...     writer.write(frames)
    """

    def __init__(self, path: Path, *, width: int, height: int) -> None:
        """Prepare; a file of that name is replaced when the block begins."""
        self.path, self.frames = path, 0
        with output_errors(path):
            path.write_bytes(b"")  # the library opens it only when it has something to write
            self._container = av.open(
                str(path.absolute()), "w", format="matroska",
                container_options={"fflags": "+bitexact"},
            )  # fmt: skip
        stream = self._container.add_stream("ffv1", rate=FPS)
        assert isinstance(stream, VideoStream), "a picture codec"
        stream.width, stream.height, stream.pix_fmt = width, height, _LAYOUT
        stream.codec_context.thread_count = 1
        self._stream = stream

    def __enter__(self) -> "LosslessWriter":  # noqa: PYI034 - the shape checker knows no Self
        """Begin."""
        return self

    def write(self, frames: UInt8[Tensor, "frames height width 3"]) -> None:
        """Append frames in order.

        Raises:
            OutputError: the disk is full.
        """
        for image in frames.numpy():
            frame = VideoFrame.from_ndarray(np.ascontiguousarray(image), format="rgb24")
            frame = frame.reformat(format=_LAYOUT)
            frame.pts, frame.time_base = self.frames, Fraction(1, FPS)
            self.frames += 1
            with output_errors(self.path):
                self._container.mux(self._stream.encode(frame))

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """End the file."""
        with output_errors(self.path):
            if error is None:
                self._container.mux(self._stream.encode(None))
            self._container.close()


def lossless_frames(path: Path) -> Iterator[UInt8[Tensor, "height width 3"]]:
    """The frames of such a file, one after the other.

    Raises:
        MediaError: it is gone or damaged.
    """
    try:
        with av.open(str(path.absolute()), format="matroska") as container:
            for frame in container.decode(video=0):
                yield torch.from_numpy(frame.to_ndarray(format="rgb24"))
    except (av.error.FFmpegError, IndexError, OSError) as error:
        msg = f"cannot read {path}: {reason(error)}; delete its folder to make the take again"
        raise MediaError(msg) from error
