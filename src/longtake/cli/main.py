"""The edge of the process: arguments in, one exit code out, one line for every error."""

import os
import sys
import traceback
from collections.abc import Sequence
from contextlib import suppress
from io import TextIOWrapper
from typing import NoReturn

from longtake.cli.interrupts import listen, stopped
from longtake.errors import LongtakeError, LostContact

DONE, FAILED, CANNOT, STOPPED = 0, 1, 3, 130
"""Exit codes beside 2, a user's mistake, which the errors bring along."""
LOST = 74
"""Exit code of a process whose fellow failed; `--gpus` alone sees it, and tells of the fellow."""
_SEVERAL, _LIFELINE = "TORCHELASTIC_RUN_ID", "LONGTAKE_LIFELINE"
"""Environment of one of several processes; the second if `--gpus` began it."""
TRACEBACK = "LONGTAKE_TRACEBACK"
"""Environment variable that shows where an unexpected error came from."""


def main() -> NoReturn:
    """Run the command line of this process and leave."""
    _fill_closed_streams()
    # Threads sleep while they wait: three times faster on a busy machine, equal on an idle one.
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    listen()
    code = run(sys.argv[1:])
    _abandon_stdout_if_broken()
    if _SEVERAL in os.environ:
        # One of several processes, whose libraries would wait at exit for one that has failed.
        os._exit(code)
    if code == STOPPED:
        # Python would trade the code for a signal if the interrupt fell into certain places.
        os._exit(code)
    sys.exit(code)


def run(arguments: Sequence[str]) -> int:
    """Run one command and return its exit code; nothing is raised."""
    try:
        # Inside, so that Ctrl-C while loading is as quiet as later.
        from longtake.cli.app import dispatch

        if isinstance(sys.stdout, TextIOWrapper):
            # A file name that is no text must not end the run.
            sys.stdout.reconfigure(errors="backslashreplace")
        dispatch(arguments)
        if sys.stdout is not None:
            sys.stdout.flush()
    except LongtakeError as error:
        quiet = isinstance(error, LostContact) and _supervised()
        return LOST if quiet else _fail(str(error), error.exit_code)
    except KeyboardInterrupt as stop:
        return _stopped(str(stop))
    except BrokenPipeError:
        # The reader of our report has left; what was asked for is done.
        return DONE
    except MemoryError:
        return _fail("not enough memory; try fewer --seconds or a smaller --size", CANNOT)
    except Exception as error:  # noqa: BLE001 - the process edge
        return _stopped() if stopped() else _unexpected(error)
    return DONE


def _supervised() -> bool:
    return _LIFELINE in os.environ


def _stopped(what_now: str = "") -> int:
    if not _supervised():
        _say(f"stopped; {what_now or 'nothing was written'}")
    return STOPPED


def _fail(message: str, code: int) -> int:
    _say(f"error: {message}")
    return code


def _unexpected(error: Exception) -> int:
    if os.environ.get(TRACEBACK):
        traceback.print_exception(error)
    first = next(iter(str(error).splitlines()), "")
    hint = f"this is a fault in Longtake; {TRACEBACK}=1 shows where"
    return _fail(f"unexpected {type(error).__name__}: {first[:200]}; {hint}", FAILED)


def _say(line: str) -> None:
    """Write one line to stderr, with nothing in it that could steer a terminal."""
    if sys.stderr is None:
        return
    text = "".join(c if c.isprintable() else repr(c)[1:-1] for c in line)
    with suppress(OSError, ValueError):
        print(text, file=sys.stderr, flush=True)


def _fill_closed_streams() -> None:
    """Put /dev/null where stdin, stdout or stderr is closed.

    Else the film would be opened under a closed stream's number and take up what is printed.
    """
    for descriptor in (0, 1, 2):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)


def _abandon_stdout_if_broken() -> None:
    """Keep Python from complaining at exit about a reader that has left."""
    try:
        if sys.stdout is not None:
            sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
