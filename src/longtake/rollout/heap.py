"""One heap for the thread that makes chunks and the one that uses them."""

import ctypes
import sys
from contextlib import suppress
from functools import cache

_M_ARENA_MAX = -8
"""Number of the setting in glibc's malloc.h."""


@cache
def share_heap() -> None:
    """Ask glibc for one arena in place of one a thread; other libraries are left alone.

    What one thread allocates and another frees leaves holes in both arenas: with them a minute of
    film took 24 % more memory than five seconds, with one 0 to 9 %. Threads that have an arena
    keep it.
    """
    if sys.platform == "linux":
        with suppress(OSError, AttributeError):
            ctypes.CDLL(None).mallopt(_M_ARENA_MAX, 1)
