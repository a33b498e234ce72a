"""What the shipped autoencoder keeps of held-out clips, and its decode time; prints one JSON line.

python benchmarks/bench_autoencoder.py [--model previz] [--clips 8] [--runs 5]
"""

import argparse
import json
import statistics
import time
from collections.abc import Iterator

import numpy as np
import torch
from bench_transformer import processor
from jaxtyping import Float, UInt8
from torch import Tensor

import longtake
from longtake.config import latent_frames_for
from longtake.pipeline import DECODE_CHUNK, to_bytes
from longtake.recipes.previz import HELD_OUT_SEED, PrevizRecipe
from longtake.train.data import to_signed
from longtake.train.losses import psnr
from longtake.vae import Autoencoder
from longtake.world import render, sample_scenes

FRAMES, HEIGHT, WIDTH = 81, 256, 448
WARM_UP = 1

Clip = UInt8[Tensor, "frames height width 3"]


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", default="previz")
    parser.add_argument("--clips", type=int, default=8)
    parser.add_argument("--frames", type=int, default=FRAMES)
    parser.add_argument("--height", type=int, default=HEIGHT)
    parser.add_argument("--width", type=int, default=WIDTH)
    parser.add_argument("--runs", type=int, default=5)
    options = parser.parse_args()
    pipeline = longtake.load(options.model, device="cpu", precision="fp32")
    size = (options.frames, options.height, options.width)
    clips = held_out_clips(options.clips, *size)
    scores = [score(clip, round_trip(pipeline.autoencoder, clip)) for clip in clips]
    report = {
        "what": "autoencoder, held-out clips on the CPU",
        "psnr_mean_db": round(statistics.mean(scores), 2),
        "psnr_worst_db": round(min(scores), 2),
        "clips": options.clips,
        "frames": options.frames,
        "size": f"{options.width}x{options.height}",
        "decode_runs": options.runs,
    }
    latents = torch.randn(latent_shape(pipeline.autoencoder, *size))
    for precision in ("fp32", "bf16"):
        model = longtake.load(options.model, device="cpu", precision=precision).autoencoder
        times = decode_times(model, latents, options.runs)
        report[f"decode_{precision}_median_s"] = round(statistics.median(times), 3)
        report[f"decode_{precision}_fastest_s"] = round(min(times), 3)
        report[f"decode_{precision}_slowest_s"] = round(max(times), 3)
    report |= {
        "parameters": sum(p.numel() for p in pipeline.autoencoder.parameters()),
        "model_hash": pipeline.model_hash,
        "threads": torch.get_num_threads(),
        "processor": processor(),
        "torch": torch.__version__,
    }
    print(json.dumps(report))


def held_out_clips(num: int, frames: int, height: int, width: int) -> Iterator[Clip]:
    """The first of the clips that training is scored on and never sees, one at a time."""
    of_all = max(num, PrevizRecipe().held_out)
    scenes = sample_scenes(of_all, np.random.default_rng(HELD_OUT_SEED))
    for index in range(num):
        yield render(scenes.select(index), frames=frames, height=height, width=width)[0]


@torch.inference_mode()
def round_trip(model: Autoencoder, clip: Clip) -> Clip:
    """Bytes to latents and back to bytes."""
    latents = model.encode(to_signed(clip[None]))
    return torch.cat([to_bytes(part[0]) for part in model.decode_stream(latents, DECODE_CHUNK)])


def score(clip: Clip, back: Clip) -> float:
    """PSNR of two clips of bytes in dB."""
    return psnr(to_signed(clip[None]), to_signed(back[None])).item()


def latent_shape(model: Autoencoder, frames: int, height: int, width: int) -> tuple[int, ...]:
    """Shape of the latents of one clip."""
    stride = model.config.spatial_stride
    channels = model.config.latent_channels
    return 1, channels, latent_frames_for(frames), height // stride, width // stride


@torch.inference_mode()
def decode_times(model: Autoencoder, latents: Float[Tensor, "1 c t h w"], runs: int) -> list[float]:
    """Seconds from latents to bytes, as a film is decoded; the first runs do not count."""
    times = []
    for _ in range(WARM_UP + runs):
        start = time.perf_counter()
        for part in model.decode_stream(latents, DECODE_CHUNK):
            to_bytes(part)
        times.append(time.perf_counter() - start)
    return times[WARM_UP:]


if __name__ == "__main__":
    main()
