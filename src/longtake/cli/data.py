"""`longtake data prepare`: films and captions in, shards of clips out."""

import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from cyclopts import App, Parameter

from longtake.cli.interrupts import raise_if_stopped
from longtake.cli.progress import display, tell
from longtake.errors import SettingError

data = App(name="data", help="Make clips for training out of films.")


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class PrepareOptions:
    """How films are cut, and where the clips go."""

    out: Annotated[Path, Parameter(name=("--out", "-o"))]
    """Folder of the shards and the report; an unfinished run in it goes on where it stopped."""
    settings: Path | None = None
    """JSON file with the settings of PrepareConfig that differ: length, sizes, limits."""
    dry_run: Annotated[bool, Parameter(negative="")] = False
    """Measure and report only; no shards are written."""
    as_json: Annotated[bool, Parameter(name="--json", negative="")] = False
    """Report as one JSON object on stdout."""
    quiet: Annotated[bool, Parameter(negative="")] = False
    """Say nothing but errors."""


def prepare(folder: Path, /, *, options: PrepareOptions) -> None:
    """Cut films into clips inside their shots, measure them, and keep the good ones.

    Args:
        folder: Films (mp4, mov, mkv, webm), each with its caption in a .txt or .json of its name.
        options: The run.
    """
    started = time.perf_counter()
    from longtake.data.prepare import counts, prepare
    from longtake.data.report import write_report
    from longtake.data.rules import PrepareConfig
    from longtake.recipes.settings import merged

    config = PrepareConfig()
    if options.settings is not None:
        config = merged(config, options.settings)
    if options.out.absolute() == folder.absolute():
        msg = "--out must be another folder than that of the films"
        raise SettingError(msg)
    shards = None if options.dry_run else options.out
    rows: list[dict[str, Any]] = []
    with display(quiet=options.quiet) as show:
        try:
            for passed in prepare(folder, shards, config, raise_if_stopped):
                rows += passed.clips
                show.stage("prepare", passed.number, passed.total)
        except KeyboardInterrupt as stop:
            msg = "the same command goes on after the last whole shard"
            raise KeyboardInterrupt(msg) from stop
    rows = rows if shards is None else _all_rows(shards)
    write_report(options.out, rows, config)
    told = counts(rows)
    elapsed_s = round(time.perf_counter() - started, 3)
    if options.as_json:
        report = {"folder": str(options.out), "counts": told, "elapsed_s": elapsed_s}
        tell(json.dumps(report), done="the clips are finished")
    elif not options.quiet:
        tell(_summary(options, told, elapsed_s), done="the clips are finished")


def _all_rows(shards: Path) -> list[dict[str, Any]]:
    """Every clip and drop of a folder, those of earlier runs among them."""
    from longtake.data.shards import read_shards

    found = read_shards(shards)
    kept = [{"reason": "", "detail": "", **sample.told} for sample in found.samples]
    return kept + [
        {"source": drop.source, "reason": drop.reason, "detail": drop.detail}
        for drop in found.drops
    ]


def _summary(options: PrepareOptions, told: dict[str, int], elapsed_s: float) -> str:
    kept = told.get("kept", 0)
    dropped = ", ".join(f"{count} {reason}" for reason, count in told.items() if reason != "kept")
    lines = [
        f"{options.out}: {kept} clips kept, dropped: {dropped or 'nothing'}; {elapsed_s:.0f} s",
        f"{options.out}/report.csv: every clip with its scores; report.png: plots",
    ]
    if kept and not options.dry_run:
        lines.append(f"now try: longtake finetune {options.out} --out mine")
    return "\n".join(lines)


# Named here, or its usage line would show how Python was started.
data.command(App(name="prepare", default_command=prepare))
