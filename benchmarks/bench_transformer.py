"""Time of one denoiser forward for a 5 s clip; prints one JSON line.

python benchmarks/bench_transformer.py [--attention linear] [--precision bf16] [--runs 9]
"""

import argparse
import json
import platform
import statistics
import time

import torch

from longtake.config import TransformerConfig
from longtake.model import Transformer

LATENTS = (64, 21, 8, 14)
TEXT_TOKENS = 24


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--attention", choices=("linear", "block", "softmax"), default="linear")
    parser.add_argument("--precision", choices=("bf16", "fp32"), default="bf16")
    parser.add_argument("--runs", type=int, default=9)
    arguments = parser.parse_args()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    dtype = torch.bfloat16 if arguments.precision == "bf16" else torch.float32
    config = TransformerConfig(attention=arguments.attention)
    model = Transformer(config).to(device, dtype).eval().requires_grad_(False)
    latents = torch.randn(1, *LATENTS, device=device)
    sigma = torch.full((1, LATENTS[1]), 0.5, device=device)
    text = torch.randn(1, TEXT_TOKENS, config.text_width, device=device, dtype=dtype)
    mask = torch.ones(1, TEXT_TOKENS, dtype=torch.bool, device=device)
    times = []
    with torch.inference_mode():
        for run in range(arguments.runs + 2):
            if device == "cuda":
                torch.cuda.synchronize()
            start = time.perf_counter()
            model(latents, sigma, text, mask)
            if device == "cuda":
                torch.cuda.synchronize()
            if run >= 2:
                times.append(time.perf_counter() - start)
    print(
        json.dumps(
            {
                "what": "transformer forward, 5 s, 256x448",
                "attention": arguments.attention,
                "precision": arguments.precision,
                "parameters": sum(p.numel() for p in model.parameters()),
                "median_s": round(statistics.median(times), 4),
                "fastest_s": round(min(times), 4),
                "slowest_s": round(max(times), 4),
                "runs": arguments.runs,
                "threads": torch.get_num_threads(),
                "processor": torch.cuda.get_device_name() if device == "cuda" else processor(),
                "torch": torch.__version__,
            }
        )
    )


def processor() -> str:
    """Name of the CPU and whether it multiplies bf16."""
    fast = "AVX512-BF16" if torch.cpu._is_avx512_bf16_supported() else "no bf16 units"
    return f"{platform.machine()}, {fast}"


if __name__ == "__main__":
    main()
