"""Clocks: one for people, one that decides."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

_BOOT = Path("/proc/sys/kernel/random/boot_id")


@dataclass(frozen=True, slots=True)
class Clocks:
    """Where the store reads time."""

    wall: Callable[[], float] = time.time
    """Told to people."""
    steady: Callable[[], float] = time.monotonic
    """Decides; the same in all processes since the machine started."""
    boot: str = _BOOT.read_text().strip() if _BOOT.is_file() else ""
    """Which start of the machine that is."""
