"""ODE solvers that walk a falling list of sigmas; one signature, one step at a time.

Each yields the latents after every step, so that a caller can show progress or stop. The last
value is the result.
"""

import math
from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import assert_never

from jaxtyping import Float
from torch import Tensor

from longtake.config import SamplerName
from longtake.flow import clean_from

Latents = Float[Tensor, "b c t h w"]
Velocity = Callable[[Latents, float], Latents]
Sampler = Callable[[Velocity, Latents, Float[Tensor, " steps_plus_1"]], Iterator[Latents]]


def euler(
    velocity: Velocity, x: Latents, sigmas: Float[Tensor, " steps_plus_1"]
) -> Iterator[Latents]:
    """Follow the velocity in straight steps; exact on a straight path.

    x += (after - now) * v(x, now).
    """
    for now, after in pairwise(sigmas.tolist()):
        x = x + (after - now) * velocity(x, now)
        yield x


def dpm_solver_2m(
    velocity: Velocity, x: Latents, sigmas: Float[Tensor, " steps_plus_1"]
) -> Iterator[Latents]:
    """DPM-Solver++ of second order, multistep, in the form for flows (alpha = 1 - sigma).

    With x0 = x - sigma v, lambda = log(alpha / sigma), h its step and r = h_before / h:
    D = (1 + 1 / 2r) x0 - (1 / 2r) x0_before,
    x <- (sigma_after / sigma) x + (alpha_after - sigma_after alpha / sigma) D.
    The first and the last step are of first order, where h is infinite.

    Source: Lu et al. 2022 (DPM-Solver++), algorithm 2.
    """
    before: Latents | None = None
    h_before = math.inf
    levels = sigmas.tolist()
    for now, after in pairwise(levels):
        clean = clean_from(x, velocity(x, now), now)
        h = _log_snr(after) - _log_snr(now)
        target = clean
        if before is not None and math.isfinite(h) and math.isfinite(h_before):
            lead = h / (2 * h_before)
            target = (1 + lead) * clean - lead * before
        x = (after / now) * x + ((1 - after) - after * (1 - now) / now) * target
        before, h_before = clean, h
        yield x


def sampler_of(name: SamplerName) -> Sampler:
    """The solver a setting names."""
    match name:
        case "dpm":
            return dpm_solver_2m
        case "euler":
            return euler
        case _:
            assert_never(name)


def _log_snr(sigma: float) -> float:
    """Log of (1 - sigma) / sigma, infinite at both ends."""
    if sigma >= 1.0:
        return -math.inf
    if sigma <= 0.0:
        return math.inf
    return math.log((1 - sigma) / sigma)
