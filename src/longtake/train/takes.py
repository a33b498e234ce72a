"""Clips of several chunks, half scenes and half scripts, each chunk with the caption in force."""

import math
import random
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Int, UInt8
from torch import Tensor

from longtake.config import FPS, TEMPORAL_STRIDE, CausalConfig, TrainConfig, latent_frames_for
from longtake.errors import SettingError
from longtake.parallel import Workers
from longtake.text import Tokenizer
from longtake.text.tokenizer import PAD
from longtake.train.data import (
    CAPTIONS,
    Batch,
    Ring,
    encode_clips,
    names_colours,
    scenes_of_batch,
)
from longtake.vae import Autoencoder
from longtake.world import Scenes, caption, render
from longtake.world.level import Level, Style
from longtake.world.window import (
    TELLINGS,
    Telling,
    Window,
    render_windows,
    sample_windows,
    tell_window,
)

Told = tuple[str, ...]
"""The caption in force in each chunk."""


def check_whole_chunks(frames: int, chunk: int, name: str) -> None:
    """Check that clips are whole chunks.

    Raises:
        SettingError: they are not.
    """
    length, step = latent_frames_for(frames) - 1, TEMPORAL_STRIDE * chunk
    if length % chunk:
        near = max(length // chunk, 1) * step + 1
        msg = (
            f"{name} must be {step}n + 1 with chunks of {chunk} latent frames, "
            f"got {frames}; the nearest are {near} and {near + step}"
        )
        raise SettingError(msg)


@dataclass(frozen=True, slots=True, kw_only=True)
class Filming:
    """What clips are filmed of; clips of the same number and seed are the same."""

    config: TrainConfig
    takes: CausalConfig
    level: Level

    @property
    def chunks(self) -> tuple[int, ...]:
        """Latent frames of each chunk; the first holds frame 0 as well."""
        size = self.takes.chunk
        count = (latent_frames_for(self.config.frames) - 1) // size
        return (1 + size, *[size] * (count - 1))

    @property
    def at_each_size(self) -> "tuple[Filming, ...]":
        """The clips at the stage's own size, then at each further one."""
        return tuple(replace(self, config=config) for config in self.config.at_each_size)

    @property
    def chunk_s(self) -> float:
        """Seconds of a chunk."""
        return self.takes.chunk * TEMPORAL_STRIDE / FPS

    @property
    def scripts(self) -> float:
        """Clips of a rendering that are windows of scripts, on average."""
        can = "exit_left" in self.level.motions
        return self.takes.scripts * self.config.render_batch if can else 0.0

    def scripts_of(self, number: int) -> int:
        """Those of one rendering; small ones have the share over several."""
        return math.floor((number + 1) * self.scripts) - math.floor(number * self.scripts)

    def film(
        self, seed: int, number: int, device: torch.device
    ) -> tuple[UInt8[Tensor, "b frames height width 3"], list[tuple[Told, ...]]]:
        """Clips of a rendering, scenes before scripts, and the wordings of each."""
        config, rng = self.config, random.Random(f"{seed} {number}")
        films, told, scripts = [], [], self.scripts_of(number)
        if plain := config.render_batch - scripts:
            scenes = scenes_of_batch(seed, number, plain, self.level, config.simple)
            films.append(
                render(
                    scenes, frames=config.frames, height=config.height, width=config.width,
                    device=device,
                )
            )  # fmt: skip
            for i in range(plain):
                styles = [rng.choice(self.level.styles) for _ in range(CAPTIONS)]
                texts = [self._told(scenes, i, rng, style) for style in styles]
                told.append(tuple((text,) * len(self.chunks) for text in texts))
        if scripts:
            windows = self._windows(seed, number, scripts)
            films.append(
                render_windows(windows, height=config.height, width=config.width, device=device)
            )
            for window in windows:
                ways = rng.sample(TELLINGS, CAPTIONS)
                told.append(tuple(self._told_by_chunk(window, rng, way) for way in ways))
        return torch.cat(films), told

    def _told(self, scenes: Scenes, index: int, rng: random.Random, style: Style) -> str:
        colours = names_colours(rng, self.config.unnamed)
        return caption(scenes, index, rng, style=style, colours=colours).text

    def _told_by_chunk(self, window: Window, rng: random.Random, way: Telling) -> Told:
        colours = names_colours(rng, self.config.unnamed)
        return tell_window(window, rng, self.level, way, colours=colours)

    def _windows(self, seed: int, number: int, count: int) -> list[Window]:
        rng = np.random.default_rng([seed, number, 2])
        return sample_windows(count, rng, self.level, chunks=len(self.chunks), chunk_s=self.chunk_s)


def take_batch(
    filming: Filming, seed: int, number: int, autoencoder: Autoencoder, tokenizer: Tokenizer
) -> Batch:
    """Latents of a rendering, and the tokens that each chunk reads in each wording."""
    device = autoencoder.latent_mean.device
    frames, told = filming.film(seed, number, device)
    latents = encode_clips(autoencoder, frames, filming.config.precision)
    return latents, told_tokens(told, tokenizer).to(device)


def take_ring(
    filming: Filming, autoencoder: Autoencoder, tokenizer: Tokenizer, workers: Workers
) -> Ring:
    """Clips of several chunks as latents with their tokenised captions."""
    config = filming.config

    def make(number: int) -> Batch:
        return take_batch(filming, config.seed, number, autoencoder, tokenizer)

    return Ring(make, config.pool // config.render_batch, workers)


def told_tokens(
    told: list[tuple[Told, ...]], tokenizer: Tokenizer
) -> Int[Tensor, "b wordings chunks m"]:
    """Captions as tokens, padded to the longest prompt the encoder takes."""
    shape = (len(told), len(told[0]), len(told[0][0]), tokenizer.max_tokens)
    tokens = np.full(shape, PAD, dtype=np.int16)
    read = {text: tokenizer.read(text).tokens for clip in told for way in clip for text in way}
    for clip, wordings in enumerate(told):
        for wording, texts in enumerate(wordings):
            for chunk, text in enumerate(texts):
                tokens[clip, wording, chunk, : len(read[text])] = read[text]
    return torch.from_numpy(tokens)
