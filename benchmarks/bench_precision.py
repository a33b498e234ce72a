"""A full-size denoiser with random weights in each precision: time, memory, and what was planned.

python benchmarks/bench_precision.py [--only selftest,forward,planner,caps] [--tiny]
    [--out benchmarks/results/precision_h100_2026-12-01.jsonl]

Prints a JSON line for every measurement; `longtake.cli.hardware_page` reads the file. It takes no
more than torch, einops and jaxtyping, about 8 minutes on an H100, and no network.

selftest  every trial of `longtake selftest`
forward   ms of a forward at 832x480x81 and 1280x704x81, resident weights, error against bf16
planner   most memory of a forward against the plan, in 24 settings
caps      what runs with 8, 12, 16 and 24 GiB of the card, against what the plan says
"""

import argparse
import copy
import gc
import json
import statistics
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from longtake.checkpoints.public_config import read_transformer_config
from longtake.config import TransformerConfig
from longtake.kernels.planned import card_bytes
from longtake.model import Reading, Transformer
from longtake.model.offload import keep_on_host
from longtake.pipeline.precision import Arithmetic, arithmetic_for
from longtake.planner import Weights, forward_flops, forward_peak, weight_bytes
from longtake.quantize import choose_way, low_layers, quantize, trials

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
HOST = torch.device("cpu")
GIB = 2**30
PARTS = ("selftest", "forward", "planner", "caps")
PRECISIONS = ("bf16", "fp16", "fp8", "nvfp4")
CAPS_GIB = (8, 12, 16, 24)
TOKENS = 300
BASE = {"_class_name": "SanaVideoTransformer3DModel", "mlp_ratio": 3.0}
LARGE = {"in_channels": 128, "out_channels": 128, "patch_size": [1, 1, 1]}
TINY = {
    "num_layers": 2, "num_attention_heads": 2, "attention_head_dim": 24,
    "num_cross_attention_heads": 2, "cross_attention_head_dim": 24, "cross_attention_dim": 48,
    "caption_channels": 16,
}  # fmt: skip
SIZES = {"832x480": (BASE, 4, 8), "1280x704": (BASE | LARGE, 8, 32)}
"""Config, and frames and pixels of a latent cell."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", default=",".join(PARTS))
    parser.add_argument("--tiny", action="store_true", help="a small network, to try the script")
    parser.add_argument("--runs", type=int, default=7)
    parser.add_argument("--out", type=Path, default=None)
    options = parser.parse_args()
    chosen = options.only.split(",")
    if unknown := set(chosen) - set(PARTS):
        parser.error(f"unknown part {min(unknown)}; there are {', '.join(PARTS)}")
    work = {"selftest": selftests, "forward": forwards, "planner": plans, "caps": caps}
    with torch.no_grad():
        for part in chosen:
            for line in work[part](options):
                tell({"what": part, **line, **machine()}, options.out)


def selftests(_: argparse.Namespace) -> Iterator[dict[str, Any]]:
    for how in ("fp8", "nvfp4"):
        for trial in trials(how, DEVICE):
            yield {"format": how, "trial": trial.what, "fine": trial.fine, "told": trial.told}


def forwards(options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    for size in SIZES:
        config, grid = shape(size, 81, tiny=options.tiny)
        exact = None
        for precision in PRECISIONS:
            model, arithmetic = network(config, precision)
            inputs = noise(config, grid, arithmetic.dtype)
            found = model(*inputs).double()
            exact = found if exact is None else exact
            resident = sum(weight.nbytes for weight in model.parameters())
            reading = model.read(*inputs[2:], trim=True)
            ms = [1000 * seconds(model, inputs, reading) for _ in range(options.runs)]
            middle = statistics.median(ms)
            yield {
                "size": size,
                "frames": 81,
                "precision": precision,
                "way": arithmetic.way(DEVICE) if arithmetic.how else None,
                "forward_ms": round(middle, 2),
                "spread_ms": round(max(ms) - min(ms), 2),
                "runs": options.runs,
                "tflops": round(forward_flops(config, grid, TOKENS) / middle / 1e9, 1),
                "resident_gib": round(resident / GIB, 3),
                "error_to_bf16": float(f"{((found - exact).norm() / exact.norm()).item():.2e}"),
            }
            del model, found
            free()


def plans(options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    for size in SIZES:
        for precision in PRECISIONS:
            config, _ = shape(size, 81, tiny=options.tiny)
            model, arithmetic = network(config, precision)
            weights = planned_weights(arithmetic)
            resident, _ = weight_bytes(config, weights)
            for frames in (17, 81, 161):
                _, grid = shape(size, frames, tiny=options.tiny)
                expected = resident + forward_peak(config, grid, TOKENS, weights)
                measured = peak_of(model, config, grid, arithmetic)
                yield {
                    "size": size,
                    "frames": frames,
                    "precision": precision,
                    "planned_gib": round(expected / GIB, 3),
                    "measured_gib": round(measured / GIB, 3),
                    "off": round(expected / measured - 1, 4) if measured else None,
                }
            del model
            free()


def caps(options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """The denoiser alone, as `--offload text` and `block` run it."""
    for cap in CAPS_GIB:
        for size in SIZES:
            for precision in ("bf16", "fp8", "nvfp4"):
                for offload in ("text", "block"):
                    yield capped(cap, size, precision, offload, tiny=options.tiny)


def capped(cap: int, size: str, precision: str, offload: str, *, tiny: bool) -> dict[str, Any]:
    config, grid = shape(size, 81, tiny=tiny)
    arithmetic = arithmetic_for(precision, DEVICE)
    weights = planned_weights(arithmetic)
    whole, layer = weight_bytes(config, weights)
    held = whole if offload == "text" else whole - (config.depth - 2) * layer
    expected = held + forward_peak(config, grid, TOKENS, weights)
    told = {"cap_gib": cap, "size": size, "frames": 81, "precision": precision, "offload": offload}
    told |= {"planned_gib": round(expected / GIB, 3), "planned_fits": expected <= cap * GIB}
    if DEVICE.type != "cuda":
        return told | {"ran": None, "why": "no card here"}
    total = torch.cuda.get_device_properties(DEVICE).total_memory
    torch.cuda.set_per_process_memory_fraction(min(cap * GIB / total, 1.0))
    try:
        model, _ = network(config, precision, on_host=True)
        if offload == "block":
            keep_on_host(model, DEVICE)
        else:
            model.to(DEVICE)
        inputs = noise(config, grid, arithmetic.dtype)
        took = seconds(model, inputs, model.read(*inputs[2:], trim=True))
        told |= {"ran": True, "forward_ms": round(1000 * took, 1)}
    except torch.OutOfMemoryError:
        told |= {"ran": False}
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
        model = None
        free()
    return told


def shape(size: str, frames: int, *, tiny: bool) -> tuple[TransformerConfig, tuple[int, int, int]]:
    content, temporal, spatial = SIZES[size]
    width, height = (int(side) for side in size.split("x"))
    config = read_transformer_config(content | (TINY if tiny else {}), "config.json")
    divisor = 8 if tiny else 1
    sides = (height // spatial // divisor // 2 * 2, width // spatial // divisor // 2 * 2)
    return config, (-(-(frames - 1) // temporal) + 1, *(max(side, 2) for side in sides))


_FULL: dict[TransformerConfig, Transformer] = {}
"""The weights of the network in work, in bf16 on the host: every precision starts from them."""


def network(
    config: TransformerConfig, precision: str, *, on_host: bool = False
) -> tuple[Transformer, Arithmetic]:
    """The same random weights in a precision, as a film would have them."""
    if config not in _FULL:
        _FULL.clear()
        _FULL[config] = random_network(config)
    arithmetic = arithmetic_for(precision, DEVICE)
    model = copy.deepcopy(_FULL[config]).to(arithmetic.dtype)
    if arithmetic.how:
        quantize(model, arithmetic.how, low_layers(model, arithmetic.how), DEVICE)
        choose_way(model, arithmetic.way(DEVICE))
    return model if on_host else model.to(DEVICE), arithmetic


def random_network(config: TransformerConfig) -> Transformer:
    """Weights of a size that keeps values about where trained ones do."""
    with torch.device("meta"):
        model = Transformer(config)
    model = model.to(torch.bfloat16).to_empty(device=DEVICE).eval().requires_grad_(False)
    torch.manual_seed(0)
    for name, weight in model.named_parameters():
        if weight.ndim > 1:
            weight.normal_(std=0.5 * weight[0].numel() ** -0.5)
        else:
            weight.fill_(1.0 if "norm" in name and "bias" not in name else 0.0)
    return model.to(HOST)


def planned_weights(arithmetic: Arithmetic) -> Weights:
    return Weights(
        dtype=arithmetic.dtype,
        how=arithmetic.how,
        way=arithmetic.way(DEVICE),
        card_bytes=card_bytes(DEVICE),
    )


def noise(
    config: TransformerConfig, grid: tuple[int, int, int], dtype: torch.dtype
) -> tuple[torch.Tensor, ...]:
    generator = torch.Generator().manual_seed(1)
    latents = torch.randn(1, config.latent_channels, *grid, generator=generator)
    text = torch.randn(1, TOKENS, config.text_width, generator=generator)
    sigma = torch.full((1, grid[0]), 0.5, dtype=torch.float64)
    mask = torch.ones(1, TOKENS, dtype=torch.bool)
    return tuple(t.to(DEVICE) for t in (latents, sigma, text.to(dtype), mask))


def seconds(model: Transformer, inputs: tuple[torch.Tensor, ...], reading: Reading) -> float:
    """A forward as films have it, their prompt read before."""
    model.predict(*inputs[:2], reading)
    synchronise()
    start = time.perf_counter()
    model.predict(*inputs[:2], reading)
    synchronise()
    return time.perf_counter() - start


def peak_of(
    model: Transformer,
    config: TransformerConfig,
    grid: tuple[int, int, int],
    arithmetic: Arithmetic,
) -> int:
    """Most bytes of the card in a forward, its prompt read before; 0 without one."""
    latents, sigma, text, mask = noise(config, grid, arithmetic.dtype)
    model.predict(latents, sigma, model.read(text, mask))
    if DEVICE.type != "cuda":
        return 0
    free()
    torch.cuda.reset_peak_memory_stats()
    model.predict(latents, sigma, model.read(text, mask))
    return torch.cuda.max_memory_allocated()


def synchronise() -> None:
    if DEVICE.type == "cuda":
        torch.cuda.synchronize()


def free() -> None:
    gc.collect()
    if DEVICE.type == "cuda":
        torch.cuda.empty_cache()


def machine() -> dict[str, Any]:
    cuda = DEVICE.type == "cuda"
    return {
        "card_gib": round(card_bytes(DEVICE) / GIB, 2),
        "processor": torch.cuda.get_device_name() if cuda else "CPU",
        "torch": torch.__version__,
        "day": time.strftime("%Y-%m-%d", time.gmtime()),
    }


def tell(line: dict[str, Any], out: Path | None) -> None:
    text = json.dumps(line)
    print(text, flush=True)
    if out is not None:
        with out.open("a") as file:
            file.write(text + "\n")


if __name__ == "__main__":
    main()
