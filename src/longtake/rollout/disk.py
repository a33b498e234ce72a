"""The disk a take needs, told before it is begun."""

import shutil
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
    """Size of a state, which no length changes."""
    stride = model.autoencoder.spatial_stride
    height, width = settings.height // stride, settings.width // stride
    denoiser, rows = model.transformer, 1 if settings.guidance == 1.0 else 2
    size = denoiser.width // denoiser.heads
    sums = denoiser.heads * size * (size + 1) * 4
    frame = height * width * denoiser.width * bytes_per_value
    coarse_first = zip(
        reversed(model.autoencoder.widths), reversed(model.autoencoder.decoder_blocks), strict=True
    )
    caches = sum(
        blocks * 2 * channels * (height * width * 4**stage) * bytes_per_value
        for stage, (channels, blocks) in enumerate(coarse_first)
    )
    return rows * denoiser.depth * (sums + frame) + caches + HEADER_BYTES


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
