"""What is told of a film's drift: JSON, a table, and one plot."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from longtake.evaluate.drift import LIMITS, MEASURES, Curves, Drift, Measure, alarms, limit_of
from longtake.storage import atomic_write, output_errors

UNITS: dict[Measure, str] = {
    "luma": "levels", "saturation": "levels", "contrast": "levels",
    "sharpness": "% of the contrast", "motion": "levels a second",
}  # fmt: skip
_FILM, _FIT = "#2f5d8a", "#b5472f"
# An encoder still refines the first frames of a still.
_STILL = 0.95


def as_report(found: Drift) -> dict[str, Any]:
    """Everything, ready for JSON; levels are of 255."""
    return {
        **asdict(found),
        "seam": None if found.seam is None else {**asdict(found.seam), "ratio": found.seam.ratio},
        "limits": {name: limit_of(name, found.seconds) for name in LIMITS},
        "alarms": alarms(found),
    }


def as_text(found: Drift) -> str:
    """A table of the slopes, then a line for everything else that there is to say."""
    told = alarms(found)
    lines = [f"{'':<11}{'a minute':>10}   {'95 % interval':<18}{'whole film':>10}  true films"]
    for name in MEASURES:
        one = found.slopes[name]
        interval = f"{60 * one.low:+.2f} to {60 * one.high:+.2f}"
        most = f"within {limit_of(name, found.seconds):.3g}"
        mark = "  DRIFTS" if name in told else ""
        lines.append(
            f"{name:<11}{60 * one.per_s:>+10.2f}   {interval:<18}{one.total:>+10.2f}  "
            f"{most} {UNITS[name]}{mark}"
        )
    return "\n".join([*lines, *_rest(found, told)])


def _rest(found: Drift, told: list[str]) -> list[str]:
    flickers = "FLICKERS, " if "flicker" in told else ""
    lines = [
        f"motion {found.motion:.2f} levels a second, {flickers}flicker {found.flicker:.2f} levels"
    ]
    if found.seam is not None:
        seen = "SEEN: " if "seam" in told else ""
        lines.append(
            f"borders {seen}{found.seam.ratio:.2f} times the change beside them "
            f"({found.seam.borders} borders)"
        )
    if found.loop_s is not None:
        lines.append(f"LOOPS: it repeats itself after {found.loop_s:.1f} s")
    return [*lines, *notes(found)]


def notes(found: Drift) -> list[str]:
    """What a reader of the numbers has to know."""
    lines = []
    if found.cuts_s:
        some = ", ".join(f"{time:.1f}" for time in found.cuts_s[:8])
        more = f" and {len(found.cuts_s) - 8} more" if len(found.cuts_s) > 8 else ""
        lines.append(
            f"the picture jumps at {some}{more} s: a cut or a switch of light; "
            "drift is measured between jumps"
        )
    if found.frozen_share > _STILL:
        lines.append("a still: nothing moves, so nothing can be said of motion")
    elif found.frozen_s >= 1:
        lines.append(
            f"nothing moves for {found.frozen_s:.1f} s from {found.frozen_from_s:.1f} s on"
        )
    return lines


def write_plot(path: Path, measured: Curves, found: Drift) -> None:
    """Every measure over time, with its slope and its jumps.

    Raises:
        OutputError: the folder is missing or not writable, or the disk is full.
    """
    figure = Figure(figsize=(8, 9), layout="constrained")
    times = np.arange(len(measured)) / measured.fps
    told = alarms(found)
    for axes, name in zip(figure.subplots(len(MEASURES), sharex=True), MEASURES, strict=True):
        values, one = measured.values(name), found.slopes[name]
        axes.plot(times[1:], values[1:], color=_FILM, linewidth=0.8)
        middle, shade = float(np.median(values)), _FIT if name in told else "#777777"
        axes.plot(times, middle + one.per_s * (times - times.mean()), color=shade, linestyle="--")
        for jump in found.cuts_s:
            axes.axvline(jump, color="#bbbbbb", linewidth=0.8)
        axes.set_title(f"{name}, {UNITS[name]}: {60 * one.per_s:+.2f} a minute", fontsize=9)
        axes.tick_params(labelsize=8)
    axes.set_xlabel("seconds")
    with atomic_write(path) as temp, output_errors(path):
        figure.savefig(temp, format="png", dpi=110)
