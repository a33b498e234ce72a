"""What became of a folder of films: counts, a table of every clip, and plots of the scores."""

import csv
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from longtake.data.prepare import counts
from longtake.data.rules import PrepareConfig
from longtake.storage import atomic_write, output_errors

NAMES = ("report.json", "report.csv", "report.png")
"""What is written."""
_BINS = 30


def write_report(folder: Path, rows: Sequence[dict[str, Any]], config: PrepareConfig) -> None:
    """Write counts, every clip and drop, and a histogram of each score with its limit.

    Raises:
        OutputError: the folder cannot be written.
    """
    with output_errors(folder / NAMES[0]):
        folder.mkdir(parents=True, exist_ok=True)
    path = folder / NAMES[0]
    with atomic_write(path) as temp, output_errors(path):
        told = {"counts": counts([*rows]), "clips": list(rows)}
        temp.write_text(json.dumps(told, indent=1, ensure_ascii=False) + "\n", "utf-8")
    path = folder / NAMES[1]
    measures = list(dict.fromkeys(measure for _, measure, _, _ in config.limits()))
    with atomic_write(path) as temp, output_errors(path), temp.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["source", "start_s", "reason", "detail", *measures])
        for row in rows:
            scores = row.get("scores", {})
            cells = [row.get(key, "") for key in ("source", "start_s", "reason", "detail")]
            writer.writerow([*cells, *(scores.get(measure, "") for measure in measures)])
    _plots(folder / NAMES[2], [row["scores"] for row in rows if "scores" in row], config)


def _plots(path: Path, scores: Sequence[dict[str, float]], config: PrepareConfig) -> None:
    from matplotlib.figure import Figure  # noqa: PLC0415 - slow

    limits: dict[str, list[float]] = {}
    for _, measure, limit, _ in config.limits():
        limits.setdefault(measure, []).append(limit)
    figure = Figure(figsize=(10, 5), layout="constrained")
    for axes, (measure, bounds) in zip(figure.subplots(2, 3).flat, limits.items(), strict=True):
        values = [row[measure] for row in scores]
        if values:
            axes.hist(values, bins=_BINS, color="#6a8caf")
        for bound in bounds:
            axes.axvline(bound, color="#b0413e", linewidth=1)
        axes.set_title(measure)
    figure.suptitle(f"{len(scores)} clips; red: limits")
    with atomic_write(path) as temp, output_errors(path):
        figure.savefig(temp, format="png", dpi=90, metadata={"Software": None})
