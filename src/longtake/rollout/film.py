"""Chunks to frames as they are finished, in memory that does not grow with the film."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from longtake.rollout.ahead import ahead
from longtake.rollout.cascade import Cascade, resized
from longtake.rollout.snapshot import Snapshot
from longtake.rollout.take import Committed, Condition, Sketch, Step, Take
from longtake.vae import Autoencoder
from longtake.vae.autoencoder import StreamCache


@dataclass(frozen=True, slots=True)
class Decoded:
    """The frames of a chunk, and the take as it stands after them."""

    pixels: Float[Tensor, "frames height width 3"]
    """In [-1, 1], of the whole chunk."""
    wanted: int
    """How many of them belong to the film; fewer than all if it ends inside the chunk."""
    snapshot: Snapshot


def film(
    take: Take | Cascade,
    condition: Callable[[int], Condition],
    autoencoder: Autoencoder,
    frames: int,
    *,
    notes: Callable[[int], Mapping[str, str]],
    start: Snapshot | None = None,
    meanwhile: bool = False,
) -> Iterator[Step | Decoded]:
    """Make the chunks of a film and decode each as soon as it is finished.

    On a CPU the next chunk is made meanwhile, each with half of the threads: small operations use
    few of them well. The bytes are the same.

    Args:
        take: What stays the same.
        condition: The encoded prompt of a chunk, by its number.
        autoencoder: Decodes.
        frames: Frames of the whole film.
        notes: Texts that the snapshot before a chunk keeps, by the chunk's number.
        start: Where to go on; the frames before are not made again.
        meanwhile: Decode a chunk while the next is made, as it pays on another device.
    """
    grid, cache, device = take.grid, StreamCache(), autoencoder.latent_mean.device
    home, all_threads = take.transformer.head_table.device, torch.get_num_threads()
    # Of a large chunk one latent frame at a time: the decoder takes most of the memory.
    at_once = 1 if isinstance(take, Cascade) else 0
    first, state = 0, None
    if start is not None:
        first, state = start.chunk, start.state
        blocks = start.decoder.blocks
        cache = StreamCache([None if block is None else block.to(device) for block in blocks])
    events = take.roll(condition, range(first, grid.chunks(frames)), state)
    several = grid.chunks(frames) > first + 1
    threads = half_of(all_threads) if several and home.type == device.type == "cpu" else 0
    if meanwhile or threads:
        events = ahead(_halved(events, threads), home, take.steps + 1)
    try:
        for event in events:
            match event:
                case Step():
                    yield event
                case Committed():
                    _use(threads)
                    parts = event.latents.to(device).split(at_once or event.latents.shape[2], dim=2)
                    pixels = torch.cat([autoencoder.decode(part, cache)[0] for part in parts])
                    wanted = min(frames - grid.frames(event.chunk).start, len(pixels))
                    snapshot = Snapshot(
                        chunk=event.chunk + 1,
                        state=event.state,
                        decoder=StreamCache(list(cache.blocks)),
                        sketch=event.sketch,
                        notes=notes(event.chunk + 1),
                    )
                    yield Decoded(pixels, wanted, snapshot)
    finally:
        if threads:
            torch.set_num_threads(all_threads)


def half_of(threads: int) -> int:
    """Threads for each of two that work side by side; 0 if they should take turns.

    Only powers of two are halved: with them the number of threads does not show in the bytes.
    """
    return threads // 2 if threads > 1 and threads.bit_count() == 1 else 0


def _halved(events: Iterator[Step | Committed], threads: int) -> Iterator[Step | Committed]:
    """The same events; from the second chunk on their maker leaves threads to the decoder."""
    for event in events:
        yield event
        if isinstance(event, Committed):
            _use(threads)


def _use(threads: int) -> None:
    # It holds for the thread that asks, and for later ones.
    if threads and torch.get_num_threads() != threads:
        torch.set_num_threads(threads)


def replay(
    take: Take | Cascade,
    condition: Condition,
    autoencoder: Autoencoder,
    pixels: Float[Tensor, "frames height width 3"],
    *,
    notes: Mapping[str, str],
) -> Snapshot:
    """What a take remembers that began with these frames, as if it had made them itself.

    The frames are encoded and committed chunk by chunk as clean history, and decoded once so that
    the decoder goes on from them too; made smaller, they are the small film of a cascade as well.

    Args:
        take: What stays the same.
        condition: The encoded prompt.
        autoencoder: Encodes, and decodes what comes after.
        pixels: Frames in [-1, 1] that fill whole chunks of the grid.
        notes: Texts that the snapshot keeps.
    """
    encoder, decoder, state, sketch = StreamCache(), StreamCache(), None, None
    if isinstance(take, Cascade):
        stride = autoencoder.config.spatial_stride
        small = resized(pixels[None], *(stride * side for side in take.small.size))[0]
        below = replay(take.small, condition, autoencoder, small, notes=notes)
        sketch = Sketch(state=below.state, decoder=below.decoder, encoder=encoder)
        take = take.large
    chunks = take.grid.chunks(len(pixels))
    for chunk in range(chunks):
        here = take.grid.frames(chunk)
        assert here.stop <= len(pixels), "a chunk is not full"
        latents = autoencoder.encode(pixels[None, here.start : here.stop], encoder)
        home = take.transformer.head_table.device
        state = take.commit(latents.to(home), condition, state)
        autoencoder.decode(latents, decoder)
    assert state is not None, "no chunks"
    return Snapshot(chunk=chunks, state=state, decoder=decoder, sketch=sketch, notes=notes)
