"""Which workers live: each locks a file of its own, and the system unlocks those of the dead."""

import fcntl
import os
from pathlib import Path

from longtake.storage import output_errors

WORKERS = "workers"


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
