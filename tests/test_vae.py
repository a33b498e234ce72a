import pytest
import torch

from longtake.config import AutoencoderConfig
from longtake.vae import Autoencoder
from longtake.vae.autoencoder import StreamCache
from longtake.vae.layers import Down, Up

ROUNDING = 1e-5


@pytest.fixture
def model(tiny):
    model = Autoencoder(tiny.autoencoder)
    for parameter in model.parameters():
        if parameter.ndim > 1:
            torch.nn.init.normal_(parameter, std=parameter[0].numel() ** -0.5)
    return model.requires_grad_(False)


@pytest.mark.parametrize("frames", [1, 5, 17])
def test_a_frame_alone_then_groups_of_four_become_latents(model, frames):
    video = torch.rand(2, frames, 64, 96, 3) * 2 - 1
    latents = model.encode(video)
    assert latents.shape == (2, 8, (frames - 1) // 4 + 1, 2, 3)
    assert model.decode(latents).shape == video.shape


@pytest.mark.parametrize("cuts", [(1, 16), (5, 4, 8), (1, 4, 4, 4, 4), (9, 8)])
def test_encoding_in_chunks_equals_one_pass(model, cuts):
    video = torch.rand(1, 17, 64, 64, 3) * 2 - 1
    cache = StreamCache()
    parts = [model.encode(part, cache) for part in video.split(cuts, dim=1)]
    assert torch.allclose(torch.cat(parts, dim=2), model.encode(video), atol=ROUNDING)


@pytest.mark.parametrize("chunk", [1, 2, 3, 5])
def test_decoding_in_chunks_equals_one_pass(model, chunk):
    latents = torch.randn(1, 8, 5, 2, 2)
    streamed = torch.cat(list(model.decode_stream(latents, chunk)), dim=1)
    assert torch.allclose(streamed, model.decode(latents), atol=ROUNDING)


def test_the_cache_does_not_grow_with_the_film(model):
    cache, sizes = StreamCache(), []
    for _ in range(4):
        model.decode(torch.randn(1, 8, 2, 2, 2), cache)
        sizes.append(sum(c.numel() for c in cache.blocks))
    assert len(set(sizes)) == 1


def test_a_later_frame_never_changes_an_earlier_latent(model):
    video = torch.rand(1, 17, 64, 64, 3) * 2 - 1
    changed = video.clone()
    changed[:, 9:] = 0
    before, after = model.encode(video), model.encode(changed)
    assert torch.allclose(before[:, :, :3], after[:, :, :3], atol=ROUNDING)
    assert not torch.allclose(before[:, :, 3:], after[:, :, 3:], atol=1e-2)


def test_latents_come_out_normalised_by_the_stored_statistics(model):
    video = torch.rand(1, 5, 64, 64, 3) * 2 - 1
    plain = model.encode(video)
    model.latent_mean.fill_(0.5)
    model.latent_std.fill_(2.0)
    assert torch.allclose(model.encode(video), (plain - 0.5) / 2, atol=ROUNDING)
    assert torch.allclose(
        model.decode(model.encode(video)), model.reconstruct(plain, StreamCache()).clamp(-1, 1),
        atol=1e-4,
    )  # fmt: skip


@pytest.mark.parametrize("first", [True, False])
def test_going_down_and_up_again_keeps_the_number_of_frames(first):
    frames = 5 if first else 4
    x = torch.randn(1, frames, 4, 6, 16)
    small = Down(16, 24)(x, first=first)
    assert small.shape == (1, 3 if first else 2, 2, 3, 24)
    assert Up(24, 16)(small, first=first).shape == x.shape


def test_without_weights_the_resamplers_still_carry_the_picture():
    down, up = Down(16, 128), Up(128, 16)
    for layer in (down.project, up.project):
        torch.nn.init.zeros_(layer.weight)
        torch.nn.init.zeros_(layer.bias)
    x = torch.randn(1, 4, 4, 6, 16)
    assert torch.allclose(up(down(x, first=False), first=False), x, atol=ROUNDING)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_it_runs_in_the_precision_of_its_weights(model, dtype):
    model.to(dtype)
    assert model.decode(torch.randn(1, 8, 2, 2, 2)).isfinite().all()


def test_the_embedded_shape_stays_within_the_shipped_budget():
    with torch.device("meta"):
        model = Autoencoder(AutoencoderConfig())
    assert sum(p.numel() for p in model.parameters()) <= 8_000_000
