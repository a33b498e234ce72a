"""Decoders laid out for speed against the reference library's own, on the same weights."""

import pytest
import torch

from longtake.vae import ltx2, wan

diffusers = pytest.importorskip("diffusers", reason="the reference library, in [official]")
pytestmark = pytest.mark.conformance
FP32 = 2e-5
BF16 = 2.0
"""Error against float64 over that of the reference in bf16."""


@pytest.fixture
def wan_vae():
    torch.manual_seed(2)
    vae = diffusers.AutoencoderKLWan(
        base_dim=8, z_dim=4, dim_mult=[1, 2, 4, 4], num_res_blocks=1,
        latents_mean=[0.0] * 4, latents_std=[1.0] * 4,
    )  # fmt: skip
    return randomised(vae)


def ltx2_vae(**settings):
    torch.manual_seed(2)
    vae = diffusers.AutoencoderKLLTX2Video(
        latent_channels=4, block_out_channels=(8, 16, 32, 64),
        decoder_block_out_channels=(8, 16, 32), layers_per_block=(1, 1, 1, 1, 1),
        decoder_layers_per_block=(2, 1, 1, 1), decoder_causal=False,
        spatial_compression_ratio=32, temporal_compression_ratio=8, **settings,
    )  # fmt: skip
    return randomised(vae)


def randomised(vae):
    for name, weight in vae.named_parameters():
        std = 0.1 if weight.ndim == 1 else weight[0].numel() ** -0.5
        torch.nn.init.normal_(weight, mean=float("gamma" in name), std=std)
    return vae.eval().requires_grad_(False)


def fast(vae, latents, at_once):
    z = vae.post_quant_conv(latents)
    return torch.cat(list(wan.decode(vae.decoder, iter((z,)), at_once)), dim=2).clamp(-1, 1)


def error(a, b):
    return ((a.double() - b.double()).norm() / b.double().norm()).item()


@pytest.mark.parametrize("at_once", [1, 2, 3])
@pytest.mark.parametrize("frames", [1, 2, 6])
@torch.no_grad()
def test_the_wan_decoder_is_the_references_however_many_frames_go_at_once(wan_vae, at_once, frames):
    latents = torch.randn(1, 4, frames, 4, 6)
    wanted = wan_vae.decode(latents).sample
    got = fast(wan_vae, latents, at_once)
    assert got.shape == wanted.shape == (1, 3, 4 * frames - 3, 32, 48)
    assert wanted.std() > 0.1
    assert error(got, wanted) <= FP32


@torch.no_grad()
def test_latents_of_the_wan_decoder_may_come_in_parts(wan_vae):
    latents = torch.randn(1, 4, 6, 4, 6)
    parts = wan_vae.post_quant_conv(latents).split([2, 3, 1], dim=2)
    got = torch.cat(list(wan.decode(wan_vae.decoder, iter(parts))), dim=2)
    assert error(got.clamp(-1, 1), fast(wan_vae, latents, 2)) <= FP32


@torch.no_grad()
def test_in_bf16_the_wan_decoder_strays_no_further_than_the_references(wan_vae):
    latents = torch.randn(1, 4, 3, 4, 6).bfloat16()
    low = wan_vae.bfloat16()
    own, theirs = fast(low, latents, 2), low.decode(latents).sample
    exact = wan_vae.double().decode(latents.double()).sample
    assert error(own, exact) <= BF16 * error(theirs, exact)


@pytest.mark.parametrize("padding", ["reflect", "zeros"])
@pytest.mark.parametrize("frames", [1, 3])
@torch.no_grad()
def test_the_ltx2_decoder_is_the_references(padding, frames):
    vae = ltx2_vae(decoder_spatial_padding_mode=padding)
    assert ltx2.fits(vae.decoder)
    latents = torch.randn(1, 4, frames, 2, 3)
    wanted = vae.decode(latents).sample
    got = ltx2.decode(vae.decoder, latents)
    assert got.shape == wanted.shape == (1, 3, 8 * frames - 7, 64, 96)
    assert wanted.std() > 0.1
    assert error(got, wanted) <= FP32


@torch.no_grad()
def test_in_bf16_the_ltx2_decoder_strays_no_further_than_the_references():
    vae, latents = ltx2_vae().bfloat16(), torch.randn(1, 4, 2, 2, 3).bfloat16()
    own, theirs = ltx2.decode(vae.decoder, latents), vae.decode(latents).sample
    exact = vae.double().decode(latents.double()).sample
    assert error(own, exact) <= BF16 * error(theirs, exact)


def test_an_ltx2_decoder_with_parts_that_are_not_known_is_left_to_the_reference():
    assert not ltx2.fits(ltx2_vae(decoder_inject_noise=(True, False, False, False)).decoder)
