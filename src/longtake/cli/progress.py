"""What a user sees: bars on a terminal, lines in a log, nothing when quiet; then the report."""

import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import TracebackType
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from longtake.errors import OutputError

if TYPE_CHECKING:
    from rich.progress import TaskID

LABELS = {
    "load": "loading the model",
    "text": "reading the prompt",
    "denoise": "denoising",
    "decode": "decoding",
    "films": "filming, reading",
    "shots": "making shots",
    "cut": "cutting",
    "measure": "measuring",
    "prepare": "preparing clips",
    "encode": "encoding clips",
}
"""Stages as the user reads them, in order."""
PATIENCE_S = 20.0
"""Seconds without a line of a log after which the next step is told."""


@runtime_checkable
class Display(Protocol):
    """Takes progress and notes; writes to stderr only."""

    def stage(self, name: str, step: int, total: int) -> None:
        """Show that a stage has come to this step."""
        ...

    def note(self, text: str) -> None:
        """Show something the user should know."""
        ...


class Silent:
    """Shows nothing."""

    def stage(self, name: str, step: int, total: int) -> None:
        """Show nothing."""

    def note(self, text: str) -> None:
        """Show nothing."""


class Lines:
    """One line per finished stage, for logs and pipes; long stages are heard of meanwhile."""

    def __init__(self) -> None:
        """Start the first stage's clock."""
        self._since = self._heard = time.perf_counter()

    def stage(self, name: str, step: int, total: int) -> None:
        """Write a line when the stage is done, or was not heard of for a while."""
        now = time.perf_counter()
        if step >= total:
            self._write(f"{LABELS[name]}: {now - self._since:.1f} s")
            self._since = self._heard = now
        elif now - self._heard > PATIENCE_S:
            self._write(f"{LABELS[name]}: {step} of {total}")
            self._heard = now

    def note(self, text: str) -> None:
        """Write a note."""
        self._write(f"note: {text}")

    def _write(self, line: str) -> None:
        # Who has closed stderr does not want to read; the film goes on.
        with suppress(OSError, ValueError):
            print(line, file=sys.stderr, flush=True)


class Bars:
    """A bar with steps and time left for each stage, for terminals."""

    def __init__(self) -> None:
        """Lay out the columns."""
        from rich.console import Console
        from rich.progress import (
            BarColumn,
            MofNCompleteColumn,
            Progress,
            SpinnerColumn,
            TextColumn,
            TimeElapsedColumn,
            TimeRemainingColumn,
        )

        self._progress = Progress(
            SpinnerColumn(finished_text=" "),
            TextColumn("{task.description:<18}"),
            BarColumn(24),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            console=Console(stderr=True),
            transient=True,
        )
        self._tasks: dict[str, TaskID] = {}

    def __enter__(self) -> "Bars":  # noqa: PYI034 - the shape checker knows no Self
        """Start to draw."""
        self._progress.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Clear the bars away."""
        self._progress.stop()

    def stage(self, name: str, step: int, total: int) -> None:
        """Move the stage's bar, adding it when the stage begins."""
        if name not in self._tasks:
            self._tasks[name] = self._progress.add_task(LABELS[name], total=total)
        self._progress.update(self._tasks[name], completed=step, total=total)

    def note(self, text: str) -> None:
        """Print a note above the bars."""
        self._progress.console.print(f"note: {text}", markup=False, highlight=False)


@contextmanager
def display(*, quiet: bool) -> Iterator[Display]:
    """The display that fits: none when quiet, bars on a terminal, lines elsewhere."""
    if quiet or sys.stderr is None:
        yield Silent()
    elif sys.stderr.isatty() and os.environ.get("TERM") != "dumb":
        with Bars() as bars:
            yield bars
    else:
        yield Lines()


def tell(report: str, *, done: str = "the film is finished") -> None:
    """Print what was made to stdout; a reader that has left is no error.

    Args:
        report: What was made.
        done: What to say of it if the report cannot be printed.

    Raises:
        OutputError: stdout takes no more.
    """
    try:
        print(report, flush=True)
    except BrokenPipeError:
        pass
    except OSError as error:
        msg = f"{done}, but the report cannot be written to stdout: {error.strerror}"
        raise OutputError(msg) from error
