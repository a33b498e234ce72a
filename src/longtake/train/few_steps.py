"""What trains a model to make films in few steps: a teacher's guided path, taken in jumps.

A jump goes from one level of a short schedule to the next. The teacher, guided, walks there in
several steps of its own solver; the student must land where it lands in one Euler step without
guidance. Both start at the same latents, so it is enough that the student's velocity is the mean
of the teacher's on the way.

Source: Salimans and Ho 2022 (progressive distillation), section 3, in one round and for flows;
Meng et al. 2023 (distillation of guided diffusion models), section 3.1, at a fixed scale.
"""

from collections.abc import Callable
from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor

Latents = Float[Tensor, "b c t h w"]
Levels = Float[Tensor, "levels b t"]
Velocity = Callable[[Latents, Float[Tensor, "b t"]], Latents]


def euler(velocity: Velocity, x: Latents, sigmas: Levels) -> Latents:
    """Where straight steps lead; `samplers.euler`, each latent frame at its own levels.

    Frames whose level does not fall stay as they are.
    """
    for now, after in pairwise(sigmas):
        x = x + _wide(after - now) * velocity(x, now)
    return x


def dpm_solver_2m(velocity: Velocity, x: Latents, sigmas: Levels) -> Latents:
    """Where steps of second order lead; the solver of `samplers`, each frame at its own levels.

    Frames given at sigma 0 stay as they are.
    """
    before: Latents | None = None
    h_before = torch.full_like(sigmas[0], torch.inf)
    for now, after in pairwise(sigmas):
        clean = x - _wide(now) * velocity(x, now)
        h = _log_snr(after) - _log_snr(now)
        lead = h / (2 * h_before)
        # The first and the last step are of first order, where h is infinite.
        lead = _wide(lead.masked_fill(~(h.isfinite() & h_before.isfinite()), 0))
        target = clean if before is None else (1 + lead) * clean - lead * before
        ratio = (after / now).masked_fill(now == 0, 1)
        x = _wide(ratio) * x + _wide((1 - after) - ratio * (1 - now)) * target
        before, h_before = clean, h
    return x


def mean_velocity(
    start: Latents, end: Latents, sigma: Float[Tensor, "b t"], after: Float[Tensor, "b t"]
) -> Latents:
    """The one velocity that leads from start at sigma to end at the level after; 0 if it stays.

    (start - end) / (sigma - after).
    """
    way = sigma - after
    return (start - end) * _wide((1 / way).masked_fill(way == 0, 0))


def _wide(levels: Float[Tensor, "b t"]) -> Float[Tensor, "b 1 t 1 1"]:
    return levels[:, None, :, None, None]


def _log_snr(sigma: Float[Tensor, "b t"]) -> Float[Tensor, "b t"]:
    """Log of (1 - sigma) / sigma, infinite at both ends."""
    return torch.log1p(-sigma) - torch.log(sigma)
