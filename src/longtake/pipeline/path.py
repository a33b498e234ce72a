"""THE PATH: a prompt becomes tokens, noise becomes latents, latents become frames."""

from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from copy import copy
from dataclasses import dataclass, replace
from functools import partial

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from longtake import flow
from longtake.config import (
    FPS,
    TEMPORAL_STRIDE,
    Cue,
    LoraUse,
    ModelConfig,
    SampleConfig,
    frames_for,
    latent_frames_for,
)
from longtake.guidance import classifier_free
from longtake.model import Share, Transformer
from longtake.model.embeddings import FEW_ROWS
from longtake.parallel import ALL, Team
from longtake.pipeline.events import Border, Event, Film, Frames, Notice, Progress
from longtake.pipeline.precision import low_format, name_of
from longtake.rollout.asked import check_chunks, check_film
from longtake.rollout.cascade import Cascade, resized
from longtake.rollout.cues import faded, later_seeds, texts, told_before
from longtake.rollout.film import Decoded, film, replay
from longtake.rollout.grid import Grid
from longtake.rollout.numerics import numerics_hash, processor_of
from longtake.rollout.pixels import checksum, cut, from_bytes, padded, to_bytes
from longtake.rollout.sharing import share_of
from longtake.rollout.snapshot import Identity, Snapshot
from longtake.rollout.take import Condition, Step, Take
from longtake.samplers import sampler_of
from longtake.text import Reading, TextEncoder, Tokenizer
from longtake.text.tokenizer import NULL, PAD
from longtake.vae import Autoencoder
from longtake.vae.grain import lay_grain

Picture = UInt8[Tensor, "height width 3"]
DECODE_CHUNK = 5
"""Latent frames decoded at once; memory grows with it, speed hardly."""
_REFINING = 4
"""A large film is refined in one sampler step for so many of the small film's."""
Parts = tuple[TextEncoder, Transformer, Autoencoder]
"""The networks in the order of the path."""


class Pipeline:
    """A loaded model: prompts in, films out."""

    def __init__(
        self,
        *,
        name: str,
        model_hash: str,
        config: ModelConfig,
        parts: Parts,
        precision: str | None = None,
        notes: tuple[str, ...] = (),
        loras: tuple[LoraUse, ...] = (),
        team: Team = ALL,
    ) -> None:
        """Take ready parts; `load` builds them.

        Args:
            name: What a user types.
            model_hash: Of the files it came from.
            config: Shapes, vocabulary, and what lies over its films.
            parts: The networks.
            precision: Arithmetic by name; None: that of the weights.
            notes: What the user should know of how it was loaded.
            loras: What was laid over the denoiser.
            team: Who shares films made in one pass.
        """
        self.name, self.model_hash, self.config = name, model_hash, config
        self.notes, self.loras = notes, loras
        self.text, self.transformer, self.autoencoder = parts
        self.team = team
        self.tokenizer = Tokenizer(config.words, config.text.max_tokens)
        self.precision = precision or name_of(self.transformer.head_table.dtype)
        """Arithmetic of the networks; other arithmetic gives other bytes."""

    @property
    def device(self) -> torch.device:
        """Where the model runs."""
        return self.transformer.head_table.device

    @property
    def decode_device(self) -> torch.device:
        """Where the autoencoder runs."""
        return self.autoencoder.latent_mean.device

    def spread(self, team: Team, decoder: torch.device | None) -> "Pipeline":
        """The same model as a member of a team.

        Args:
            team: Who makes a film in one pass together; the first of them has the frames.
            decoder: Where a film by chunks is decoded, if not where it is made.
        """
        if decoder is not None:
            self.autoencoder.to(decoder)
        member = copy(self)
        member.team = team
        return member

    @property
    def defaults(self) -> SampleConfig:
        """The settings of a film of this model if nobody asks for others."""
        return self.config.sampling.settings()

    @property
    def identity(self) -> Identity:
        """What must be the same for a take to be gone on with to the same bytes."""
        return Identity(
            model_hash=self.model_hash,
            precision=self.precision,
            device=self.device.type,
            processor=processor_of(self.device),
            torch=str(torch.__version__),
            numerics=numerics_hash(
                self.device, self.transformer.head_table.dtype, low_format(self.precision)
            ),
        )

    # As a decorator it holds while the generator works and not in between, in the caller's code.
    @torch.no_grad()
    def stream(
        self,
        prompt: str,
        settings: SampleConfig,
        *,
        cues: Sequence[Cue] = (),
        picture: Picture | None = None,
        start: Snapshot | None = None,
    ) -> Generator[Event, None, None]:
        """Make a film and yield progress and notices, then frames in order.

        A model that goes on by chunks gives out the frames of each as soon as it is finished, and
        a border after them.

        Args:
            prompt: What to show.
            settings: Everything else that decides the pixels.
            cues: How the prompt goes on, in the order of time.
            picture: What the film begins with, at its size.
            start: The border to go on from; the frames before it are not made again.

        Raises:
            PromptError: an empty or oversized prompt.
            SettingError: a film longer than the model makes, or what it was not trained for.
        """
        self.check(prompt, settings, cues, picture)
        spoken = self._spoken(prompt, cues)
        readings = [(chunk, self.tokenizer.read(text)) for chunk, text in spoken]
        notices = (*self.notes, *self._notices(readings, settings, cues))
        yield from (Notice(text) for text in notices)
        yield Progress("text", 0, 1)
        conditions = [
            (chunk, self._encode(reading, settings.negative)) for chunk, reading in readings
        ]
        yield Progress("text", 1, 1)
        if self.config.chunk:
            made = partial(told_before, prompt=prompt, cues=cues, settings=settings)
            conditions = faded(conditions, cues, Grid(self.config.chunk))
            begun = None if start is None else start.to(self.device)
            take = self._take(settings, cues, picture, begun)
            yield from self._roll(made, take, conditions, settings, picture, begun)
            return
        condition = conditions[0][1]
        count = latent_frames_for(settings.frames)
        latents = self._start(settings)
        sampler = sampler_of(settings.sampler)
        sigmas = flow.schedule(settings.steps, settings.shift)
        share = share_of(self.team, count)
        velocity = _Guided(self.transformer, condition, settings.guidance, self.team, share)
        for step, x in enumerate(sampler(velocity, latents, sigmas), start=1):
            latents = x
            yield Progress("denoise", step, settings.steps)
        latents = self.team.whole(latents, count)
        if self.team.first:
            yield from self._decode(latents, settings)

    def generate(
        self,
        prompt: str,
        *,
        seconds: float | None = None,
        seed: int | None = None,
        settings: SampleConfig | None = None,
        cues: Sequence[Cue] = (),
        picture: Picture | None = None,
    ) -> Film:
        """Make a film and return it whole; seconds and seed override the settings.

        Args:
            prompt: What to show.
            seconds: Length, rounded up to the next frame.
            seed: Which film of the many that fit the prompt.
            settings: Everything else that decides the pixels; None: the model's own `defaults`.
            cues: How the prompt goes on, in the order of time.
            picture: What the film begins with, at its size.

        Raises:
            PromptError: an empty or oversized prompt.
            SettingError: a setting out of range.
        """
        settings = settings or self.defaults
        if seconds is not None:
            settings = replace(settings, frames=frames_for(seconds))
        if seed is not None:
            settings = replace(settings, seed=seed)
        pixels: list[Tensor] = []
        notices: list[str] = []
        for event in self.stream(prompt, settings, cues=cues, picture=picture):
            match event:
                case Frames():
                    pixels.append(event.pixels)
                case Notice():
                    notices.append(event.text)
                case Progress() | Border():
                    pass
        return Film(torch.cat(pixels), FPS, prompt, settings, tuple(notices))

    def remember(
        self,
        pixels: UInt8[Tensor, "frames height width 3"],
        prompt: str,
        settings: SampleConfig,
    ) -> Snapshot:
        """The border after the frames of any film, as if this model had made them.

        Args:
            pixels: Frames of the film's size that fill whole chunks.
            prompt: What the frames and what follows show.
            settings: Of the take that follows.

        Raises:
            SettingError: the model does not go on by chunks.
        """
        check_chunks(self.name, self.config, "go on from a film")
        with torch.no_grad():
            (_, text), *_ = self._spoken(prompt, ())
            condition = self._encode(self.tokenizer.read(text), settings.negative)
            frames = padded(from_bytes(pixels.to(self.decode_device)), *settings.made)
            take = self._take(settings, ())
            chunk, given = take.grid.chunks(len(pixels)), checksum(pixels)
            notes = told_before(chunk, prompt, (), settings, take.grid, given)
            return replay(take, condition, self.autoencoder, frames, notes=notes)

    def check(
        self,
        prompt: str,
        settings: SampleConfig,
        cues: Sequence[Cue] = (),
        picture: Picture | None = None,
    ) -> None:
        """Find out before any work whether this film can be made.

        Raises:
            PromptError: an empty or oversized prompt.
            SettingError: a film longer than the model makes, or what it was not trained for.
        """
        size = None if picture is None else (picture.shape[1], picture.shape[0])
        check_film(self.name, self.config, prompt, settings, cues=cues, picture=size)

    def _spoken(self, prompt: str, cues: Sequence[Cue]) -> tuple[tuple[int, str], ...]:
        """What the model reads, and from which chunk on."""
        timed = {"at", "seconds"} <= set(self.config.words)
        return texts(prompt, cues, Grid(self.config.chunk or 1), timed=timed)

    def _notices(
        self,
        readings: Sequence[tuple[int, Reading]],
        settings: SampleConfig,
        cues: Sequence[Cue],
    ) -> Iterator[str]:
        """What the user should know, each once."""
        told = (text for _, reading in readings for text in reading.notices())
        yield from dict.fromkeys(told)
        for cue, (chunk, _) in zip(cues, readings[1:], strict=True):
            border_s = Grid(self.config.chunk).begins_s(chunk)
            if border_s - cue.at_s > 1 / FPS:
                yield f"what is said at {cue.at_s:g} s holds from {border_s:.2f} s, a chunk border"
        if settings.frames > self.config.max_frames:
            yield (
                f"{self.name} was trained on takes of up to {self.config.max_frames / FPS:.0f} s; "
                "what comes after is not measured"
            )

    def _encode(self, reading: Reading, negative: str) -> tuple[Tensor, Tensor]:
        """Embeddings and masks of the prompt and of what to lead away from, in this order."""
        avoided = self.tokenizer.read(negative).tokens if negative else (NULL,)
        least = min(FEW_ROWS, self.config.text.max_tokens)
        length = max(len(reading.tokens), len(avoided), least)
        rows = [tokens + (PAD,) * (length - len(tokens)) for tokens in (reading.tokens, avoided)]
        return self.text(torch.tensor(rows, device=self.device))

    def _cells(self, sides: tuple[int, int]) -> tuple[int, int]:
        """Height and width of a latent frame, for width and height of frames."""
        stride = self.config.autoencoder.spatial_stride
        return sides[1] // stride, sides[0] // stride

    def _start(self, settings: SampleConfig) -> Float[Tensor, "1 c t h w"]:
        shape = (self.config.transformer.latent_channels, *self._cells(settings.made))
        latent_frames = self.team.frames(latent_frames_for(settings.frames))
        return flow.frame_noise(settings.seed, latent_frames, shape)[None].to(self.device)

    def _take(
        self,
        settings: SampleConfig,
        cues: Sequence[Cue],
        picture: Picture | None = None,
        begun: Snapshot | None = None,
    ) -> Take | Cascade:
        grid, sides, pixels = Grid(self.config.chunk), settings.made, None
        if picture is not None:
            pixels = padded(from_bytes(picture.to(self.decode_device))[None], *sides)
        take = Take(
            transformer=self.transformer,
            grid=grid,
            sampler=sampler_of(settings.sampler),
            sigmas=flow.schedule(settings.steps, settings.shift),
            guidance=settings.guidance,
            size=self._cells(sides),
            seed=settings.seed,
            later_seeds=later_seeds(cues, grid),
            picture=self._first_latent(pixels),
        )
        refine = self.config.refine
        below = None if refine is None else refine.small(*sides)
        if refine is None or below is None:
            return take
        small = None if pixels is None else resized(pixels[None], below[1], below[0])[0]
        steps = max(settings.steps // _REFINING, 1)
        return Cascade(
            small=replace(take, size=self._cells(below), picture=self._first_latent(small)),
            large=replace(take, sigmas=refine.level * flow.schedule(steps, 1.0)),
            autoencoder=self.autoencoder,
            begun=None if begun is None else begun.sketch,
        )

    def _first_latent(
        self, picture: Float[Tensor, "1 height width 3"] | None
    ) -> Float[Tensor, "1 c 1 h w"] | None:
        if picture is None:
            return None
        # Of one frame a small picture would have few rows; see FEW_ROWS.
        frames = picture.expand(1, 1 + TEMPORAL_STRIDE, -1, -1, -1)
        return self.autoencoder.encode(frames)[:, :, :1].to(self.device)

    def _roll(
        self,
        told: Callable[..., Mapping[str, str]],
        take: Take | Cascade,
        conditions: Sequence[tuple[int, Condition]],
        settings: SampleConfig,
        picture: Picture | None,
        start: Snapshot | None,
    ) -> Iterator[Event]:
        given = "" if picture is None else checksum(picture)
        if start is not None:
            given = start.notes.get("given", "")
        total = take.grid.chunks(settings.frames) * take.steps
        made = film(
            take,
            lambda chunk: [condition for first, condition in conditions if first <= chunk][-1],
            self.autoencoder,
            settings.frames,
            notes=partial(told, grid=take.grid, given=given),
            start=start,
            meanwhile=self.team.roles.decodes,
        )
        for event in made:
            match event:
                case Step():
                    yield Progress("denoise", event.chunk * take.steps + event.step, total)
                case Decoded():
                    first = take.grid.frames(event.snapshot.chunk - 1).start
                    pixels = self._bytes(event.pixels, settings, first)
                    yield Frames(pixels[: event.wanted])
                    yield Border(event.snapshot, pixels)

    def _decode(
        self, latents: Float[Tensor, "1 c t h w"], settings: SampleConfig
    ) -> Iterator[Event]:
        left = frames = settings.frames
        yield Progress("decode", 0, frames)
        for part in self.autoencoder.decode_stream(latents, DECODE_CHUNK):
            pixels = self._bytes(part[0, :left], settings, frames - left)
            left -= len(pixels)
            yield Frames(pixels)
            yield Progress("decode", frames - left, frames)

    def _bytes(
        self, pixels: Float[Tensor, "frames high wide 3"], settings: SampleConfig, first: int
    ) -> UInt8[Tensor, "frames height width 3"]:
        """Frames as they leave, cut from what was made, from that number on."""
        wanted, grain = cut(pixels, settings.width, settings.height), self.config.grain
        # A few at a time, as arithmetic on all would take several times their memory.
        parts = [
            to_bytes(lay_grain(part, grain, settings.seed, first + number * TEMPORAL_STRIDE)).cpu()
            for number, part in enumerate(wanted.split(TEMPORAL_STRIDE))
        ]
        return torch.cat(parts)


@dataclass(frozen=True, slots=True)
class _Guided:
    """The denoiser as a sampler sees it: latents and sigma to one velocity."""

    transformer: Transformer
    condition: tuple[Tensor, Tensor]
    scale: float
    team: Team
    share: Share | None

    def __call__(self, x: Float[Tensor, "1 c t h w"], sigma: float) -> Float[Tensor, "1 c t h w"]:
        passes = 1 if self.scale == 1.0 else 2
        text, mask = (rows[self.team.passes(passes)] for rows in self.condition)
        copies = len(text)
        levels = torch.full((copies, x.shape[2]), sigma, device=x.device)
        batch = x.expand(copies, -1, -1, -1, -1)
        predicted = self.transformer(batch, levels, text, mask, share=self.share).float()
        if passes == 1:
            return predicted
        rows = predicted.split(1) if copies == 2 else self.team.both(predicted)
        return classifier_free(rows[0], rows[1], self.scale)
