"""Conditional and unconditional velocity into one."""

from jaxtyping import Float
from torch import Tensor

Latents = Float[Tensor, "b c t h w"]


def classifier_free(conditional: Latents, unconditional: Latents, scale: float) -> Latents:
    """Push away from what the model would do without the prompt.

    v = v_uncond + scale * (v_cond - v_uncond); 1.0 is off.

    Source: Ho and Salimans 2022 (classifier-free guidance), eq. 6, in the common convention.
    """
    return unconditional + scale * (conditional - unconditional)
