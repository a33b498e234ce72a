"""The cut on paper: three frames of each shot with what an editor asks for, as PNG and PDF."""

import warnings
from collections.abc import Sequence
from pathlib import Path
from textwrap import wrap

import numpy as np
from jaxtyping import UInt8
from matplotlib.backends.backend_pdf import PdfPages
from matplotlib.figure import Figure

from longtake.media.frames import pick
from longtake.media.sheet import film_strips
from longtake.shots.render import Made
from longtake.shots.shot import START, ShotList
from longtake.shots.store import Store
from longtake.shots.timecode import from_timecode, to_timecode
from longtake.storage import atomic_write, output_errors

_ROWS = 4
"""Shots on a page."""
_PAGE = (11.69, 8.27)
"""A4 across, in inches."""
Strip = UInt8[np.ndarray, "three height width 3"]


def write_sheets(scene: ShotList, cut: Sequence[Made], store: Store, png: Path, pdf: Path) -> None:
    """Write first, middle and last frame of each shot with its times, seed and words.

    Raises:
        OutputError: the folder is missing or not writable, or the disk is full.
    """
    strips = [_strip(store.body(made.record), made.planned.shot.frames) for made in cut]
    labels = [_label(scene, made) for made in cut]
    film_strips(png, strips, [". ".join(label) for label in labels], columns=3)
    with atomic_write(pdf) as temp, output_errors(pdf), warnings.catch_warnings():
        # A prompt may hold letters that the font has not; they become boxes.
        warnings.filterwarnings("ignore", message="Glyph")
        with PdfPages(temp, metadata={"Title": scene.title, "CreationDate": None}) as pages:
            for first in range(0, len(cut), _ROWS):
                here = slice(first, first + _ROWS)
                pages.savefig(_page(scene.title, strips[here], labels[here]))


def _strip(film: Path, frames: int) -> Strip:
    numbers = [0, frames // 2, frames - 1]
    found = dict(zip(sorted(set(numbers)), pick(film, sorted(set(numbers))), strict=True))
    return np.stack([found[number].numpy() for number in numbers])


def _label(scene: ShotList, made: Made) -> tuple[str, str, str, str]:
    planned, rate = made.planned, scene.rate
    begin = from_timecode(START, rate) + planned.at
    times = f"{to_timecode(begin, rate)} to {to_timecode(begin + planned.shot.frames, rate)}"
    length = f"{planned.shot.frames} frames, {float(rate.seconds(planned.shot.frames)):.2f} s"
    seed = f"seed {planned.take.settings.seed}, {planned.shot.transition}"
    return made.record.name, f"{times}, {length}", seed, planned.shot.prompt


def _page(
    title: str, strips: Sequence[Strip], labels: Sequence[tuple[str, str, str, str]]
) -> Figure:
    page = Figure(figsize=_PAGE)
    page.suptitle(title, x=0.04, ha="left", parse_math=False)
    for row, (strip, label) in enumerate(zip(strips, labels, strict=True)):
        bottom = 0.93 - (row + 1) * 0.9 / _ROWS
        for column, picture in enumerate(strip):
            axes = page.add_axes((0.04 + column * 0.2, bottom, 0.19, 0.9 / _ROWS - 0.02))
            axes.imshow(picture)
            axes.set_axis_off()
        name, times, seed, prompt = label
        lines = [name, *times.split(", ", 1), seed, *wrap(prompt, 48)[:5]]
        page.text(
            0.65, bottom + 0.9 / _ROWS - 0.03, "\n".join(lines), va="top", size=8, parse_math=False
        )
    return page
