"""Clips rendered on the fly: a ring on the device that is the same for the same seed."""

import random
from collections.abc import Callable
from itertools import accumulate
from typing import Literal, Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import BFloat16, Float, Int, UInt8
from torch import Tensor

from longtake.config import TEMPORAL_STRIDE, TrainConfig
from longtake.parallel import ALONE, Workers
from longtake.text import Tokenizer
from longtake.text.tokenizer import PAD
from longtake.vae import Autoencoder
from longtake.vae.autoencoder import StreamCache
from longtake.world import Scenes, caption, render, sample_scenes
from longtake.world.level import FIRST, Level
from longtake.world.render import render_with_mask

Batch = tuple[Tensor, ...]
CAPTIONS = 2
"""Wordings kept of each clip."""
_LOT = 3
"""Keeps the choice of a batch's level apart from what else its number decides."""
_SIZE_LOT = 4
"""Keeps the places of sizes in a run apart from what else its seed decides."""
_GOLDEN = (5**0.5 - 1) / 2
"""Steps of this length around a circle fall evenly, however many are taken."""
_PIXELS_AT_ONCE = 4 * 81 * 256 * 448
"""Encoded at once; memory grows with it, speed hardly."""
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
        latents = encode_clips(autoencoder, frames, config.precision)
        rng = random.Random(f"{config.seed} {number}")
        tokens = caption_tokens(scenes, tokenizer, rng, level, config.unnamed)
        return latents, tokens.to(device)

    return Ring(make, config.pool // config.render_batch, workers)


@torch.no_grad()
def encode_clips(
    autoencoder: Autoencoder,
    frames: UInt8[Tensor, "b frames height width 3"],
    precision: Literal["bf16", "fp32"],
) -> BFloat16[Tensor, "b c t h w"]:
    """Latents of clips: as many at once as memory should hold, a larger one by parts of it."""
    _, length, height, width, _ = frames.shape
    at_once = _PIXELS_AT_ONCE // (height * width)
    clips = frames.split(max(at_once // length, 1))
    kind = frames.device.type
    with torch.autocast(kind, torch.bfloat16, enabled=precision == "bf16"):
        latents = [_encode_parts(autoencoder, some, at_once) for some in clips]
    return torch.cat(latents).to(torch.bfloat16)


def _encode_parts(
    autoencoder: Autoencoder, frames: UInt8[Tensor, "b frames height width 3"], at_once: int
) -> Float[Tensor, "b c t h w"]:
    groups = (frames.shape[1] - 1) // TEMPORAL_STRIDE
    parts = -(-groups // max((at_once - 1) // TEMPORAL_STRIDE, 1))
    # Alike as far as they can be: compiled layers have a graph for each length.
    step = TEMPORAL_STRIDE * -(-groups // parts)
    borders = list(range(1 + step, frames.shape[1], step))
    cache = StreamCache()
    pieces = frames.tensor_split(borders, dim=1)
    return torch.cat([autoencoder.encode(to_signed(piece), cache) for piece in pieces], dim=2)


def names_colours(rng: random.Random, unnamed: float) -> bool:
    """Whether a wording names colours; draws nothing where all do."""
    return not unnamed or rng.random() >= unnamed


def caption_tokens(
    scenes: Scenes,
    tokenizer: Tokenizer,
    rng: random.Random,
    level: Level = FIRST,
    unnamed: float = 0.0,
) -> Int[Tensor, "b wordings m"]:
    """Several wordings of each scene, padded to the longest prompt the encoder takes."""
    tokens = torch.full((len(scenes), CAPTIONS, tokenizer.max_tokens), PAD, dtype=torch.int16)
    for index in range(len(scenes)):
        for wording in range(CAPTIONS):
            # One style draws nothing, so that the first level's wordings stay the same.
            style = rng.choice(level.styles) if len(level.styles) > 1 else level.styles[0]
            colours = names_colours(rng, unnamed)
            said = caption(scenes, index, rng, style=style, colours=colours)
            reading = tokenizer.read(said.text)
            tokens[index, wording, : len(reading.tokens)] = torch.tensor(reading.tokens)
    return tokens


def generator_for(seed: int, step: int, device: torch.device) -> torch.Generator:
    """The random numbers of one step, so that no generator state needs saving."""
    mixed = int(np.random.SeedSequence([seed, step]).generate_state(1, np.uint64)[0])
    return torch.Generator(device).manual_seed(mixed % 2**63)


def batches_due(config: TrainConfig, step: int, fill: int) -> int:
    """Batches that must have been made before a step: the first fill, then one each few steps."""
    return fill + step // config.refresh_every


def size_of_step(config: TrainConfig, step: int) -> int:
    """The size of a step, from seed and step alone: 0 is the stage's own, then come `sizes`.

    Every stretch of a run has about the shares of the whole.
    """
    if not config.sizes:
        return 0
    start = np.random.default_rng([config.seed, 0, _SIZE_LOT]).random()
    place = (start + step * _GOLDEN) % 1.0
    bounds = accumulate(size.share for size in config.sizes)
    return next((number for number, bound in enumerate(bounds, 1) if place < bound), 0)
