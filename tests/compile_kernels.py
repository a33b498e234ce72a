"""Compiles every kernel for Hopper with Triton's own assembler and prints the bytes it spills."""

import re
import subprocess
import sys
import tempfile
from pathlib import Path

import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource, compile

from longtake.kernels.triton import attention, gated_depthwise, low_bits, rms_silu, rows

BF16, FP32, INT, FLOAT = "*bf16", "*fp32", "i32", "fp32"
PTXAS = Path(triton.__file__).parent / "backends/nvidia/bin/ptxas"
MULTIPLES = {"d", "hidden", "n", "size", "channels"}


def spilled(kernel, types, constants, warps, stages=3):
    signature, constexprs, attributes = {}, {}, {}
    for at, name in enumerate(kernel.arg_names):
        kind = None if name in constants else types[name]
        signature[name] = kind or "constexpr"
        if kind is None:
            constexprs[(at,)] = constants.get(name)
        elif kind.startswith("*") or name in MULTIPLES:
            attributes[(at,)] = [["tt.divisibility", 16]]
    source = ASTSource(fn=kernel, signature=signature, constexprs=constexprs, attrs=attributes)
    options = {"num_warps": warps, "num_stages": stages}
    code = compile(source, target=GPUTarget("cuda", 90, 32), options=options).asm["ptx"]
    # The interpreter's maximum keeps NaN of itself, so only the code can tell what a card does.
    if constants.get("NARROW") is not None and ("max.NaN" in code) != constants["NARROW"]:
        msg = f"{kernel.__name__}: what left float16 must stay NaN, and bf16 stay as it was"
        raise ValueError(msg)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "kernel.ptx"
        path.write_text(code)
        target = re.search(r"\.target (\w+)", code)[1]
        told = subprocess.run(
            [PTXAS, "-v", "--gpu-name", target, path, "-o", path.with_suffix(".cubin")],
            capture_output=True,
            text=True,
            check=True,
        ).stderr
    return int(re.search(r"(\d+) bytes spill stores", told)[1])


def row(**changed):
    flags = dict.fromkeys(
        ("HAS_Y", "HAS_Z", "GATED", "WRITES", "NORMS", "RMS", "MODULATES", "WEIGHTED", "BIASED"),
        False,
    )
    named = {
        "HAS_Y": "y",
        "HAS_Z": "z",
        "GATED": "gate",
        "WRITES": "total",
        "NORMS": "normed",
        "WEIGHTED": "weight",
        "BIASED": "bias",
    }
    types = {name: BF16 if changed.get(flag) else None for flag, name in named.items()}
    modulation = BF16 if changed.get("MODULATES") else None
    types |= {"x": BF16, "shift": modulation, "scale": modulation, "s": INT, "d": INT, "eps": FLOAT}
    head, tail = rows.split_of(2240)
    return rows._rows, types, flags | changed | {"HEAD": head, "TAIL": tail, "ROWS": 8}, 8


state = dict.fromkeys(("start", "length", "n", "d", "size", "heads", "runs", "tiles"), INT) | {
    "qkv": BF16,
    "norm": BF16,
    "sizes": FP32,
    "cos": FP32,
    "sin": FP32,
    "sums": FP32,
    "total": FP32,
    "units": None,
    "out": BF16,
    "eps": FLOAT,
}
head = {"NARROW": False, "NORMED": True, "TOKENS": attention.TOKENS, "HALF": 64, "WIDE": False}
tile = {"CHANNELS": gated_depthwise.CHANNELS, "TANH": True}
depthwise = {
    "x": BF16,
    "taps": BF16,
    "bias": BF16,
    "out": BF16,
    "height": INT,
    "width": INT,
    "hidden": INT,
}
short = {
    "x": BF16,
    "weight": BF16,
    "bias": BF16,
    "out": BF16,
    "rows": INT,
    "channels": INT,
    "eps": FLOAT,
}


def eight_bits(*, taps, columns):
    types = {"x": BF16, "codes": "*fp8e4nv", "scales": FP32, "d": INT, "s": INT, "t": INT}
    types |= dict.fromkeys(("past", "following"), BF16 if taps else None)
    flags = dict.fromkeys(("TAPS", "HAS_PAST", "HAS_FOLLOWING"), taps)
    sides = dict(zip(("HEAD", "TAIL"), rows.split_of(columns)))
    return low_bits._to_fp8, types, flags | sides, rows.warps_of(columns)


def in_fp16(kernel, types, constants, *launch):
    types = {name: "*fp16" if kind == BF16 else kind for name, kind in types.items()}
    if "NARROW" in constants:
        types, constants = types | {"units": FP32}, constants | {"NARROW": True}
    return kernel, types, constants, *launch


BASE = (
    eight_bits(taps=False, columns=2240),
    eight_bits(taps=False, columns=6720),
    eight_bits(taps=True, columns=2240),
    row(NORMS=True, MODULATES=True),
    row(NORMS=True, MODULATES=True, WEIGHTED=True, BIASED=True),
    row(HAS_Y=True, GATED=True, WRITES=True),
    row(HAS_Y=True, HAS_Z=True, GATED=True, WRITES=True),
    row(HAS_Y=True, WRITES=True, NORMS=True, MODULATES=True),
    row(NORMS=True, RMS=True, WEIGHTED=True),
    (attention._key_sizes, state, dict(zip(("HEAD", "TAIL"), rows.split_of(2240))), 8),
    (attention._gather, state, head, 8, 1),
    (attention._read, state | {"sums": BF16}, head | {"TILES": 4}, 4, 1),
    (gated_depthwise._sweep, depthwise, tile, gated_depthwise.WARPS),
    (
        rms_silu._short_rows,
        short,
        {"WEIGHTED": True, "BIASED": True, "ROWS": 32, "CHANNELS": 128},
        4,
    ),
)
KERNELS = (*BASE, *(in_fp16(*each) for each in BASE))
if __name__ == "__main__":
    sys.stdout.write(f"{sum(spilled(*each) for each in KERNELS)}\n")
