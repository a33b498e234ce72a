"""The loop of a take: noise, denoise one chunk, commit it to the state, go on."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from longtake import flow
from longtake.guidance import classifier_free
from longtake.model import Reading, Recorded, State, Transformer
from longtake.rollout.grid import Grid
from longtake.samplers import Sampler
from longtake.vae.autoencoder import StreamCache

Latents = Float[Tensor, "1 c t h w"]
Condition = tuple[Float[Tensor, "2 m e"], Bool[Tensor, "2 m"]]
"""Embeddings and masks of the prompt and of no prompt, in this order."""


@dataclass(frozen=True, slots=True)
class Step:
    """A sampler step of a chunk is done."""

    chunk: int
    step: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Sketch:
    """What is remembered of the small film that a large one is made over."""

    state: State
    decoder: StreamCache
    """Of its frames."""
    encoder: StreamCache
    """Of those frames enlarged."""


@dataclass(frozen=True, slots=True)
class Committed:
    """A chunk is finished, and the state has seen it."""

    chunk: int
    latents: Latents
    state: State
    sketch: Sketch | None = None
    """Of the small film below it, if there is one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Take:
    """Everything that stays the same from the first chunk to the last."""

    transformer: Transformer
    """With `linear` or `block` attention."""
    grid: Grid
    """Which latent frames each chunk holds."""
    sampler: Sampler
    """Walks the sigmas of one chunk."""
    sigmas: Float[Tensor, " steps_plus_1"]
    """Falling from 1 to 0."""
    guidance: float
    """Classifier-free guidance scale; 1 halves the work."""
    size: tuple[int, int]
    """Height and width of a latent frame."""
    seed: int
    """0 to 2^64 - 1."""
    later_seeds: tuple[tuple[int, int], ...] = ()
    """Other seeds, each with the chunk from which on it holds, in order."""
    shot: int = 0
    """Number of the shot."""
    picture: Float[Tensor, "1 c 1 h w"] | None = None
    """The clean first latent frame, if the take begins with a picture."""
    passes: Recorded = field(init=False, repr=False, compare=False)
    """Runs the transformer."""

    def __post_init__(self) -> None:
        """Nothing was recorded yet."""
        object.__setattr__(self, "passes", Recorded(self.transformer))

    def roll(
        self, condition: Callable[[int], Condition], chunks: range, state: State | None = None
    ) -> Iterator[Step | Committed]:
        """Make chunks one after the other.

        A chunk depends on this take, its number, its condition and the state before it, and on
        nothing else: not on how many chunks follow, nor on where the take was gone on with.

        Args:
            condition: The encoded prompt of a chunk, by its number.
            chunks: Numbers of the chunks to make.
            state: What the chunks before left; None at the start of a take.
        """
        for chunk in chunks:
            latents, here = self.noise(chunk), condition(chunk)
            for step, x in enumerate(self.denoise(latents, here, state, self.kept(chunk)), start=1):
                latents = x
                yield Step(chunk, step)
            state = self.commit(latents, here, state)
            yield Committed(chunk, latents, state)

    def noise(self, chunk: int, step: int = 0) -> Latents:
        """Standard normal noise of a chunk, by its own counters."""
        shape = (self.transformer.config.latent_channels, *self.size)
        seed = [self.seed, *(seed for first, seed in self.later_seeds if first <= chunk)][-1]
        frames = self.grid.latent_frames(chunk)
        draws = flow.frame_noise(seed, frames, shape, shot=self.shot, step=step)
        return draws[None].to(self.transformer.head_table.device)

    def kept(self, chunk: int) -> Latents | None:
        """What a chunk begins with, if it is given."""
        return self.picture if chunk == 0 else None

    @property
    def steps(self) -> int:
        """Sampler steps of a chunk."""
        return len(self.sigmas) - 1

    def denoise(
        self,
        noise: Latents,
        condition: Condition,
        past: State | None,
        kept: Float[Tensor, "1 c t_kept h w"] | None = None,
    ) -> Iterator[Latents]:
        """Latents of one chunk after each sampler step; the state before it stays as it is.

        Args:
            noise: Of the chunk.
            condition: The encoded prompt.
            past: The state before the chunk.
            kept: Clean latents that the chunk begins with; they stay what they are.
        """
        reading, copies = self._read(condition), self.copies
        clean = 0 if kept is None else kept.shape[2]

        def pinned(x: Latents) -> Latents:
            # Put back exactly: a solver's steps would move even a velocity of zero by rounding.
            return x if kept is None else torch.cat([kept, x[:, :, clean:]], dim=2)

        def velocity(x: Latents, sigma: float) -> Latents:
            batch = pinned(x).expand(copies, -1, -1, -1, -1)
            levels = torch.full((copies, x.shape[2]), sigma, device=x.device)
            levels[:, :clean] = 0
            predicted, _ = self.passes.go_on(batch, levels, reading, past)
            predicted = predicted.float()
            if copies == 1:
                return predicted
            return classifier_free(predicted[:1], predicted[1:], self.guidance)

        return map(pinned, self.sampler(velocity, noise, self.sigmas))

    def commit(self, clean: Latents, condition: Condition, past: State | None) -> State:
        """The state after a finished chunk, by one pass over its clean latents at sigma 0."""
        batch = clean.expand(self.copies, -1, -1, -1, -1)
        levels = torch.zeros(self.copies, clean.shape[2], device=clean.device)
        _, state = self.passes.go_on(batch, levels, self._read(condition), past)
        return state

    @property
    def copies(self) -> int:
        """Of a chunk in a pass: the prompt alone where nothing is guided, else also no prompt."""
        return 1 if self.guidance == 1.0 else 2

    def _read(self, condition: Condition) -> Reading:
        text, mask = condition
        return self.transformer.read(text[: self.copies], mask[: self.copies])
