"""The same formats number by number, slowly: what `codec` is held against, bit for bit.

e4m3 has 4 bits of exponent (bias 7) and 3 of fraction, no infinity, and NaN where all bits are
set; e2m1 has 2 of exponent (bias 1) and 1 of fraction. Rounding is to the nearest, ties to the
even code. Everything else is fp32, step by step.

Source: OCP 8-bit floating point specification 1.0; OCP microscaling formats 1.0; NVFP4 is e2m1
in blocks of 16 with a scale in e4m3 each and one in fp32 for all.
"""

from collections.abc import Sequence

import numpy as np

from longtake.quantize.codec import (
    BLOCK,
    E2M1_MAX,
    E4M3_MAX,
    LEAST_E4M3,
    LEAST_SCALE,
    STEPS,
)

Matrix = Sequence[Sequence[float]]
F32 = np.float32


def e4m3_value(code: int) -> float:
    """The number that eight bits stand for."""
    sign = -1.0 if code & 0x80 else 1.0
    exponent, fraction = code >> 3 & 15, code & 7
    if exponent == 15 and fraction == 7:
        return float("nan")
    if exponent == 0:
        return sign * fraction / 8 * 2.0**-6
    return sign * (1 + fraction / 8) * 2.0 ** (exponent - 7)


def e2m1_value(code: int) -> float:
    """The number that four bits stand for."""
    sign = -1.0 if code & 8 else 1.0
    exponent, fraction = code >> 1 & 3, code & 1
    if exponent == 0:
        return sign * fraction / 2
    return sign * (1 + fraction / 2) * 2.0 ** (exponent - 1)


def e4m3_code(value: float) -> int:
    """The eight bits nearest to a number."""
    size = min(abs(value), E4M3_MAX)
    code = _nearest(size, [e4m3_value(c) for c in range(0x7F)])
    return code | (0x80 if np.signbit(value) else 0)


def e2m1_code(value: float) -> int:
    """The four bits nearest to a number; numbers below zero keep their sign when they become 0."""
    code = _nearest(min(abs(value), E2M1_MAX), [e2m1_value(c) for c in range(8)])
    return code | (8 if value < 0 else 0)


def encode_fp8(matrix: Matrix) -> tuple[list[list[int]], list[float]]:
    """Codes and scale of every row."""
    codes, scales = [], []
    for row in matrix:
        scale = max(F32(_most(row)) / F32(E4M3_MAX), F32(LEAST_SCALE))
        codes.append([e4m3_code(float(F32(value) / scale)) for value in row])
        scales.append(float(scale))
    return codes, scales


def decode_fp8(codes: Sequence[Sequence[int]], scales: Sequence[float]) -> list[list[float]]:
    """What the codes stand for."""
    return [
        [float(F32(e4m3_value(code)) * F32(scale)) for code in row]
        for row, scale in zip(codes, scales, strict=True)
    ]


def encode_nvfp4(
    matrix: Matrix, *, fit: bool = False
) -> tuple[list[list[int]], list[list[int]], float]:
    """Bytes of every row, code of each block's scale, and the scale of all."""
    whole = max(F32(max(_most(row) for row in matrix)) / F32(E4M3_MAX * E2M1_MAX), F32(LEAST_SCALE))
    all_bytes, all_scales = [], []
    for row in matrix:
        padded = [*row, *[0.0] * (-len(row) % BLOCK)]
        codes: list[int] = []
        scales: list[int] = []
        for start in range(0, len(padded), BLOCK):
            block = padded[start : start + BLOCK]
            wanted = float(F32(_most(block)) / F32(E2M1_MAX) / whole)
            plain = e4m3_code(max(wanted, LEAST_E4M3))
            tried = (
                [plain, *(min(max(plain + step, 1), 0x7E) for step in STEPS)] if fit else [plain]
            )
            # The first of the best, as `min` has it.
            scales.append(min(tried, key=lambda scale: _squares(block, scale, whole)))
            codes += _block_codes(block, scales[-1], whole)
        all_bytes.append([a | b << 4 for a, b in zip(codes[::2], codes[1::2], strict=True)])
        all_scales.append(scales)
    return all_bytes, all_scales, float(whole)


def decode_nvfp4(
    all_bytes: Sequence[Sequence[int]],
    all_scales: Sequence[Sequence[int]],
    whole: float,
    columns: int,
) -> list[list[float]]:
    """What the bytes stand for, without what fills up the last block."""
    matrix = []
    for row, scales in zip(all_bytes, all_scales, strict=True):
        codes = [half for byte in row for half in (byte & 15, byte >> 4)]
        values = [
            float(F32(e2m1_value(code)) * F32(e4m3_value(scales[n // BLOCK])) * F32(whole))
            for n, code in enumerate(codes)
        ]
        matrix.append(values[:columns])
    return matrix


def _block_codes(block: Sequence[float], scale: int, whole: np.float32) -> list[int]:
    divisor = F32(e4m3_value(scale)) * whole
    return [e2m1_code(float(F32(value) / divisor)) for value in block]


def _squares(block: Sequence[float], scale: int, whole: np.float32) -> float:
    """Sum of a block's squared errors in the scale of all; its halves are added up in pairs."""
    said = [
        F32(e2m1_value(code)) * F32(e4m3_value(scale)) for code in _block_codes(block, scale, whole)
    ]
    squares = [(a - F32(value) / whole) ** 2 for a, value in zip(said, block, strict=True)]
    while len(squares) > 1:
        half = len(squares) // 2
        squares = [a + b for a, b in zip(squares[:half], squares[half:], strict=True)]
    return float(squares[0])


def _most(values: Sequence[float]) -> float:
    return max(abs(value) for value in values)


def _nearest(size: float, values: Sequence[float]) -> int:
    """Number of the nearest of rising values; of two as near, the even one."""
    return min(range(len(values)), key=lambda n: (abs(values[n] - size), n & 1))
