"""`longtake drift`: how a film creeps over time, in numbers and one plot."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from longtake.cli.interrupts import raise_if_stopped
from longtake.cli.options import WholeNumber
from longtake.cli.output import check_report
from longtake.cli.progress import Display, display, tell
from longtake.cli.prompt import STDIN
from longtake.errors import MediaError

if TYPE_CHECKING:
    from longtake.media.frames import Frame

_REPORT, _PLOT = "report.json", "drift.png"
_AT_ONCE = 16
"""Frames measured together."""


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class DriftOptions:
    """What is looked at and told."""

    chunk: WholeNumber = 0
    """Latent frames of a chunk of the take, 1 to 7: whether its borders are seen is then told too.
    0: nothing is known of borders."""
    output: Annotated[Path, Parameter(name=("--output", "-o"))] = Path("drift")
    """Folder of report.json and drift.png."""
    overwrite: Annotated[bool, Parameter(negative="")] = False
    """Replace the files of an earlier measurement."""
    as_json: Annotated[Path | None, Parameter(name="--json")] = None
    """Write the numbers to this file as well; - prints them."""
    quiet: Annotated[bool, Parameter(negative="")] = False
    """Say nothing but errors."""


_DRIFT = DriftOptions()


def drift(film: Path, /, *, how: DriftOptions = _DRIFT) -> None:
    """Measure how a film drifts: light, colour, contrast, sharpness, motion, flicker, seams.

    Args:
        film: An mp4, mov, mkv or webm of 2 seconds or more.
        how: What is looked at and told.
    """
    from longtake.evaluate.drift import curves, drift_of
    from longtake.evaluate.drift_report import as_report, as_text, write_plot
    from longtake.evaluate.report import write_json
    from longtake.media.frames import looks_of
    from longtake.rollout.grid import Grid

    grid = Grid(how.chunk) if how.chunk else None
    looks = looks_of(film)
    printed = how.as_json is not None and _is_dash(how.as_json)
    also = None if printed else how.as_json
    check_report(how.output, (_REPORT, _PLOT), also, overwrite=how.overwrite)
    with display(quiet=how.quiet) as show:
        measured = curves(_parts(film, show), float(looks.fps))
    borders = []
    if grid is not None:
        chunks = range(1, grid.chunks(len(measured)))
        borders = [grid.frames(chunk).start for chunk in chunks]
    found = drift_of(measured, borders)
    report = {"film": str(film), **as_report(found)}
    write_json(how.output / _REPORT, report)
    write_plot(how.output / _PLOT, measured, found)
    if also is not None:
        write_json(also, report)
    if printed or not how.quiet:
        text = f"{as_text(found)}\n{how.output / _PLOT}: everything over time"
        tell(json.dumps(report) if printed else text, done="the film is measured")


def _parts(film: Path, show: Display) -> "Iterator[Frame]":
    """Some frames of a film after the other."""
    import torch

    from longtake.media.frames import frames_of

    frames, done = frames_of(film), 0
    size = None
    while some := list(islice(frames, _AT_ONCE)):
        raise_if_stopped()
        sizes = {size or some[0].shape, *(frame.shape for frame in some)}
        if len(sizes) > 1:
            msg = f"{film} changes its size after frame {done}; give a film of one size"
            raise MediaError(msg)
        (size,) = sizes
        yield torch.cat(some)
        done += len(some)
        show.stage("measure", done, done + 1)
    show.stage("measure", done, done)


def _is_dash(path: Path) -> bool:
    return str(path) in (STDIN, "-")
