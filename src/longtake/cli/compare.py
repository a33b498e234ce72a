"""`longtake compare chain`: one take beside chained clips, in numbers and films."""

import json
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import App, Parameter

from longtake.cli.interrupts import raise_if_stopped
from longtake.cli.memory import memory_errors
from longtake.cli.options import ModelOptions, WholeNumber
from longtake.cli.output import check_report
from longtake.cli.progress import Display, display, tell
from longtake.config import FPS, TEMPORAL_STRIDE
from longtake.errors import CannotHere, ModelError, SettingError
from longtake.presets import find

if TYPE_CHECKING:
    from longtake.evaluate.chain import Compared, Contest
    from longtake.evaluate.chain_public import PublicClips
    from longtake.evaluate.rolls import Maker

compare = App(name="compare", help="Set films that were made in different ways beside each other.")

_REPORT, _TABLE, _PLOT = "report.json", "table.md", "over_time.png"
_FILM, _SHEET = "side_by_side.mp4", "sheet.png"
_DONE = "the comparison is finished"


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class ChainOptions:
    """What is filmed by every side."""

    scripts: WholeNumber = 4
    """Scripts of the world; each is filmed by every side."""
    seconds: WholeNumber = 60
    """Length of each film, 10 to 60 in steps of 5."""
    seed: WholeNumber = 0
    """Which scripts are drawn, and which film of each is made."""
    steps: WholeNumber | None = None
    """Sampler steps of take and chain alike. Default: the model's own."""
    clip: float = 6.0
    """Seconds of a clip of the chain; the nearest whole number of the model's chunks is taken."""
    overlap: float = 1.25
    """A second chain beside it, whose clips know so many last seconds of the clip before instead of
    one frame; up to two chunks. 0: no such chain."""
    chain_model: Path | None = None
    """Diffusers folder of a Wan 2.1 or CogVideoX image-to-video checkpoint that makes one more
    chain; without it, or if it cannot run here, the rest is compared."""
    chain_steps: WholeNumber | None = None
    """Sampler steps of that checkpoint. Default: its pipeline's own."""


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class CompareOutput:
    """What is written and told."""

    out: Annotated[Path, Parameter(name=("--out", "-o"))] = Path("comparison")
    """Folder of report, table, plot, sheet and the films side by side."""
    overwrite: Annotated[bool, Parameter(negative="")] = False
    """Replace the files of an earlier comparison."""
    as_json: Annotated[bool, Parameter(name="--json", negative="")] = False
    """Print the report as one JSON object instead of the table."""
    quiet: Annotated[bool, Parameter(negative="")] = False
    """Say nothing but errors."""


_CHAIN, _MODEL, _OUT = ChainOptions(), ModelOptions(), CompareOutput()


def chain(
    *, what: ChainOptions = _CHAIN, model: ModelOptions = _MODEL, out: CompareOutput = _OUT
) -> None:
    """Compare one long take with chained clips: seams, who returns, what is right over time, drift.

    Args:
        what: What is filmed.
        model: The model of the take and of the chain.
        out: The report.
    """
    started = time.perf_counter()
    from longtake.evaluate.report import write_json

    _check(what)
    find(model.model)
    check_report(out.out, (_REPORT, _TABLE, _PLOT, _SHEET, _FILM), overwrite=out.overwrite)
    with display(quiet=out.quiet) as show, memory_errors("--device cpu or fewer --seconds"):
        report, text = _run(what, model, out.out, show)
    report["elapsed_s"] = round(time.perf_counter() - started, 1)
    write_json(out.out / _REPORT, report)
    if out.as_json:
        tell(json.dumps(report), done=_DONE)
    elif not out.quiet:
        tell(text, done=_DONE)


def _check(what: ChainOptions) -> None:
    """Find what cannot be before a model is loaded.

    Raises:
        SettingError: no scripts, a length that is no number of beats, or no such overlap.
    """
    from longtake.evaluate.chain import Contest

    Contest(scripts=what.scripts, seconds=what.seconds)
    if what.overlap < 0:
        msg = f"overlap must be 0 or more, got {what.overlap:g}; try 1.25"
        raise SettingError(msg)
    if what.chain_steps is not None and what.chain_steps < 1:
        msg = f"chain-steps must be 1 or more, got {what.chain_steps}; try 50"
        raise SettingError(msg)


def _run(
    what: ChainOptions, model: ModelOptions, folder: Path, show: Display
) -> tuple[dict[str, Any], str]:
    from longtake.evaluate.chain_report import (
        measured_of,
        report_of,
        table_markdown,
        table_text,
        write_plot,
        write_text,
    )

    maker, reader = _load(what, model, show)
    contest, clip_s = _contest(what, maker)
    public, notes = _public(what, maker, show)
    if clip_s != what.clip:
        notes.append(f"clips of {clip_s:g} s: the nearest whole chunks to {what.clip:g} s")
        show.note(notes[-1])
    rows, lost = _rows(maker, contest, reader, public, folder, show)
    measured = measured_of(rows)
    report = report_of(rows, contest, clip_s) | {
        "model": maker.pipe.name, "model_hash": maker.pipe.model_hash,
        "steps": maker.settings.steps, "notes": [*notes, *lost],
        "public": None if public is None else {
            "name": public.name, "steps": public.steps, "told": public.told(),
        },
    }  # fmt: skip
    write_text(folder / _TABLE, table_markdown(measured))
    write_plot(folder / _PLOT, rows)
    lines = [
        table_text(measured),
        f"{folder / _REPORT}, {_TABLE}: every number",
        f"{folder / _PLOT}: what is right, change and looks over time",
        f"{folder / _FILM}, {_SHEET}: the first script, side by side",
    ]
    return report, "\n".join(lines)


def _load(what: ChainOptions, model: ModelOptions, show: Display) -> "tuple[Maker, Any]":
    """The model with the settings of its films, and the reader."""
    from longtake.evaluate.reader.read import load_reader
    from longtake.evaluate.rolls import Maker
    from longtake.pipeline import load

    show.stage("load", 0, 1)
    pipe = load(model.model, device=model.device, precision=model.precision)
    own = pipe.defaults
    steps = own.steps if what.steps is None else what.steps
    settings = replace(own, steps=steps, seed=what.seed)
    maker = Maker(pipe=pipe, settings=settings)
    reader = load_reader(device=pipe.device)
    show.stage("load", 1, 1)
    return maker, reader


def _contest(what: ChainOptions, maker: "Maker") -> "tuple[Contest, float]":
    """What is compared in the model's chunks, and how many seconds its clips really have."""
    from longtake.evaluate.chain import Contest, clip_chunks_of

    chunks = clip_chunks_of(maker, what.clip, what.seconds)
    shared, most = round(what.overlap * FPS / TEMPORAL_STRIDE), 2 * maker.grid.size
    if shared > most:
        msg = (
            f"overlap can be {most * TEMPORAL_STRIDE / FPS:g} s at most, two chunks of this model, "
            f"got {what.overlap:g}"
        )
        raise SettingError(msg)
    contest = Contest(
        scripts=what.scripts, seconds=what.seconds, seed=what.seed, clip_chunks=chunks,
        shared=shared,
    )  # fmt: skip
    return contest, chunks * maker.grid.size * TEMPORAL_STRIDE / FPS


def _public(
    what: ChainOptions, maker: "Maker", show: Display
) -> "tuple[PublicClips | None, list[str]]":
    """The public checkpoint, or in a line why it is left out."""
    from longtake.evaluate.chain_public import load_clips

    if what.chain_model is None:
        return None, []
    settings = maker.settings
    try:
        public = load_clips(
            what.chain_model, size=(settings.height, settings.width), grid=maker.grid,
            device=maker.pipe.device, steps=what.chain_steps,
        )  # fmt: skip
    except (ModelError, CannotHere) as error:
        note = f"{error}; its column is left out"
        show.note(note)
        return None, [note]
    show.note(public.told())
    return public, [public.told()]


def _rows(
    maker: "Maker",
    contest: "Contest",
    reader: Any,  # noqa: ANN401 - a Reader
    public: "PublicClips | None",
    folder: Path,
    show: Display,
) -> "tuple[list[Compared], list[str]]":
    """Every script without its films, of which the first script's are written; and what failed."""
    from longtake.evaluate.chain import Compared, Lost, compare, frames_in_all, sides_of
    from longtake.evaluate.chain_report import light_of

    rows: list[Compared] = []
    lost: list[str] = []
    total, done = frames_in_all(contest, len(sides_of(contest, public))), 0
    for event in compare(maker, contest, reader, public):
        raise_if_stopped()
        if isinstance(event, Compared):
            if not rows:
                _write_films(folder, event)
            rows.append(light_of(event))
        elif isinstance(event, Lost):
            lost.append(f"{event.reason}; its column ends here")
            show.note(lost[-1])
        else:
            # One frame of the work is left until all is measured.
            done += event.frames
            show.stage("films", min(done, total - 1), total)
    show.stage("films", total, total)
    return rows, lost


def _write_films(folder: Path, first: "Compared") -> None:
    from longtake.evaluate.chain_film import side_by_side, write_sheet
    from longtake.evaluate.chain_report import NAMES
    from longtake.media.video import VideoWriter

    joins = {side: seen.joins for side, seen in first.seen.items()}
    parts = side_by_side(first.films, NAMES, joins, first.told.texts)
    write_sheet(folder / _SHEET, first.films, NAMES)
    some = next(parts)
    with VideoWriter(folder / _FILM, width=some.shape[2], height=some.shape[1]) as writer:
        writer.write(some)
        for part in parts:
            writer.write(part)


# Named here, or its usage line would show how Python was started.
compare.command(App(name="chain", default_command=chain))
