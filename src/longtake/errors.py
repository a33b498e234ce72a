"""Every error a user can meet, as one tree.

LongtakeError
├── InvalidInput            exit 2: something asked for cannot be done; the message names the fix
│   ├── SettingError        out of range, misspelt, or two settings that exclude each other
│   ├── PromptError         an empty or oversized prompt
│   ├── OutputError         the output exists, cannot be written, or the disk is full
│   ├── ModelError          no such model
│   ├── WeightsError        a weights file that is damaged, foreign or unsafe
│   ├── StateError          a take's state that other weights or arithmetic made
│   ├── ShotListError       a shot list that cannot be made as it is written
│   ├── BatchError          a list of films that cannot be made as it is written
│   └── MediaError          a picture or film that cannot be read
└── CannotHere              exit 3: this machine cannot do it: memory, precision, a missing extra
    └── LostContact         another process of the same run has failed

Messages are one line: what, what was given, and the nearest fix.
"""

from typing import ClassVar


class LongtakeError(Exception):
    """Base of all errors with a message meant for a user."""

    exit_code: ClassVar[int] = 1


class InvalidInput(LongtakeError):  # noqa: N818 - the tree reads better without a suffix on every branch
    """What was asked for cannot be done as asked."""

    exit_code = 2


class SettingError(InvalidInput):
    """A setting has a value it cannot have, or does not exist."""


class PromptError(InvalidInput):
    """The prompt is empty or too long."""


class OutputError(InvalidInput):
    """The output cannot be written where it was asked for."""


class ModelError(InvalidInput):
    """No model of that name exists."""


class WeightsError(InvalidInput):
    """A weights file is damaged, foreign or unsafe."""


class StateError(InvalidInput):
    """A take's state cannot be gone on from here."""


class ShotListError(InvalidInput):
    """A shot list cannot be made as it is written; the message names row and column."""


class BatchError(InvalidInput):
    """A list of films cannot be made as it is written; the message names the line."""


class MediaError(InvalidInput):
    """A picture or film cannot be read."""


class CannotHere(LongtakeError):  # noqa: N818
    """This machine cannot do what was asked."""

    exit_code = 3


class LostContact(CannotHere):
    """Another process of the run has failed, so that this one cannot go on."""
