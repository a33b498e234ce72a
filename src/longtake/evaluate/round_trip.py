"""True films as a film model could at best show them: rendered, encoded and decoded."""

from collections.abc import Iterator

import torch
from jaxtyping import UInt8
from torch import Tensor

from longtake.config import FPS, made_side
from longtake.pipeline import DECODE_CHUNK
from longtake.rollout.pixels import cut, from_bytes, padded, to_bytes
from longtake.vae import Autoencoder
from longtake.world import Scenes, render

FRAMES, HEIGHT, WIDTH = 81, 256, 448
"""A film of 5 seconds at the model's own size."""


def film_scenes(
    scenes: Scenes,
    autoencoder: Autoencoder | None,
    device: torch.device,
    *,
    frames: int = FRAMES,
    height: int = HEIGHT,
    width: int = WIDTH,
    fps: float = FPS,
    at_once: int = 1,
) -> Iterator[UInt8[Tensor, "frames height width 3"]]:
    """Film scenes, `at_once` in a batch; None leaves the autoencoder out."""
    for first in range(0, len(scenes), at_once):
        clips = render(
            scenes.select(slice(first, first + at_once)),
            frames=frames,
            height=height,
            width=width,
            device=device,
            fps=fps,
        )
        yield from clips if autoencoder is None else round_trip(autoencoder, clips)


@torch.no_grad()
def round_trip(
    autoencoder: Autoencoder, clips: UInt8[Tensor, "b frames height width 3"]
) -> UInt8[Tensor, "b frames height width 3"]:
    """Bytes to latents and back to bytes; between two cells as films are, the middle of more."""
    height, width = clips.shape[2:4]
    sides = made_side(width), made_side(height)
    frames = torch.stack([padded(clip, *sides) for clip in from_bytes(clips)])
    chunks = autoencoder.decode_stream(autoencoder.encode(frames), DECODE_CHUNK)
    films = torch.cat([to_bytes(part) for part in chunks], dim=1)[:, : clips.shape[1]]
    return torch.stack([cut(film, width, height) for film in films])
