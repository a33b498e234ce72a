"""Our solvers on the published sigmas against the reference library's schedulers."""

import math

import pytest
import torch

from longtake import flow
from longtake.samplers import dpm_solver_2m, euler

diffusers = pytest.importorskip("diffusers", reason="the reference library, in [official]")
pytestmark = [pytest.mark.conformance, pytest.mark.filterwarnings("ignore")]
EXACT = 1e-6


def curved(x, t):
    """A velocity that bends: no solver is exact on it."""
    return torch.sin(2 * x) + 0.3 * x + t / 1000


def walk(scheduler, steps, x):
    scheduler.set_timesteps(steps)
    for t in scheduler.timesteps:
        x = scheduler.step(curved(x, t.float()), t, x, return_dict=False)[0]
    return x


@pytest.mark.parametrize("steps", [1, 2, 3, 8, 14, 15, 30, 50])
@pytest.mark.parametrize("shift", [1.0, 3.0, 8.0])
def test_dpm_solver_is_the_references(steps, shift):
    scheduler = diffusers.DPMSolverMultistepScheduler(
        prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=shift
    )
    sigmas = flow.published_schedule(steps, shift)
    x = torch.randn(1, 2, 3, 4, 5)
    wanted = walk(scheduler, steps, x.clone())
    *_, found = dpm_solver_2m(lambda y, s: curved(y, math.floor(1000 * s)), x, sigmas)
    assert (found - wanted).norm() <= EXACT * wanted.norm()


@pytest.mark.parametrize("shift", [1.0, 2.5, 3.0, 6.0, 7.0, 8.0, 12.0])
def test_sigmas_and_whole_timesteps_are_the_references(shift):
    scheduler = diffusers.DPMSolverMultistepScheduler(
        prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=shift
    )
    for steps in range(1, 144):
        scheduler.set_timesteps(steps)
        sigmas = flow.published_schedule(steps, shift)
        assert torch.allclose(sigmas.float(), scheduler.sigmas, atol=EXACT)
        assert [math.floor(1000 * s) for s in sigmas[:-1].tolist()] == scheduler.timesteps.tolist()


@pytest.mark.parametrize("steps", [1, 2, 8, 50, 200])
@pytest.mark.parametrize("shift", [1.0, 8.0])
def test_euler_is_the_references(steps, shift):
    scheduler = diffusers.FlowMatchEulerDiscreteScheduler(shift=shift)
    sigmas = flow.published_euler_schedule(steps, shift)
    x = torch.randn(1, 2, 3, 4, 5)
    wanted = walk(scheduler, steps, x.clone())
    assert torch.allclose(sigmas.float(), scheduler.sigmas, atol=EXACT)
    *_, found = euler(lambda y, s: curved(y, 1000 * s), x, sigmas)
    assert (found - wanted).norm() <= EXACT * wanted.norm()


@pytest.mark.parametrize("steps", [144, 150, 400])
def test_many_steps_work_where_the_reference_fails(steps):
    scheduler = diffusers.DPMSolverMultistepScheduler(
        prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=8.0
    )
    x = torch.randn(1, 2, 3, 4, 5)
    with pytest.raises(IndexError):
        walk(scheduler, steps, x.clone())
    *_, found = dpm_solver_2m(
        lambda y, s: curved(y, math.floor(1000 * s)), x, flow.published_schedule(steps, 8.0)
    )
    assert found.isfinite().all()
