"""Passes over small chunks as one launch each: recorded once, replayed for every later chunk."""

from collections.abc import Callable
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from longtake.kernels.ops import Memory
from longtake.model.attention import LayerText, Words
from longtake.model.embeddings import Rotary
from longtake.model.share import Share
from longtake.model.state import LayerState, State
from longtake.model.transformer import Reading, Transformer

LARGEST = 2**24
"""Values of the widest stream; from here on a card computes for longer than a host launches."""


class _Shape(NamedTuple):
    """What all passes of one recording have in common."""

    latents: torch.Size
    text: torch.Size
    masked: bool
    dtypes: tuple[torch.dtype, torch.dtype]


class Recorded:
    """`Transformer.go_on`, with one launch for a small chunk on a CUDA card.

    A pass over a few thousand tokens is a thousand short kernels, and the host takes longer to
    launch them than the card to run them. The first pass of a shape that goes on from a state runs
    as it is, which compiles and chooses kernels; the second is recorded. The bits are the same.

    Not recorded are passes that several devices share, whose weights wait on the host, which
    somebody looks at on the host, or which keep gradients.
    """

    def __init__(self, transformer: Transformer) -> None:
        """Nothing is recorded yet."""
        self.transformer = transformer
        self._shape: _Shape | None = None
        self._recording: _Recording | None = None

    @property
    def recorded(self) -> bool:
        """Whether the next pass like the last is one launch."""
        return self._recording is not None

    def go_on(
        self,
        latents: Float[Tensor, "b c t h w"],
        sigma: Float[Tensor, "b t"],
        reading: Reading,
        past: State | None = None,
        share: Share | None = None,
    ) -> tuple[Float[Tensor, "b c t h w"], State]:
        """Velocity of one chunk that goes on from a state, and the state after it."""
        plain = self.transformer.go_on
        if past is None or share is not None or not self._worth(latents):
            return plain(latents, sigma, reading, (latents.shape[2],), past, share)
        shape = _shape_of(latents, sigma, reading)
        if shape is None or shape != self._shape:
            self._shape, self._recording = shape, None
            return plain(latents, sigma, reading, (latents.shape[2],), past, share)
        if self._recording is None:
            self._recording = _Recording(self.transformer, latents, sigma, reading, past)
        return self._recording(latents, sigma, reading, past)

    def _worth(self, latents: Float[Tensor, "b c t h w"]) -> bool:
        model = self.transformer
        tokens = latents[:, 0].numel() // torch.Size(model.config.patch).numel()
        return (
            recordable(latents.device)
            and tokens * model.config.width <= LARGEST
            and not torch.is_grad_enabled()
            and all(weight.device == latents.device for weight in model.blocks.parameters())
            and not any(part._forward_hooks for part in (*model.blocks, model.head))
        )


class _Recording:
    """A pass that reads from fixed places and leaves what it makes in fixed places."""

    def __init__(
        self,
        transformer: Transformer,
        latents: Float[Tensor, "b c t h w"],
        sigma: Float[Tensor, "b t"],
        reading: Reading,
        past: State,
    ) -> None:
        self.transformer, self.frames = transformer, latents.shape[2]
        self.latents, self.sigma = latents.clone(), sigma.clone()
        self.reading, self.past = _copy_of_reading(reading), _copy_of_state(past)
        self.rotary = Rotary(*(part.clone() for part in self._angles(past)))
        self._read, self._gone_on = reading, past
        self._made: tuple[Tensor, tuple[LayerState, ...]] | None = None
        self.replay = record(self._run, latents.device)

    def __call__(
        self,
        latents: Float[Tensor, "b c t h w"],
        sigma: Float[Tensor, "b t"],
        reading: Reading,
        past: State,
    ) -> tuple[Float[Tensor, "b c t h w"], State]:
        self.latents.copy_(latents)
        self.sigma.copy_(sigma)
        if reading is not self._read:
            _copy(_reading_tensors(reading), _reading_tensors(self.reading))
            self._read = reading
        if past is not self._gone_on:
            _copy(_state_tensors(past), _state_tensors(self.past))
            _copy(self._angles(past), self.rotary)
            self._gone_on = past
        self.replay()
        assert self._made is not None
        velocity, layers = self._made
        # Copies: the next pass writes to the same places.
        after = _copy_of_state(State(layers, past.latent_frames + self.frames))
        return velocity.clone(), after

    def _run(self) -> None:
        self._made = self.transformer.pass_over(
            self.latents, self.sigma, self.reading, (self.frames,), self.past.layers, self.rotary
        )

    def _angles(self, past: State) -> Rotary:
        return self.transformer.angles(self.latents, past.latent_frames)


def recordable(device: torch.device) -> bool:
    """Whether work on this device can be recorded."""
    return device.type == "cuda"


def record(work: Callable[[], None], device: torch.device) -> Callable[[], None]:
    """Do some work on a card and keep it, for as many times as it is called for."""
    graph = torch.cuda.CUDAGraph()
    # Other threads may go on meanwhile: one decodes, or copies frames to the host.
    with torch.cuda.device(device), torch.cuda.graph(graph, capture_error_mode="thread_local"):
        work()
    return graph.replay


def _shape_of(
    latents: Float[Tensor, "b c t h w"], sigma: Float[Tensor, "b t"], reading: Reading
) -> _Shape | None:
    first = reading.layers[0]
    if isinstance(first, Words):
        return None
    dtypes = (latents.dtype, sigma.dtype)
    return _Shape(latents.shape, first.key.shape, first.scores is not None, dtypes)


def _reading_tensors(reading: Reading) -> list[Tensor]:
    return [part for layer in reading.layers for part in layer if part is not None]


def _state_tensors(state: State) -> list[Tensor]:
    return [part for memory, frame in state.layers for part in (*memory, frame)]


def _copy_of_reading(reading: Reading) -> Reading:
    layers: list[LayerText] = []
    for layer in reading.layers:
        assert isinstance(layer, LayerText), "the prompt was not read"
        scores = None if layer.scores is None else layer.scores.clone()
        layers.append(LayerText(layer.key.clone(), layer.value.clone(), scores))
    return Reading(tuple(layers))


def _copy_of_state(state: State) -> State:
    layers = (
        LayerState(Memory(*(part.clone() for part in memory)), frame.clone())
        for memory, frame in state.layers
    )
    return State(tuple(layers), state.latent_frames)


def _copy(new: list[Tensor] | Rotary, held: list[Tensor] | Rotary) -> None:
    for place, values in zip(held, new, strict=True):
        place.copy_(values)
