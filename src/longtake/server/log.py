"""The server's log: lines on stderr, and nothing happens where they cannot be written."""

import sys
from contextlib import suppress


def log(line: str) -> None:
    """Write a line; never a prompt, a token, or a path of a client's choice."""
    with suppress(OSError, ValueError):
        print(line, file=sys.stderr, flush=True)  # noqa: T201
