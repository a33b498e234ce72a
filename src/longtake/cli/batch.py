"""`longtake batch`: films from a list, by several workers or machines."""

import json
import sys
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from longtake.cli.options import EngineOptions, FilmOptions, settings_of
from longtake.cli.progress import PATIENCE_S, tell
from longtake.config import MAX_SECONDS, frames_for
from longtake.errors import CannotHere, SettingError
from longtake.presets import is_public

if TYPE_CHECKING:
    from longtake.server.batch import Tally
    from longtake.server.batch_list import Entry
    from longtake.server.jobs import Job

_FILM = FilmOptions()


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class FolderOptions:
    """What is written and told."""

    output: Annotated[Path | None, Parameter(name=("--output", "-o"))] = None
    """Folder of films and results. Default: the list's name and -films."""
    sheet: bool = True
    """A contact sheet beside each film, a PNG of the same name."""
    overwrite: Annotated[bool, Parameter(negative="")] = False
    """Replace films of these names that were made from something else."""
    as_json: Annotated[bool, Parameter(name="--json", negative="")] = False
    """Report as one JSON object on stdout."""
    quiet: Annotated[bool, Parameter(negative="")] = False
    """Say nothing but errors."""


_ENGINE, _FOLDER = EngineOptions(), FolderOptions()


def batch(
    films: Path,
    /,
    *,
    film: FilmOptions = _FILM,
    work: EngineOptions = _ENGINE,
    out: FolderOptions = _FOLDER,
) -> None:
    """Make a film from each line of a list.

    What is made is not made again: after a stop, a crash or more lines, the same command goes on.

    Args:
        films: One prompt a line; or a JSON object a line, or a CSV with a head: prompt, seed, size,
            seconds and the other settings, and name for the film's name.
        film: Settings where a line says nothing.
        work: What makes the films.
        out: The output.
    """
    from longtake.server.batch import BatchConfig, run_batch
    from longtake.server.batch_list import read_list
    from longtake.server.settings import EngineConfig, Limits
    from longtake.server.studio import open_studio

    began = time.perf_counter()
    if is_public(work.model):
        msg = f"a batch is made by models of our own, got the public model {work.model}"
        raise SettingError(msg)
    engines = EngineConfig(
        engine=work.engine,
        ray_address=work.ray_address,
        workers=work.workers,
        threads=work.threads,
        device=work.device,
    )
    studio = open_studio(work.model, Limits(frames=frames_for(MAX_SECONDS), pixels=4096 * 4096))
    defaults, _ = settings_of(film, studio.config.sampling.settings())
    entries = read_list(films, studio, defaults)
    folder = out.output or Path(f"{films.stem}-films")
    config = BatchConfig(
        folder=folder,
        engines=engines,
        precision=work.precision,
        sheet=out.sheet,
        overwrite=out.overwrite,
    )
    told = _Told(len(entries), quiet=out.quiet)
    try:
        tally, lost = run_batch(entries, studio, config, told.hear)
    except KeyboardInterrupt:
        msg = f"{told.done} of {len(entries)} films are in {folder}; the same command goes on"
        raise KeyboardInterrupt(msg) from None
    _report(_summary(folder, tally, lost, time.perf_counter() - began), out)


def _summary(folder: Path, tally: "Tally", lost: int, elapsed_s: float) -> dict[str, Any]:
    """What was made; `--json` prints it as it stands here."""
    from longtake.server.batch import RESULTS

    failed = [(tally.entries[job], why) for job, why in tally.failed.items()]
    return {
        "folder": str(folder),
        "results": str(folder / RESULTS),
        "films": len(tally.entries),
        "there": tally.there,
        "made": tally.made,
        "failed": [{"line": entry.line, "name": entry.name, "error": why} for entry, why in failed],
        "workers_lost": lost,
        "elapsed_s": round(elapsed_s, 2),
    }


def _report(report: dict[str, Any], out: FolderOptions) -> None:
    failed = report["failed"]
    if out.as_json:
        tell(json.dumps(report, ensure_ascii=False), done="the batch is finished")
    elif not out.quiet:
        there = f", {report['there']} were there" if report["there"] else ""
        took = f"{report['elapsed_s']:.1f} s"
        line = f"{report['folder']}: {report['made']} films made in {took}{there}"
        tell(line, done="the batch is finished")
    if failed:
        first = f"line {failed[0]['line']}: {failed[0]['error']}"
        msg = (
            f"{len(failed)} of {report['films']} films failed, {first}; the same command tries "
            f"them again, {report['results']} tells of each"
        )
        raise CannotHere(msg)


class _Told:
    """A line for each film that ended, and one now and then while none does."""

    def __init__(self, films: int, *, quiet: bool) -> None:
        self.films, self.quiet, self.done = films, quiet, 0
        self._heard = time.monotonic()
        self._begun = False

    def hear(self, tally: "Tally", entry: "Entry | None", job: "Job | None") -> None:
        self.done = tally.there + tally.made
        if not self._begun:
            self._begun = True
            there = f", {tally.there} are there" if tally.there else ""
            self._say(f"{self.films} films{there}; workers load the model")
        if entry is None:
            if time.monotonic() - self._heard > PATIENCE_S:
                what = tally.note or f"making more{_left(tally.left_s)}"
                self._say(f"{tally.done} of {self.films}: {what}")
            return
        made = f"{entry.name}.mp4"
        if job is not None and job.status != "completed":
            made = f"{entry.name} failed: {(job.error or {}).get('message', job.status)}"
        self._say(f"{tally.done} of {self.films}: {made}{_left(tally.left_s)}")

    def _say(self, line: str) -> None:
        self._heard = time.monotonic()
        if not self.quiet:
            with suppress(OSError, ValueError):
                print(line, file=sys.stderr, flush=True)


def _left(seconds: float | None) -> str:
    """How long it goes on, as people say it."""
    if seconds is None or seconds < 0.5:
        return ""
    for unit, name in ((3600, "h"), (60, "min")):
        if seconds >= 2 * unit:
            return f", {seconds / unit:.0f} {name} left"
    return f", {seconds:.0f} s left"
