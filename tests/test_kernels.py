"""Each Triton kernel against its reference in the interpreter, and who runs an operation when."""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from longtake.kernels import ops, trial
from longtake.kernels.reference import attention, rows

FP32 = 1e-6
BF16 = 1.5e-2
"""The interpreter cuts numbers off to bf16 where a card rounds them, which is twice as far."""
FP16 = 2e-3

INTERPRETED = """
import json, torch
from longtake.kernels import trial
# Memory that nobody has written to is NaN.
torch.use_deterministic_algorithms(True)
assert torch.empty(3).isnan().all()
names = [name for name in trial.CASES if name != "text_attention"]
cpu = torch.device("cpu")
eight_bits = trial.CASES["low_bits"]
def carried(*asked):
    # Where a code rounds up to a power of two the interpreter loses the carry, and gives half.
    for got, wanted in eight_bits(*asked):
        yield torch.where(2 * got == wanted, wanted, got), wanted
trial.CASES["low_bits"] = carried
print(json.dumps({
    name: [
        trial.strays(name, cpu, dtype) for dtype in (torch.float32, torch.bfloat16, torch.float16)
    ]
    for name in names
}))
"""
BEYOND = """
import json, torch
from longtake.kernels.reference import attention
from longtake.kernels.triton import attention as fast
n, heads, size = 130, 2, 16
d = heads * size
generator = torch.Generator().manual_seed(1)
drawn = torch.randn(1, n, 3 * d, generator=generator)
drawn[..., 2 * d:] += 4
angle = torch.rand(n, size // 2, generator=generator) / 2
rotary = (angle.cos(), angle.sin())

def fits(x):
    # In float16 no sum is infinite, and most keep all their digits.
    return bool(x.half().isfinite().all() and x.abs().median() > 2**-14)

def told(queries=1.0, weights=(1.0, 1.0), values=1.0, one=1.0, times=None, chunks=(n,)):
    qkv = drawn.clone()
    qkv[..., :d] *= queries
    qkv[..., 2 * d:] *= values
    qkv[..., 2 * d] *= one
    qkv = qkv.half()
    assert qkv.isfinite().all()
    norms = [torch.full((d,), w).half() for w in weights]
    past = None
    if times is not None:
        sums, total = torch.full((size, size), 40 * times), torch.full((1, size), 10 * times)
        past = attention.Memory(*(x.repeat(1, heads, 1, 1) for x in (sums, total)))
    got, memory = fast.packed_linear_attention(qkv, *norms, rotary, heads, chunks, past)
    wide = [each.double() for each in (qkv, *norms)]
    wanted, kept = attention.packed_linear_attention(*wide, rotary, heads, chunks, past)
    # Each channel for itself: a large one would hide what became of a small one.
    apart = ((got.double() - wanted).norm(dim=1) / wanted.norm(dim=1)).max()
    kept_apart = (memory.sums.double() - kept.sums).norm() / kept.sums.norm()
    return {
        "apart": apart.item(), "kept": kept_apart.item(), "dtype": str(memory.sums.dtype),
        "naive": fits(memory.sums) and fits(qkv[..., :d].float() * weights[0]),
    }

print(json.dumps({
    "usual": told(),
    "a long past": told(times=1e4),
    "a longer past": told(times=1e9),
    "small values and keys": told(times=1e-9, values=2**-12, weights=(1.0, 2**-11)),
    "chunks on a long past": told(times=1e4, chunks=(70, 60)),
    "values at the end of the range": told(values=7000.0),
    "one channel of values at the end": told(one=7000.0),
    "one channel at its end, others small": told(values=2**-8, one=7000.0 * 2**8),
    "queries that leave it by their weight": told(queries=4000.0, weights=(64.0, 1.0)),
    "small queries": told(queries=2**-10, weights=(2**-6, 1.0)),
}))
"""
LEFT = """
import json, torch
from longtake.kernels.triton import attention, gated_depthwise, rows
half, heads, size = torch.float16, 2, 16
d = heads * size
large = torch.full((1, 1, 9, d), 6e4, dtype=half)
qkv = torch.randn(1, 9, 3 * d, generator=torch.Generator().manual_seed(1)).half()
qkv[0, 4, d + 3] = float("inf")
ones, rotary = torch.ones(d, dtype=half), (torch.ones(9, 8), torch.zeros(9, 8))
kept, _ = attention.packed_linear_attention(qkv, ones, ones, rotary, heads, (9,))
taps, bias = torch.ones(d, 1, 3, 3, dtype=half), torch.zeros(d, dtype=half)
frame = torch.ones(1, 1, 1, d, dtype=half)
total, normed = rows.residual_norm(large, large, frame, frame, 1e-6)
print(json.dumps({
    "a key": bool(kept[..., :size].isfinite().any()),
    "a product": bool(gated_depthwise.gated_depthwise(large / 100, taps, bias, 3).isfinite().any()),
    "a stream": bool(rows.gated_residual(large, frame, large).isfinite().any()),
    "a sum": bool(total.isfinite().any()),
    "its norm": bool(normed.isfinite().any()),
}))
"""
UNSCALED = """
import json, torch
from longtake.kernels.triton import attention as fast
n, heads, size = 130, 2, 16
generator = torch.Generator().manual_seed(1)
qkv = torch.randn(1, n, 3 * heads * size, generator=generator).bfloat16()
weight = torch.rand(heads * size, generator=generator).bfloat16()
angle = torch.rand(n, size // 2, generator=generator)
rotary = (angle.cos(), angle.sin())
def units_of(_):
    raise AssertionError("sums are scaled")
fast.units_of = units_of
got, memory = fast.packed_linear_attention(qkv, weight, weight, rotary, heads, (n,))
out = torch.full_like(got, float("nan"))
# The formula as it is without units: sums and queries rounded as they are.
fast._read[(heads, -(-n // (fast.TOKENS * fast.TILES)), 1)](
    qkv, weight, *rotary, memory.sums.bfloat16(), memory.total, None, out, 0, n, n, heads * size,
    size, heads, 1e-8, NARROW=False, NORMED=True, TOKENS=fast.TOKENS, HALF=16, WIDE=True,
    TILES=fast.TILES,
)
print(json.dumps({"same": torch.equal(got, out), "finite": bool(out.isfinite().all())}))
"""


@pytest.mark.slow
@pytest.mark.skipif(
    importlib.util.find_spec("triton") is None, reason="the Triton kernels need triton installed"
)
def test_every_kernel_compiles_for_hopper_without_a_card_and_spills_no_register():
    done = subprocess.run(
        [sys.executable, Path(__file__).with_name("compile_kernels.py")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert int(done.stdout) == 0


def interpreted(script):
    # Triton looks at the variable once, when it is imported; hence a process of its own.
    done = subprocess.run(
        [sys.executable, "-c", script],
        env={**os.environ, "TRITON_INTERPRET": "1", "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def strays():
    return interpreted(INTERPRETED)


@pytest.mark.skipif(
    importlib.util.find_spec("triton") is None, reason="the Triton kernels need triton installed"
)
@pytest.mark.skipif(torch.cuda.is_available(), reason="tests/gpu tries the compiled kernels")
@pytest.mark.parametrize("name", ["rows", "rms_silu", "gated_depthwise", "attention", "low_bits"])
def test_a_kernel_agrees_with_its_float64_reference_at_odd_sizes_in_nan_filled_memory(strays, name):
    fp32, bf16, fp16 = strays[name]
    assert fp32 <= FP32
    assert bf16 <= BF16
    # Products of eight bits come in bf16.
    assert name == "low_bits" or fp16 <= FP16


@pytest.mark.skipif(
    importlib.util.find_spec("triton") is None, reason="the Triton kernels need triton installed"
)
def test_sums_values_and_queries_of_any_size_are_read_in_float16_within_its_range():
    told = interpreted(BEYOND)
    assert {name: case["apart"] for name, case in told.items() if case["apart"] > FP16} == {}
    # What a take keeps is what it always was.
    assert all(case["kept"] <= FP16 for case in told.values())
    assert {case["dtype"] for case in told.values()} == {"torch.float32"}
    # And without powers of two all but the first would have left it.
    assert [name for name, case in told.items() if case["naive"]] == ["usual"]


@pytest.mark.skipif(
    importlib.util.find_spec("triton") is None, reason="the Triton kernels need triton installed"
)
def test_what_leaves_float16_inside_a_kernel_is_no_number_after_it():
    finite = interpreted(LEFT)
    assert [name for name, any_finite in finite.items() if any_finite] == []


@pytest.mark.skipif(
    importlib.util.find_spec("triton") is None, reason="the Triton kernels need triton installed"
)
def test_sums_are_read_in_bf16_as_they_are_bit_for_bit():
    assert interpreted(UNSCALED) == {"same": True, "finite": True}


def test_every_kernel_is_tried_and_none_runs_without_a_card():
    assert set(trial.CASES) == {
        "rows", "rms_silu", "gated_depthwise", "attention", "text_attention", "low_bits",
    }  # fmt: skip
    told = ops.paths(torch.device("cpu"))
    assert set(told) == set(trial.CASES)
    assert all(path == "plain PyTorch: no CUDA card" for path in told.values())


@pytest.mark.parametrize(
    ("gave", "said"),
    [
        ([(torch.full((3,), 1.001), torch.ones(3))], "Triton: error 1.0e-03"),
        ([(torch.full((3,), 1.1), torch.ones(3))], "plain PyTorch: the kernel strays"),
        ([(torch.tensor([1.0, float("nan")]), torch.ones(2))], "plain PyTorch: the kernel strays"),
        (ValueError("no such\ninstruction"), "does not run here (ValueError: no such instruction)"),
    ],
)
def test_a_kernel_is_trusted_only_after_it_agreed_and_one_line_says_so(
    monkeypatch, caplog, gave, said
):
    def case(_device, _dtype):
        if isinstance(gave, Exception):
            raise gave
        yield from gave

    monkeypatch.setitem(trial.CASES, "rows", case)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    monkeypatch.setattr(torch.cuda, "device", lambda _: torch.no_grad())
    monkeypatch.setattr(torch.cuda, "synchronize", lambda _: None)
    trial._tried.cache_clear()
    with caplog.at_level("INFO", logger="longtake"):
        found = trial.verdict("rows", torch.device("cuda"))
    trial._tried.cache_clear()
    assert said in found.told
    assert found.passed == found.told.startswith("Triton")
    (line,) = caplog.messages
    assert line == f"kernel rows in bfloat16: {found.told}"
    assert found.passed == (caplog.records[0].levelname == "INFO")


def test_each_arithmetic_has_a_trial_bound_and_verdict_of_its_own(monkeypatch):
    def case(_device, _dtype):
        # Near enough for bf16, too far for fp16.
        yield torch.full((3,), 1.005), torch.ones(3)

    monkeypatch.setitem(trial.CASES, "rows", case)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    monkeypatch.setattr(torch.cuda, "device", lambda _: torch.no_grad())
    monkeypatch.setattr(torch.cuda, "synchronize", lambda _: None)
    trial._tried.cache_clear()
    card = torch.device("cuda")
    bf16, fp16 = (trial.verdict("rows", card, each) for each in (torch.bfloat16, torch.float16))
    told = trial.told("rows", card)
    trial._tried.cache_clear()
    assert bf16.passed
    assert not fp16.passed
    assert told == f"bf16: {bf16.told}; fp16: {fp16.told}"


def test_kernels_can_be_left_out_to_compare(monkeypatch):
    monkeypatch.setattr(trial, "verdict", lambda *_: trial.Verdict(passed=True, told="Triton"))
    x = torch.empty(1)
    assert trial.passed("rows", x)
    with trial.without("rows"):
        assert not trial.passed("rows", x)
        assert trial.passed("attention", x)
        with trial.without():
            assert not trial.passed("attention", x)
    assert trial.passed("rows", x)


def test_packed_attention_is_norm_split_and_linear_attention():
    qkv, weight = torch.randn(2, 9, 36).double(), torch.rand(12).double() + 0.5
    angle = torch.rand(9, 3).double()
    rotary = (angle.cos(), angle.sin())
    y, memory = ops.packed_linear_attention(qkv, weight, weight, rotary, 2, (9,))
    q, k, v = qkv.chunk(3, dim=-1)
    q, k = (rows.rms_norm(x, weight, 1e-5) for x in (q, k))
    q, k, v = (x.unflatten(-1, (2, 6)).transpose(1, 2) for x in (q, k, v))
    wanted = attention.linear_attention(q, k, v, *rotary)
    assert torch.allclose(y, wanted.transpose(1, 2).flatten(2))
    assert memory.sums.shape == (2, 2, 6, 6)


def test_the_statistic_of_the_queries_norm_cancels():
    qkv, weight = torch.randn(1, 9, 36).double(), torch.rand(12).double() + 0.5
    angle = torch.rand(9, 3).double()
    rotary = (angle.cos(), angle.sin())
    longer = torch.cat([7 * qkv[..., :12], qkv[..., 12:]], dim=-1)
    one, other = (
        attention.packed_linear_attention(x, weight, weight, rotary, 2, (9,), None, 1e-15)[0]
        for x in (qkv, longer)
    )
    assert torch.allclose(one, other, atol=1e-6)


def test_residuals_and_norms_are_what_they_say():
    x, y, z = torch.randn(3, 2, 3, 4, 5).double()
    gate, shift, scale = torch.randn(3, 2, 3, 1, 5).double()
    assert torch.allclose(ops.gated_residual(x, gate, y, z), x + gate * (y + z))
    total, normed = ops.residual_norm(x, y, shift, scale, 1e-6)
    assert torch.equal(total, x + y)
    assert torch.equal(normed, ops.modulated_norm(total, shift, scale, 1e-6))
    plain = (total - total.mean(-1, keepdim=True)) / (
        total.var(-1, correction=0)[..., None] + 1e-6
    ).sqrt()
    assert torch.allclose(normed, plain * (1 + scale) + shift)
