"""The compiled kernels against their references, alone and inside the denoiser."""

from dataclasses import replace

import pytest
import torch

from longtake.bench.run import decoder_of
from longtake.bench.shapes import inputs_of, random_denoiser, shape_named
from longtake.kernels import ops, trial
from longtake.kernels.reference import attention

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA card"),
]

CARD = torch.device("cuda")
FORWARD = 2e-2
"""Of a whole forward in bf16, kernels against none."""
DECODED = 5e-2
"""Of a picture decoded in bf16, against float32 on the same weights."""


@pytest.fixture
def nan_filled():
    torch.use_deterministic_algorithms(True, warn_only=True)
    yield
    torch.use_deterministic_algorithms(False)


@pytest.fixture
def denoiser():
    shape = shape_named("480p")
    shape = replace(shape, transformer=replace(shape.transformer, depth=2), latents=(3, 14, 22))
    model = random_denoiser(shape.transformer, CARD, torch.bfloat16)
    return model, inputs_of(shape, CARD, torch.bfloat16)


def error(a, b):
    return ((a.double() - b.double()).norm() / b.double().norm()).item()


@pytest.mark.usefixtures("nan_filled")
@pytest.mark.parametrize(
    ("name", "dtype"),
    # Products of eight bits come in bf16.
    [*((name, torch.bfloat16) for name in trial.CASES),
     *((name, torch.float16) for name in trial.CASES if name != "low_bits")],
)  # fmt: skip
@torch.no_grad()
def test_a_compiled_kernel_agrees_with_its_float64_reference(name, dtype):
    assert trial.strays(name, CARD, dtype) <= trial.LARGEST_ERROR[dtype]
    assert trial.verdict(name, CARD, dtype).told.startswith("Triton")


@torch.no_grad()
def test_sums_beyond_float16_are_read_without_leaving_its_range():
    generator = torch.Generator().manual_seed(8)
    qkv = torch.randn(1, 40_000, 3 * 224, generator=generator)
    qkv[..., 448:] = 4 + qkv[..., 448:]
    rotary = (torch.ones(40_000, 56, device=CARD), torch.zeros(40_000, 56, device=CARD))
    weight = torch.full((224,), 3.0, device=CARD)
    low = (qkv.to(CARD, torch.float16), weight.half(), weight.half())
    got, memory = ops.packed_linear_attention(*low, rotary, 2, (40_000,))
    assert memory.sums.abs().max() > 65_504
    wide = (part.double() for part in low)
    wanted, _ = attention.packed_linear_attention(*wide, rotary, 2, (40_000,))
    assert error(got, wanted) <= trial.LARGEST_ERROR[torch.float16]


@pytest.mark.usefixtures("nan_filled")
@torch.no_grad()
def test_a_forward_with_kernels_is_one_without(denoiser):
    model, inputs = denoiser
    reading = model.read(inputs.text, inputs.mask, trim=True)
    fast = model.predict(inputs.latents, inputs.sigma, reading)
    with trial.without():
        plain = model.predict(inputs.latents, inputs.sigma, reading)
    assert error(fast, plain) <= FORWARD


@torch.no_grad()
def test_every_call_gives_the_same_bytes(denoiser):
    model, inputs = denoiser
    reading = model.read(inputs.text, inputs.mask, trim=True)
    one, two = (model.predict(inputs.latents, inputs.sigma, reading) for _ in range(2))
    assert torch.equal(one, two)


@torch.no_grad()
def test_chunk_by_chunk_with_the_state_is_all_chunks_at_once(denoiser):
    model, inputs = denoiser
    reading = model.read(inputs.text, inputs.mask, trim=True)
    whole, _ = model.go_on(inputs.latents, inputs.sigma, reading, (1, 2))
    state, parts = None, []
    for here in (slice(0, 1), slice(1, 3)):
        part, state = model.go_on(
            inputs.latents[:, :, here], inputs.sigma[:, here], reading,
            (here.stop - here.start,), state,
        )  # fmt: skip
        parts.append(part)
    assert error(torch.cat(parts, dim=2), whole) <= FORWARD


@torch.no_grad()
def test_more_tokens_than_the_programs_share_at_once():
    n, heads, size = 64 * 300 + 17, 2, 112
    qkv = torch.randn(1, n, 3 * heads * size, device=CARD, dtype=torch.bfloat16)
    weight = torch.ones(heads * size, device=CARD, dtype=torch.bfloat16)
    angle = torch.rand(n, size // 2, device=CARD)
    rotary = (angle.cos(), angle.sin())
    fast, _ = ops.packed_linear_attention(qkv, weight, weight, rotary, heads, (n,))
    with trial.without():
        wide, _ = ops.packed_linear_attention(
            qkv.double(), weight.double(), weight.double(), rotary, heads, (n,)
        )
    assert error(fast, wide) <= trial.LARGEST_ERROR[torch.bfloat16]


def test_training_runs_the_references(denoiser):
    model, inputs = denoiser
    model.requires_grad_(True)
    model(inputs.latents, inputs.sigma, inputs.text, inputs.mask).float().square().mean().backward()
    assert all(weight.grad is not None for weight in model.blocks.parameters())


@pytest.mark.parametrize("name", ["480p", "720p"])
@torch.no_grad()
def test_a_decoder_laid_out_for_speed_shows_the_references_picture(name):
    pytest.importorskip("diffusers", reason="the decoders' weights are its classes")
    shape = shape_named(name)
    shape = replace(shape, latents=(3, shape.latents[1] // 4, shape.latents[2] // 4))
    autoencoder, latents = decoder_of(shape, CARD, torch.bfloat16)
    parts = list(autoencoder.decode_stream(latents, torch.bfloat16, CARD))
    z = latents * autoencoder.std.to(latents) + autoencoder.mean.to(latents)
    wanted = autoencoder.vae.float().decode(z.float()).sample.clamp(-1, 1)
    assert error(torch.cat(parts, dim=1), wanted.movedim(1, -1)) <= DECODED
