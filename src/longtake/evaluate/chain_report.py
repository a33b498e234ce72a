"""What is told of a comparison: JSON, a table for the terminal and one in Markdown, and a plot."""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from rich.console import Console
from rich.table import Table

from longtake.config import FPS
from longtake.evaluate.chain import (
    BIN_S,
    SIDES,
    Compared,
    Contest,
    Figures,
    Seen,
    Side,
    figures,
)
from longtake.evaluate.drift import MEASURES, Measure
from longtake.evaluate.takes import excess_change
from longtake.storage import atomic_write, output_errors

SHADES: dict[Side, str] = {
    "take": "#2f5d8a", "chain": "#b5472f", "overlap": "#d99a3a", "public": "#7b4fa3",
    "truth": "#6f9a74",
}  # fmt: skip
NAMES: dict[Side, str] = {
    "take": "one take", "chain": "chain", "overlap": "chain, overlap", "public": "public chain",
    "truth": "true film",
}  # fmt: skip
LOOKS: dict[Measure, str] = {
    "luma": "light", "saturation": "colour", "contrast": "contrast", "sharpness": "detail",
    "motion": "motion",
}  # fmt: skip
CURVES: tuple[Measure, ...] = ("luma", "saturation", "sharpness")
"""What the plot shows of looks."""
_AROUND = 12
"""Frames before and after a join that are shown."""


@dataclass(frozen=True, slots=True)
class Line:
    """A line of the table."""

    label: str
    of: Callable[[Figures], float | None]
    form: str
    best: str
    """Which way is better."""


def _drift_line(name: Measure) -> Line:
    label = f"{LOOKS[name]} drifts from true, a minute"
    return Line(label, lambda found: found.apart[name], "{:.1f}", "low")


LINES = (
    Line("change at joins / true film's", lambda f: f.at_joins, "{:.2f}", "1"),
    Line("change elsewhere / true film's", lambda f: f.elsewhere, "{:.2f}", "1"),
    Line("excess change, whole film, levels", lambda f: f.excess, "{:.0f}", "low"),
    Line("  of it at joins", lambda f: f.excess_at_joins, "{:.0f}", "low"),
    Line("returns as who left, %", lambda f: f.returned, "{:.0f}", "high"),
    Line("unnamed colour kept, %", lambda f: f.recalled, "{:.0f}", "high"),
    Line(f"attributes right, first {BIN_S} s, %", lambda f: f.right[0], "{:.0f}", "high"),
    Line(f"attributes right, last {BIN_S} s, %", lambda f: f.right[-1], "{:.0f}", "high"),
    *(_drift_line(name) for name in MEASURES),
    Line("slopes in the range of true films, %", lambda f: f.inside, "{:.0f}", "high"),
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """A side's figures, script by script."""

    side: Side
    name: str
    each: tuple[Figures, ...]


def light_of(compared: Compared) -> Compared:
    """The same without the films, which are large."""
    return replace(compared, films={})


def measured_of(rows: Sequence[Compared]) -> list[Measured]:
    """Every side that was filmed, in the order of the columns."""
    found = []
    for side in SIDES:
        each = tuple(figures(row.seen[side], row.seen["truth"]) for row in rows if side in row.seen)
        if each:
            found.append(Measured(side=side, name=NAMES[side], each=each))
    return found


def report_of(rows: Sequence[Compared], contest: Contest, clip_s: float) -> dict[str, Any]:
    """Everything, ready for JSON: means over the scripts, then each script."""
    measured = measured_of(rows)
    return {
        "what": "compare chain",
        "contest": {**asdict(contest), "clip_s": clip_s},
        "sides": {
            one.side: {
                "scripts": len(one.each),
                "means": _means(one.each),
                "each": [_row(row.seen[one.side], f) for row, f in _both(rows, one)],
            }
            for one in measured
        },
        "scripts": [
            {
                "number": row.number,
                "captions": list(dict.fromkeys(row.told.texts)),
                "absence_s": row.seen["truth"].recalled.gap_s,
            }
            for row in rows
        ],
    }


def _means(each: Sequence[Figures]) -> dict[str, Any]:
    """Means over the scripts, by the names of `Figures`; None where no script tells it."""
    back = [one.returned for one in each if one.returned is not None]
    plain = ("at_joins", "elsewhere", "excess", "excess_at_joins", "recalled", "inside")
    rows = [asdict(one) for one in each]
    return {
        **{name: _number(float(np.mean([row[name] for row in rows]))) for name in plain},
        "returned": float(np.mean(back)) if back else None,
        "right": np.mean([one.right for one in each], axis=0).tolist(),
        "apart": {name: float(np.mean([one.apart[name] for one in each])) for name in MEASURES},
    }


def _both(rows: Sequence[Compared], one: Measured) -> Iterable[tuple[Compared, Figures]]:
    return zip([row for row in rows if one.side in row.seen], one.each, strict=True)


def _row(seen: Seen, found: Figures) -> dict[str, Any]:
    """One side of one script."""
    slopes = {name: 60 * one.per_s for name, one in seen.drift.slopes.items()}
    told = asdict(found) | {"joins_s": [frame / FPS for frame in seen.joins]}
    told |= {
        "slopes_a_minute": slopes,
        "absence": asdict(seen.recalled),
        "frozen_s": seen.drift.frozen_s,
        "flicker": seen.drift.flicker,
    }
    return {name: _number(value) for name, value in told.items()}


def _number(value: Any) -> Any:  # noqa: ANN401
    # JSON has no word for what is not a number.
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _values(line: Line, one: Measured) -> list[float]:
    found = (line.of(each) for each in one.each)
    return [value for value in found if value is not None and math.isfinite(value)]


def _cell(line: Line, one: Measured) -> str:
    """The mean, and the least and the most where they differ."""
    values = _values(line, one)
    if not values:
        return "-"
    low, mean, high = (line.form.format(x) for x in (min(values), np.mean(values), max(values)))
    return mean if low == high else f"{mean} ({low}-{high})"


def cells_of(measured: Sequence[Measured]) -> list[list[str]]:
    """The table, its head first."""
    head = ["mean of the scripts (least-most)", "best", *(one.name for one in measured)]
    return [head, *([line.label, line.best, *(_cell(line, o) for o in measured)] for line in LINES)]


def table_text(measured: Sequence[Measured], width: int = 200) -> str:
    """The table for a terminal."""
    head, *rows = cells_of(measured)
    table = Table(box=None, pad_edge=False)
    for number, name in enumerate(head):
        table.add_column(name, justify="left" if number == 0 else "right", no_wrap=True)
    for row in rows:
        table.add_row(*row)
    console = Console(width=width, no_color=True, highlight=False)
    with console.capture() as capture:
        console.print(table)
    return "\n".join(line.rstrip() for line in capture.get().splitlines())


def table_markdown(measured: Sequence[Measured]) -> str:
    """The same table as Markdown."""
    head, *rows = cells_of(measured)
    rule = ["---", *["---:"] * (len(head) - 1)]
    return "\n".join(
        "| " + " | ".join(cell.strip() for cell in row) + " |" for row in (head, rule, *rows)
    )


def write_text(path: Path, text: str) -> None:
    """Write a page whole or not at all.

    Raises:
        OutputError: the folder is missing or not writable, or the disk is full.
    """
    with atomic_write(path) as temp, output_errors(path):
        temp.write_text(text.rstrip() + "\n", "utf-8")


def write_plot(path: Path, rows: Sequence[Compared]) -> None:
    """What is right, excess change and looks over time, and what happens at joins.

    Raises:
        OutputError: the folder is missing or not writable, or the disk is full.
    """
    figure = Figure(figsize=(11, 9), layout="constrained")
    grid = figure.add_gridspec(3, 6)
    right, joins = figure.add_subplot(grid[0, :3]), figure.add_subplot(grid[0, 3:])
    excess = figure.add_subplot(grid[1, :])
    looks = [figure.add_subplot(grid[2, 2 * n : 2 * n + 2]) for n in range(3)]
    for side in (side for side in SIDES if any(side in row.seen for row in rows)):
        mine = [row for row in rows if side in row.seen]
        style = {"color": SHADES[side], "label": NAMES[side], "linewidth": 1.6}
        shown = np.mean([figures(r.seen[side], r.seen["truth"]).right for r in mine], axis=0)
        right.plot(BIN_S * (np.arange(len(shown)) + 0.5), shown, marker="o", **style)
        joins.plot(np.arange(-_AROUND, _AROUND + 1), _around_joins(mine, side), **style)
        if side == "truth":
            continue
        summed = np.mean(
            [excess_change(r.seen[side].curves, r.seen["truth"].curves).cumsum() for r in mine],
            axis=0,
        )
        excess.plot(np.arange(len(summed)) / FPS, summed, **style)
        for axes, name in zip(looks, CURVES, strict=True):
            axes.plot(*_apart(mine, side, name), **style)
    for frame in rows[0].seen["truth"].joins:
        excess.axvline(frame / FPS, color="#cccccc", linewidth=0.8, zorder=0)
    _label(right, f"attributes right in each {BIN_S} s, %", "seconds")
    right.set_ylim(0, 104)
    joins.set_ylim(0)
    right.legend(fontsize=8, loc="lower left")
    _label(joins, "change around joins, levels a frame", "frames from the join")
    _label(excess, "change beyond the true film's, summed, levels (grey: joins)", "seconds")
    for axes, name in zip(looks, CURVES, strict=True):
        axes.axhline(0, color=SHADES["truth"], linewidth=1.2)
        unit = "% of contrast" if name == "sharpness" else "levels"
        _label(axes, f"{LOOKS[name]} above the true film's, {unit}", "seconds")
    with atomic_write(path) as temp, output_errors(path):
        figure.savefig(temp, format="png", dpi=110)


def _label(axes: Axes, title: str, below: str) -> None:
    axes.set_title(title, fontsize=10)
    axes.set_xlabel(below, fontsize=8)
    axes.tick_params(labelsize=8)
    axes.spines[["top", "right"]].set_visible(False)


def _around_joins(rows: Sequence[Compared], side: Side) -> Float[np.ndarray, " frames"]:
    """Change near joins, over all joins and scripts; beyond the film's ends nothing counts."""
    found = []
    for row in rows:
        change = row.seen[side].curves.change
        for frame in row.seen[side].joins:
            if _AROUND < frame < len(change) - _AROUND:
                found.append(change[frame - _AROUND : frame + _AROUND + 1])
    return np.mean(found, axis=0) if found else np.full(2 * _AROUND + 1, np.nan)


def _apart(
    rows: Sequence[Compared], side: Side, name: Measure
) -> tuple[Float[np.ndarray, " seconds"], Float[np.ndarray, " seconds"]]:
    """How much more of something there is than in the true films, second by second."""
    each = [
        row.seen[side].curves.values(name) - row.seen["truth"].curves.values(name) for row in rows
    ]
    apart = np.mean(each, axis=0)
    whole = len(apart) // FPS
    means = apart[: whole * FPS].reshape(whole, FPS).mean(axis=1)
    return np.arange(whole) + 0.5, means
