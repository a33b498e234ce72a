"""LongSANA against its definition written out over all pairs of tokens, in float64."""

import pytest
import torch
import torch.nn.functional as F
from einops import rearrange

from longtake.config import TransformerConfig
from longtake.kernels.reference.attention import rotate
from longtake.model import Transformer
from longtake.model.embeddings import rotary_3d
from longtake.official.longsana import LEVELS, chunks_of, roll

FP64 = 1e-9
CONFIG = TransformerConfig(
    latent_channels=4, width=24, depth=2, heads=2, ffn_ratio=3.0, text_width=16,
    rope_theta=10_000.0, patch=(1, 2, 2), cross_norm_eps=1e-5,
)  # fmt: skip


@pytest.fixture
def model():
    torch.manual_seed(0)
    model = Transformer(CONFIG).double().requires_grad_(False)
    for name, weight in model.named_parameters():
        mean = float("norm" in name)
        torch.nn.init.normal_(weight, mean=mean, std=0.3 * (weight[0].numel() or 1) ** -0.5)
    return model


def plain(model, latents, sigma, text, mask, chunks):
    """The whole take at once, each token summing over those it may see."""
    t, h, w = latents.shape[2:]
    grid = (t, h // 2, w // 2)
    owner = torch.repeat_interleave(torch.arange(len(chunks)), torch.tensor(chunks))
    of_token = owner.repeat_interleave(grid[1] * grid[2])
    sees = of_token[:, None] >= of_token[None, :]
    cos, sin = rotary_3d(grid, 12, 10_000.0, latents.device)
    x = rearrange(latents, "b c t (h q) (w r) -> b (t h w) (c q r)", q=2, r=2)
    x = x @ model.embed.weight.T + model.embed.bias
    reading = model.read(text, mask)
    embedding, modulation = model.noise_level(sigma)
    each = grid[1] * grid[2]
    for block, words in zip(model.blocks, reading.layers, strict=True):
        table = (modulation + block.table).repeat_interleave(each, 1)
        shift_a, scale_a, gate_a, shift_f, scale_f, gate_f = table.unbind(2)
        y = F.layer_norm(x, (24,), eps=1e-6) * (1 + scale_a) + shift_a
        x = x + gate_a * attend(block.self_attention, y, cos, sin, sees)
        x = x + block.cross_attention(x, words)
        y = F.layer_norm(x, (24,), eps=1e-6) * (1 + scale_f) + shift_f
        x = x + gate_f * feed(block.feed_forward, y, grid, owner)
    shift, scale = (model.head_table + embedding[:, :, None]).repeat_interleave(each, 1).unbind(2)
    x = F.layer_norm(x, (24,), eps=1e-6) * (1 + scale) + shift
    x = x @ model.head.weight.T + model.head.bias
    return rearrange(
        x, "b (t h w) (q r c) -> b c t (h q) (w r)", t=t, h=grid[1], w=grid[2], q=2, r=2
    )


def attend(layer, y, cos, sin, sees):
    q, k, v = (y @ layer.qkv.weight.T).chunk(3, dim=-1)
    q, k = (
        z * (z.square().mean(-1, keepdim=True) + 1e-5).rsqrt() * n
        for z, n in ((q, layer.norm_q), (k, layer.norm_k))
    )
    q, k, v = (rearrange(z, "b n (heads k) -> b heads n k", heads=2) for z in (q, k, v))
    q, k = q.relu(), k.relu()
    top = (rotate(q, cos, sin) @ rotate(k, cos, sin).mT) * sees
    below = ((q @ k.mT) * sees).sum(-1, keepdim=True) + 1e-8
    return layer.out(rearrange(top @ v / below, "b heads n k -> b n (heads k)"))


def feed(layer, y, grid, owner):
    t, h, w = grid
    u = F.silu(layer.up(y))
    u = layer.depthwise(rearrange(u, "b (t h w) c -> (b t) c h w", t=t, h=h, w=w))
    a, g = rearrange(u, "(b t) c h w -> b t (h w) c", t=t).chunk(2, dim=-1)
    r = layer.down(a * F.silu(g))
    taps = layer.temporal.weight
    out = r + r @ taps[:, :, 1].T
    for frame in range(t):
        if frame > 0:
            out[:, frame] += r[:, frame - 1] @ taps[:, :, 0].T
        if frame + 1 < t and owner[frame + 1] == owner[frame]:
            out[:, frame] += r[:, frame + 1] @ taps[:, :, 2].T
    return rearrange(out, "b t s c -> b (t s) c")


@pytest.mark.parametrize("chunks", [(3,), (3, 2), (1, 1, 2, 3)])
def test_chunk_by_chunk_is_the_definition_over_all_pairs(model, chunks):
    latents = torch.randn(1, 4, sum(chunks), 4, 6).double()
    sigma = torch.rand(1, sum(chunks)).double()
    text, mask = torch.randn(1, 5, 16).double(), torch.tensor([[True] * 4 + [False]])
    wanted = plain(model, latents, sigma, text, mask, chunks)
    state, start, parts = None, 0, []
    for frames in chunks:
        here = slice(start, start + frames)
        part, state = model.advance(
            latents[:, :, here], sigma[:, here], text, mask, (frames,), state
        )
        parts.append(part)
        start += frames
    found = torch.cat(parts, dim=2)
    assert wanted.std() > 0.01
    assert (found - wanted).norm() <= FP64 * wanted.norm()


@pytest.mark.parametrize(
    ("frames", "chunks"),
    [(1, (1,)), (10, (10,)), (15, (15,)), (21, (11, 10)), (241, (11, *(10,) * 23))],
)
def test_the_first_chunk_takes_what_tens_leave_over(frames, chunks):
    assert chunks_of(frames) == chunks


def test_a_roll_is_five_passes_a_chunk_and_one_that_is_longer_begins_the_same(model):
    calls = []
    model.register_forward_hook(lambda *_: calls.append(1))
    go_on = model.go_on

    def counted(*args):
        calls.append(args[1].flatten()[0].item())
        return go_on(*args)

    model.go_on = counted
    text, mask = torch.randn(1, 5, 16).double(), torch.ones(1, 5, dtype=torch.bool)

    def draw(place, step):
        made = [torch.Generator().manual_seed(100 * step + frame) for frame in place]
        return torch.stack([torch.randn(1, 4, 4, 6, generator=g) for g in made], 2).double()

    long = list(roll(model, text, mask, draw, 31))
    assert calls == [*LEVELS, 0.0] * 3
    assert [part.shape[2] for part in long] == [11, 10, 10]
    short = list(roll(model, text, mask, draw, 21))
    for one, other in zip(short, long, strict=False):
        assert torch.equal(one, other)


def test_the_four_levels_are_even_ones_shifted_by_8():
    shifted = [8 * s / (1 + 7 * s) for s in (1.0, 0.75, 0.5, 0.25)]
    assert [pytest.approx(s, abs=1e-3) for s in shifted] == list(LEVELS)
