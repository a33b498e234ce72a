import pytest
import torch

from longtake import flow, samplers

SOLVERS = [samplers.euler, samplers.dpm_solver_2m]


def last(steps):
    *_, x = steps
    return x


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("steps", [1, 2, 5])
def test_a_straight_path_is_solved_exactly_in_any_number_of_steps(solver, steps):
    clean, noise = torch.randn(2, 1, 2, 3, 4, 5, dtype=torch.float64)
    x = last(solver(lambda x, sigma: noise - clean, noise, flow.schedule(steps, 3.0)))
    assert torch.allclose(x, clean, atol=1e-9)


@pytest.mark.parametrize("solver", SOLVERS)
def test_the_solver_yields_once_a_step(solver):
    noise = torch.randn(1, 2, 3, 4, 5)
    assert len(list(solver(lambda x, sigma: x, noise, flow.schedule(7, 1.0)))) == 7


def gaussian_velocity(x, sigma, deviation=0.5):
    """Exact velocity when clean data is normal with this deviation."""
    alpha = 1 - sigma
    variance = alpha**2 * deviation**2 + sigma**2
    return x * (sigma - alpha * deviation**2) / variance


def solved_error(solver, steps):
    noise = torch.ones(1, 1, 1, 1, 1, dtype=torch.float64)
    x = last(solver(gaussian_velocity, noise, flow.schedule(steps, 1.0)))
    return abs(x.item() - 0.5)  # the flow maps a draw z of the noise to 0.5 z


def test_the_second_order_solver_beats_euler_on_a_curved_path():
    assert solved_error(samplers.dpm_solver_2m, 20) < 0.3 * solved_error(samplers.euler, 20)


def test_errors_shrink_with_the_order_of_the_solver():
    euler = solved_error(samplers.euler, 40) / solved_error(samplers.euler, 160)
    second = solved_error(samplers.dpm_solver_2m, 40) / solved_error(samplers.dpm_solver_2m, 160)
    assert 3.0 < euler < 5.0
    assert second > 8.0


def test_a_setting_names_its_solver():
    assert samplers.sampler_of("dpm") is samplers.dpm_solver_2m
    assert samplers.sampler_of("euler") is samplers.euler
