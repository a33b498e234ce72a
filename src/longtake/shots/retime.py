"""From the model's frames a second to the cut's: an explicit step, told in the manifest."""

from collections.abc import Iterable, Iterator
from fractions import Fraction
from math import ceil, floor
from typing import Literal

import av
import numpy as np
import torch
from av.filter import Graph
from av.video.format import VideoFormat
from av.video.frame import VideoFrame
from jaxtyping import UInt8
from torch import Tensor

from longtake.config import FPS

Retiming = Literal["duplicate", "blend", "motion"]
Frame = UInt8[Tensor, "height width 3"]


def needed(shown: int, fps: Fraction) -> int:
    """Frames of the model that so many frames of a cut are made from.

    Frame i of the cut is shown i / fps seconds after the first, between two frames of the model.
    """
    return ceil((shown - 1) * FPS / fps) + 1


def covered(made: int, fps: Fraction) -> int:
    """The most frames of a cut that so many frames of the model give; `needed` turned around."""
    return floor((made - 1) * fps / FPS) + 1


def retimed(
    frames: Iterable[Frame], shown: int, fps: Fraction, method: Retiming
) -> Iterator[Frame]:
    """Exactly so many frames at another rate.

    Args:
        frames: At 16 a second; at least `needed` of them.
        shown: Frames wanted.
        fps: Frames per second wanted.
        method: `duplicate` shows the newest frame there is, `blend` mixes the two around by their
            distance in time, `motion` moves pixels along estimated motion.
    """
    match method:
        case "duplicate" | "blend":
            return _between(frames, shown, fps, mix=method == "blend")
        case "motion":
            return _along_motion(frames, shown, fps)


def _between(frames: Iterable[Frame], shown: int, fps: Fraction, *, mix: bool) -> Iterator[Frame]:
    source = enumerate(frames)
    number, after = next(source)
    before = after
    for index in range(shown):
        at = index * FPS / fps
        while number < ceil(at):
            before = after
            number, after = next(source)
        part = at - floor(at)
        if not part:
            yield after
        elif mix:
            mixed = torch.lerp(before.float(), after.float(), float(part))
            yield mixed.round().to(torch.uint8)
        else:
            yield before


def _along_motion(frames: Iterable[Frame], shown: int, fps: Fraction) -> Iterator[Frame]:
    """By FFmpeg's minterpolate; where it has no frame, at both ends, the nearest stands in."""
    found = 0
    last: Frame | None = None
    for at, frame in _interpolated(frames, fps):
        while found < min(at, shown):
            yield frame if last is None else last
            found += 1
        if found == shown:
            return
        if at == found:
            yield frame
            found += 1
        last = frame
    assert last is not None, "no frames"
    for _ in range(found, shown):
        yield last


def _interpolated(frames: Iterable[Frame], fps: Fraction) -> Iterator[tuple[int, Frame]]:
    """Frames with their numbers at the new rate."""
    source = iter(frames)
    first = next(source)
    height, width, _ = first.shape
    graph = Graph()
    graph.threads = 1
    begin = graph.add_buffer(
        width=width, height=height, format=VideoFormat("rgb24"), time_base=Fraction(1, FPS)
    )
    steps = (
        ("format", "yuv444p"),
        ("minterpolate", f"fps={fps.numerator}/{fps.denominator}:mi_mode=mci:scd=none"),
        ("format", "rgb24"),
        ("buffersink", None),
    )
    graph.link_nodes(begin, *(graph.add(name, options) for name, options in steps)).configure()
    for number, pixels in enumerate(_chain(first, source)):
        graph.push(_video_frame(pixels, number))
        yield from _drained(graph, fps)
    graph.push(None)
    yield from _drained(graph, fps)


def _chain(first: Frame, rest: Iterator[Frame]) -> Iterator[Frame]:
    yield first
    yield from rest


def _video_frame(pixels: Frame, number: int) -> VideoFrame:
    frame = VideoFrame.from_ndarray(np.ascontiguousarray(pixels.numpy()), format="rgb24")
    frame.pts, frame.time_base = number, Fraction(1, FPS)
    return frame


def _drained(graph: Graph, fps: Fraction) -> Iterator[tuple[int, Frame]]:
    while True:
        try:
            frame = graph.pull()
        except (av.error.BlockingIOError, av.error.EOFError):
            return
        assert isinstance(frame, VideoFrame), "the graph ends in pictures"
        assert frame.pts is not None, "with times"
        assert frame.time_base is not None, "with times"
        at = round(frame.pts * frame.time_base * fps)
        yield at, torch.from_numpy(frame.to_ndarray(format="rgb24"))
