"""Chunks to frames as they are finished, in memory that does not grow with the film."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from longtake.rollout.ahead import ahead
from longtake.rollout.snapshot import Snapshot
from longtake.rollout.take import Committed, Condition, Step, Take
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
    take: Take,
    condition: Callable[[int], Condition],
    autoencoder: Autoencoder,
    frames: int,
    *,
    notes: Callable[[int], Mapping[str, str]],
    start: Snapshot | None = None,
    meanwhile: bool = False,
) -> Iterator[Step | Decoded]:
    """Make the chunks of a film and decode each as soon as it is finished.

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
    first, state = 0, None
    if start is not None:
        first, state = start.chunk, start.state
        blocks = start.decoder.blocks
        cache = StreamCache([None if block is None else block.to(device) for block in blocks])
    events = take.roll(condition, range(first, grid.chunks(frames)), state)
    if meanwhile:
        steps = len(take.sigmas)
        events = ahead(events, take.transformer.head_table.device, steps)
    for event in events:
        match event:
            case Step():
                yield event
            case Committed():
                pixels = autoencoder.decode(event.latents.to(device), cache)[0]
                wanted = min(frames - grid.frames(event.chunk).start, len(pixels))
                snapshot = Snapshot(
                    chunk=event.chunk + 1,
                    state=event.state,
                    decoder=StreamCache(list(cache.blocks)),
                    notes=notes(event.chunk + 1),
                )
                yield Decoded(pixels, wanted, snapshot)


def replay(
    take: Take,
    condition: Condition,
    autoencoder: Autoencoder,
    pixels: Float[Tensor, "frames height width 3"],
    *,
    notes: Mapping[str, str],
) -> Snapshot:
    """What a take remembers that began with these frames, as if it had made them itself.

    The frames are encoded and committed chunk by chunk as clean history, and decoded once so that
    the decoder goes on from them too.

    Args:
        take: What stays the same.
        condition: The encoded prompt.
        autoencoder: Encodes, and decodes what comes after.
        pixels: Frames in [-1, 1] that fill whole chunks of the grid.
        notes: Texts that the snapshot keeps.
    """
    encoder, decoder, state = StreamCache(), StreamCache(), None
    chunks = take.grid.chunks(len(pixels))
    for chunk in range(chunks):
        here = take.grid.frames(chunk)
        assert here.stop <= len(pixels), "a chunk is not full"
        latents = autoencoder.encode(pixels[None, here.start : here.stop], encoder)
        home = take.transformer.head_table.device
        state = take.commit(latents.to(home), condition, state)
        autoencoder.decode(latents, decoder)
    assert state is not None, "no chunks"
    return Snapshot(chunk=chunks, state=state, decoder=decoder, notes=notes)
