"""Who is there: each locks a file of its own, and the system unlocks those of the dead."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from longtake.errors import CannotHere
from longtake.server.files import JOBS
from longtake.storage import check_writable, output_errors

WORKERS = "workers"


@contextmanager
def alone(data: Path, who: str) -> Iterator[None]:
    """Hold the data folder; two servers would sweep away each other's files.

    Args:
        data: The folder, made if it is missing.
        who: What holds it, as the user knows it.

    Raises:
        OutputError: it cannot be written.
        CannotHere: another one has it.
    """
    with output_errors(data / "x"):
        data.mkdir(parents=True, exist_ok=True)
    check_writable(data / "store.sqlite")
    with output_errors(data / JOBS):
        (data / JOBS).mkdir(exist_ok=True)
        lock = os.open(data / "lock", os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            fix = "give another --data" if who == "server" else "wait for it or give another -o"
            msg = f"another {who} keeps its films in {data}; {fix}"
            raise CannotHere(msg) from None
        yield
    finally:
        os.close(lock)


def appear(data: Path, worker: str) -> int:
    """Be seen from now on, up to the end of the process.

    Raises:
        OutputError: the folder cannot be written.
    """
    path = data / WORKERS / worker
    with output_errors(path):
        path.parent.mkdir(exist_ok=True)
        descriptor = os.open(path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
        fcntl.flock(descriptor, fcntl.LOCK_EX)
    return descriptor


def is_gone(data: Path, worker: str) -> bool:
    """Whether a worker has ended; one that is frozen has not."""
    try:
        descriptor = os.open(data / WORKERS / worker, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return True
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    finally:
        os.close(descriptor)
    return True


def tidy(data: Path) -> None:
    """Remove what the dead left."""
    for path in (data / WORKERS).glob("worker-*"):
        if is_gone(data, path.name):
            path.unlink(missing_ok=True)
