"""Numbers that hold everywhere, and sizes of frames."""

from longtake.errors import SettingError

FPS = 16
"""Native frame rate of every preset."""
TEMPORAL_STRIDE = 4
"""Frames an autoencoder packs into one latent frame; frame 0 stands alone."""
MAX_SECONDS = 86_400.0
"""Longest take: a day. Memory sets no limit; time and disk do, long before."""
MAX_SEED = 2**64 - 1
"""Seeds are unsigned 64-bit numbers."""


def check_sides(width: int, height: int) -> None:
    """Check a frame's size, naming the nearest value that works."""
    for name, value in (("width", width), ("height", height)):
        if value % 32 or not 64 <= value <= 4096:
            near = min(max(round(value / 32) * 32, 64), 4096)
            msg = (
                f"{name} must be a multiple of 32 from 64 to 4096, got {value}; "
                f"the nearest is {near}"
            )
            raise SettingError(msg)
