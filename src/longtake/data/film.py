"""One film into clips: shots found, frames at 16 a second, one size, measured, encoded.

It runs in the child process of `longtake.data.child`, as films come from anywhere.
"""

from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.video.frame import VideoFrame
from av.video.reformatter import ColorRange, Colorspace, Interpolation
from jaxtyping import UInt8
from scenedetect import FrameTimecode
from scenedetect.detector import FlashFilter
from scenedetect.detectors import ContentDetector

from longtake.config import FPS
from longtake.data.rules import PrepareConfig
from longtake.data.scores import scores_of
from longtake.errors import MediaError
from longtake.media.frames import opened
from longtake.media.video import VideoWriter, reason

Pixels = UInt8[np.ndarray, "height width 3"]
MOST_PIXELS = 8192 * 8192
"""Largest picture that is decoded."""
_GAP_S = 2
"""Seconds without a frame that count as a cut."""
_HDR = {16, 18}
"""Transfer characteristics of HDR films: PQ and HLG (ITU-T H.273)."""
_CUT_WIDTH = 160
"""Width at which cuts are looked for."""
_SCALE = Interpolation.AREA | Interpolation.ACCURATE_RND | Interpolation.BITEXACT


@dataclass(slots=True)
class Found:
    """What became of a film."""

    clips: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])
    """File, place and scores of each clip."""
    drops: list[tuple[str, str]] = field(default_factory=list[tuple[str, str]])
    """Reason and detail of what gave no clip."""


def clips_of(path: Path, target: Path, config: PrepareConfig) -> Found:
    """Cut a film into clips, scores of all and an mp4 of each in the target folder.

    What comes before a damaged place is kept, and the damage told.
    """
    found, cutter = Found(), _Cutter(config)
    try:
        with opened(path) as container:
            if not container.streams.video:
                found.drops.append(("no picture", "it has sound alone"))
                return found
            stream = container.streams.video[0]
            stream.codec_context.thread_count = 1
            for clip in cutter.cut(_ticks(container, stream, config)):
                _keep(found, clip, target, config)
    except _Refused as error:
        found.drops.append((error.why, error.detail))
    except MediaError as error:
        found.drops.append(("unreadable", str(error).replace(f" {path}", "")))
    except (av.error.FFmpegError, MemoryError, ValueError) as error:
        found.drops.append(("damaged", f"after {cutter.ticks / FPS:.1f} s: {reason(error)[:200]}"))
    else:
        if not cutter.ticks:
            found.drops.append(("no picture", "it has no frames"))
    found.drops += [("short", f"a shot of {n / FPS:.2f} s") for n in cutter.short]
    return found


class _Refused(Exception):  # noqa: N818 - a word and its detail
    """A film that gives no clips whatever is in it."""

    def __init__(self, *, why: str, detail: str) -> None:
        super().__init__(why, detail)
        self.why, self.detail = why, detail


@dataclass(frozen=True, slots=True)
class _Clip:
    start: int
    frames: UInt8[np.ndarray, "frames height width 3"]


class _Cutter:
    """Frames at a fixed rate to clips that lie inside a shot each."""

    def __init__(self, config: PrepareConfig) -> None:
        self.config, self.ticks = config, 0
        self.short: list[int] = []
        self._shot, self._held = 0, list[Pixels]()
        self._given = 0
        self._detector = ContentDetector(
            config.cut_threshold, min_scene_len=1, filter_mode=FlashFilter.Mode.SUPPRESS
        )

    def cut(self, frames: "Iterator[Pixels | None]") -> Iterator[_Clip]:
        """Clips as they are full; None among the frames is a gap."""
        for frame in frames:
            if frame is None:
                self._end()
                continue
            if self._is_cut(frame):
                self._end()
            self._held.append(frame)
            self.ticks += 1
            self._shot += 1
            if len(self._held) == self.config.frames:
                self._given += 1
                yield _Clip(self.ticks - len(self._held), np.stack(self._held))
                self._held = []
        self._end()

    def _is_cut(self, frame: Pixels) -> bool:
        step = max(frame.shape[1] // _CUT_WIDTH, 1)
        small = np.ascontiguousarray(frame[::step, ::step, ::-1])
        at = FrameTimecode(self.ticks, fps=float(FPS))
        return bool(self._detector.process_frame(at, small)) and self.ticks > 0

    def _end(self) -> None:
        """The shot is over; what is left of it is shorter than a clip."""
        if self._shot and not self._given:
            self.short.append(self._shot)
        self._shot, self._given, self._held = 0, 0, []


def _keep(found: Found, clip: _Clip, target: Path, config: PrepareConfig) -> None:
    number = len(found.clips)
    path = target / f"{number:05d}.mp4"
    _, height, width, _ = clip.frames.shape
    with VideoWriter(path, width=width, height=height) as writer:
        writer.write(clip.frames)
    found.clips.append({
        "file": path.name, "start_s": clip.start / FPS, "width": width, "height": height,
        "frames": config.frames, "scores": asdict(scores_of(clip.frames)),
    })  # fmt: skip


def _ticks(container: Any, stream: Any, config: PrepareConfig) -> Iterator[Pixels | None]:  # noqa: ANN401 - the library's
    """What is shown at each sixteenth of a second, in the size of clips; None at a gap.

    A film of variable rate is sampled at the time its frames are shown.
    """
    rate = stream.average_rate or Fraction(25)
    tick, shown, start = 0, _Shown(config), None
    for count, frame in enumerate(container.decode(stream)):
        time_s = count / rate if frame.pts is None else frame.pts * frame.time_base
        start = time_s if start is None else start
        at = Fraction(time_s - start)
        if shown.frame is not None and at - Fraction(tick, FPS) > _GAP_S:
            yield None
            tick = int(at * FPS)
        while shown.frame is not None and Fraction(tick, FPS) < at:
            yield shown.pixels()
            tick += 1
        shown.show(frame)
    if shown.frame is not None:
        yield shown.pixels()


class _Shown:
    """The frame on the screen; its pixels are made when they are asked for, and once."""

    def __init__(self, config: PrepareConfig) -> None:
        self.config = config
        self.frame: VideoFrame | None = None
        self._made: Pixels | None = None

    def show(self, frame: VideoFrame) -> None:
        self.frame, self._made = frame, None

    def pixels(self) -> Pixels:
        assert self.frame is not None, "nothing is shown yet"
        if self._made is None:
            self._made = _pixels(self.frame, self.config)
        return self._made


def _pixels(frame: VideoFrame, config: PrepareConfig) -> Pixels:
    """A frame upright, scaled until it covers its size and cropped evenly."""
    turns = round(frame.rotation / 90) % 4
    width, height = frame.width, frame.height
    if width * height > MOST_PIXELS:
        raise _Refused(why="too large", detail=f"{width}x{height}")
    if turns % 2:
        width, height = height, width
    if min(width, height) < config.least_side:
        told = f"{width}x{height}, the least side is {config.least_side}"
        raise _Refused(why="small", detail=told)
    if int(frame.color_trc) in _HDR:
        raise _Refused(why="hdr", detail="map it to SDR first, e.g. with ffmpeg's tonemap filter")
    wide, high = config.bucket_for(width, height)
    scale = max(wide / width, high / height)
    scaled = (max(round(width * scale), wide), max(round(height * scale), high))
    columns, rows = scaled[::-1] if turns % 2 else scaled
    picture = np.rot90(_rgb(frame, columns, rows), turns)
    left, top = (scaled[0] - wide) // 2, (scaled[1] - high) // 2
    return np.ascontiguousarray(picture[top : top + high, left : left + wide])


def _rgb(frame: VideoFrame, width: int, height: int) -> Pixels:
    """Full-range pixels; a film that does not tell its colours has the usual ones of its size."""
    told = int(frame.colorspace)
    usual = Colorspace.ITU709 if frame.height >= 720 else Colorspace.ITU601
    space = Colorspace.ITU709 if told == 1 else Colorspace.ITU601 if told in (5, 6) else usual
    full = int(frame.color_range) == int(ColorRange.JPEG)
    converted = frame.reformat(
        width=width,
        height=height,
        format="rgb24",
        src_colorspace=space,
        dst_colorspace=space,
        src_color_range=ColorRange.JPEG if full else ColorRange.MPEG,
        dst_color_range=ColorRange.JPEG,
        interpolation=_SCALE,
    )
    return converted.to_ndarray()
