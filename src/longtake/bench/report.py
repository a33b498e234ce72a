"""A benchmark's numbers as text and as one file to share, and two of them side by side."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from longtake.errors import SettingError
from longtake.storage import atomic_write, output_errors

LIKE = ("what", "settings", "precision")
"""What two runs must share to be compared, beside the processor; versions are told, may differ."""

Report = Mapping[str, Any]


def write_report(report: Report, path: Path) -> None:
    """Write one Markdown file that holds a table and, below it, every number as JSON.

    Raises:
        OutputError: it cannot be written.
    """
    lines = [f"# {report['what']}", "", *(f"- {line}" for line in facts(report)), ""]
    lines += ["| what | seconds |", "|---|---|"]
    lines += [f"| {name} | {seconds:.4f} |" for name, seconds in times(report)]
    lines += ["", "```json", json.dumps(report, indent=1), "```", ""]
    with output_errors(path), atomic_write(path) as temp:
        temp.write_text("\n".join(lines), "utf-8")


def read_report(path: Path) -> Report:
    """A report that was written before, as Markdown or as plain JSON.

    Raises:
        SettingError: no such file, or no report.
    """
    try:
        text = path.read_text("utf-8")
        _, fence, rest = text.partition("```json\n")
        report = json.loads(rest.partition("```")[0] if fence else text)
        missing = [key for key in (*LIKE, "origin") if key not in report]
    except (OSError, ValueError, TypeError) as error:
        msg = f"{path} is no report of longtake bench; write one with --report FILE"
        raise SettingError(msg) from error
    if missing:
        msg = f"{path} is no report of longtake bench: it lacks {missing[0]}"
        raise SettingError(msg)
    return report


def facts(report: Report) -> list[str]:
    """Where the numbers come from, a line each."""
    origin = report["origin"]
    versions = ", ".join(f"{name} {number}" for name, number in origin["versions"].items())
    lines = [
        f"{origin['processor']}, CUDA {origin['driver']}, {report['precision']}",
        f"{versions}; commit {origin['commit']}, {origin['date']}",
        f"`{origin['command']}`",
    ]
    return lines + [f"kernel {name}: {told}" for name, told in origin["kernels"].items()]


def times(report: Report) -> Iterator[tuple[str, float]]:
    """Every time that may be compared: its name and seconds."""
    for name, value in report["measured"].items():
        yield from _times(name, value)
    for name, value in report.get("diffusers", {}).items():
        yield from _times(f"diffusers {name}", value)


def _times(name: str, value: object) -> Iterator[tuple[str, float]]:
    if not isinstance(value, Mapping):
        return
    if "median_s" in value:
        yield f"{name}, first", value["first_s"]
        yield name, value["median_s"]
    elif "stages" in value:
        yield name, value["seconds"]
        for stage, lap in value["stages"].items():
            yield f"{name}, {stage}", lap["seconds"]


def ratios(report: Report) -> dict[str, float]:
    """How many times longer diffusers takes for what we measured too."""
    found: dict[str, float] = {}
    for name, value in report.get("diffusers", {}).items():
        part, _, mode = name.partition("_")
        own = report["measured"].get(part)
        if isinstance(value, Mapping) and isinstance(own, Mapping):
            found[f"{part}, diffusers {mode}"] = round(value["median_s"] / own["median_s"], 3)
    return found


def check_alike(report: Report, before: Report) -> None:
    """Refuse to compare runs of different things, before any is measured.

    Raises:
        SettingError: they differ in what decides the time.
    """
    pairs = [(key, report[key], before[key]) for key in LIKE]
    processors = (each["origin"]["processor"] for each in (report, before))
    for name, here, there in (*pairs, ("processor", *processors)):
        if here != there:
            msg = (
                f"these runs are not alike and are not compared: {name} is "
                f"{_short(here)} here and {_short(there)} there"
            )
            raise SettingError(msg)


def against(report: Report, before: Report) -> dict[str, float]:
    """How many times longer an earlier, alike run took."""
    earlier = dict(times(before))
    return {
        name: round(earlier[name] / seconds, 3)
        for name, seconds in times(report)
        if name in earlier and seconds > 0
    }


def _short(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value)
