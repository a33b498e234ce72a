"""A film of a minute and of two by chunks, decoded as it comes: 2B, or the embedded model.

python benchmarks/bench_minute.py --rows native,native_720p,480p,720p [--cap-gib 8]
    [--precision fp8] [--offload block] [--eager] [--tiny] [--out FILE]

Random weights and text, four steps and a committing pass a chunk. 480p: chunks of ten latent
frames, Wan's decoder on its caches. 720p: chunks of five, LTX-2's decoder in tiles; its 704 rows
are what a film of 720 pads. Text encoder and mp4 are not counted: what is timed begins with noise
and ends with bytes on the host. Prints a JSON line for each film. Needs diffusers, whose decoders
these are. With --offload block the layers' weights wait on the host, and all is decoded at the
end. With --eager no pass is recorded. The native rows are the embedded model's, prompt to bytes, at
256x448 and at 720x1280, which is made over a small film.
"""

import argparse
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from bench_precision import GIB, tell
from torch import Tensor

from longtake.bench.origin import origin_of
from longtake.bench.run import decoder_of, free
from longtake.bench.shapes import Shape, inputs_of, random_denoiser, shape_named
from longtake.model import Transformer, recorded
from longtake.model.offload import keep_on_host
from longtake.official.longsana import chunks_of, roll
from longtake.pipeline import Frames, load
from longtake.pipeline.precision import arithmetic_for
from longtake.quantize import choose_way, low_layers, quantize
from longtake.rollout.pixels import to_bytes
from longtake.vae.tiling import Tiling

NATIVE = {"native": (448, 256), "native_720p": (1280, 720)}
PROMPT = "a red car drives left to right across a desert at sunset, the camera pans with it"
CHUNKS = {"480p": 10, "720p": 5}
"""Latent frames of a chunk."""
FPS = 16


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", default="480p,720p")
    parser.add_argument("--minutes", default="1,2", help="lengths of the films")
    parser.add_argument("--cap-gib", type=float, default=0.0, help="memory of the card allowed")
    parser.add_argument("--precision", default="bf16", choices=("bf16", "fp16", "fp8", "nvfp4"))
    parser.add_argument("--offload", default="none", choices=("none", "block"))
    parser.add_argument("--eager", action="store_true", help="launch every kernel by itself")
    parser.add_argument("--cells", type=int, default=22, help="rows and columns of a tile at 720p")
    parser.add_argument("--tiny", action="store_true", help="toy sizes, on a CPU as well")
    parser.add_argument("--out", type=Path, default=None)
    asked = parser.parse_args()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if asked.cap_gib and device.type == "cuda":
        total = torch.cuda.get_device_properties(device).total_memory
        torch.cuda.set_per_process_memory_fraction(min(asked.cap_gib * GIB / total, 1.0))
    origin = origin_of(device, "python benchmarks/bench_minute.py")
    how = {"precision": asked.precision, "offload": asked.offload, "eager": asked.eager}
    tell({"origin": origin, "cap_gib": asked.cap_gib, **how}, asked.out)
    if asked.eager:
        recorded.recordable = lambda _device: False
    for row in asked.rows.split(","):
        try:
            with torch.no_grad():
                for line in films(row, asked, device):
                    tell({"row": row, **line}, asked.out)
        except torch.OutOfMemoryError as error:
            tell({"row": row, "ran": False, "why": str(error)[:160]}, asked.out)
        free(device)


def films(row: str, asked: argparse.Namespace, device: torch.device) -> Iterator[dict[str, Any]]:
    """A short film to warm up, then the films that count."""
    if row in NATIVE:
        yield from native(row, asked, device)
        return
    shape = shape_named("tiny" if asked.tiny else row)  # type: ignore[arg-type]
    model = denoiser(shape, device, asked)
    film(row, shape, model, 81 if not asked.tiny else 17, asked)
    for minutes in map(float, asked.minutes.split(",")):
        frames = 1 + (32 if asked.tiny else round(minutes * 60 * FPS))
        yield {"frames": frames, **film(row, shape, model, frames, asked)}


def native(row: str, asked: argparse.Namespace, device: torch.device) -> Iterator[dict[str, Any]]:
    """The embedded model's films, as `longtake generate` makes them but for the mp4."""
    pipe = load(device="cuda" if device.type == "cuda" else "cpu", precision="auto")
    width, height = NATIVE[row] if not asked.tiny else (64, 64)
    plain = replace(pipe.defaults, width=width, height=height)
    for minutes in (0.0, *map(float, asked.minutes.split(","))):
        frames = 1 + (32 if asked.tiny else round(minutes * 60 * FPS) or 80)
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(device)
        watch = Watch(device)
        for event in pipe.stream(PROMPT, replace(plain, frames=frames)):
            if isinstance(event, Frames):
                watch.first()
        peak = torch.cuda.max_memory_allocated(device) / GIB if device.type == "cuda" else 0.0
        yield {
            "frames": frames,
            "whole_s": round(watch.now(), 3),
            "first_frames_s": round(watch.first_s, 3),
            "film_s": round(frames / FPS, 2),
            "peak_gib": round(peak, 3),
            "precision": pipe.precision,
            "ran": True,
        }


def denoiser(shape: Shape, device: torch.device, asked: argparse.Namespace) -> Transformer:
    """Random weights in the precision, on the device or waiting on the host."""
    plain = device.type == "cpu" and asked.precision == "bf16"
    arithmetic = arithmetic_for("fp32" if plain else asked.precision, device)
    # Drawn on the card, which takes a moment where the host takes most of a minute.
    model = random_denoiser(shape.transformer, device, arithmetic.dtype)
    if arithmetic.how:
        quantize(model, arithmetic.how, low_layers(model, arithmetic.how), device)
        choose_way(model, arithmetic.way(device))
    if asked.offload == "block":
        keep_on_host(model.to("cpu"), device)
        free(device)
    return model


def film(
    row: str, shape: Shape, model: Transformer, frames: int, asked: argparse.Namespace
) -> dict[str, Any]:
    """Seconds to the first frames, to the last and of the denoiser alone; most memory."""
    device, dtype = model.head_table.device, model.head_table.dtype
    autoencoder, _ = decoder_of(replace(shape, latents=(1, *shape.latents[1:])), device, dtype)
    if row == "720p" or asked.cap_gib:
        autoencoder.tiling = Tiling(cells=asked.cells)
    count = (frames - 1) // autoencoder.temporal_stride + 1
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    watch = Watch(device)
    chunks = watch.passing(rolled(shape, model, count, CHUNKS[row]))
    if asked.offload == "block":
        chunks = iter(list(chunks))
    made = 0
    for part in autoencoder.decode_chunks(chunks, dtype, device):
        made += to_bytes(part[0]).cpu().shape[0]
        watch.first()
    whole_s = watch.now()
    assert made == frames, (made, frames)
    peak = torch.cuda.max_memory_allocated(device) / GIB if device.type == "cuda" else 0.0
    return {
        "whole_s": round(whole_s, 3),
        "first_frames_s": round(watch.first_s, 3),
        "denoised_s": round(watch.inside_s, 3),
        "chunks": len(chunks_of(count, CHUNKS[row])),
        "film_s": round(frames / FPS, 2),
        "peak_gib": round(peak, 3),
        "ran": True,
    }


def rolled(shape: Shape, model: Transformer, count: int, chunk: int) -> Iterator[Tensor]:
    """Latents of a film, chunk by chunk; noise is drawn where it is used."""
    inputs = inputs_of(replace(shape, latents=(1, *shape.latents[1:])), model.head_table.device,
                       model.head_table.dtype)  # fmt: skip
    generator = torch.Generator(model.head_table.device).manual_seed(0)

    def draw(place: range, _step: int) -> Tensor:
        size = (1, shape.latents and inputs.latents.shape[1], len(place), *shape.latents[1:])
        return torch.randn(size, generator=generator, device=model.head_table.device)

    return roll(model, inputs.text, inputs.mask, draw, count, chunk=chunk)


class Watch:
    """Seconds since it was made; those spent in what passes through it."""

    def __init__(self, device: torch.device) -> None:
        self.device, self.inside_s, self.first_s = device, 0.0, 0.0
        self.began = 0.0
        self.began = self.now()

    def now(self) -> float:
        """Seconds, the card idle."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        return time.perf_counter() - self.began

    def passing(self, items: Iterator[Tensor]) -> Iterator[Tensor]:
        """The same items, the time they take added up."""
        while True:
            start = self.now()
            item = next(items, None)
            self.inside_s += self.now() - start
            if item is None:
                return
            yield item

    def first(self) -> None:
        """The first frames are there."""
        self.first_s = self.first_s or self.now()


if __name__ == "__main__":
    main()
