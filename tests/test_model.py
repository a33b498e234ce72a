from dataclasses import replace

import pytest
import torch

from longtake.config import TransformerConfig
from longtake.kernels import ops
from longtake.kernels.reference.attention import rotate
from longtake.model import Transformer
from longtake.model.embeddings import NoiseLevelEmbedding, rotary_3d
from longtake.model.transformer import Block, segments_of

FP32 = 2e-5
MODES = ["linear", "block", "softmax"]


def attention_inputs(tokens=24, size=12, seed=0):
    generator = torch.Generator().manual_seed(seed)
    q, k, v = torch.randn(3, 2, 3, tokens, size, generator=generator)
    rotary = rotary_3d((tokens // 6, 2, 3), size, 100.0, torch.device("cpu"))
    return q, k, v, rotary.cos, rotary.sin


def forward(config, mode, latents=None, sigma=None, text=None, mask=None):
    torch.manual_seed(1)
    model = Transformer(replace(config.transformer, attention=mode))
    torch.nn.init.normal_(model.head.weight, std=0.1)
    for block in model.blocks:
        torch.nn.init.normal_(block.feed_forward.temporal.weight, std=0.05)
    latents = torch.randn(2, 8, 5, 2, 3) if latents is None else latents
    sigma = torch.full((len(latents), latents.shape[2]), 0.5) if sigma is None else sigma
    text = torch.randn(len(latents), 4, 24) if text is None else text
    mask = torch.ones(len(latents), text.shape[1], dtype=torch.bool) if mask is None else mask
    return model(latents, sigma, text, mask)


def test_linear_attention_equals_the_sum_over_all_pairs():
    q, k, v, cos, sin = attention_inputs()
    fq, fk = q.relu(), k.relu()
    weights = rotate(fq, cos, sin) @ rotate(fk, cos, sin).mT
    expected = (weights @ v) / ((fq @ fk.mT).sum(-1, keepdim=True) + 1e-8)
    assert torch.allclose(ops.linear_attention(q, k, v, cos, sin), expected, atol=FP32)


def test_rotation_changes_the_numerator_and_never_the_denominator():
    q, k, v, cos, sin = attention_inputs()
    ones = torch.ones_like(v)
    turned = ops.linear_attention(q, k, ones, cos, sin)
    still = ops.linear_attention(q, k, ones, torch.ones_like(cos), torch.zeros_like(sin))
    assert torch.allclose(still, torch.ones_like(still), atol=1e-4)
    assert not torch.allclose(turned, still, atol=1e-2)


def test_a_query_with_no_positive_feature_reads_nothing_and_is_finite():
    q, k, v, cos, sin = attention_inputs()
    out = ops.linear_attention(-q.abs(), k, v, cos, sin)
    assert torch.equal(out, torch.zeros_like(out))


def test_rotation_keeps_lengths_and_depends_on_distance_alone():
    x = torch.randn(1, 1, 30, 12)
    rotary = rotary_3d((30, 1, 1), 12, 100.0, torch.device("cpu"))
    turned = rotate(x, *rotary)
    assert torch.allclose(turned.norm(dim=-1), x.norm(dim=-1), atol=1e-5)
    same = rotate(x[:, :, :1].expand(-1, -1, 30, -1), *rotary)
    products = (same[0, 0, :-7] * same[0, 0, 7:]).sum(-1)
    assert torch.allclose(products, products[:1].expand_as(products), atol=1e-4)


def test_the_published_head_size_splits_into_40_36_36_channels():
    t, h, w = (
        rotary_3d(g, 112, 1e4, torch.device("cpu")) for g in ((9, 1, 1), (1, 9, 1), (1, 1, 9))
    )
    moved = [(r.sin.abs().sum(0) > 0).nonzero().flatten().tolist() for r in (t, h, w)]
    assert [(m[0], m[-1] + 1) for m in moved] == [(0, 20), (20, 38), (38, 56)]


def test_one_segment_is_plain_softmax_attention():
    q, k, v, cos, sin = attention_inputs()
    gate = torch.tensor([0.1, 0.5, 0.9])
    block = ops.block_attention(q, k, v, cos, sin, gate, (24,))
    assert torch.allclose(block, ops.softmax_attention(q, k, v, cos, sin), atol=FP32)


def test_a_closed_gate_leaves_linear_attention_to_the_other_segments():
    q, k, v, cos, sin = attention_inputs()
    block = ops.block_attention(q, k, v, cos, sin, torch.zeros(3), (6, 12, 6))
    for start, end in ((0, 6), (6, 18), (18, 24)):
        others = torch.cat((torch.arange(start), torch.arange(end, 24)))
        fq, fk = q[:, :, start:end].relu(), k[:, :, others].relu()
        weights = (
            rotate(fq, cos[start:end], sin[start:end]) @ rotate(fk, cos[others], sin[others]).mT
        )
        expected = (weights @ v[:, :, others]) / ((fq @ fk.mT).sum(-1, keepdim=True) + 1e-8)
        assert torch.allclose(block[:, :, start:end], expected, atol=FP32)


def test_an_open_gate_leaves_softmax_inside_each_segment():
    q, k, v, cos, sin = attention_inputs()
    block = ops.block_attention(q, k, v, cos, sin, torch.ones(3), (6, 12, 6))
    inside = ops.softmax_attention(
        q[:, :, 6:18], k[:, :, 6:18], v[:, :, 6:18], cos[6:18], sin[6:18]
    )
    assert torch.allclose(block[:, :, 6:18], inside, atol=FP32)


@pytest.mark.parametrize("latent_frames", [1, 2, 6, 7, 21, 23, 241])
def test_segments_cover_every_frame_once_and_the_first_holds_one_more(latent_frames):
    segments = segments_of(latent_frames, 5, 10)
    assert sum(segments) == 10 * latent_frames
    assert segments[0] == 10 * min(6, latent_frames)
    assert all(0 < s <= 50 for s in segments[1:])


@pytest.mark.parametrize("mode", MODES)
def test_gradients_of_every_mode_agree_with_finite_differences(mode):
    q, k, v, cos, sin = attention_inputs(tokens=12, size=12)
    gate = torch.tensor([0.3, 0.5, 0.7])

    def run(q, k, v):
        match mode:
            case "linear":
                return ops.linear_attention(q, k, v, cos, sin)
            case "block":
                return ops.block_attention(q, k, v, cos, sin, gate, (6, 6))
            case _:
                return ops.softmax_attention(q, k, v, cos, sin)

    inputs = [x.requires_grad_() for x in (q, k, v)]
    weights = torch.randn_like(v)
    grads = torch.autograd.grad((run(*inputs) * weights).sum(), inputs)
    for index, grad in enumerate(grads):
        direction = torch.randn_like(grad)
        moved = [
            [x + s * 1e-3 * direction if i == index else x for i, x in enumerate(inputs)]
            for s in (1, -1)
        ]
        slope = (
            sum(s * (run(*m) * weights).sum() for s, m in zip((1, -1), moved, strict=True)) / 2e-3
        )
        assert (grad * direction).sum().item() == pytest.approx(slope.item(), rel=0.05, abs=0.05)


@pytest.mark.parametrize("mode", MODES)
def test_the_model_keeps_the_shape_and_gives_every_weight_a_gradient(tiny, mode):
    torch.manual_seed(1)
    model = Transformer(replace(tiny.transformer, attention=mode))
    torch.nn.init.normal_(model.head.weight)
    x = torch.randn(2, 8, 5, 2, 3)
    mask = torch.ones(2, 4, dtype=torch.bool)
    out = model(x, torch.rand(2, 5), torch.randn(2, 4, 24), mask)
    assert out.shape == x.shape
    out.square().sum().backward()
    dead = [name for name, p in model.named_parameters() if p.grad is None or not p.grad.any()]
    assert dead == []


def test_a_fresh_model_predicts_zero_velocity(tiny):
    model = Transformer(tiny.transformer)
    mask = torch.ones(1, 3, dtype=torch.bool)
    out = model(torch.randn(1, 8, 5, 2, 3), torch.ones(1, 5), torch.randn(1, 3, 24), mask)
    assert not out.any()


@pytest.mark.parametrize("mode", MODES)
def test_padding_of_the_text_changes_nothing(tiny, mode):
    latents, text = torch.randn(1, 8, 5, 2, 3), torch.randn(1, 4, 24)
    plain = forward(tiny, mode, latents, text=text)
    padded = torch.cat((text, torch.full((1, 3, 24), 9.0)), dim=1)
    mask = torch.tensor([[True] * 4 + [False] * 3])
    assert torch.allclose(plain, forward(tiny, mode, latents, text=padded, mask=mask), atol=FP32)


@pytest.mark.parametrize("mode", MODES)
def test_samples_of_a_batch_do_not_see_each_other(tiny, mode):
    latents, text = torch.randn(2, 8, 5, 2, 3), torch.randn(2, 4, 24)
    both = forward(tiny, mode, latents, text=text)
    alone = forward(tiny, mode, latents[1:], text=text[1:])
    assert torch.allclose(both[1:], alone, atol=FP32)


def test_a_frames_own_noise_level_reaches_its_output(tiny):
    latents, text = torch.randn(1, 8, 5, 2, 3), torch.randn(1, 4, 24)
    sigma = torch.full((1, 5), 0.5)
    changed = sigma.clone()
    changed[0, 2] = 0.1
    a, b = (forward(tiny, "linear", latents, s, text) for s in (sigma, changed))
    difference = (a - b).abs().amax(dim=(0, 1, 3, 4))
    assert difference.argmax() == 2


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("grid", [(1, 2, 3), (4, 3, 1), (7, 1, 1)])
def test_odd_grids_run_in_bf16_close_to_fp32(tiny, mode, grid):
    latents, text = torch.randn(1, 8, *grid), torch.randn(1, 4, 24)
    exact = forward(tiny, mode, latents, text=text)
    torch.manual_seed(1)
    model = Transformer(replace(tiny.transformer, attention=mode))
    torch.nn.init.normal_(model.head.weight, std=0.1)
    for block in model.blocks:
        torch.nn.init.normal_(block.feed_forward.temporal.weight, std=0.05)
    mask = torch.ones(1, 4, dtype=torch.bool)
    low = model.bfloat16()(latents, torch.full((1, grid[0]), 0.5), text.bfloat16(), mask).float()
    assert (low - exact).norm() < 0.05 * exact.norm()


def test_the_layers_of_the_2b_model_have_the_published_number_of_parameters():
    with torch.device("meta"):
        block = Block(
            TransformerConfig(
                latent_channels=16,
                width=2240,
                depth=20,
                heads=20,
                ffn_ratio=3.0,
                attention="linear",
            )
        )
    assert sum(p.numel() for p in block.parameters()) == 100_533_440


@pytest.mark.parametrize("rows", range(1, 16))
def test_noise_levels_give_the_same_bytes_with_one_thread_and_with_two(rows):
    embed = NoiseLevelEmbedding(64).eval()
    sigma = torch.rand(1, rows)
    before, made = torch.get_num_threads(), []
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            made.append(embed(sigma))
    finally:
        torch.set_num_threads(before)
    (one, one_modulation), (two, two_modulation) = made
    assert torch.equal(one, two)
    assert torch.equal(one_modulation, two_modulation)
    assert one.shape == (1, rows, 64)
