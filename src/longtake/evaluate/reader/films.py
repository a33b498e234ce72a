"""A film of any size and rate becomes the frames that the reader looks at, and says what it did."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float, UInt8
from torch import Tensor

from longtake.config import FPS
from longtake.errors import MediaError
from longtake.world.choreography import CLIP_S

HEIGHT = 128
"""Rows of pixels the reader looks at; a smaller film tells too little of a small subject."""
FINE = 256
"""Rows of pixels from which pictures of subjects are cut."""
RATE = 4
"""Frames a second the reader looks at."""
SHORTEST_S = 2.0
"""Seconds below which a move cannot be told from standing still."""
_FLATTEST, _WIDEST = 1.0, 3.0
_SAME_RATE = 0.01


@dataclass(frozen=True, slots=True, kw_only=True)
class Looked:
    """Frames at the reader's size and rate."""

    frames: UInt8[Tensor, "frames height width 3"]
    fine: UInt8[Tensor, "frames height2 width2 3"]
    """The same frames with up to `FINE` rows, for a closer look at subjects."""
    times_s: Float[Tensor, " frames"]
    """When each is shown."""
    notes: tuple[str, ...]
    """How the film had to be changed, in words."""


def look_at(film: UInt8[Tensor, "frames height width 3"], fps: float) -> Looked:
    """Bring a film to the reader's size and rate.

    Raises:
        MediaError: too short, too small, or of a shape that no camera of the world has.
    """
    num, height, width, _ = film.shape
    seconds = _checked_seconds(num, height, width, fps)
    notes = []
    if abs(fps - FPS) > _SAME_RATE:
        notes.append(f"the film has {fps:g} frames a second, not {FPS}: it was re-timed")
    if height < HEIGHT:
        notes.append(f"the film is {width}x{height}: it was enlarged, small subjects may be missed")
    if abs(width / height - 7 / 4) > 0.02:
        notes.append(f"the film is {width}x{height}, not 7:4: read as a wider or narrower view")
    if seconds > CLIP_S + 0.5 / FPS:
        notes.append(f"the film lasts {seconds:g} s: the first {CLIP_S:g} s were read")
    count = int(min(seconds, CLIP_S) * RATE + 1e-6) + 1
    times = torch.arange(count) / RATE
    picked = film[(times * fps).round().long().clamp(max=num - 1).to(film.device)]
    return Looked(
        frames=to_height(picked, HEIGHT),
        fine=to_height(picked, min(FINE, max(height, HEIGHT))),
        times_s=times,
        notes=tuple(notes),
    )


def to_height(
    frames: UInt8[Tensor, "frames _ _ 3"], height: int
) -> UInt8[Tensor, "frames height2 width2 3"]:
    """Frames scaled to a number of rows, pixels averaged."""
    if frames.shape[1] == height:
        return frames
    width = round(frames.shape[2] * height / frames.shape[1])
    planes = rearrange(frames, "f h w c -> f c h w").float()
    scaled = F.interpolate(planes, size=(height, width), mode="area")
    return rearrange(scaled.round().to(torch.uint8), "f c h w -> f h w c").contiguous()


def _checked_seconds(num: int, height: int, width: int, fps: float) -> float:
    # Written so that NaN fails.
    if not 1 <= fps <= 1000:
        msg = f"a film has 1 to 1000 frames a second, got {fps:g}"
        raise MediaError(msg)
    seconds = (num - 1) / fps
    if seconds < SHORTEST_S - 1e-6:
        msg = f"the reader needs {SHORTEST_S:g} seconds, got {max(seconds, 0):g}; try --seconds 5"
        raise MediaError(msg)
    if height < HEIGHT // 2 or not _FLATTEST <= width / height <= _WIDEST:
        msg = (
            f"the reader needs a film at least {HEIGHT // 2} high and {_FLATTEST:g} to {_WIDEST:g} "
            f"times as wide, got {width}x{height}; try 448x256"
        )
        raise MediaError(msg)
    return seconds
