"""Contact with the other processes, and its loss told in one line."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

from longtake.errors import LostContact

PATIENCE = timedelta(minutes=30)
"""How long one waits for the others, who may be loading or writing, before it gives up."""
LOST = "another process of this run has failed; its own line tells why"


@contextmanager
def contact() -> Iterator[None]:
    """Say that another process failed, where torch tells of closed connections.

    Raises:
        LostContact: in place of torch's errors, running out of memory not among them.
    """
    try:
        yield
    except RuntimeError as error:
        if "out of memory" in str(error):
            raise
        raise LostContact(LOST) from error
