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
FORWARD = {torch.bfloat16: 2e-2, torch.float16: 5e-3}
"""Of a whole forward, kernels against none."""
FP16_CASES = tuple(name for name in trial.CASES if name != "low_bits")
"""Products of eight bits come in bf16."""
DECODED = 5e-2
"""Of a picture decoded in bf16, against float32 on the same weights."""


@pytest.fixture
def nan_filled():
    torch.use_deterministic_algorithms(True, warn_only=True)
    yield
    torch.use_deterministic_algorithms(False)


@pytest.fixture(params=[torch.bfloat16, torch.float16], ids=["bf16", "fp16"])
def dtype(request):
    return request.param


@pytest.fixture
def denoiser(dtype):
    shape = shape_named("480p")
    shape = replace(shape, transformer=replace(shape.transformer, depth=2), latents=(3, 14, 22))
    model = random_denoiser(shape.transformer, CARD, dtype)
    return model, inputs_of(shape, CARD, dtype)


def error(a, b):
    return ((a.double() - b.double()).norm() / b.double().norm()).item()


@pytest.mark.usefixtures("nan_filled")
@pytest.mark.parametrize(
    ("name", "kind"),
    [
        *((name, torch.bfloat16) for name in trial.CASES),
        *((name, torch.float16) for name in FP16_CASES),
    ],
)
@torch.no_grad()
def test_a_compiled_kernel_agrees_with_its_float64_reference(name, kind):
    assert trial.strays(name, CARD, kind) <= trial.LARGEST_ERROR[kind]
    assert trial.verdict(name, CARD, kind).told.startswith("Triton")


@pytest.mark.parametrize(
    ("queries", "weight"), [(1.0, 3.0), (4000.0, 64.0), (2**-10, 2**-6)],
    ids=["usual", "large queries", "small queries"],
)  # fmt: skip
@torch.no_grad()
def test_sums_beyond_float16_are_read_without_leaving_its_range(queries, weight):
    generator = torch.Generator().manual_seed(8)
    qkv = torch.randn(1, 40_000, 3 * 224, generator=generator)
    qkv[..., :224] *= queries
    qkv[..., 448:] = 4 + qkv[..., 448:]
    qkv[..., 448] *= 6000
    rotary = (torch.ones(40_000, 56, device=CARD), torch.zeros(40_000, 56, device=CARD))
    norms = (torch.full((224,), each, device=CARD).half() for each in (weight, 3.0))
    low = (qkv.to(CARD, torch.float16), *norms)
    assert low[0].isfinite().all()
    got, memory = ops.packed_linear_attention(*low, rotary, 2, (40_000,))
    assert memory.sums.abs().max() > 65_504
    wide = (part.double() for part in low)
    wanted, _ = attention.packed_linear_attention(*wide, rotary, 2, (40_000,))
    # Each channel for itself: a large one would hide what became of a small one.
    apart = (got.double() - wanted).norm(dim=1) / wanted.norm(dim=1)
    assert apart.max().item() <= trial.LARGEST_ERROR[torch.float16]


@torch.no_grad()
def test_a_key_that_left_float16_is_not_dropped_without_a_word():
    qkv = torch.randn(1, 300, 3 * 224, device=CARD, dtype=torch.float16)
    qkv[0, 70, 224 + 5] = float("inf")
    weight = torch.ones(224, device=CARD, dtype=torch.float16)
    rotary = (torch.ones(300, 56, device=CARD), torch.zeros(300, 56, device=CARD))
    got, _ = ops.packed_linear_attention(qkv, weight, weight, rotary, 2, (300,))
    assert not got[..., :112].isfinite().any()


@torch.no_grad()
def test_what_leaves_float16_inside_a_kernel_is_no_number_after_it():
    large = torch.full((1, 1, 12, 256), 6e4, device=CARD, dtype=torch.float16)
    frame = torch.ones(1, 1, 1, 256, device=CARD, dtype=torch.float16)
    taps, bias = (torch.ones(256, *rest, device=CARD).half() for rest in ((1, 3, 3), ()))
    assert not ops.gated_residual(large, frame, large).isfinite().any()
    total, normed = ops.residual_norm(large, large, frame, frame, 1e-6)
    assert not total.isfinite().any()
    assert not normed.isfinite().any()
    assert not ops.gated_depthwise(large / 100, taps, bias, 3).isfinite().any()


@pytest.mark.usefixtures("nan_filled")
@torch.no_grad()
def test_a_forward_with_kernels_is_one_without(denoiser, dtype):
    model, inputs = denoiser
    reading = model.read(inputs.text, inputs.mask, trim=True)
    fast = model.predict(inputs.latents, inputs.sigma, reading)
    with trial.without():
        plain = model.predict(inputs.latents, inputs.sigma, reading)
    assert error(fast, plain) <= FORWARD[dtype]


@torch.no_grad()
def test_every_call_gives_the_same_bytes(denoiser):
    model, inputs = denoiser
    reading = model.read(inputs.text, inputs.mask, trim=True)
    one, two = (model.predict(inputs.latents, inputs.sigma, reading) for _ in range(2))
    assert torch.equal(one, two)


@torch.no_grad()
def test_chunk_by_chunk_with_the_state_is_all_chunks_at_once(denoiser, dtype):
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
    assert error(torch.cat(parts, dim=2), whole) <= FORWARD[dtype]


@torch.no_grad()
def test_more_tokens_than_the_programs_share_at_once(dtype):
    n, heads, size = 64 * 300 + 17, 2, 112
    qkv = torch.randn(1, n, 3 * heads * size, device=CARD, dtype=dtype)
    weight = torch.ones(heads * size, device=CARD, dtype=dtype)
    angle = torch.rand(n, size // 2, device=CARD)
    rotary = (angle.cos(), angle.sin())
    fast, _ = ops.packed_linear_attention(qkv, weight, weight, rotary, heads, (n,))
    with trial.without():
        wide, _ = ops.packed_linear_attention(
            qkv.double(), weight.double(), weight.double(), rotary, heads, (n,)
        )
    assert error(fast, wide) <= trial.LARGEST_ERROR[dtype]


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
