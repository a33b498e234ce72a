"""What trains a model to go on from its own past: clean history beside noisy chunks."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from longtake.model import LayerState, State, Transformer

Latents = Float[Tensor, "b c t h w"]


def two_streams(
    transformer: Transformer,
    noisy: Latents,
    sigma: Float[Tensor, "b t"],
    history: Latents,
    history_sigma: Float[Tensor, "b t"],
    text: Float[Tensor, "b chunks m e"],
    mask: Bool[Tensor, "b chunks m"],
    chunks: tuple[int, ...],
) -> Latents:
    """Velocity of every chunk of a take, each after the history of the chunks before it.

    It is what a rollout computes if `history` is what it committed: the chunks run one after the
    other, history and noisy chunk side by side as one batch, and only the history's state is
    carried on. Gradients flow through the state, so that the history learns what to leave.

    Args:
        transformer: With `linear` or `block` attention.
        noisy: Latents of the whole take at their noise levels.
        sigma: Noise level of each latent frame, in [0, 1].
        history: The same take clean, or nearly so.
        history_sigma: Noise levels of the history; a rollout commits at 0.
        text: Embeddings of the caption in force in each chunk, from the text encoder.
        mask: True where a text token is real.
        chunks: Latent frames of each chunk, in order.
    """
    rows = len(noisy)
    latents, levels = torch.cat([history, noisy]), torch.cat([history_sigma, sigma])
    text, mask = text.repeat(2, 1, 1, 1), mask.repeat(2, 1, 1)
    velocities, state, start = [], None, 0
    for number, frames in enumerate(chunks):
        here = slice(start, start + frames)
        predicted, after = transformer.advance(
            latents[:, :, here], levels[:, here], text[:, number], mask[:, number], (frames,), state
        )
        velocities.append(predicted[rows:])
        state = _for_both(after, rows)
        start += frames
    return torch.cat(velocities, dim=2)


def history_states(
    transformer: Transformer,
    history: Latents,
    sigma: Float[Tensor, "b t"],
    text: Float[Tensor, "b chunks m e"],
    mask: Bool[Tensor, "b chunks m"],
    chunks: tuple[int, ...],
) -> tuple[State | None, ...]:
    """The state before each chunk of a take, as a rollout that committed `history` would have it.

    Args:
        transformer: With `linear` or `block` attention.
        history: Latents of the whole take, clean or nearly so.
        sigma: Their noise levels.
        text: Embeddings of the caption in force in each chunk, from the text encoder.
        mask: True where a text token is real.
        chunks: Latent frames of each chunk, in order.
    """
    states: list[State | None] = [None]
    parts, levels = history.split(chunks, dim=2), sigma.split(chunks, dim=1)
    for number, part in enumerate(parts[:-1]):
        told = text[:, number], mask[:, number]
        size = (part.shape[2],)
        _, after = transformer.advance(part, levels[number], *told, size, states[-1])
        states.append(widened(after))
    return tuple(states)


def after_history(
    transformer: Transformer,
    states: tuple[State | None, ...],
    noisy: Latents,
    sigma: Float[Tensor, "b t"],
    text: Float[Tensor, "b chunks m e"],
    mask: Bool[Tensor, "b chunks m"],
) -> Latents:
    """Velocity of every chunk of a take, each after the state before it.

    With `history_states` it is `two_streams`, for several passes over the same history.

    Args:
        transformer: With `linear` or `block` attention.
        states: The state before each chunk.
        noisy: Latents of the whole take at their noise levels.
        sigma: Noise level of each latent frame, in [0, 1].
        text: Embeddings of the caption in force in each chunk, from the text encoder.
        mask: True where a text token is real.
    """
    ends = [state.latent_frames for state in states if state] + [noisy.shape[2]]
    velocities, start = [], 0
    for number, (state, end) in enumerate(zip(states, ends, strict=True)):
        told = text[:, number], mask[:, number]
        here, level = noisy[:, :, start:end], sigma[:, start:end]
        velocities.append(transformer.advance(here, level, *told, (end - start,), state)[0])
        start = end
    return torch.cat(velocities, dim=2)


def monotone_levels(
    rows: int,
    chunks: int,
    anchor: Float[Tensor, " rows"],
    generator: torch.Generator,
) -> Float[Tensor, "rows chunks"]:
    """Noise levels that never fall from chunk to chunk, through one drawn level.

    The anchor is the level of a chunk drawn uniformly. Those before it are sorted uniform draws
    below it and those after it sorted uniform draws above it: uniform among all such sequences.

    Args:
        rows: Samples.
        chunks: Chunks of each.
        anchor: A level of each sample, in [0, 1].
        generator: Where all randomness comes from.

    Source: SANA-Video (arXiv 2509.24695), section 3.3 (monotonically increasing SNR sampler);
    sorted uniforms in place of its dynamic programme over discrete levels.
    """
    device = anchor.device
    place = torch.randint(chunks, (rows, 1), generator=generator, device=device)
    draws = torch.rand(rows, chunks, generator=generator, device=device)
    index = torch.arange(chunks, device=device)
    level = anchor[:, None]
    levels = torch.where(index < place, draws * level, level + draws * (1 - level))
    return torch.where(index == place, level, levels).sort(dim=1).values


def widened(state: State) -> State:
    """The state with its sums in fp32, laid out the same after every chunk."""

    def wide(x: Tensor) -> Tensor:
        # Autocast makes the sums of one chunk in bf16; those over many must not be.
        return x.to(torch.promote_types(x.dtype, torch.float32))

    layers = tuple(
        # Compiled layers would be compiled anew for each layout of the frame.
        LayerState(type(layer.memory)(*map(wide, layer.memory)), layer.frame.contiguous())
        for layer in state.layers
    )
    return State(layers, state.latent_frames)


def _for_both(state: State, rows: int) -> State:
    """The history's state, for history and noisy chunk alike."""

    def twice(x: Tensor) -> Tensor:
        return torch.cat([x[:rows], x[:rows]])

    layers = tuple(
        LayerState(type(layer.memory)(*map(twice, layer.memory)), twice(layer.frame))
        for layer in widened(state).layers
    )
    return State(layers, state.latent_frames)
