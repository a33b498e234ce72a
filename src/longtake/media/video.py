"""Frames into an mp4 that plays everywhere, one at a time, and back."""

import unicodedata
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from fractions import Fraction
from pathlib import Path
from types import TracebackType

import av
import numpy as np
import torch
from av.container import OutputContainer
from av.video.frame import VideoFrame
from av.video.reformatter import (
    ColorPrimaries,
    ColorRange,
    Colorspace,
    ColorTrc,
    Interpolation,
    VideoReformatter,
)
from av.video.stream import VideoStream
from jaxtyping import UInt8
from torch import Tensor

from longtake.config import FPS
from longtake.errors import MediaError, SettingError
from longtake.storage import atomic_write, output_errors

Pixels = UInt8[Tensor, "frames height width 3"] | UInt8[np.ndarray, "frames height width 3"]

# Of x264's presets the fastest that loses nothing at this quality: 81 frames of 448x256 on two
# cores take 0.25 s (medium: 0.42 s) at the same PSNR and no more bytes.
_PRESET = "veryfast"
_CRF = "18"
# x264's result depends on the thread count, so the count must not depend on the machine.
_THREADS = 4
# Macroblock-tree rate control reads memory that nothing wrote where the width is no multiple of
# 128, so that the same frames gave other bytes from run to run; tests/test_media.py holds it.
_REPEATABLE = "mbtree=0"
_MAX_TAG = 65_536
_SCALE = Interpolation.AREA | Interpolation.ACCURATE_RND | Interpolation.BITEXACT


class VideoWriter:
    """Streams frames into an H.264 mp4; the file appears whole at the end or not at all.

    Constant memory, constant frame rate, BT.709 limited range, playable while downloading.
    The same frames and tags give the same bytes.

    >>> with VideoWriter(Path("film.mp4"), width=448, height=256) as writer:
    ...     writer.write(frames)
    """

    def __init__(
        self,
        path: Path,
        *,
        width: int,
        height: int,
        fps: int | Fraction = FPS,
        metadata: Mapping[str, str] | None = None,
    ) -> None:
        """Prepare; nothing is written before `with`.

        Args:
            path: Final name of the mp4; a file there is replaced.
            width: Frame width in pixels, even.
            height: Frame height in pixels, even.
            fps: Frames per second.
            metadata: Container tags; `timecode` becomes a timecode track.

        Raises:
            SettingError: a size H.264 with halved colour cannot hold, or no frame rate.
        """
        if width < 2 or height < 2 or width % 2 or height % 2:
            msg = (
                f"a film's width and height must be even, got {width}x{height}; "
                f"the nearest is {max(width // 2, 1) * 2}x{max(height // 2, 1) * 2}"
            )
            raise SettingError(msg)
        if fps < 1:
            msg = f"fps must be at least 1, got {fps}; try {FPS}"
            raise SettingError(msg)
        self.path, self.width, self.height, self.fps = path, width, height, fps
        self.frames = 0
        self._tags = clean_tags(metadata or {})
        self._stack = ExitStack()
        self._converter = VideoReformatter()
        self._container: OutputContainer
        self._stream: VideoStream

    def __enter__(self) -> "VideoWriter":  # noqa: PYI034 - the shape checker knows no Self
        """Open a temp file beside the final name.

        Raises:
            OutputError: the folder is missing or cannot be written.
        """
        with ExitStack() as stack:
            temp = stack.enter_context(atomic_write(self.path))
            with output_errors(self.path):
                self._container = open_mp4(temp, self._tags, self.fps)
            stack.enter_context(closing(self._container, self.path))
            self._stream = _add_h264(self._container, self.width, self.height, self.fps)
            self._stack = stack.pop_all()
        return self

    def write(self, frames: Pixels) -> None:
        """Append frames in order.

        Raises:
            SettingError: frames of another size.
        """
        _, height, width, _ = frames.shape
        if (width, height) != (self.width, self.height):
            msg = f"the film is {self.width}x{self.height}, got frames of {width}x{height}"
            raise SettingError(msg)
        pixels = frames.cpu().numpy() if isinstance(frames, Tensor) else frames
        for image in pixels:
            self._mux(self._to_yuv(image))
            self.frames += 1

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Finish the file, or leave nothing behind when the block failed.

        Raises:
            OutputError: the disk is full.
            MediaError: no frames were written.
        """
        if error is not None:
            self._stack.__exit__(kind, error, trace)
            return
        with self._stack:
            if not self.frames:
                msg = f"no frames for {self.path.name}; a film has at least one"
                raise MediaError(msg)
            self._mux(None)

    def _mux(self, frame: VideoFrame | None) -> None:
        with output_errors(self.path):
            self._container.mux(self._stream.encode(frame))

    def _to_yuv(self, image: UInt8[np.ndarray, "height width 3"]) -> VideoFrame:
        frame = self._converter.reformat(
            VideoFrame.from_ndarray(np.ascontiguousarray(image), format="rgb24"),
            format="yuv420p",
            src_colorspace=Colorspace.ITU709,
            dst_colorspace=Colorspace.ITU709,
            src_color_range=ColorRange.JPEG,
            dst_color_range=ColorRange.MPEG,
            interpolation=_SCALE,
            threads=1,
        )
        frame.pts, frame.time_base = self.frames, 1 / Fraction(self.fps)
        return frame


def read_video(path: Path) -> tuple[UInt8[Tensor, "frames height width 3"], float]:
    """Decode a film whole: its frames and frames per second.

    Raises:
        MediaError: not a readable film.
    """
    try:
        with av.open(str(path.absolute())) as container:
            rate = container.streams.video[0].average_rate
            frames = [to_rgb(frame) for frame in container.decode(video=0)]
    except (av.error.FFmpegError, IndexError, OSError) as error:
        msg = f"cannot read {path} as a film: {reason(error)}"
        raise MediaError(msg) from error
    if not frames or rate is None:
        msg = f"{path} has no frames"
        raise MediaError(msg)
    return torch.from_numpy(np.stack(frames)), float(rate)


def read_metadata(path: Path) -> dict[str, str]:
    """Container tags of a film.

    Raises:
        MediaError: not a readable film.
    """
    try:
        with av.open(str(path.absolute())) as container:
            return dict(container.metadata)
    except (av.error.FFmpegError, OSError) as error:
        msg = f"cannot read {path} as a film: {reason(error)}"
        raise MediaError(msg) from error


def clean_tags(tags: Mapping[str, str]) -> dict[str, str]:
    """Tags without control characters or broken surrogates, each of bounded length."""
    return {key: _clean(value)[:_MAX_TAG] for key, value in tags.items()}


def _clean(text: str) -> str:
    return "".join(c for c in text if unicodedata.category(c) not in ("Cc", "Cs"))


@contextmanager
def closing(container: OutputContainer, path: Path) -> Iterator[None]:
    """Close at the end; a second error while closing must not hide the first."""
    try:
        yield
    except BaseException:
        with suppress(OSError):
            container.close()
        raise
    with output_errors(path):
        container.close()


def open_mp4(
    path: Path, tags: Mapping[str, str], fps: int | Fraction, flags: str = "faststart"
) -> OutputContainer:
    """Begin an mp4 whose clock every frame falls on."""
    # A clock that frames fall on: the muxer's milliseconds would cut the last frame short.
    rate = Fraction(fps)
    clock = str(rate.numerator if rate.denominator > 1 else rate.numerator * 1000)
    container = av.open(
        # Absolute, or FFmpeg takes what stands before a colon for a protocol.
        str(path.absolute()),
        "w",
        format="mp4",
        container_options={
            "movflags": f"+{flags}+use_metadata_tags",
            "fflags": "+bitexact+flush_packets",
            "movie_timescale": clock,
            "video_track_timescale": clock,
        },
    )
    container.metadata.update(tags)
    return container


def _add_h264(
    container: OutputContainer, width: int, height: int, fps: int | Fraction
) -> VideoStream:
    options = {"crf": _CRF, "preset": _PRESET, "x264-params": _REPEATABLE}
    stream = container.add_stream("libx264", rate=Fraction(fps), options=options)
    stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
    context = stream.codec_context
    context.thread_count = _THREADS
    context.color_range = ColorRange.MPEG
    context.colorspace = Colorspace.ITU709
    context.color_primaries = ColorPrimaries.BT709
    context.color_trc = ColorTrc.BT709
    return stream


def to_rgb(frame: VideoFrame) -> UInt8[np.ndarray, "height width 3"]:
    """A decoded frame, BT.709 limited range, as pixels."""
    converted = frame.reformat(
        format="rgb24",
        src_colorspace=Colorspace.ITU709,
        dst_colorspace=Colorspace.ITU709,
        src_color_range=ColorRange.MPEG,
        dst_color_range=ColorRange.JPEG,
        interpolation=Interpolation.BICUBIC | Interpolation.ACCURATE_RND | Interpolation.BITEXACT,
    )
    return converted.to_ndarray()


def reason(error: BaseException) -> str:
    """Why FFmpeg could not, in a few words."""
    if isinstance(error, IndexError):
        return "it has no video stream"
    return getattr(error, "strerror", None) or str(error)
