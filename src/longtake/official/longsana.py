"""LongSANA: chunk after chunk on a state of constant size, four steps each."""

from collections.abc import Callable, Iterator

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from longtake.config.limits import latent_chunks
from longtake.flow import clean_from, interpolate
from longtake.model import Recorded, State, Transformer
from longtake.parallel import ALL, Team
from longtake.rollout.sharing import share_of

LEVELS = (1.0, 0.96, 0.889, 0.727)
"""Noise levels of the four steps, as published; even ones shifted by 8."""
CHUNK = 10
"""Latent frames of a chunk."""

Latents = Float[Tensor, "1 c t h w"]
Draw = Callable[[range, int], Latents]
"""Noise of some latent frames for a step of the sampler."""


def chunks_of(latent_frames: int, chunk: int = CHUNK) -> tuple[int, ...]:
    """Latent frames of each chunk; the first takes what whole ones leave over."""
    return latent_chunks(latent_frames, chunk)


def roll(
    transformer: Transformer,
    text: Float[Tensor, "1 m e"],
    mask: Bool[Tensor, "1 m"],
    draw: Draw,
    latent_frames: int,
    team: Team = ALL,
    chunk: int = CHUNK,
) -> Iterator[Latents]:
    """Yield the clean latents of each chunk.

    Each step predicts the clean latents, which are mixed with fresh noise for the next; then one
    more pass over them, at sigma 0, commits them to the state.

    Args:
        transformer: With the weights of LongSANA.
        text: Embedding of the prompt.
        mask: True where a text token is real.
        draw: Noise by absolute latent frame and step.
        latent_frames: Of the whole film.
        team: Who shares the frames of each chunk.
        chunk: Latent frames of a chunk.

    Source: SANA-Video (arXiv 2509.24695), section 3.3; levels as published with the weights.
    """
    reading, passes = transformer.read(text, mask, trim=True), Recorded(transformer)
    state: State | None = None
    start = 0
    for frames in chunks_of(latent_frames, chunk):
        own, share = team.frames(frames), share_of(team, frames, causal=True)
        place = range(start + own.start, start + own.stop)
        x = draw(place, 0)
        clean = x
        for step, level in enumerate(LEVELS):
            sigma = torch.full((1, len(own)), level, dtype=torch.float64, device=x.device)
            if step > 0:
                x = interpolate(clean, draw(place, step), sigma.to(x.dtype))
            velocity, _ = passes.go_on(x, sigma, reading, state, share)
            clean = clean_from(x, velocity.to(x.dtype), level)
        zero = torch.zeros(1, len(own), dtype=torch.float64, device=x.device)
        _, state = passes.go_on(clean, zero, reading, state, share)
        start += frames
        yield team.whole(clean, frames)
