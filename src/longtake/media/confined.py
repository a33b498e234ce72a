"""Limits for a child process that opens media from anywhere, so that harm is done to it alone."""

import resource

MEMORY_BYTES = 6 * 2**30
"""Address space; the libraries themselves map about 2 GiB."""
FILE_BYTES = 128 * 2**20
"""Largest file it may write."""
FILES = 128
"""Files it may hold open."""


def confine(*, cpu_s: int | None = None) -> None:
    """Bound this process for good; call it before anything untrusted is opened.

    Args:
        cpu_s: Seconds of processor time; None leaves time to whoever waits for the child.
    """
    limits = [
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_AS, MEMORY_BYTES),
        (resource.RLIMIT_FSIZE, FILE_BYTES),
        (resource.RLIMIT_NOFILE, FILES),
    ]
    if cpu_s is not None:
        limits.append((resource.RLIMIT_CPU, cpu_s))
    for what, most in limits:
        resource.setrlimit(what, (most, most))
