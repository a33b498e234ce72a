import numpy as np
import pytest
import torch

from longtake import flow

EXACT = 1e-6


def test_the_path_starts_at_the_clean_latents_and_ends_in_noise():
    clean, noise = torch.randn(2, 3, 4, 5, 6), torch.randn(2, 3, 4, 5, 6)
    assert torch.equal(flow.interpolate(clean, noise, torch.zeros(2, 4)), clean)
    assert torch.equal(flow.interpolate(clean, noise, torch.ones(2, 4)), noise)


def test_each_latent_frame_has_its_own_noise_level():
    clean, noise = torch.zeros(1, 1, 3, 1, 1), torch.ones(1, 1, 3, 1, 1)
    sigma = torch.tensor([[0.0, 0.25, 1.0]])
    assert torch.allclose(flow.interpolate(clean, noise, sigma).flatten(), sigma.flatten())


def test_velocity_is_the_slope_of_the_path():
    clean, noise = torch.randn(1, 2, 3, 4, 5), torch.randn(1, 2, 3, 4, 5)
    low, high = (flow.interpolate(clean, noise, torch.full((1, 3), s)) for s in (0.3, 0.4))
    assert torch.allclose((high - low) / 0.1, flow.velocity(clean, noise), atol=1e-4)


def test_the_clean_latents_are_recovered_from_an_exact_velocity():
    clean, noise = torch.randn(1, 2, 3, 4, 5), torch.randn(1, 2, 3, 4, 5)
    x = flow.interpolate(clean, noise, torch.full((1, 3), 0.7))
    assert torch.allclose(flow.clean_from(x, flow.velocity(clean, noise), 0.7), clean, atol=1e-5)


@pytest.mark.parametrize("factor", [1.0, 3.0, 8.0])
def test_a_schedule_falls_from_one_to_zero(factor):
    sigmas = flow.schedule(10, factor)
    assert sigmas[0] == 1
    assert sigmas[-1] == 0
    assert (sigmas.diff() < 0).all()


def test_shift_8_gives_the_published_four_steps():
    levels = 1000 * flow.shift(torch.tensor([1.0, 0.75, 0.5, 0.25]), 8.0)
    assert levels.round().tolist() == [1000, 960, 889, 727]


def test_training_noise_levels_follow_the_shifted_logit_normal():
    levels = flow.logit_normal(20_000, 1.0, torch.Generator().manual_seed(0), torch.device("cpu"))
    assert abs(levels.median().item() - 0.5) < 0.02
    shifted = flow.logit_normal(20_000, 3.0, torch.Generator().manual_seed(0), torch.device("cpu"))
    assert torch.allclose(shifted, flow.shift(levels, 3.0))


def test_noise_of_a_frame_does_not_depend_on_the_films_length():
    long = flow.frame_noise(7, range(21), (4, 2, 3))
    short = flow.frame_noise(7, range(6), (4, 2, 3))
    assert torch.equal(long[:, :6], short)
    assert torch.equal(long[:, 9:12], flow.frame_noise(7, range(9, 12), (4, 2, 3)))


def test_noise_differs_by_seed_shot_frame_and_step_and_is_standard_normal():
    base = flow.frame_noise(7, range(1), (64, 8, 14))
    others = [
        flow.frame_noise(8, range(1), (64, 8, 14)),
        flow.frame_noise(7, range(1), (64, 8, 14), shot=1),
        flow.frame_noise(7, range(1), (64, 8, 14), step=1),
        flow.frame_noise(7, range(1, 2), (64, 8, 14)),
    ]
    for other in others:
        assert abs(np.corrcoef(base.flatten(), other.flatten())[0, 1]) < 0.05
    assert abs(base.mean()) < 0.05
    assert abs(base.std() - 1) < 0.05


def test_noise_takes_the_largest_seed():
    assert flow.frame_noise(2**64 - 1, range(1), (1, 1, 1)).isfinite().all()


@pytest.mark.parametrize("steps", [1, 4, 50, 400])
def test_published_sigmas_fall_from_just_below_one_to_zero(steps):
    sigmas = flow.published_schedule(steps, 8.0)
    assert sigmas[0] == pytest.approx(8 * 0.999 / (1 + 7 * 0.999))
    assert sigmas[-1] == 0
    assert (sigmas.diff() < 0).all()


def test_published_euler_sigmas_are_shifted_twice():
    sigmas = flow.published_euler_schedule(50, 8.0)
    assert sigmas[0] == 1
    assert sigmas[-2] == pytest.approx(0.0602, abs=1e-4)
    assert sigmas[-1] == 0
