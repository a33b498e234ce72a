"""Clips rendered on the fly: a ring on the device that is the same for the same seed."""

import random
from collections.abc import Callable
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor

from longtake.config import TrainConfig
from longtake.parallel import ALONE, Workers
from longtake.text import Tokenizer
from longtake.text.tokenizer import PAD
from longtake.vae import Autoencoder
from longtake.world import Scenes, caption, render, sample_scenes
from longtake.world.level import FIRST, Level
from longtake.world.render import render_with_mask

Batch = tuple[Tensor, ...]
CAPTIONS = 2
"""Wordings kept of each clip."""
_LOT = 3
"""Keeps the choice of a batch's level apart from what else its number decides."""
_LATE_START_S = 4.0
"""Short clips start anywhere in the first seconds of a scene."""


@runtime_checkable
class Source(Protocol):
    """Where batches come from, the same ones whenever the same step comes."""

    def advance(self, target: int) -> None:
        """Be ready for batch number `target`."""
        ...

    def draw(self, num: int, generator: torch.Generator) -> Batch:
        """Draw so many clips."""
        ...


class Ring:
    """Keeps the newest clips; batch number n is made by `make(n)` alone, so a ring can be remade.

    A resumed run renders the same clips again instead of storing them.
    """

    def __init__(
        self, make: Callable[[int], Batch], batches: int, workers: Workers = ALONE
    ) -> None:
        """Keep up to `batches` batches of what `make` returns; workers make different ones."""
        self.make = make
        self.batches = batches
        self.workers = workers
        self.made = 0
        self.buffers: Batch = ()

    def advance(self, target: int) -> None:
        """Make batches up to number `target`, leaving out those that would be overwritten."""
        for number in range(max(self.made, target - self.batches), target):
            batch = self.make(number * self.workers.size + self.workers.rank)
            if not self.buffers:
                self.buffers = tuple(
                    torch.empty(self.batches, *part.shape, dtype=part.dtype, device=part.device)
                    for part in batch
                )
            for buffer, part in zip(self.buffers, batch, strict=True):
                buffer[number % self.batches] = part
        self.made = max(self.made, target)

    def draw(self, num: int, generator: torch.Generator) -> Batch:
        """Draw clips from what is in the ring, with replacement."""
        filled = min(self.made, self.batches)
        rows = filled * self.buffers[0].shape[1]
        picked = torch.randint(rows, (num,), generator=generator, device=generator.device)
        return tuple(buffer.flatten(0, 1)[picked] for buffer in self.buffers)


def scenes_of_batch(
    seed: int, number: int, clips: int, level: Level = FIRST, simple: float = 0.0
) -> Scenes:
    """The scenes of a batch, from its number alone; some batches are of the first level."""
    lot = np.random.default_rng([seed, number, _LOT]).random()
    of = FIRST if lot < simple else level
    return sample_scenes(clips, np.random.default_rng([seed, number]), level=of)


def to_signed(frames: UInt8[Tensor, "*any"]) -> Float[Tensor, "*any"]:
    """Bytes to [-1, 1]."""
    return frames.float() / 127.5 - 1


def pixel_ring(
    config: TrainConfig, device: torch.device, workers: Workers, level: Level = FIRST
) -> Ring:
    """Short clips as bytes for the autoencoder; and where subjects are, if they weigh more."""

    def make(number: int) -> Batch:
        scenes = scenes_of_batch(config.seed, number, config.render_batch, level, config.simple)
        starts = np.random.default_rng([config.seed, number, 1]).random(len(scenes))
        start_s = (starts * _LATE_START_S).astype(np.float32)
        size = {"frames": config.frames, "height": config.height, "width": config.width}
        if config.subjects:
            return render_with_mask(scenes, **size, start_s=start_s, device=device)
        return (render(scenes, **size, start_s=start_s, device=device),)

    return Ring(make, config.pool // config.render_batch, workers)


def latent_ring(
    config: TrainConfig,
    autoencoder: Autoencoder,
    tokenizer: Tokenizer,
    workers: Workers,
    level: Level = FIRST,
) -> Ring:
    """Whole clips as latents with their tokenised captions, for the denoiser."""
    device = autoencoder.latent_mean.device

    @torch.no_grad()
    def make(number: int) -> Batch:
        scenes = scenes_of_batch(config.seed, number, config.render_batch, level, config.simple)
        frames = render(
            scenes, frames=config.frames, height=config.height, width=config.width, device=device
        )
        with torch.autocast(device.type, torch.bfloat16, enabled=config.precision == "bf16"):
            latents = torch.cat([autoencoder.encode(to_signed(part)) for part in frames.split(4)])
        rng = random.Random(f"{config.seed} {number}")
        tokens = caption_tokens(scenes, tokenizer, rng, level)
        return latents.to(torch.bfloat16), tokens.to(device)

    return Ring(make, config.pool // config.render_batch, workers)


def caption_tokens(
    scenes: Scenes, tokenizer: Tokenizer, rng: random.Random, level: Level = FIRST
) -> Int[Tensor, "b wordings m"]:
    """Several wordings of each scene, padded to the longest prompt the encoder takes."""
    tokens = torch.full((len(scenes), CAPTIONS, tokenizer.max_tokens), PAD, dtype=torch.int16)
    for index in range(len(scenes)):
        for wording in range(CAPTIONS):
            # One style draws nothing, so that the first level's wordings stay the same.
            style = rng.choice(level.styles) if len(level.styles) > 1 else level.styles[0]
            reading = tokenizer.read(caption(scenes, index, rng, style=style).text)
            tokens[index, wording, : len(reading.tokens)] = torch.tensor(reading.tokens)
    return tokens


def generator_for(seed: int, step: int, device: torch.device) -> torch.Generator:
    """The random numbers of one step, so that no generator state needs saving."""
    mixed = int(np.random.SeedSequence([seed, step]).generate_state(1, np.uint64)[0])
    return torch.Generator(device).manual_seed(mixed % 2**63)


def batches_due(config: TrainConfig, step: int, fill: int) -> int:
    """Batches that must have been made before a step: the first fill, then one each few steps."""
    return fill + step // config.refresh_every
