"""What the shipped autoencoder keeps of held-out clips, and its decode time; prints one JSON line.

python benchmarks/bench_autoencoder.py [--model previz] [--level first] [--clips 8] [--runs 5]
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
from longtake.pipeline import DECODE_CHUNK
from longtake.recipes.decoder import change_of
from longtake.recipes.recipe import HELD_OUT_SEED, PrevizRecipe
from longtake.rollout.pixels import to_bytes
from longtake.train.data import to_signed
from longtake.train.losses import psnr
from longtake.vae import Autoencoder
from longtake.world import Scenes, render, sample_scenes
from longtake.world.cast import SIZES
from longtake.world.level import FIRST, Level, level_named
from longtake.world.truth import truth

FRAMES, HEIGHT, WIDTH = 81, 256, 448
SMALL = SIZES[0].name
NOISES = (0.0, 0.05, 0.1)
"""Deviations of noise on latents, which have 1: errors such as a denoiser makes."""
WARM_UP = 1

Clip = UInt8[Tensor, "frames height width 3"]


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", default="previz")
    parser.add_argument("--level", default="first", help="how much of the world the clips show")
    parser.add_argument("--clips", type=int, default=8)
    parser.add_argument("--frames", type=int, default=FRAMES)
    parser.add_argument("--height", type=int, default=HEIGHT)
    parser.add_argument("--width", type=int, default=WIDTH)
    parser.add_argument("--runs", type=int, default=5)
    options = parser.parse_args()
    pipeline = longtake.load(options.model, device="cpu", precision="fp32")
    size = (options.frames, options.height, options.width)
    clips = [
        (scene, clip, round_trip(pipeline.autoencoder, clip))
        for scene, clip in held_out_clips(options.clips, *size, level_named(options.level))
    ]
    scores = [score(clip, back) for _, clip, back in clips]
    true = sum(change_of(clip) for _, clip, _ in clips)
    jumps = {
        noise: round(
            sum(change_of(round_trip(pipeline.autoencoder, clip, noise)) for _, clip, _ in clips)
            / true,
            3,
        )
        for noise in NOISES
    }
    small = [value for parts in clips if (value := score_small(*parts)) is not None]
    report = {
        "what": "autoencoder, held-out clips on the CPU",
        "psnr_mean_db": round(statistics.mean(scores), 2),
        "psnr_worst_db": round(min(scores), 2),
        "small_subjects_psnr_mean_db": round(statistics.mean(small), 2) if small else None,
        "small_subjects_psnr_worst_db": round(min(small), 2) if small else None,
        "small_subjects_clips": len(small),
        "change_over_true_by_noise": jumps,
        "level": options.level,
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


def held_out_clips(
    num: int, frames: int, height: int, width: int, level: Level = FIRST
) -> Iterator[tuple[Scenes, Clip]]:
    """The first of the clips that training is scored on and never sees, one at a time."""
    of_all = max(num, PrevizRecipe().held_out)
    scenes = sample_scenes(of_all, np.random.default_rng(HELD_OUT_SEED), level=level)
    for index in range(num):
        scene = scenes.select(index)
        yield scene, render(scene, frames=frames, height=height, width=width)[0]


@torch.inference_mode()
def round_trip(model: Autoencoder, clip: Clip, noise: float = 0.0) -> Clip:
    """Bytes to latents, off by noise of a deviation and the same draws, and back to bytes."""
    latents = model.encode(to_signed(clip[None]))
    draws = torch.randn(latents.shape, generator=torch.Generator().manual_seed(HELD_OUT_SEED))
    latents = latents + noise * draws
    return torch.cat([to_bytes(part[0]) for part in model.decode_stream(latents, DECODE_CHUNK)])


def score(clip: Clip, back: Clip) -> float:
    """PSNR of two clips of bytes in dB."""
    return psnr(to_signed(clip[None]), to_signed(back[None])).item()


def score_small(scene: Scenes, clip: Clip, back: Clip) -> float | None:
    """PSNR in dB inside the boxes of a clip's small subjects; None where there are none."""
    frames, height, width, _ = clip.shape
    inside = torch.zeros(frames, height, width, dtype=torch.bool)
    for subject in truth(scene, frames=frames, height=height, width=width)[0].subjects:
        for mask, box in zip(inside, subject.boxes, strict=True):
            if subject.size == SMALL and box is not None:
                left, top, right, bottom = (round(edge) for edge in box)
                mask[top:bottom, left:right] = True
    if not inside.any():
        return None
    return psnr(to_signed(clip[inside])[None], to_signed(back[inside])[None]).item()


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
