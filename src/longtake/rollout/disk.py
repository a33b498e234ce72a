"""The disk a take needs, told before it is begun."""

import math
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from longtake.config import ModelConfig, SampleConfig
from longtake.errors import CannotHere
from longtake.storage import output_errors

FILM_BYTES_PER_PIXEL = 0.04
"""Encoded; films of the embedded model take half of it."""
HEADER_BYTES = 16_384
"""Most that the names and settings of a state take."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Disk:
    """Bytes of a take."""

    film: int
    """The film, estimated from above."""
    state: int
    """A state; the same after a second and after an hour."""
    states: int
    """States that lie there together."""

    @property
    def making(self) -> int:
        """While it is made: the pieces, the film that grows, and the film joined from them."""
        return 3 * self.film + self.state * self.states


def disk_of(
    model: ModelConfig, settings: SampleConfig, *, bytes_per_value: int, kept_states: int
) -> Disk:
    """What a take of these settings needs.

    Args:
        model: Shapes of the networks.
        settings: Size, length and guidance.
        bytes_per_value: 4 in fp32, 2 in bf16.
        kept_states: States that stay beside the newest ones.
    """
    pixels = settings.width * settings.height * settings.frames
    return Disk(
        film=int(FILM_BYTES_PER_PIXEL * pixels) + HEADER_BYTES,
        state=state_bytes(model, settings, bytes_per_value),
        # The two newest stay, and a third is written before the older goes.
        states=3 + kept_states,
    )


def state_bytes(model: ModelConfig, settings: SampleConfig, bytes_per_value: int) -> int:
    """Size of a state, which no length changes; with that of the small film below, if any."""
    whole = _state_bytes(model, settings, settings.made, bytes_per_value)
    below = None if model.refine is None else model.refine.small(*settings.made)
    if below is None:
        return whole
    # The encoder remembers the enlarged frames as the decoder does the large ones.
    encoder = _cache_bytes(model, model.autoencoder.encoder_blocks, settings.made, bytes_per_value)
    return whole + encoder + _state_bytes(model, settings, below, bytes_per_value)


def _state_bytes(
    model: ModelConfig, settings: SampleConfig, sides: tuple[int, int], bytes_per_value: int
) -> int:
    stride = model.autoencoder.spatial_stride
    width, height = (side // stride for side in sides)
    denoiser, rows = model.transformer, 1 if settings.guidance == 1.0 else 2
    size = denoiser.width // denoiser.heads
    sums = denoiser.heads * size * (size + 1) * 4
    frame = height * width * denoiser.width * bytes_per_value
    caches = _cache_bytes(model, model.autoencoder.decoder_blocks, sides, bytes_per_value)
    return rows * denoiser.depth * (sums + frame) + caches + HEADER_BYTES


def _cache_bytes(
    model: ModelConfig, blocks: Sequence[int], sides: tuple[int, int], bytes_per_value: int
) -> int:
    """What a coder remembers: two frames a residual block; blocks are counted finest first."""
    cells = math.prod(side // model.autoencoder.spatial_stride for side in sides)
    stages = zip(model.autoencoder.widths, blocks, strict=True)
    return sum(
        count * 2 * channels * cells * 4 ** (len(blocks) - 1 - stage) * bytes_per_value
        for stage, (channels, count) in enumerate(stages)
    )


def check_disk(disk: Disk, folder: Path) -> None:
    """Prove that there is room for a take.

    Raises:
        CannotHere: there is not.
    """
    with output_errors(folder):
        free = shutil.disk_usage(folder).free
    if disk.making > free:
        msg = (
            f"the take needs {shown(disk.making)} of disk while it is made and {folder} has "
            f"{shown(free)}; free some, choose another folder or fewer --seconds"
        )
        raise CannotHere(msg)


def shown(num_bytes: int) -> str:
    """Bytes as people read them."""
    mib = num_bytes / 2**20
    return f"{mib / 1024:,.1f} GiB" if mib >= 1024 else f"{mib:,.1f} MiB"
