"""What a job is: asked for, in which state, held by whom."""

import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from longtake.config import Cue, SampleConfig
from longtake.errors import LongtakeError

Status = Literal["queued", "in_progress", "paused", "completed", "failed", "cancelled"]
LIVE = ("queued", "in_progress", "paused")
"""States from which a job still goes on."""
ENDED = ("completed", "failed", "cancelled")
"""States that stay."""
KEEP_EVERY_S = 5.0
"""Seconds between states that stay, so that a branch makes no more than these again."""
Json = Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class FilmRequest:
    """Everything that decides a film, checked and complete; the store holds it as JSON."""

    model: str
    """Name of the model."""
    prompt: str
    """Cleaned."""
    settings: SampleConfig
    """Size, length, seed and sampling."""
    cues: tuple[Cue, ...] = ()
    """How the prompt goes on."""
    picture: bool = False
    """Whether a picture that it begins with lies in the job's folder."""
    parent: str = ""
    """The job whose take it goes on from; empty for a new film."""
    turn: int = 0
    """Block before which it turns off from that take; 0: at its end."""
    scene: str = ""
    """Name that the films of one scene share; empty for a film by itself."""
    shot: int = 0
    """Which shot of the scene it is, from 1; 0 without a scene."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """A job as the store knows it."""

    id: str
    owner: str
    status: Status
    request: Json
    """A `FilmRequest`."""
    created_at: int
    """Unix seconds, as the other times; for people, nothing is decided by them but expiry."""
    started_at: int | None
    finished_at: int | None
    expires_at: int | None
    attempt: int
    """Times it was given to a worker; the fencing number."""
    progress: Json
    """The newest event's numbers."""
    error: Json | None
    """Code and message."""
    result: Json | None
    """What the finished film is."""
    deleted: bool
    """Whether nobody may see it any more; its files go when no worker holds it."""


@dataclass(frozen=True, slots=True)
class Lease:
    """A worker's right to a job, until its time is over or a later attempt begins."""

    job: Job
    worker: str

    @property
    def attempt(self) -> int:
        """The number that every write is checked against."""
        return self.job.attempt


@dataclass(frozen=True, slots=True)
class StoredEvent:
    """Something that happened to a job, in the order of the whole store."""

    seq: int
    job: str
    data: str
    """JSON."""


@dataclass(frozen=True, slots=True)
class Key:
    """An Idempotency-Key with what it stands for."""

    route: str
    key: str
    digest: str
    """Of the request's body."""


class LeaseLost(LongtakeError):  # noqa: N818 - said as one says it
    """The job has been given to another worker, or was ended."""


class KeyReused(LongtakeError):  # noqa: N818
    """An Idempotency-Key came again with another request."""


class QueueFull(LongtakeError):  # noqa: N818
    """As many jobs wait as may wait."""


class AlreadyEnded(LongtakeError):  # noqa: N818
    """The job has ended and stays as it is."""


def new_id() -> str:
    """A name that cannot be guessed and leads nowhere else as a file name."""
    return f"video_{secrets.token_hex(16)}"
