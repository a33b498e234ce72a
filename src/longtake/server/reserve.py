"""A little room kept back, so that on a full disk it can still be written down that it is full."""

import shutil
from contextlib import suppress
from pathlib import Path

BYTES = 2**20
"""Room for hundreds of entries of the store."""
LEAST_FREE = 4 * BYTES
"""With less than this no job is begun."""
_NAME = "reserve"


def keep(data: Path) -> None:
    """Hold the room, if there is enough."""
    path = data / _NAME
    if not path.exists() and free(data) > LEAST_FREE + BYTES:
        with suppress(OSError):
            path.write_bytes(bytes(BYTES))


def use(data: Path) -> bool:
    """Let the room be used; whether there was any."""
    try:
        (data / _NAME).unlink()
    except OSError:
        return False
    return True


def free(data: Path) -> int:
    """Bytes left on the disk."""
    return shutil.disk_usage(data).free
