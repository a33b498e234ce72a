"""Numbers that hold everywhere, and sizes of frames."""

from longtake.errors import SettingError

Range = tuple[str, float, float, float]
"""A setting's name, its value, and the least and the most that it may be."""

FPS = 16
"""Native frame rate of every preset."""
TEMPORAL_STRIDE = 4
"""Frames an autoencoder packs into one latent frame; frame 0 stands alone."""
MAX_SECONDS = 86_400.0
"""Longest take: a day. Memory sets no limit; time and disk do, long before."""
MAX_SEED = 2**64 - 1
"""Seeds are unsigned 64-bit numbers."""


CELL = 32
"""Pixels of a side that one latent stands for; what a network sees is a multiple of it."""
SIDE_STEP = 8
"""Sides of films are multiples of it; between multiples of `CELL` the rest is cut off."""


def check_sides(width: int, height: int, step: int = CELL) -> None:
    """Check a frame's size, naming the nearest value that works.

    Raises:
        SettingError: a side that is no multiple of the step, too small or too large.
    """
    for name, value in (("width", width), ("height", height)):
        if value % step or not 64 <= value <= 4096:
            near = nearest_side(value, step)
            msg = (
                f"{name} must be a multiple of {step} from 64 to 4096, got {value}; "
                f"the nearest is {near}"
            )
            raise SettingError(msg)


def nearest_side(value: int, step: int = SIDE_STEP) -> int:
    """The side that a film can have nearest to a value."""
    return min(max(round(value / step) * step, 64), 4096)


def made_side(side: int) -> int:
    """What a model makes for a film's side: the next multiple of `CELL`."""
    return -(-side // CELL) * CELL


def check_ranges(*ranges: Range) -> None:
    """Check that numbers lie in their ranges, the ends among them.

    Raises:
        SettingError: the first that does not, or is no number.
    """
    for name, value, low, high in ranges:
        # Written so that NaN fails.
        if not low <= value <= high:
            msg = f"{name} must be {low:,} to {high:,}, got {value}"
            raise SettingError(msg)


def latent_chunks(latent_frames: int, chunk: int) -> tuple[int, ...]:
    """Latent frames of each chunk of a public model; the first takes what is left over."""
    count = max(latent_frames // chunk, 1)
    return (latent_frames - chunk * (count - 1), *(chunk,) * (count - 1))
