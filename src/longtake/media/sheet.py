"""Pictures of films: one film's frames in a grid, many films as rows."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from longtake.errors import SettingError
from longtake.storage import atomic_write, output_errors

Picture = UInt8[Tensor, "height width 3"] | UInt8[np.ndarray, "height width 3"]
# Underscores: clips in one call may differ in length and size.
Clip = UInt8[Tensor, "_frames _height _width 3"] | UInt8[np.ndarray, "_frames _height _width 3"]

_PAPER, _INK, _FAINT = (250, 250, 248), (24, 24, 24), (120, 120, 120)
_GAP, _MARGIN = 8, 16
_CAPTION_SIZE, _STAMP_SIZE = 18, 13
_CAPTION_LINES = 3


def spread(frames: int, count: int) -> tuple[int, ...]:
    """Numbers of at most `count` frames, evenly spaced, first and last among them."""
    return tuple(
        dict.fromkeys(np.linspace(0, frames - 1, min(count, frames)).round().astype(int).tolist())
    )


def contact_sheet(
    frames: Sequence[Picture], times_s: Sequence[float], caption: str, *, columns: int = 4
) -> Image.Image:
    """Frames of one film in a grid, each with its time, under the prompt.

    Args:
        frames: Pictures of one size, in order.
        times_s: When each is shown.
        caption: The prompt; long ones are cut with an ellipsis.
        columns: Pictures in a row.

    Raises:
        SettingError: no frames.
    """
    if not frames:
        msg = "a contact sheet needs at least one frame, got none"
        raise SettingError(msg)
    height, width, _ = frames[0].shape
    columns = min(columns, len(frames))
    rows = -(-len(frames) // columns)
    sheet_width = columns * (width + _GAP) - _GAP + 2 * _MARGIN
    lines = _wrap(caption, sheet_width - 2 * _MARGIN, _CAPTION_SIZE)
    top = _MARGIN + len(lines) * (_CAPTION_SIZE + 6) + _GAP
    row_height = height + _STAMP_SIZE + 6 + _GAP
    sheet = Image.new("RGB", (sheet_width, top + rows * row_height + _MARGIN - _GAP), _PAPER)
    draw = ImageDraw.Draw(sheet)
    for number, line in enumerate(lines):
        draw.text(
            (_MARGIN, _MARGIN + number * (_CAPTION_SIZE + 6)), line, _INK, _font(_CAPTION_SIZE)
        )
    for number, (frame, time_s) in enumerate(zip(frames, times_s, strict=True)):
        x = _MARGIN + number % columns * (width + _GAP)
        y = top + number // columns * row_height
        sheet.paste(_image(frame), (x, y))
        draw.text((x, y + height + 3), f"{time_s:.2f} s", _FAINT, _font(_STAMP_SIZE))
    return sheet


def film_strips(
    path: Path,
    clips: Sequence[Clip],
    labels: Sequence[str] = (),
    *,
    columns: int = 8,
    cell_width: int = 192,
) -> None:
    """Write one row of evenly spaced frames per clip, its label on the left.

    Args:
        path: The PNG; a file there is replaced.
        clips: Films, of any lengths and sizes.
        labels: One per clip, or none at all.
        columns: Frames in a row.
        cell_width: Pixels a frame is scaled to.

    Raises:
        SettingError: no clips, or labels for some of them.
        OutputError: the folder is missing or not writable, or the disk is full.
    """
    if not clips:
        msg = "film strips need at least one clip, got none"
        raise SettingError(msg)
    if labels and len(labels) != len(clips):
        msg = f"{len(clips)} clips need as many labels or none, got {len(labels)}"
        raise SettingError(msg)
    left = _MARGIN + (cell_width + _GAP if labels else 0)
    heights = [max(round(cell_width * clip.shape[1] / clip.shape[2]), 1) for clip in clips]
    size = (
        left + columns * (cell_width + _GAP) - _GAP + _MARGIN,
        sum(heights) + _GAP * (len(clips) - 1) + 2 * _MARGIN,
    )
    sheet = Image.new("RGB", size, _PAPER)
    draw = ImageDraw.Draw(sheet)
    y = _MARGIN
    for row, (clip, height) in enumerate(zip(clips, heights, strict=True)):
        if labels:
            _write_label(draw, (_MARGIN, y), labels[row], cell_width, height)
        for column, index in enumerate(spread(len(clip), columns)):
            cell = _image(clip[index]).resize((cell_width, height), Image.Resampling.LANCZOS)
            sheet.paste(cell, (left + column * (cell_width + _GAP), y))
        y += height + _GAP
    save_png(path, sheet)


def save_png(path: Path, image: Image.Image) -> None:
    """Write a picture whole or not at all.

    Raises:
        OutputError: the folder is missing or not writable, or the disk is full.
    """
    with atomic_write(path) as temp, output_errors(path):
        image.save(temp, format="PNG")


def _image(frame: Picture) -> Image.Image:
    pixels = frame.cpu().numpy() if isinstance(frame, Tensor) else frame
    return Image.fromarray(np.ascontiguousarray(pixels))


def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size)


def _write_label(
    draw: ImageDraw.ImageDraw, corner: tuple[int, int], text: str, width: int, height: int
) -> None:
    step = _STAMP_SIZE + 4
    for number, line in enumerate(_wrap(text, width, _STAMP_SIZE, max(height // step, 1))):
        draw.text((corner[0], corner[1] + number * step), line, _INK, _font(_STAMP_SIZE))


def _wrap(text: str, width: int, size: int, most: int = _CAPTION_LINES) -> list[str]:
    """Break a text into at most `most` lines that fit a width in pixels."""
    font = _font(size)
    lines: list[str] = []
    rest = " ".join(text.split())
    while rest:
        fits = _fitting(rest, width, font)
        if len(lines) == most - 1 and fits < len(rest):
            return [*lines, rest[: max(fits - 1, 0)].rstrip() + "…"]
        space = rest.rfind(" ", 0, fits + 1) if fits < len(rest) else fits
        cut = space if space > 0 else fits
        lines.append(rest[:cut].rstrip())
        rest = rest[cut:].lstrip()
    return lines


def _fitting(text: str, width: int, font: ImageFont.FreeTypeFont | ImageFont.ImageFont) -> int:
    """How many leading characters fit, at least one."""
    low, high = 1, min(len(text), width)
    while low < high:
        middle = (low + high + 1) // 2
        if font.getlength(text[:middle]) <= width:
            low = middle
        else:
            high = middle - 1
    return low
