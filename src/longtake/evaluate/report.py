"""A report for people: a table, a plot for each metric, a sheet of the worst films."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure
from rich.console import Console
from rich.table import Table

from longtake.evaluate.suite import COLUMNS, Read, worst
from longtake.media.sheet import film_strips
from longtake.storage import atomic_write, output_errors

_SHADES = {"ceiling": "#7a9e7e", "model": "#2f5d8a", "floor": "#b0a99f"}


def table_text(scores: Mapping[str, Any], width: int = 100) -> str:
    """Every metric in three columns, and below it what is no share."""
    table = Table(box=None, pad_edge=False)
    table.add_column("metric")
    for column in COLUMNS:
        table.add_column(column, justify="right")
    for name, row in scores["metrics"].items():
        table.add_row(name, *(_cell(row.get(column)) for column in COLUMNS))
    console = Console(width=width, no_color=True, highlight=False)
    with console.capture() as capture:
        console.print(table)
    lines = [line.rstrip() for line in capture.get().splitlines()]
    return "\n".join([*lines, *_extras(scores)])


def _cell(score: Mapping[str, float] | None) -> str:
    if score is None:
        return "-"
    mean, low, high = (round(100 * score[key]) for key in ("mean", "low", "high"))
    return f"{mean} % ({low}-{high}) of {score['count']:g}"


def _extras(scores: Mapping[str, Any]) -> list[str]:
    lines = []
    if scores["detail"]:
        detail = scores["detail"]
        lines.append(
            f"fine detail over the truth's: {detail['space']:.2f} in space, "
            f"{detail['time']:.2f} in time"
        )
    distance = scores["reader_fd"]
    if distance["model"] is not None:
        least = "-" if distance["ceiling"] is None else f"{distance['ceiling']:.1f}"
        lines.append(f"reader-FD: {distance['model']:.1f} (halves of the truth: {least})")
    return lines


def write_json(path: Path, report: Mapping[str, Any]) -> None:
    """Write the report whole or not at all.

    Raises:
        OutputError: the folder is missing or not writable, or the disk is full.
    """
    with atomic_write(path) as temp, output_errors(path):
        temp.write_text(json.dumps(report, indent=1) + "\n", "utf-8")


def write_plots(folder: Path, scores: Mapping[str, Any]) -> list[Path]:
    """One picture for each metric: the three columns with intervals, then each split.

    Raises:
        OutputError: the folder is missing or not writable, or the disk is full.
    """
    paths = []
    for name, row in scores["metrics"].items():
        bars = [(column, row[column], _SHADES[column]) for column in COLUMNS if column in row]
        for split, table in scores["splits"].items():
            score = table.get(name, {}).get("model")
            if score is not None:
                bars.append((split.replace("_", " "), score, _SHADES["model"] + "99"))
        figure = Figure(figsize=(5, 0.4 * len(bars) + 0.9), layout="constrained")
        axes = figure.subplots()
        for place, (_, score, shade) in enumerate(bars):
            axes.barh(place, score["mean"], color=shade)
            axes.plot([score["low"], score["high"]], [place, place], color="#222222", linewidth=1)
        axes.set_yticks(range(len(bars)), [label for label, _, _ in bars])
        axes.invert_yaxis()
        axes.set_xlim(0, 1)
        axes.set_title(name)
        path = folder / f"{name}.png"
        with atomic_write(path) as temp, output_errors(path):
            figure.savefig(temp, format="png", dpi=110)
        paths.append(path)
    return paths


def write_worst(path: Path, read: Sequence[Read]) -> bool:
    """A strip of each of the worst films with what is wrong; none if nothing is.

    Raises:
        OutputError: the folder is missing or not writable, or the disk is full.
    """
    rows = worst(read)
    if not rows:
        return False
    film_strips(
        path,
        [r.strip for r, _ in rows],
        [f"{r.asked.prompt}: wrong in {', '.join(wrong)}" for r, wrong in rows],
    )
    return True
