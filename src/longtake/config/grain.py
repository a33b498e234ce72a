"""Film grain: how strong it is."""

from dataclasses import dataclass

from longtake.errors import SettingError

MOST_GRAIN = 0.5
"""Strongest grain; films of it are hardly more than noise."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Grain:
    """Noise over every frame, as standard deviations on the scale of -1 (black) to 1 (white)."""

    shared: float = 0.0
    """Of the noise that red, green and blue share, as on black-and-white stock."""
    own: float = 0.0
    """Of the noise that each of them has alone."""

    def __post_init__(self) -> None:
        """Check the ranges."""
        for name, value in (("shared", self.shared), ("own", self.own)):
            # Written so that NaN fails.
            if not 0 <= value <= MOST_GRAIN:
                msg = f"grain.{name} must be 0 to {MOST_GRAIN:g}, got {value:g}"
                raise SettingError(msg)
