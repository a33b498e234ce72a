"""The cut before any model runs: a board for each shot, moved as its camera will be."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from textwrap import wrap

import numpy as np
from PIL import Image, ImageDraw

from longtake.media.guide import add_guide
from longtake.media.picture import read_picture
from longtake.media.video import VideoWriter
from longtake.shots.camera import move_of
from longtake.shots.shot import START, Shot, ShotList
from longtake.shots.stamp import Pixels, fitted, font_of, stamped
from longtake.shots.timecode import from_timecode, to_timecode
from longtake.shots.timeline import Clip, edl_of, otio_of
from longtake.storage import atomic_write, output_errors

_MORE = 1.25
"""How much larger a board is than the frame, so that the frame can move over it."""
_SHADES = ((46, 58, 70), (64, 54, 48), (50, 62, 48), (58, 48, 66))
"""One after the other, so that cuts show."""
_INK, _LINES = (245, 245, 240), (255, 255, 255)


@dataclass(frozen=True, slots=True)
class _Move:
    """Where the frame lies on the board: from and to, and how much of the board it shows.

    0 is left, top and as near as can be, 1 is right, bottom and the whole board.
    """

    x: tuple[float, float] = (0.5, 0.5)
    y: tuple[float, float] = (0.5, 0.5)
    wide: tuple[float, float] = (0.0, 0.0)


_LEFT, _RIGHT, _UP, _DOWN = (1.0, 0.0), (0.0, 1.0), (1.0, 0.0), (0.0, 1.0)
_MOVES = {
    "pan_left": _Move(x=_LEFT),
    "pan_right": _Move(x=_RIGHT),
    "truck_left": _Move(x=_LEFT),
    "truck_right": _Move(x=_RIGHT),
    "roll_left": _Move(x=_LEFT, y=_UP),
    "roll_right": _Move(x=_RIGHT, y=_UP),
    "orbit": _Move(x=_RIGHT, wide=(0.5, 0.0)),
    "crane_up": _Move(y=_UP),
    "crane_down": _Move(y=_DOWN),
    "pedestal_up": _Move(y=_UP),
    "pedestal_down": _Move(y=_DOWN),
    "tilt_up": _Move(y=_UP),
    "tilt_down": _Move(y=_DOWN),
    "dolly_in": _Move(wide=(1.0, 0.0)),
    "zoom_in": _Move(wide=(1.0, 0.0)),
    "dolly_out": _Move(wide=(0.0, 1.0)),
    "zoom_out": _Move(wide=(0.0, 1.0)),
}


def animatic(
    scene: ShotList, path: Path, width: int, height: int, guide: Path | None = None
) -> None:
    """Write the cut with boards, and a timeline and an edit list of the same name beside it.

    Args:
        scene: The shot list.
        path: The mp4; files there are replaced.
        width: Frame width in pixels.
        height: Frame height in pixels.
        guide: Sound under it.

    Raises:
        MediaError: a first frame or the sound cannot be read.
        OutputError: the folder is missing or not writable, or the disk is full.
    """
    rate, start = scene.rate, from_timecode(START, scene.rate)
    tags = {"title": f"{scene.title}, animatic", "timecode": to_timecode(start, rate)}
    with VideoWriter(path, width=width, height=height, fps=rate.fps, metadata=tags) as writer:
        for frame in _frames(scene, width, height):
            writer.write(frame[None])
    if guide is not None:
        add_guide(path, guide, path, fps=rate.fps, tags=tags)
    clips = [
        Clip(
            shot=shot,
            name=path.stem,
            file=path.name,
            begins=start,
            holds=scene.frames,
            source=start + at,
            at=at,
        )
        for shot, at in zip(scene.shots, scene.starts(), strict=True)
    ]
    texts = {".otio": otio_of(scene, clips, path.parent), ".edl": edl_of(scene, clips)}
    for ending, text in texts.items():
        beside = path.with_suffix(ending)
        with atomic_write(beside) as temp, output_errors(beside):
            temp.write_text(text, "utf-8")


def _frames(scene: ShotList, width: int, height: int) -> Iterator[Pixels]:
    start = from_timecode(START, scene.rate)
    last: Pixels | None = None
    for number, (shot, at) in enumerate(zip(scene.shots, scene.starts(), strict=True)):
        board = _board(shot, _SHADES[number % len(_SHADES)], width, height)
        move = _MOVES.get(move_of(shot.prompt), _Move())
        frame = _view(board, move, 0.0, width, height)
        for index in range(shot.frames):
            if move != _Move():
                frame = _view(board, move, index / max(shot.frames - 1, 1), width, height)
            seen = frame
            if last is not None and index < shot.dissolve:
                part = (index + 1) / (shot.dissolve + 1)
                seen = (last * (1 - part) + frame * part).round().astype(np.uint8)
            time = to_timecode(start + at + index, scene.rate)
            yield stamped(seen, (scene.title, shot.code, time, f"{index + 1}/{shot.frames}"))
        last = frame


def _board(shot: Shot, shade: tuple[int, int, int], width: int, height: int) -> Image.Image:
    """The shot's first frame if it has a picture, else its words over lines that show a move."""
    size = (round(width * _MORE), round(height * _MORE))
    if shot.picture:
        return Image.fromarray(read_picture(shot.picture, *size)[0].numpy())
    image = Image.new("RGB", size, shade)
    draw = ImageDraw.Draw(image)
    faint = tuple((part * 7 + line) // 8 for part, line in zip(shade, _LINES, strict=True))
    for part in range(1, 8):
        draw.line((size[0] * part // 8, 0, size[0] * part // 8, size[1]), faint)
        draw.line((0, size[1] * part // 8, size[0], size[1] * part // 8), faint)
    large, small = max(height // 10, 8), max(height // 18, 8)
    x, y = size[0] // 5, size[1] // 4
    draw.text((x, y), fitted(shot.code, font_of(large), size[0] * 3 // 5), _INK, font_of(large))
    y += large * 3 // 2
    said = shot.prompt if not shot.after else f"{shot.prompt} (from {shot.after})"
    across = max(int(size[0] * 0.6 / (small * 0.55)), 8)
    for line in wrap(f"{said}. {shot.transition}", across)[:5]:
        draw.text((x, y), fitted(line, font_of(small), size[0] * 3 // 5), _INK, font_of(small))
        y += small * 4 // 3
    return image


def _view(board: Image.Image, move: _Move, part: float, width: int, height: int) -> Pixels:
    """What the frame sees at a part of the shot, from 0 to 1."""

    def at(ends: tuple[float, float]) -> float:
        return ends[0] + (ends[1] - ends[0]) * part

    scale = 1 + (_MORE - 1) * at(move.wide)
    seen = (width * scale, height * scale)
    left, top = (board.width - seen[0]) * at(move.x), (board.height - seen[1]) * at(move.y)
    box = (left, top, left + seen[0], top + seen[1])
    return np.asarray(board.resize((width, height), Image.Resampling.BILINEAR, box))
