"""Training passes of the causal model against what a rollout computes."""

from dataclasses import replace

import pytest
import torch

from longtake.model import Transformer
from longtake.train.causal import monotone_levels, two_streams
from longtake.train.losses import chunk_loss, flow_loss

FP64 = 1e-10
CHUNKS = (3, 2, 2)


@pytest.fixture(params=["linear", "block"])
def take(tiny, request):
    torch.manual_seed(1)
    model = Transformer(replace(tiny.transformer, attention=request.param)).double()
    torch.nn.init.normal_(model.head.weight, std=0.1)
    for block in model.blocks:
        torch.nn.init.normal_(block.feed_forward.temporal.weight, std=0.05)
    noisy, history = torch.randn(2, 2, 8, 7, 2, 3, dtype=torch.float64)
    sigma = torch.rand(2, 7, dtype=torch.float64)
    text = torch.randn(2, 3, 4, 24, dtype=torch.float64)
    mask = torch.tensor([[[True] * 4] * 3, [[True, True, False, False]] * 3])
    return model, noisy, sigma, history, torch.zeros_like(sigma), text, mask


def test_a_training_pass_is_what_a_rollout_computes_after_the_same_history(take):
    model, noisy, sigma, history, clean, text, mask = take
    trained = two_streams(*take, CHUNKS)
    state, start = None, 0
    for number, frames in enumerate(CHUNKS):
        here = slice(start, start + frames)
        read = (text[:, number], mask[:, number], (frames,), state)
        rolled, _ = model.advance(noisy[:, :, here], sigma[:, here], *read)
        assert torch.allclose(trained[:, :, here], rolled, atol=FP64)
        _, state = model.advance(history[:, :, here], clean[:, here], *read)
        start += frames


def test_noisy_chunks_do_not_see_each_other(take):
    before = two_streams(*take, CHUNKS)
    take[1][:, :, :3] += 1
    after = two_streams(*take, CHUNKS)
    assert not torch.allclose(before[:, :, :3], after[:, :, :3], atol=1e-3)
    assert torch.allclose(before[:, :, 3:], after[:, :, 3:], atol=FP64)


@pytest.mark.parametrize("number", range(3))
def test_each_chunk_reads_its_own_caption_and_remembers_those_before(take, number):
    before = two_streams(*take, CHUNKS)
    take[5][:, number] += 1
    after = two_streams(*take, CHUNKS)
    changed = (before - after).abs().amax((0, 1, 3, 4)) > 1e-6
    first = sum(CHUNKS[:number])
    assert changed.tolist() == [False] * first + [True] * (7 - first)


@pytest.mark.parametrize("take", ["linear"], indirect=True)
def test_one_chunk_without_a_past_has_the_loss_of_the_bidirectional_denoiser(take):
    model, noisy, _, history, clean, text, mask = take
    sigma = torch.tensor([[0.3], [0.8]], dtype=torch.float64).expand(-1, 7)
    target = torch.randn_like(noisy)
    with torch.no_grad():
        causal = two_streams(model, noisy, sigma, history, clean, text[:, :1], mask[:, :1], (7,))
        plain = model(noisy, sigma, text[:, 0], mask[:, 0])
    loss, low = chunk_loss(target, causal, sigma)
    each = flow_loss(target, plain)
    assert float(loss) == pytest.approx(float(each.mean()), rel=1e-6)
    assert float(low) == pytest.approx(float(each[0]), rel=1e-6)


def test_a_given_frame_does_not_count():
    target, predicted = torch.randn(2, 2, 8, 4, 2, 3)
    sigma = torch.full((2, 4), 0.7)
    sigma[0, 0] = 0
    before, _ = chunk_loss(target, predicted, sigma)
    predicted[0, :, 0] += 5
    assert torch.equal(chunk_loss(target, predicted, sigma)[0], before)
    predicted[1, :, 0] += 5
    assert chunk_loss(target, predicted, sigma)[0] > before


def test_gradients_reach_the_history_of_every_earlier_chunk_and_none_of_the_last(take):
    history = take[3].requires_grad_()
    two_streams(*take, CHUNKS)[:, :, 5:].sum().backward()
    reached = history.grad.abs().amax((0, 1, 3, 4)) > 0
    assert reached.tolist() == [True] * 5 + [False] * 2


def test_levels_never_fall_and_pass_through_the_anchor():
    generator = torch.Generator().manual_seed(0)
    anchor = torch.rand(500, generator=generator)
    levels = monotone_levels(500, 6, anchor, generator)
    assert (levels.diff(dim=1) >= 0).all()
    assert ((levels - anchor[:, None]).abs().amin(1) == 0).all()
    assert levels.min() >= 0
    assert levels.max() <= 1


def test_levels_around_the_anchor_are_uniform():
    generator = torch.Generator().manual_seed(0)
    levels = monotone_levels(20000, 3, torch.full((20000,), 0.5), generator)
    middle = levels[(levels[:, 1] == 0.5)]
    assert len(middle) == pytest.approx(20000 / 3, rel=0.05)
    assert middle[:, 0].mean() == pytest.approx(0.25, abs=0.01)
    assert middle[:, 2].mean() == pytest.approx(0.75, abs=0.01)
    first = levels[levels[:, 0] == 0.5]
    assert first[:, 1].mean() == pytest.approx(0.5 + 0.5 / 3, abs=0.01)


def test_the_same_generator_draws_the_same_levels():
    draws = [
        monotone_levels(4, 3, torch.full((4,), 0.3), torch.Generator().manual_seed(7))
        for _ in range(2)
    ]
    assert torch.equal(*draws)
