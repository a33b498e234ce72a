"""Rectified-flow maths: interpolate, velocity, sigma schedules, shift, counter-based noise."""

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

Latents = Float[Tensor, "b c t h w"]


def interpolate(clean: Latents, noise: Latents, sigma: Float[Tensor, "b t"]) -> Latents:
    """Mix clean latents with noise along the straight path.

    x_sigma = (1 - sigma) * clean + sigma * noise, each latent frame at its own sigma.

    Args:
        clean: Latents of unit variance.
        noise: Standard normal draws.
        sigma: Noise level of each latent frame, in [0, 1].

    Source: Liu et al. 2022 (rectified flow), eq. 1, time reversed.
    """
    level = sigma[:, None, :, None, None]
    return (1 - level) * clean + level * noise


def velocity(clean: Latents, noise: Latents) -> Latents:
    """Change along the path, d x / d sigma = noise - clean: what the denoiser learns to return."""
    return noise - clean


def clean_from(x: Latents, predicted: Latents, sigma: float) -> Latents:
    """The clean latents that a velocity at x points to: x - sigma * velocity."""
    return x - sigma * predicted


def shift(sigma: Float[Tensor, "*any"], factor: float) -> Float[Tensor, "*any"]:
    """Move noise levels up (factor above 1): factor * s / (1 + (factor - 1) * s).

    Source: Esser et al. 2024 (Stable Diffusion 3), eq. 23.
    """
    return factor * sigma / (1 + (factor - 1) * sigma)


def schedule(steps: int, factor: float) -> Float[Tensor, " steps_plus_1"]:
    """Falling sigmas from 1 to 0, evenly spaced and then shifted."""
    return shift(torch.linspace(1, 0, steps + 1, dtype=torch.float64), factor)


def published_schedule(steps: int, factor: float) -> Float[Tensor, " steps_plus_1"]:
    """Falling sigmas of the public DPM-Solver++ settings: from shift(0.999), never 1, to 0.

    1 minus 0.001 up to 1 in `steps` even parts, each shifted. Computed just so, for what is fed to
    the model is 1000 sigma rounded down, which a last bit decides.

    Source: diffusers 0.42 (DPMSolverMultistepScheduler with use_flow_sigmas), by its values.
    """
    levels = 1 - np.linspace(1, 0.001, steps + 1)[::-1]
    return shift(torch.from_numpy(levels), factor)


def published_euler_schedule(steps: int, factor: float) -> Float[Tensor, " steps_plus_1"]:
    """Falling sigmas of the public Euler settings: shifted twice, from 1, then 0.

    1 down to shift(0.001) in even parts, each shifted once more; so the last step is a long one.

    Source: diffusers 0.42 (FlowMatchEulerDiscreteScheduler), by its values.
    """
    last = factor * 0.001 / (1 + (factor - 1) * 0.001)
    levels = shift(torch.linspace(1, last, steps, dtype=torch.float64), factor)
    return torch.cat([levels, levels.new_zeros(1)])


def logit_normal(
    num: int, factor: float, generator: torch.Generator, device: torch.device
) -> Float[Tensor, " num"]:
    """Noise levels for training: sigmoid of a standard normal, then shifted.

    Source: Esser et al. 2024 (Stable Diffusion 3), section 3.1; shift as in SANA-Video.
    """
    draws = torch.randn(num, generator=generator, device=device)
    return shift(torch.sigmoid(draws), factor)


def frame_noise(
    seed: int, latent_frames: range, shape: tuple[int, int, int], *, shot: int = 0, step: int = 0
) -> Float[Tensor, "c t h w"]:
    """Standard normal noise of some latent frames, each from its own counter.

    A frame's noise depends on (seed, shot, frame, step) alone: not on the film's length, on the
    order of work, or on the device.

    Args:
        seed: 0 to 2^64 - 1.
        latent_frames: Absolute numbers of the latent frames.
        shape: Channels, height and width of a latent frame.
        shot: Number of the shot.
        step: Sampler step that draws it; 0 is the start.

    Source: Salmon et al. 2011 (Philox), through numpy.
    """
    frames = []
    for frame in latent_frames:
        counter = np.array([0, 0, step, frame], dtype=np.uint64)
        bits = np.random.Philox(key=np.array([seed, shot], dtype=np.uint64), counter=counter)
        draws = np.random.Generator(bits).standard_normal(shape, dtype=np.float32)
        frames.append(torch.from_numpy(draws))
    return torch.stack(frames, dim=1)
