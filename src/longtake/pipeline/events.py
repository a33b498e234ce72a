"""What a film in the making tells, and what it is when it is made."""

from dataclasses import dataclass
from typing import Literal

from jaxtyping import UInt8
from torch import Tensor

from longtake.config import (
    SampleConfig,
)
from longtake.rollout.snapshot import Snapshot


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a stage is."""

    stage: Literal["text", "denoise", "decode"]
    step: int
    total: int


@dataclass(frozen=True, slots=True)
class Notice:
    """Something the user should know about how the prompt or a setting was taken."""

    text: str


@dataclass(frozen=True, slots=True)
class Frames:
    """The next frames of the film."""

    pixels: UInt8[Tensor, "frames height width 3"]


@dataclass(frozen=True, slots=True)
class Film:
    """A finished film."""

    frames: UInt8[Tensor, "frames height width 3"]
    fps: int
    prompt: str
    settings: SampleConfig
    notices: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Border:
    """A chunk is finished and its frames are out: the film can be gone on with from here."""

    snapshot: Snapshot
    pixels: UInt8[Tensor, "frames height width 3"]
    """All frames of the chunk, those beyond the film's end among them."""


Event = Progress | Notice | Frames | Border
