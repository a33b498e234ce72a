"""The fixed grid of a take: which latent frames, and which frames, each chunk makes."""

import math
from dataclasses import dataclass

from longtake.config import FPS, TEMPORAL_STRIDE
from longtake.errors import SettingError


@dataclass(frozen=True, slots=True)
class Grid:
    """Chunk 0 holds 1 + size latent frames, every later chunk size of them.

    The grid does not depend on the length of the take, so that a shorter take is the beginning of
    a longer one. The last chunk is made whole; what goes beyond the take's end is trimmed.
    """

    size: int
    """Latent frames of a chunk, 1 to 7."""

    def __post_init__(self) -> None:
        """Check the range."""
        if not 1 <= self.size <= 7:
            msg = f"a chunk has 1 to 7 latent frames, got {self.size}"
            raise SettingError(msg)

    def latent_frames(self, chunk: int) -> range:
        """Absolute numbers of a chunk's latent frames."""
        return range(chunk and 1 + chunk * self.size, 1 + (chunk + 1) * self.size)

    def frames(self, chunk: int) -> range:
        """Absolute numbers of the frames a chunk makes."""
        latents = self.latent_frames(chunk)
        first = 1 + TEMPORAL_STRIDE * (latents.start - 1) if latents.start else 0
        return range(first, 1 + TEMPORAL_STRIDE * (latents.stop - 1))

    def chunks(self, frames: int) -> int:
        """Chunks it takes to make so many frames."""
        per_chunk = TEMPORAL_STRIDE * self.size
        return max(-(-(frames - 1) // per_chunk), 1)

    def chunk_at(self, seconds: float) -> int:
        """The first chunk none of whose frames comes before a time."""
        frame = math.ceil(round(seconds * FPS, 6))
        return max(-(-(frame - 1) // (TEMPORAL_STRIDE * self.size)), 1) if frame > 0 else 0

    def begins_s(self, chunk: int) -> float:
        """When the first frame of a chunk is shown."""
        return self.frames(chunk).start / FPS
