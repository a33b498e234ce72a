"""Our transformer against the reference library's, on the same files."""

import copy
import json

import pytest
import torch

from longtake.checkpoints.public_config import read_transformer_config
from longtake.checkpoints.public_keys import key_map, public_shapes
from longtake.official.transformer import (
    empty_transformer,
    load_transformer,
    save_transformer,
    shapes_of,
)

diffusers = pytest.importorskip("diffusers", reason="the reference library, in [official]")
pytestmark = pytest.mark.conformance
FP32 = 1e-5
BF16 = 1.5
CPU = torch.device("cpu")

CASES = {
    "480p layout": ({}, (3, 4, 6)),
    "720p layout": ({"in_channels": 8, "out_channels": 8, "patch_size": (1, 1, 1)}, (3, 4, 5)),
    "odd sizes": ({"patch_size": (1, 1, 1)}, (5, 3, 7)),
    "one frame of one token": ({}, (1, 2, 2)),
    "no norm of queries and keys": ({"qk_norm": None}, (2, 4, 6)),
    "biases": ({"attention_bias": True}, (2, 4, 6)),
    "an affine norm": ({"norm_elementwise_affine": True}, (2, 4, 6)),
    "guidance embedding": ({"guidance_embeds": True}, (2, 4, 6)),
    "twice the channels out": ({"out_channels": 8}, (2, 4, 6)),
    "out as many as in": ({"out_channels": None}, (2, 4, 6)),
    "other heads for the text": (
        {"num_cross_attention_heads": 3, "cross_attention_head_dim": 10}, (2, 4, 6)),
    "a ratio that does not divide": ({"mlp_ratio": 2.55, "patch_size": (1, 1, 1)}, (2, 4, 6)),
    "patches in time": ({"patch_size": (2, 2, 2)}, (4, 4, 6)),
    "one head of the published size": (
        {"num_attention_heads": 1, "attention_head_dim": 112, "cross_attention_dim": 112,
         "num_cross_attention_heads": 1, "cross_attention_head_dim": 112}, (4, 6, 4)),
    "deep": ({"num_layers": 6}, (3, 4, 6)),
}  # fmt: skip


def inputs(model, sides, batch=2, tokens=7, *, dtype=torch.float32):
    generator = torch.Generator().manual_seed(3)
    config = model.config
    latents = torch.randn(batch, config.in_channels, *sides, generator=generator)
    text = torch.randn(batch, tokens, config.caption_channels, generator=generator) * 4
    mask = torch.zeros(batch, tokens, dtype=torch.long)
    for sample in range(batch):
        mask[sample, : tokens - 2 * sample] = 1
    return latents.to(dtype), text.to(dtype), mask


def theirs(model, latents, text, mask, times, *, per_frame=False):
    t, h, w = (a // b for a, b in zip(latents.shape[2:], model.config.patch_size, strict=True))
    step = times
    if per_frame:
        step = times[:, None, :: model.config.patch_size[0], None, None]
        step = step.expand(-1, 1, t, h, w)
    guidance = torch.tensor([4.0, 6.5])[: len(latents)] if model.config.guidance_embeds else None
    return model(
        latents, encoder_hidden_states=text, timestep=step, guidance=guidance,
        encoder_attention_mask=mask, return_dict=False,
    )[0]  # fmt: skip


def ours(model, latents, text, mask, times, *, per_frame=False):
    sigma = times.double() / 1000
    sigma = sigma if per_frame else sigma[:, None].expand(-1, latents.shape[2])
    guidance = torch.tensor([4.0, 6.5])[: len(latents)] if model.config.guidance_embedding else None
    return model(latents, sigma, text, mask.bool(), guidance)


def loaded(reference, folder, dtype=torch.float32):
    reference.save_pretrained(folder)
    return load_transformer(folder, dtype, CPU)


def error(a, b):
    return ((a.double() - b.double()).norm() / b.double().norm()).item()


@pytest.mark.parametrize("case", CASES)
def test_fp32_output_is_the_references(reference_transformer, tmp_path, case):
    settings, sides = CASES[case]
    reference = reference_transformer(**settings)
    model = loaded(reference, tmp_path)
    latents, text, mask = inputs(reference, sides)
    for t in ([959, 12], [1000, 727]):
        times = torch.tensor(t)
        wanted = theirs(reference, latents, text, mask, times)
        assert error(ours(model, latents, text, mask, times), wanted) <= FP32


@pytest.mark.parametrize("case", CASES)
def test_bf16_strays_from_float64_hardly_more_than_the_reference_does(
    reference_transformer, tmp_path, case
):
    settings, sides = CASES[case]
    reference = reference_transformer(**settings)
    model = loaded(reference, tmp_path, torch.bfloat16)
    latents, text, mask = inputs(reference, sides)
    latents, text = latents.bfloat16(), text.bfloat16()
    times = torch.tensor([959, 127])
    low = copy.deepcopy(reference).bfloat16()
    exact = theirs(low.double(), latents.double(), text.double(), mask, times)
    low = low.bfloat16()
    own = error(ours(model, latents, text, mask, times), exact)
    assert own <= BF16 * error(theirs(low, latents, text, mask, times), exact)


@pytest.mark.parametrize("case", ["480p layout", "720p layout", "odd sizes"])
def test_a_time_for_each_frame_is_a_time_for_each_of_its_tokens(
    reference_transformer, tmp_path, case
):
    settings, sides = CASES[case]
    reference = reference_transformer(**settings)
    model = loaded(reference, tmp_path)
    latents, text, mask = inputs(reference, sides)
    times = torch.full((2, sides[0]), 888.0)
    times[:, 0] = 0
    times[1, 1:] = 333.25
    wanted = theirs(reference, latents, text, mask, times, per_frame=True)
    assert error(ours(model, latents, text, mask, times, per_frame=True), wanted) <= FP32


def test_a_prompt_of_which_nothing_is_kept_is_no_nan(reference_transformer, tmp_path):
    reference = reference_transformer()
    model = loaded(reference, tmp_path)
    latents, text, mask = inputs(reference, (2, 4, 6))
    mask[1] = 0
    times = torch.tensor([500, 500])
    wanted = theirs(reference, latents, text, mask, times)
    assert error(ours(model, latents, text, mask, times), wanted) <= FP32


def test_shards_and_their_index_are_read(reference_transformer, tmp_path):
    reference = reference_transformer()
    reference.save_pretrained(tmp_path, max_shard_size="20KB")
    assert (tmp_path / "diffusion_pytorch_model.safetensors.index.json").exists()
    model = load_transformer(tmp_path, torch.float32, CPU)
    latents, text, mask = inputs(reference, (2, 4, 6))
    times = torch.tensor([500, 250])
    wanted = theirs(reference, latents, text, mask, times)
    assert error(ours(model, latents, text, mask, times), wanted) <= FP32


@pytest.mark.parametrize("case", CASES)
def test_what_we_save_the_reference_loads_to_the_same_bits(reference_transformer, tmp_path, case):
    settings, _ = CASES[case]
    reference = reference_transformer(**settings)
    save_transformer(loaded(reference, tmp_path / "theirs"), tmp_path / "ours")
    again = diffusers.SanaVideoTransformer3DModel.from_pretrained(tmp_path / "ours")
    wanted = reference.state_dict()
    assert set(again.state_dict()) == set(wanted)
    assert all(torch.equal(value, wanted[name]) for name, value in again.state_dict().items())


@pytest.mark.parametrize(
    ("settings", "parameters"),
    [
        ({"mlp_ratio": 3.0}, 2_056_862_144),
        ({"mlp_ratio": 3.0, "in_channels": 128, "out_channels": 128, "patch_size": (1, 1, 1)},
         2_057_148_928),
    ],
)  # fmt: skip
def test_the_published_sizes_have_the_references_tensors_to_the_last(settings, parameters):
    with torch.device("meta"):
        reference = diffusers.SanaVideoTransformer3DModel(**settings)
    config = read_transformer_config(json.loads(reference.to_json_string()), "config.json")
    model = empty_transformer(config)
    assert sum(p.numel() for p in model.parameters()) == parameters
    wanted = {name: tuple(value.shape) for name, value in reference.state_dict().items()}
    assert public_shapes(key_map(config, shapes_of(model), "diffusers")) == wanted
