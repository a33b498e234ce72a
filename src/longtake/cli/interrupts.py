"""Ctrl-C that is not lost: libraries swallow its exception now and then while they load."""

import signal
import threading
from types import FrameType
from typing import NoReturn

_stopped = threading.Event()


def listen() -> None:
    """Take Ctrl-C, and a polite kill likewise, as the wish to stop."""
    signal.signal(signal.SIGINT, _stop)
    signal.signal(signal.SIGTERM, _stop)


def stopped() -> bool:
    """Whether the user wished to stop, whatever became of the exception."""
    return _stopped.is_set()


def raise_if_stopped() -> None:
    """Raise KeyboardInterrupt once more if it was raised before and got lost."""
    if stopped():
        raise KeyboardInterrupt


def _stop(_signal: int, _frame: FrameType | None) -> NoReturn:
    _stopped.set()
    raise KeyboardInterrupt
