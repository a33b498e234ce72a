"""Slate and burn-in: what a reviewer reads on a copy, never on the clean master."""

from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageDraw, ImageFont

from longtake.media.frames import frames_of
from longtake.media.guide import add_guide
from longtake.media.video import VideoWriter
from longtake.shots.render import Made
from longtake.shots.shot import START, ShotList
from longtake.shots.timecode import from_timecode, to_timecode

Pixels = UInt8[np.ndarray, "height width 3"]
_INK, _BAND, _BOARD = (255, 255, 255), (0, 0, 0), (28, 32, 38)


def burn_in(
    scene: ShotList, cut: Sequence[Made], master: Path, path: Path, guide: Path | None = None
) -> None:
    """Write a copy of the master that tells show, shot, take, timecode, seed and frame.

    A slate of one second comes first, so the copy's clock begins one second before the master's.

    Raises:
        OutputError: the folder is missing or not writable, or the disk is full.
    """
    rate, start = scene.rate, from_timecode(START, scene.rate)
    settings = cut[0].planned.take.settings
    tags = {"title": f"{scene.title}, burn-in"}
    tags["timecode"] = to_timecode(start - rate.counted, rate)
    with VideoWriter(
        path, width=settings.width, height=settings.height, fps=rate.fps, metadata=tags
    ) as writer:
        board = slate(scene, cut, settings.width, settings.height)
        for _ in range(rate.counted):
            writer.write(board[None])
        for frame, lines in zip(frames_of(master), stamps(scene, cut), strict=True):
            writer.write(stamped(frame[0].numpy(), lines)[None])
    if guide is not None:
        add_guide(path, guide, path, fps=rate.fps, tags=tags, late_s=rate.seconds(rate.counted))


def stamps(scene: ShotList, cut: Sequence[Made]) -> Iterator[tuple[str, str, str, str]]:
    """What each frame of the cut says in its four corners."""
    start = from_timecode(START, scene.rate)
    for made in cut:
        planned = made.planned
        for number in range(planned.shot.frames):
            yield (
                scene.title,
                made.record.name,
                to_timecode(start + planned.at + number, scene.rate),
                f"seed {planned.take.settings.seed}, {number + 1}/{planned.shot.frames}",
            )


def stamped(frame: Pixels, corners: tuple[str, str, str, str]) -> Pixels:
    """A frame with a text in each corner: top left, top right, bottom left, bottom right."""
    image = Image.fromarray(frame)
    width, height = image.size
    size = max(height // 22, 8)
    font, draw = font_of(size), ImageDraw.Draw(image)
    for number, text in enumerate(corners):
        shown = fitted(text, font, width // 2 - 12)
        left, _, right, _ = font.getbbox(shown)
        x = 6 if number % 2 == 0 else width - 6 - int(right - left)
        y = 4 if number < 2 else height - size - 8
        draw.rectangle((x - 3, y - 1, x + int(right - left) + 3, y + size + 3), fill=_BAND)
        draw.text((x, y), shown, _INK, font)
    return np.array(image)


def slate(scene: ShotList, cut: Sequence[Made], width: int, height: int) -> Pixels:
    """The board before the picture: what is shown, how long it is and how it was made."""
    first = cut[0].record
    seconds = float(scene.rate.seconds(scene.frames))
    text = (
        scene.title,
        f"{len(cut)} shots, {scene.frames} frames, {seconds:.2f} s",
        f"{scene.rate.name} fps, from {START}",
        f"model {first.model} {first.model_hash[:12]}",
    )
    return board(text, width, height)


def board(lines: Sequence[str], width: int, height: int) -> Pixels:
    """A title board: the first line large, the others below it, those that fit."""
    image = Image.new("RGB", (width, height), _BOARD)
    draw, y = ImageDraw.Draw(image), height // 6
    for number, line in enumerate(lines):
        size = max(height // (9 if number == 0 else 18), 8)
        font = font_of(size)
        if y + size > height:
            break
        draw.text((width // 16, y), fitted(line, font, width * 7 // 8), _INK, font)
        y += size * 3 // 2
    return np.array(image)


@cache
def font_of(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """The font of a size; it is parsed once, not for every frame."""
    return ImageFont.load_default(size)


def fitted(text: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, width: int) -> str:
    """As much of a line as fits into so many pixels."""
    if font.getlength(text) <= width:
        return text
    low, high = 0, len(text)
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (
            (middle, high) if font.getlength(text[:middle] + "…") <= width else (low, middle - 1)
        )
    return text[:low] + "…"
