"""What a pass over some latent frames is handed when other devices run the rest of them."""

from collections.abc import Callable
from typing import NamedTuple

from jaxtyping import Float
from torch import Tensor

from longtake.kernels.ops import Memory

Frame = Float[Tensor, "b s d"]


class Share(NamedTuple):
    """This device's part of a pass that several devices make together.

    A layer needs two things of the others: their sums, which do not grow with the film, and the
    latent frame on either side. All else happens frame by frame.
    """

    start: int
    """First of its latent frames, counted from the start of the pass."""
    frames: int
    """Latent frames of the whole pass."""
    total: Callable[[Memory], Memory]
    """This device's sums to those of all."""
    neighbours: Callable[[Frame, Frame], tuple[Frame | None, Frame | None, Frame]]
    """Its first and last frame to the one before it, the one after it (None at an end of the pass)
    and the last of all, which only a causal pass needs, and only where the pass begins."""
