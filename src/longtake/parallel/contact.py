"""Contact with the other processes, and its loss told in one line."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

import torch.distributed as dist

from longtake.errors import LostContact

PATIENCE = timedelta(minutes=30)
"""How long one waits for the others, who may be loading or writing, before it gives up."""
LOST = "another process of this run has failed; its own line tells why"


@contextmanager
def contact() -> Iterator[None]:
    """Say that another process failed, where torch tells of closed connections.

    Raises:
        LostContact: in place of torch's errors about other processes, and of no others.
    """
    try:
        yield
    except RuntimeError as error:
        # gloo has no class of its own for them.
        if isinstance(error, dist.DistError) or "gloo" in str(error):
            raise LostContact(LOST) from error
        raise
