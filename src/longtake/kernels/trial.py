"""Whether a kernel may be trusted on a card: it must agree with its reference there first.

Each kernel is tried once a process and arithmetic, on small odd shapes, at its first use. One that
does not compile, or strays, is left out with one line on the log, and its reference runs instead.
"""

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache
from typing import NamedTuple

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from longtake.kernels import cudnn
from longtake.kernels.reference import attention, gated_depthwise, low_bits, rows

LARGEST_ERROR = {torch.bfloat16: 1e-2, torch.float16: 3e-3}
"""Norm of the difference to the float64 reference over that reference's norm, for each arithmetic
that kernels know. A card's fast tanh is right to 2^-11: of a few outputs that can make 1.8e-3."""
_LOG = logging.getLogger("longtake")


class Verdict(NamedTuple):
    """What a trial found."""

    passed: bool
    told: str
    """Which path runs, and why."""


_LEFT_OUT: ContextVar[frozenset[str]] = ContextVar("left_out", default=frozenset())


@contextmanager
def without(*names: str) -> Iterator[None]:
    """Run the references of some kernels, or of all if none is named: to compare the two."""
    before = _LEFT_OUT.set(frozenset(names or CASES))
    try:
        yield
    finally:
        _LEFT_OUT.reset(before)


def passed(name: str, x: Float[Tensor, "*shape"]) -> bool:
    """Whether this kernel may run on this tensor's card, in its arithmetic."""
    return name not in _LEFT_OUT.get() and verdict(name, x.device, x.dtype).passed


def verdict(name: str, device: torch.device, dtype: torch.dtype = torch.bfloat16) -> Verdict:
    """What the trial of a kernel found on a device; tried at the first question."""
    if device.type != "cuda":
        return Verdict(passed=False, told="plain PyTorch: no CUDA card")
    index = torch.cuda.current_device() if device.index is None else device.index
    return _tried(name, index, dtype)


def told(name: str, device: torch.device) -> str:
    """The verdicts on a kernel in each arithmetic; one line for all if they say the same."""
    lines = {_short(dtype): verdict(name, device, dtype).told for dtype in LARGEST_ERROR}
    same = len(set(lines.values())) == 1
    return lines["bf16"] if same else "; ".join(f"{dtype}: {line}" for dtype, line in lines.items())


def _short(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.").replace("bfloat", "bf").replace("float", "fp")


def strays(name: str, device: torch.device, dtype: torch.dtype) -> float:
    """The largest error of a kernel over its cases, in parts of the output; NaN counts as one."""
    worst = 0.0
    for got, wanted in CASES[name](device, dtype):
        if not torch.isfinite(got).all():
            return float("inf")
        apart = (got.double() - wanted.double()).norm() / wanted.double().norm()
        worst = max(worst, apart.item())
    return worst


@cache
def _tried(name: str, index: int, dtype: torch.dtype) -> Verdict:
    device = torch.device("cuda", index)
    try:
        with torch.cuda.device(device), torch.no_grad():
            error = strays(name, device, dtype)
            torch.cuda.synchronize(device)
    # What a compiler or a driver raises has no common class, and any of it means the same here.
    except Exception as problem:  # noqa: BLE001
        reason = " ".join(f"{type(problem).__name__}: {problem}".split())[:160]
        found = Verdict(
            passed=False, told=f"plain PyTorch: the kernel does not run here ({reason})"
        )
    else:
        told = f"error {error:.1e} against float64"
        if error <= LARGEST_ERROR[dtype]:
            found = Verdict(passed=True, told=f"Triton: {told}")
        else:
            found = Verdict(passed=False, told=f"plain PyTorch: the kernel strays, {told}")
    _LOG.log(
        logging.INFO if found.passed else logging.WARNING,
        "kernel %s in %s: %s",
        name,
        str(dtype).removeprefix("torch."),
        found.told,
    )
    return found


Pairs = Iterator[tuple[Float[Tensor, "*shape"], Float[Tensor, "*shape"]]]
"""What a kernel gave, and what its reference gives in float64."""


def _drawn(
    generator: torch.Generator, shape: tuple[int, ...], device: torch.device, dtype: torch.dtype
) -> Float[Tensor, "*shape"]:
    return torch.randn(shape, generator=generator).to(device, dtype)


def _wide(value: Float[Tensor, "*shape"] | None) -> Float[Tensor, "*shape"] | None:
    return None if value is None else value.double()


def _rows_cases(device: torch.device, dtype: torch.dtype) -> Pairs:
    from longtake.kernels.triton import rows as fast

    generator = torch.Generator().manual_seed(1)
    # One power of two, one and a rest, the published width; rows that do not fill a program.
    for b, t, s, d in ((1, 2, 3, 256), (2, 1, 5, 72), (1, 1, 3, 2240)):
        x, y, z = (_drawn(generator, (b, t, s, d), device, dtype) for _ in range(3))
        gate, shift, scale = (_drawn(generator, (b, t, 1, d), device, dtype) for _ in range(3))
        weight, bias = (_drawn(generator, (d,), device, dtype) for _ in range(2))
        for more in ((None, None), (weight, bias)):
            inputs = (shift, scale, 1e-6, *more)
            wide = (shift.double(), scale.double(), 1e-6, *map(_wide, more))
            yield (
                fast.modulated_norm(x, *inputs),
                rows.modulated_norm(x.double(), *wide),
            )
            yield from zip(
                fast.residual_norm(x, y, *inputs),
                rows.residual_norm(x.double(), y.double(), *wide),
                strict=True,
            )
        for last in (None, z):
            yield (
                fast.gated_residual(x, gate, y, last),
                rows.gated_residual(x.double(), gate.double(), y.double(), _wide(last)),
            )
        yield fast.rms_norm(x, weight, 1e-5), rows.rms_norm(x.double(), weight.double(), 1e-5)


def _rms_silu_cases(device: torch.device, dtype: torch.dtype) -> Pairs:
    from longtake.kernels.triton import rms_silu as fast

    generator = torch.Generator().manual_seed(5)
    for shape in ((2, 3, 5, 96), (7, 384), (3, 20)):
        x = _drawn(generator, shape, device, dtype)
        weight, bias = (_drawn(generator, shape[-1:], device, dtype) for _ in range(2))
        for more in ((weight, bias), (None, None)):
            wide = rows.rms_silu(x.double(), _wide(more[0]), 1e-8, _wide(more[1]))
            yield fast.rms_silu(x, more[0], 1e-8, more[1]), wide


def _depthwise_cases(device: torch.device, dtype: torch.dtype) -> Pairs:
    from longtake.kernels.triton import gated_depthwise as fast

    generator = torch.Generator().manual_seed(2)
    for b, t, height, width, hidden in ((2, 1, 3, 9, 136), (1, 1, 1, 1, 8)):
        x = _drawn(generator, (b, t, height * width, 2 * hidden), device, dtype) * 2
        weight = _drawn(generator, (2 * hidden, 1, 3, 3), device, dtype) / 3
        bias = _drawn(generator, (2 * hidden,), device, dtype)
        yield (
            fast.gated_depthwise(x, weight, bias, height),
            gated_depthwise.gated_depthwise(x.double(), weight.double(), bias.double(), height),
        )


def _attention_cases(device: torch.device, dtype: torch.dtype) -> Pairs:
    from longtake.kernels.triton import attention as fast

    generator = torch.Generator().manual_seed(3)
    # The published head, one of an odd number of pairs, heads of few channels; with a norm and not.
    for b, heads, size, chunks, normed in (
        (1, 2, 112, (70, 9), True),
        (1, 1, 22, (130,), True),
        (2, 3, 16, (7, 64), False),
    ):
        d, n = heads * size, sum(chunks)
        qkv = _drawn(generator, (b, n, 3 * d), device, dtype)
        norm_q, norm_k = (
            _drawn(generator, (d,), device, dtype) + 1 if normed else None for _ in range(2)
        )
        angle = torch.rand(n, size // 2, generator=generator).to(device) * 6
        rotary = (angle.cos(), angle.sin())
        past = wide_past = None
        # The second time goes on from what the first left; the third from sums beyond float16.
        for times in (1.0, 1.0, 2.0**14):
            past, wide_past = _times(past, times), _times(wide_past, times)
            got, past = fast.packed_linear_attention(
                qkv, norm_q, norm_k, rotary, heads, chunks, past, 1e-8
            )
            wanted, wide_past = attention.packed_linear_attention(
                qkv.double(), _wide(norm_q), _wide(norm_k), rotary, heads, chunks, wide_past, 1e-8
            )
            yield got, wanted
            yield from zip(past, wide_past, strict=True)


def _times(memory: attention.Memory | None, times: float) -> attention.Memory | None:
    return memory and attention.Memory(times * memory.sums, times * memory.total)


def _text_cases(device: torch.device, dtype: torch.dtype) -> Pairs:
    generator = torch.Generator().manual_seed(4)
    for heads, size, tokens in ((2, 112, 37), (1, 24, 1)):
        query, key, value = (
            _drawn(generator, (1, n, heads, size), device, dtype).transpose(1, 2)
            for n in (130, tokens, tokens)
        )
        low = torch.zeros(1, 1, 1, tokens, dtype=dtype, device=device)
        low[..., 1:] = -1e4
        for scores in (None, low):
            wide = (query.double(), key.double(), value.double(), _wide(scores))
            yield (
                cudnn.text_attention(query, key, value, scores),
                attention.text_attention(*wide),
            )


def _low_bits_cases(device: torch.device, dtype: torch.dtype) -> Pairs:
    from longtake.kernels.triton import low_bits as fast

    generator = torch.Generator().manual_seed(6)
    # Rows far apart in size: a scale in the wrong place shows. One of them is all zeros.
    for n, d in ((5, 72), (3, 2240), (2, 256)):
        x = _drawn(generator, (n, d), device, torch.float32)
        x = (x * torch.logspace(-2, 2, n, device=device)[:, None]).to(dtype)
        x[0] = 0
        yield _numbers(*fast.to_fp8(x)), _numbers(*low_bits.to_fp8(x))
    x = _drawn(generator, (2, 3, 4, 72), device, dtype)
    past, following = (_drawn(generator, (2, 4, 72), device, dtype) for _ in range(2))
    for ends in ((None, None), (past, None), (past, following)):
        yield _numbers(*fast.taps_to_fp8(x, *ends)), _numbers(*low_bits.taps_to_fp8(x, *ends))


def _numbers(
    codes: UInt8[Tensor, "n columns"], scales: Float[Tensor, " n"]
) -> Float[Tensor, "n columns"]:
    return codes.view(low_bits.E4M3).double() * scales.double()[:, None]


CASES: dict[str, Callable[[torch.device, torch.dtype], Pairs]] = {
    "rows": _rows_cases,
    "rms_silu": _rms_silu_cases,
    "gated_depthwise": _depthwise_cases,
    "attention": _attention_cases,
    "text_attention": _text_cases,
    "low_bits": _low_bits_cases,
}
"""The kernels, and how each is tried."""
