"""Chunk by chunk with a carried state, against everything at once."""

from dataclasses import replace

import pytest
import torch

from longtake.kernels import ops
from longtake.model import State, Transformer
from longtake.model.embeddings import rotary_3d

FP64 = 1e-10
FP32 = 2e-5
MODES = ["linear", "block"]
CHUNKS = (3, 2, 2, 2)


def take(tiny, mode="linear", frames=9, dtype=torch.float64):
    torch.manual_seed(1)
    model = Transformer(replace(tiny.transformer, attention=mode)).to(dtype)
    torch.nn.init.normal_(model.head.weight, std=0.1)
    for block in model.blocks:
        torch.nn.init.normal_(block.feed_forward.temporal.weight, std=0.05)
    latents = torch.randn(2, 8, frames, 2, 3, dtype=dtype)
    sigma = torch.rand(2, frames, dtype=dtype)
    text = torch.randn(2, 4, 24, dtype=dtype)
    mask = torch.ones(2, 4, dtype=torch.bool)
    return model, latents, sigma, text, mask


def tensors(state: State):
    return [t for layer in state.layers for t in (*layer.memory, layer.frame)]


def test_one_chunk_without_a_past_is_the_global_pass(tiny):
    model, latents, sigma, text, mask = take(tiny)
    velocity, state = model.advance(latents, sigma, text, mask, (9,))
    assert torch.allclose(velocity, model(latents, sigma, text, mask), atol=FP64)
    assert state.latent_frames == 9


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("cut", [1, 2, 3])
def test_splitting_at_any_chunk_border_changes_nothing(tiny, mode, cut):
    model, latents, sigma, text, mask = take(tiny, mode)
    whole, end = model.advance(latents, sigma, text, mask, CHUNKS)
    at = sum(CHUNKS[:cut])
    first, state = model.advance(latents[:, :, :at], sigma[:, :at], text, mask, CHUNKS[:cut])
    rest, last = model.advance(latents[:, :, at:], sigma[:, at:], text, mask, CHUNKS[cut:], state)
    assert torch.allclose(torch.cat([first, rest], dim=2), whole, atol=FP64)
    assert last.latent_frames == end.latent_frames == 9
    for one, other in zip(tensors(last), tensors(end), strict=True):
        assert torch.allclose(one, other, atol=FP64)


@pytest.mark.parametrize("mode", MODES)
def test_streaming_chunk_by_chunk_is_the_whole_take_to_fp32_rounding(tiny, mode):
    model, latents, sigma, text, mask = take(tiny, mode, dtype=torch.float32)
    whole, _ = model.advance(latents, sigma, text, mask, CHUNKS)
    parts, state, at = [], None, 0
    for frames in CHUNKS:
        here = slice(at, at + frames)
        part, state = model.advance(
            latents[:, :, here], sigma[:, here], text, mask, (frames,), state
        )
        parts.append(part)
        at += frames
    assert torch.allclose(torch.cat(parts, dim=2), whole, atol=FP32)


@pytest.mark.parametrize("mode", MODES)
def test_a_chunk_never_sees_a_later_one(tiny, mode):
    model, latents, sigma, text, mask = take(tiny, mode)
    before, _ = model.advance(latents, sigma, text, mask, CHUNKS)
    latents[:, :, 5:] += 1
    after, _ = model.advance(latents, sigma, text, mask, CHUNKS)
    assert torch.equal(before[:, :, :5], after[:, :, :5])
    assert not torch.allclose(before[:, :, 5:], after[:, :, 5:], atol=1e-3)


@pytest.mark.parametrize("mode", MODES)
def test_a_chunk_sees_every_earlier_one(tiny, mode):
    model, latents, sigma, text, mask = take(tiny, mode)
    latents.requires_grad_()
    velocity, _ = model.advance(latents, sigma, text, mask, CHUNKS)
    velocity[:, :, 7:].sum().backward()
    assert (latents.grad.abs().amax((0, 1, 3, 4)) > 0).all()


@pytest.mark.parametrize("mode", MODES)
def test_the_state_is_as_large_after_a_minute_as_after_a_chunk(tiny, mode):
    model, latents, sigma, text, mask = take(tiny, mode, dtype=torch.float32)
    _, state = model.advance(latents[:, :, :3], sigma[:, :3], text, mask, (3,))
    sizes = [t.shape for t in tensors(state)]
    with torch.no_grad():
        for _ in range(40):
            _, state = model.advance(latents[:, :, :6], sigma[:, :6], text, mask, (2, 2, 2), state)
    assert state.latent_frames == 243
    assert [t.shape for t in tensors(state)] == sizes
    assert all(t.isfinite().all() for t in tensors(state))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_sums_stay_in_float32_whatever_the_weights_are(tiny, dtype):
    model, latents, sigma, text, mask = take(tiny, dtype=dtype)
    _, state = model.advance(latents, sigma.float(), text, mask, CHUNKS)
    assert {layer.memory.sums.dtype for layer in state.layers} == {torch.float32}
    assert {layer.frame.dtype for layer in state.layers} == {dtype}


def test_positions_count_from_the_start_of_the_take_and_only_distance_matters():
    late = rotary_3d((2, 2, 3), 12, 100.0, torch.device("cpu"), start=7)
    whole = rotary_3d((9, 2, 3), 12, 100.0, torch.device("cpu"))
    assert torch.equal(late.cos, whole.cos[-12:])
    q, k, v = torch.randn(3, 1, 2, 24, 12)
    near = rotary_3d((4, 2, 3), 12, 100.0, torch.device("cpu"))
    far = rotary_3d((4, 2, 3), 12, 100.0, torch.device("cpu"), start=2400)
    here, _ = ops.causal_linear_attention(q, k, v, *near, (12, 12))
    there, _ = ops.causal_linear_attention(q, k, v, *far, (12, 12))
    assert torch.allclose(here, there, atol=2e-3)


def test_the_last_frame_of_a_chunk_sees_zero_after_it_in_one_pass_as_in_many(tiny):
    model, _latents, _sigma, _text, _mask = take(tiny)
    conv = model.blocks[0].feed_forward.temporal
    x = torch.randn(1, 5, 6, 48, dtype=torch.float64)
    both = conv(x, (3, 2))
    assert torch.allclose(both[:, :3], conv(x[:, :3], (3,)), atol=FP64)
    assert torch.allclose(both[:, 3:], conv(x[:, 3:], (2,), x[:, 2]), atol=FP64)


def test_only_modes_with_a_constant_state_can_advance(tiny):
    model, latents, sigma, text, mask = take(tiny, "softmax")
    with pytest.raises(AssertionError, match="softmax has no state of constant size"):
        model.advance(latents, sigma, text, mask, CHUNKS)


@pytest.mark.parametrize("mode", MODES)
def test_gradients_of_causal_attention_agree_with_finite_differences(mode):
    torch.manual_seed(0)
    q, k, v = (torch.randn(1, 1, 6, 6, dtype=torch.float64, requires_grad=True) for _ in range(3))
    cos, sin = rotary_3d((6, 1, 1), 6, 100.0, torch.device("cpu"))
    past = ops.Memory(torch.rand(1, 1, 6, 6).double(), torch.rand(1, 1, 1, 6).double())
    gate = torch.tensor([0.3], dtype=torch.float64, requires_grad=True)

    def linear(q, k, v):
        y, memory = ops.causal_linear_attention(q, k, v, cos.double(), sin.double(), (4, 2), past)
        return y, memory.sums

    def block(q, k, v, gate):
        y, memory = ops.causal_block_attention(
            q, k, v, cos.double(), sin.double(), gate, (4, 2), past
        )
        return y, memory.sums

    inputs = (q, k, v) if mode == "linear" else (q, k, v, gate)
    assert torch.autograd.gradcheck(linear if mode == "linear" else block, inputs)
