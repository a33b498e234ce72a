"""What a take carries from chunk to chunk; its size does not depend on the take's length."""

from typing import NamedTuple

from jaxtyping import Float
from torch import Tensor

from longtake.kernels.ops import Memory


class LayerState(NamedTuple):
    """What one layer remembers of the chunks before."""

    memory: Memory
    """Running sums of its self-attention, in float32."""
    frame: Float[Tensor, "b s d"]
    """The last latent frame as it entered the temporal convolution."""


class State(NamedTuple):
    """What the denoiser remembers of the chunks before."""

    layers: tuple[LayerState, ...]
    latent_frames: int
    """Latent frames so far, which is the position of the next."""
