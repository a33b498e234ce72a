"""A LoRA in use: which file, how strongly."""

import math
from dataclasses import dataclass

from longtake.errors import SettingError

MOST_STRENGTH = 10.0
"""Strongest use of a LoRA, either way."""
MOST_LORAS = 8
"""Most LoRAs over one model."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LoraUse:
    """A LoRA laid over a model."""

    file: str
    """Its .safetensors file."""
    strength: float = 1.0
    """Times it is added, -10 to 10; 1 is as it was trained, 0 leaves the model as it is."""
    sha256: str = ""
    """Checksum of the file; empty where nobody has read it yet."""

    def __post_init__(self) -> None:
        """Check that there is a file and a believable strength."""
        if not self.file:
            msg = "a LoRA is a file, got an empty name; write FILE or FILE:STRENGTH"
            raise SettingError(msg)
        if not (math.isfinite(self.strength) and abs(self.strength) <= MOST_STRENGTH):
            msg = (
                f"the strength of {self.file} must be -{MOST_STRENGTH:g} to {MOST_STRENGTH:g}, "
                f"got {self.strength:g}; try 1"
            )
            raise SettingError(msg)


def lora_use(text: str) -> LoraUse:
    """What FILE or FILE:STRENGTH names.

    Raises:
        SettingError: no file, or a strength out of range.
    """
    file, colon, tail = text.rpartition(":")
    try:
        return LoraUse(file=file, strength=float(tail)) if colon and file else LoraUse(file=text)
    except ValueError:
        # A colon in the file's own name.
        return LoraUse(file=text)
