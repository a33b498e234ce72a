"""The sides of a comparison in one picture: a film side by side, and a sheet."""

from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from textwrap import wrap

import numpy as np
import torch
from jaxtyping import UInt8
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from longtake.config import FPS
from longtake.evaluate.chain import Film, Side
from longtake.media.sheet import film_strips

SHOWN: tuple[Side, ...] = ("take", "chain", "public", "truth")
"""Sides that the film shows, from the left."""
HEAD, FOOT = 32, 48
"""Pixels above and below the pictures; even, as the mp4 wants them."""
_PAPER, _INK, _FAINT = (250, 250, 248), (24, 24, 24), (110, 110, 110)
_LETTER = 16
_AT_ONCE = FPS


def side_by_side(
    films: Mapping[Side, Film],
    names: Mapping[Side, str],
    joins: Mapping[Side, Sequence[int]],
    texts: Sequence[str],
) -> Iterator[UInt8[Tensor, "frames height width 3"]]:
    """Films beside each other under their names, the caption in force below, a second at a time.

    Args:
        films: Of one length and size.
        names: What stands above each.
        joins: Frames with which clips begin; a chain tells which clip is shown.
        texts: The caption in force in each chunk.
    """
    shown = [side for side in SHOWN if side in films]
    frames, _, width, _ = films[shown[0]].shape
    wide = width * len(shown)
    per_chunk = -(-(frames - 1) // len(texts))
    for first in range(0, frames, _AT_ONCE):
        numbers = range(first, min(first + _AT_ONCE, frames))
        middle = torch.cat([films[side][numbers.start : numbers.stop] for side in shown], dim=2)
        heads, feet = [], []
        for frame in numbers:
            said = texts[min(max(frame - 1, 0) // per_chunk, len(texts) - 1)]
            labels = tuple(_label(side, names, joins, frame) for side in shown)
            heads.append(_head(labels, width, frame // FPS))
            feet.append(_foot(said, wide))
        yield torch.cat([torch.stack(heads), middle, torch.stack(feet)], dim=1)


def write_sheet(path: Path, films: Mapping[Side, Film], names: Mapping[Side, str]) -> None:
    """A row of frames of every side.

    Raises:
        OutputError: the folder is missing or not writable, or the disk is full.
    """
    film_strips(path, list(films.values()), [names[side] for side in films], columns=7)


def _label(
    side: Side, names: Mapping[Side, str], joins: Mapping[Side, Sequence[int]], frame: int
) -> str:
    if side not in ("chain", "public"):
        return names[side]
    clip = 1 + sum(frame >= join for join in joins[side])
    return f"{names[side]}: clip {clip} of {1 + len(joins[side])}"


@lru_cache(maxsize=4)
def _head(labels: tuple[str, ...], width: int, second: int) -> UInt8[Tensor, "height width 3"]:
    image = Image.new("RGB", (width * len(labels), HEAD), _PAPER)
    draw, font = ImageDraw.Draw(image), ImageFont.load_default(_LETTER)
    for number, label in enumerate(labels):
        draw.text((number * width + 10, 7), label, _INK, font)
    time = f"{second} s"
    draw.text((image.width - font.getlength(time) - 10, 7), time, _FAINT, font)
    return torch.from_numpy(np.array(image))


@lru_cache(maxsize=4)
def _foot(text: str, width: int) -> UInt8[Tensor, "height width 3"]:
    image = Image.new("RGB", (width, FOOT), _PAPER)
    font = ImageFont.load_default(_LETTER - 2)
    letters = max(int(width / (font.getlength(text) / max(len(text), 1))) - 4, 1)
    lines = "\n".join(wrap(text, letters)[:2])
    ImageDraw.Draw(image).text((10, 6), lines, _FAINT, font)
    return torch.from_numpy(np.array(image))
