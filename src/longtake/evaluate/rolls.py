"""Takes as a model makes them of scripts, with its own memory and with less; and the true films."""

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from longtake import flow
from longtake.config import FPS, TEMPORAL_STRIDE, SampleConfig
from longtake.errors import SettingError
from longtake.kernels.ops import Memory
from longtake.model import LayerState, State
from longtake.pipeline import Pipeline
from longtake.rollout.grid import Grid
from longtake.rollout.pixels import from_bytes, to_bytes
from longtake.rollout.take import Committed, Condition, Take
from longtake.samplers import sampler_of
from longtake.vae.autoencoder import StreamCache
from longtake.world.level import ACTION, FIRST, Level
from longtake.world.screenwriter import BEAT_S, sample_script
from longtake.world.script import Script, render_script
from longtake.world.window import Window, tell_window

Film = UInt8[Tensor, "frames height width 3"]
Picture = UInt8[Tensor, "height width 3"]
Column = Literal["state", "zeroed", "window", "chained"]
COLUMNS: tuple[Column, ...] = ("state", "zeroed", "window", "chained")
CLIP_CHUNKS = 5
"""Chunks of a clip of a chain: about six seconds."""
Remember = Callable[[int, State | None, list[Tensor]], State | None]
"""What is remembered before a chunk, of the state and of the last two chunks' latents."""
KNOWN = replace(
    ACTION, name="known", kinds=FIRST.kinds, colours=FIRST.colours, grounds=FIRST.grounds
)
"""Scripts with the subjects and grounds that the reader tells surely."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Maker:
    """A model with the settings of its takes."""

    pipe: Pipeline
    settings: SampleConfig

    def __post_init__(self) -> None:
        """Check that the model goes on by chunks, and that a beat is a whole number of them."""
        if not self.pipe.config.chunk:
            msg = f"{self.pipe.name} makes films in one pass; give a model with chunk above 0"
            raise SettingError(msg)
        if BEAT_S * FPS % (TEMPORAL_STRIDE * self.pipe.config.chunk):
            msg = f"chunks of {self.pipe.config.chunk} latent frames do not fill {BEAT_S} seconds"
            raise SettingError(msg)

    @property
    def per_beat(self) -> int:
        """Chunks of a beat."""
        return BEAT_S * FPS // (TEMPORAL_STRIDE * self.pipe.config.chunk)

    @property
    def grid(self) -> Grid:
        """Of its chunks."""
        return Grid(self.pipe.config.chunk)

    def take(self, picture: Float[Tensor, "1 c 1 h w"] | None = None) -> Take:
        """What stays the same in a take."""
        settings, stride = self.settings, self.pipe.config.autoencoder.spatial_stride
        return Take(
            transformer=self.pipe.transformer,
            grid=self.grid,
            sampler=sampler_of(settings.sampler),
            sigmas=flow.schedule(settings.steps, settings.shift),
            guidance=settings.guidance,
            size=(settings.height // stride, settings.width // stride),
            seed=settings.seed,
            picture=picture,
        )

    def latent_of(self, picture: UInt8[Tensor, "height width 3"]) -> Float[Tensor, "1 c 1 h w"]:
        """The clean first latent frame that a picture becomes."""
        pixels = from_bytes(picture.to(self.pipe.device)).expand(1, 5, -1, -1, -1)
        return self.pipe.autoencoder.encode(pixels)[:, :, :1]

    def encoded(self, text: str) -> tuple[Tensor, Tensor]:
        """Embeddings and masks of a caption and of none."""
        return self.pipe._encode(self.pipe.tokenizer.read(text), self.settings.negative)


@torch.no_grad()
def chunks_of(
    maker: Maker,
    texts: Sequence[str],
    *,
    remember: Remember = lambda _chunk, state, _latents: state,
    picture: Picture | None = None,
) -> Iterator[Film]:
    """Frames of one chunk after the other.

    Args:
        maker: The model.
        texts: The caption in force in each chunk.
        remember: What is left of the memory before each chunk.
        picture: What the take begins with.
    """
    take = maker.take(None if picture is None else maker.latent_of(picture))
    conditions = {text: maker.encoded(text) for text in dict.fromkeys(texts)}
    state, latents, cache = None, [], StreamCache()
    for chunk, text in enumerate(texts):
        state = remember(chunk, state, latents)
        here = conditions[text]
        made = take.roll(lambda _, here=here: here, range(chunk, chunk + 1), state)
        done = next(event for event in made if isinstance(event, Committed))
        state = done.state
        # A window needs no more, and a minute of latents would not be flat memory.
        latents = [*latents, done.latents][-2:]
        yield to_bytes(maker.pipe.autoencoder.decode(done.latents, cache)[0]).cpu()


def script_of(seed: int, number: int, level: Level = KNOWN) -> Script:
    """The script of a number; another number or seed is another script."""
    return sample_script(np.random.default_rng((seed, number, 60)), level)


def texts_of(script: Script, grid: Grid, seconds: int, number: int) -> tuple[str, ...]:
    """The caption in force in each chunk, told again in each beat."""
    chunk_s = TEMPORAL_STRIDE * grid.size / FPS
    chunks = round(min(seconds, script.length_s) / chunk_s)
    window = Window(script=script, first=0, chunks=chunks, chunk_s=chunk_s)
    said = tell_window(window, random.Random(f"takes {number}"), KNOWN, "again")
    # A script that is over begins again.
    return (said * -(-seconds // script.length_s))[: round(seconds / chunk_s)]


def by_beat(said: Sequence[str], per_beat: int) -> tuple[str, ...]:
    """The caption of each beat for each of its chunks."""
    return tuple(text for text in said for _ in range(per_beat))


def borders_of(grid: Grid, frames: int, every: int = 1) -> list[int]:
    """Frames with which chunks begin, or clips of so many chunks."""
    return [grid.frames(chunk).start for chunk in range(every, grid.chunks(frames), every)]


def true_film(maker: Maker, script: Script, seconds: float) -> Film:
    """A script as the model could at best show it: through the autoencoder chunk by chunk."""
    return torch.cat(list(true_parts(maker, script, seconds)))


@torch.no_grad()
def true_parts(maker: Maker, script: Script, seconds: float) -> Iterator[Film]:
    """The frames of a true film, one chunk after the other."""
    size = {"height": maker.settings.height, "width": maker.settings.width}
    coder, frames = maker.pipe.autoencoder, round(seconds * FPS) + 1
    encoder, decoder = StreamCache(), StreamCache()
    for chunk in range(maker.grid.chunks(frames)):
        here = maker.grid.frames(chunk)
        part = render_script(
            script, frames=len(here), start_s=here.start / FPS, device=maker.pipe.device, **size
        )
        latents = coder.encode(from_bytes(part)[None], encoder)
        shown = to_bytes(coder.decode(latents, decoder)[0]).cpu()
        yield shown[: frames - here.start]


def first_frame(maker: Maker, script: Script) -> Picture:
    """What a script begins with, as the world renders it."""
    size = {"height": maker.settings.height, "width": maker.settings.width}
    return render_script(script, frames=1, device=maker.pipe.device, **size)[0]


def roll(
    maker: Maker,
    texts: Sequence[str],
    column: Column = "state",
    *,
    exit_chunk: int = 0,
    picture: Picture | None = None,
) -> Film:
    """A whole take with one of the memories that are compared.

    Args:
        maker: The model.
        texts: The caption in force in each chunk.
        column: `state` is the model as it is; `zeroed` forgets everything when the subject is out;
            `window` knows the last latent frames that take as many bytes as the state; `chained`
            joins clips, each of which begins with the last frame of the one before.
        exit_chunk: First chunk after the subject has left, for `zeroed`.
        picture: What the take begins with.
    """
    match column:
        case "state":
            parts = chunks_of(maker, texts, picture=picture)
        case "zeroed":
            parts = chunks_of(
                maker,
                texts,
                remember=lambda chunk, state, _: (
                    emptied(state) if state is not None and chunk == exit_chunk else state
                ),
                picture=picture,
            )
        case "window":
            parts = chunks_of(maker, texts, remember=_window(maker, texts), picture=picture)
        case "chained":
            parts = chained(maker, texts, picture=picture)
    return torch.cat(list(parts))


def emptied(state: State) -> State:
    """A state that has seen nothing and stands at the same place of the take."""
    layers = tuple(
        LayerState(
            Memory(*(torch.zeros_like(x) for x in layer.memory)), torch.zeros_like(layer.frame)
        )
        for layer in state.layers
    )
    return State(layers, state.latent_frames)


def state_bytes(state: State) -> int:
    """Size of everything that is carried from chunk to chunk."""
    tensors = [x for layer in state.layers for x in (*layer.memory, layer.frame)]
    return sum(x.numel() * x.element_size() for x in tensors)


def window_frames(maker: Maker, state: State) -> int:
    """Latent frames whose keys and values take as many bytes as a state, rounded up."""
    stride, config = maker.pipe.config.autoencoder.spatial_stride, maker.pipe.config.transformer
    tokens = (maker.settings.height // stride) * (maker.settings.width // stride)
    rows = len(state.layers[0].frame)
    value = state.layers[0].frame.element_size()
    frame = rows * config.depth * 2 * tokens * config.width * value
    return max(-(-state_bytes(state) // frame), 1)


def _window(maker: Maker, texts: Sequence[str]) -> Remember:
    """Of the past only the last latent frames, committed anew before each chunk."""
    take = maker.take()

    def remember(chunk: int, state: State | None, latents: list[Tensor]) -> State | None:
        if state is None:
            return None
        known, said = window_frames(maker, state), maker.encoded(texts[chunk - 1])
        return _anew(take, said, state, latents, known)

    return remember


def _anew(
    take: Take, said: Condition, state: State, latents: Sequence[Tensor], frames: int
) -> State:
    """A state at the same place that has seen nothing but the last latent frames."""
    recent = torch.cat(list(latents), dim=2)[:, :, -frames:]
    empty = emptied(state)._replace(latent_frames=state.latent_frames - recent.shape[2])
    return take.commit(recent, said, empty)


def chained(
    maker: Maker,
    texts: Sequence[str],
    clip_chunks: int = CLIP_CHUNKS,
    picture: Picture | None = None,
) -> Iterator[Film]:
    """Clips that share a frame, by chunks; each has a seed of its own and no other past."""
    for number, first in enumerate(range(0, len(texts), clip_chunks)):
        seed = maker.settings.seed + number
        clip = replace(maker, settings=replace(maker.settings, seed=seed))
        shared, last = number > 0, picture
        for part in chunks_of(clip, texts[first : first + clip_chunks], picture=picture):
            yield part[1:] if shared else part
            shared, last = False, part[-1]
        picture = last


def overlapping(
    maker: Maker,
    texts: Sequence[str],
    clip_chunks: int,
    shared: int,
    picture: Picture | None = None,
) -> Iterator[Film]:
    """Clips each of which has seen the end of the one before and nothing older, by chunks.

    Args:
        maker: The model.
        texts: The caption in force in each chunk.
        clip_chunks: Chunks of a clip.
        shared: Latent frames that two clips share, up to two chunks.
        picture: What the film begins with.
    """
    take = maker.take()

    def remember(chunk: int, state: State | None, latents: list[Tensor]) -> State | None:
        if state is None or chunk % clip_chunks:
            return state
        return _anew(take, maker.encoded(texts[chunk - 1]), state, latents, shared)

    return chunks_of(maker, texts, remember=remember, picture=picture)
