"""Memory: what a run took, and what to do when there is not enough."""

import resource
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from longtake.errors import CannotHere


@contextmanager
def memory_errors(fix: str) -> Iterator[None]:
    """Tell running out of memory as what this machine cannot do.

    Raises:
        CannotHere: in place of torch's errors and Python's.
    """
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        # torch has one class for the GPU's memory and none for the host's.
        known = ("out of memory", "can't allocate memory")
        if not isinstance(error, MemoryError) and not any(part in str(error) for part in known):
            raise
        msg = f"not enough memory; try {fix}"
        raise CannotHere(msg) from error


def peak_memory_bytes() -> int:
    """Most memory this process has held."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
