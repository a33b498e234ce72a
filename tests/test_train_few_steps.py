"""The teacher's way and the student's jump, for which every latent frame has its own levels."""

import pytest
import torch

from longtake import flow, samplers
from longtake.model import Transformer
from longtake.train.causal import after_history, history_states, two_streams
from longtake.train.few_steps import dpm_solver_2m, euler, mean_velocity
from longtake.train.losses import flow_loss, jump_loss

SHAPE = (2, 3, 4, 2, 2)
TOLERANCE = 2e-6


def bent(x, sigma):
    return torch.sin(2 * x) + sigma.view(len(x), 1, -1, 1, 1) * x


def levels(sigmas, rows=2, frames=4):
    return sigmas.float()[:, None, None].expand(-1, rows, frames)


@pytest.mark.parametrize(
    ("ours", "theirs"), [(euler, samplers.euler), (dpm_solver_2m, samplers.dpm_solver_2m)]
)
def test_with_equal_levels_a_walk_is_that_of_the_sampler(ours, theirs):
    x, sigmas = torch.randn(SHAPE), flow.schedule(6, 10.0)
    *_, wanted = theirs(lambda x, s: bent(x, torch.full((2, 4), s)), x, sigmas)
    made = ours(bent, x, levels(sigmas))
    torch.testing.assert_close(made, wanted, rtol=0, atol=10 * TOLERANCE)


@pytest.mark.parametrize("walk", [euler, dpm_solver_2m])
def test_every_frame_walks_its_own_levels(walk):
    x, sigmas = torch.randn(SHAPE), flow.schedule(12, 10.0).float()
    place = torch.randint(4, (2, 4))
    own = sigmas[place * 3 + torch.arange(4)[:, None, None]]
    made = walk(bent, x, own)
    for row, frame in ((0, 0), (0, 3), (1, 2)):
        alone = x[row : row + 1, :, frame : frame + 1]
        wanted = walk(bent, alone, own[:, row : row + 1, frame : frame + 1])
        torch.testing.assert_close(made[row, :, frame], wanted[0, :, 0])


@pytest.mark.parametrize("walk", [euler, dpm_solver_2m])
def test_a_given_frame_stays_to_the_last_bit(walk):
    x, own = torch.randn(SHAPE), levels(flow.schedule(4, 10.0)).clone()
    own[:, 0, 0] = 0
    made = walk(bent, x, own)
    assert torch.equal(made[0, :, 0], x[0, :, 0])
    assert not torch.equal(made[1, :, 0], x[1, :, 0])
    assert made.isfinite().all()


@pytest.mark.parametrize("place", range(4))
def test_on_a_straight_path_the_mean_of_the_teacher_is_the_velocity(place):
    clean, noise = torch.randn(SHAPE), torch.randn(SHAPE)
    sigmas = levels(flow.schedule(12, 10.0)[3 * place : 3 * place + 4])
    straight = flow.velocity(clean, noise)
    x = flow.interpolate(clean, noise, sigmas[0])
    end = dpm_solver_2m(lambda *_: straight, x, sigmas)
    target = mean_velocity(x, end, sigmas[0], sigmas[-1])
    loss, _ = jump_loss(target, straight, sigmas[0], sigmas[-1])
    assert loss < 1e-9


def test_more_steps_of_the_teacher_come_nearer_to_where_the_path_leads():
    x = torch.randn(SHAPE)

    def end(parts):
        return dpm_solver_2m(bent, x, levels(flow.schedule(4 * parts, 10.0))[:-parts])

    true = end(64)
    errors = [(end(parts) - true).abs().max() for parts in (1, 3, 9)]
    assert errors[0] > 2 * errors[1] > 8 * errors[2]


def test_frames_that_stay_do_not_count_and_the_last_jump_is_told_apart():
    target, predicted = torch.zeros(SHAPE), torch.ones(SHAPE)
    predicted[:, :, 0], predicted[:, :, 1] = 7, 3
    sigma = torch.tensor([0.0, 0.5, 1.0, 1.0]).expand(2, -1)
    after = torch.tensor([0.0, 0.0, 0.9, 0.9]).expand(2, -1)
    loss, last = jump_loss(target, predicted, sigma, after)
    assert loss == pytest.approx((9 + 1 + 1) / 3)
    assert last == pytest.approx(9)


def test_if_all_frames_jump_it_is_the_flow_loss():
    target, predicted = torch.randn(SHAPE), torch.randn(SHAPE)
    loss, _ = jump_loss(target, predicted, torch.full((2, 4), 0.9), torch.full((2, 4), 0.5))
    torch.testing.assert_close(loss, flow_loss(target, predicted).mean())


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_passes_after_a_kept_history_are_two_streams(tiny, precision):
    model = Transformer(tiny.transformer)
    torch.nn.init.normal_(model.head.weight, std=0.1)
    chunks, text = (3, 2, 2), torch.randn(2, 3, 4, 24)
    mask = torch.ones(2, 3, 4, dtype=torch.bool)
    noisy, history = torch.randn(2, 2, 8, 7, 2, 2).unbind()
    sigma, past_sigma = torch.rand(2, 7), torch.full((2, 7), 0.1)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
        states = history_states(model, history, past_sigma, text, mask, chunks)
        made = after_history(model, states, noisy, sigma, text, mask)
        wanted = two_streams(model, noisy, sigma, history, past_sigma, text, mask, chunks)
    tolerance = TOLERANCE if precision == "fp32" else 0.05
    torch.testing.assert_close(made, wanted, rtol=0, atol=tolerance)
