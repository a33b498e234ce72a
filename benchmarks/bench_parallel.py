"""One film, and one training step, by 1 to N GPUs: time, memory and whether the numbers agree.

python benchmarks/bench_parallel.py --gpus 2                        2 GPUs, the published 2B size
python benchmarks/bench_parallel.py --gpus 2 --size tiny --device cpu   the same on CPU processes
--only equal,guided,chunk,decode,train,lora,compiled                        some of it

Runs 1, 2, 4 ... N processes after one another and prints a JSON line for each thing measured, with
`times_one`: how much faster than one process of the same run. Weights are random. Needs torch,
einops, jaxtyping, numpy and safetensors alone. The VAE of the public model is of diffusers; without
it decoding is measured with our own, which costs a third of that.
"""

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from importlib.util import find_spec
from itertools import islice
from pathlib import Path
from typing import Any

import torch

from longtake.config import AutoencoderConfig, ShardedConfig, TransformerConfig
from longtake.guidance import classifier_free
from longtake.model import Transformer
from longtake.official.longsana import CHUNK, roll
from longtake.parallel import ALL, Roles, Team, Workers, assemble, roles_of, run_together
from longtake.parallel.sharding import join_sharded
from longtake.planner import traffic_of
from longtake.recipes.sana_video import published
from longtake.rollout.ahead import ahead
from longtake.rollout.sharing import share_of
from longtake.train.latents import Clip
from longtake.train.sharded import ShardedTrainer
from longtake.vae import Autoencoder
from longtake.vae.autoencoder import StreamCache

PARTS = ("equal", "guided", "chunk", "decode", "train", "lora", "compiled")
MINUTE_CHUNKS = 24
"""Chunks of a film of 60 s at 16 frames a second."""
LORA = 16
"""Rank of the LoRA that is trained."""
TINY = TransformerConfig(
    latent_channels=16, width=48, depth=2, heads=2, ffn_ratio=3.0, text_width=32,
    rope_theta=10_000.0, patch=(1, 2, 2), cross_norm_eps=1e-5,
)  # fmt: skip
WIDE = AutoencoderConfig(widths=(448, 768, 1152))
"""Decodes 480x832 where there is no diffusers."""
NARROW = AutoencoderConfig(
    latent_channels=16, widths=(16, 24, 32), encoder_blocks=(1, 1, 1), decoder_blocks=(1, 1, 1)
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Size:
    """What is run."""

    config: TransformerConfig
    decoder: AutoencoderConfig
    grid: tuple[int, int, int]
    pixels: tuple[int, int]
    tokens: int
    chunks: int
    dtype: torch.dtype


def size_named(name: str) -> Size:
    if name == "tiny":
        return Size(
            config=TINY, decoder=NARROW, grid=(5, 8, 12), pixels=(64, 96), tokens=7, chunks=2,
            dtype=torch.float32,
        )  # fmt: skip
    return Size(
        config=published(), decoder=WIDE, grid=(21, 60, 104), pixels=(480, 832), tokens=300,
        chunks=6, dtype=torch.bfloat16,
    )  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--gpus", type=int, default=max(torch.cuda.device_count(), 1))
    parser.add_argument("--size", choices=("480p", "tiny"), default="480p")
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--only", default=",".join(PARTS))
    parser.add_argument("--keep", type=int, default=6, help="layers that are not run again")
    parser.add_argument("--lines", type=Path, default=None, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if unknown := set(arguments.only.split(",")) - set(PARTS):
        parser.error(f"unknown part {min(unknown)}; there are {', '.join(PARTS)}")
    if arguments.lines is not None:
        work(arguments)
        # Libraries wait at exit for others.
        sys.stdout.flush()
        os._exit(0)
    once: dict[str, float] = {}
    for count in sorted({1, arguments.gpus, *(2**n for n in range(1, 7))}):
        if count <= arguments.gpus:
            measure(count, once)


def measure(count: int, once: dict[str, float]) -> None:
    """Run so many processes, and print what they measured."""
    with tempfile.TemporaryDirectory() as folder:
        lines = Path(folder) / "lines.jsonl"
        command = [sys.executable, __file__, *sys.argv[1:], "--lines", str(lines)]
        ending = run_together(command, count)
        for text in lines.read_text().splitlines() if lines.exists() else ():
            line = json.loads(text)
            if "median_ms" in line:
                line["times_one"] = round(
                    once.setdefault(line["what"], line["median_ms"]) / line["median_ms"], 3
                )
            print(json.dumps(line), flush=True)
        if ending.code:
            print(json.dumps({"what": "failed", "gpus": count, "rank": ending.rank,
                              "code": ending.code, "word": ending.word}), flush=True)  # fmt: skip


def work(arguments: argparse.Namespace) -> None:
    """Measure everything as one of several processes; the first writes lines."""
    count = int(os.environ["WORLD_SIZE"])
    cuda = arguments.device == "cuda" or (arguments.device == "auto" and torch.cuda.is_available())
    workers, device = join_sharded(torch.device("cuda" if cuda else "cpu"))
    torch.backends.cuda.matmul.allow_tf32 = False
    size = size_named(arguments.size)
    tell = partial(_tell, arguments, count, device)
    steps = partial(timed, arguments.runs, device, workers)
    wanted = arguments.only.split(",")
    with torch.no_grad():
        if "equal" in wanted:
            equal(count, device, tell)
        if "guided" in wanted:
            guided(size, count, device, steps, tell)
        if "chunk" in wanted:
            by_chunks(size, count, device, steps, tell)
        if "decode" in wanted and count == 1 and (arguments.gpus > 1 or device.type == "cpu"):
            decoded(size, device, tell)
    runs: list[dict[str, Any]] = []
    if "train" in wanted:
        runs.append({})
    if "lora" in wanted:
        runs.append({"lora": LORA})
    if "compiled" in wanted:
        runs += [{"compile": True}, {"compile": True, "keep_layers": arguments.keep},
                 {"compile": True, "lora": LORA}]  # fmt: skip
    for how in runs:
        trained(size, workers, device, steps, tell, how)


def equal(count: int, device: torch.device, tell: Callable[..., None]) -> None:
    """A pass in float32 by all, against the same pass by this process alone."""
    config = replace(TINY, width=224, heads=4, depth=4)
    model = random_model(config, torch.float32, device)
    team = assemble(Roles(shards=count))
    frames = max(9, count + 1)
    latents, text, mask = inputs(config, (frames, 16, 24), 60, torch.float32, device)
    sigma = torch.full((1, frames), 0.5, dtype=torch.float64, device=device)
    for causal in (False, True):
        own, share = team.frames(frames), share_of(team, frames, causal=causal)
        here = slice(own.start, own.stop)
        if causal:
            part = model.advance(
                latents[:, :, here], sigma[:, here], text, mask, (len(own),), None, share
            )[0]
            alone = model.advance(latents, sigma, text, mask, (frames,))[0]
        else:
            part = model(latents[:, :, here], sigma[:, here], text, mask, share=share)
            alone = model(latents, sigma, text, mask)
        off = (team.whole(part, frames) - alone).abs().max() / alone.abs().max()
        tell("fp32 equality, causal" if causal else "fp32 equality", relative=off.item())


def guided(
    size: Size, count: int, device: torch.device, steps: Callable[..., dict[str, Any]],
    tell: Callable[..., None],
) -> None:  # fmt: skip
    """A step with guidance, as the sampler asks for it."""
    frames = size.grid[0]
    team = assemble(roles_of(count, guided=True, by_chunks=False, latent_frames=frames))
    model = random_model(size.config, size.dtype, device)
    latents, text, mask = inputs(size.config, size.grid, size.tokens, size.dtype, device)
    own, share = team.frames(frames), share_of(team, frames)
    x = latents[:, :, own.start : own.stop]
    sigma = torch.full((1, len(own)), 0.5, dtype=torch.float64, device=device)

    def step() -> None:
        texts = (text, -text)[team.passes(2)]
        parts = [model(x, sigma, words, mask, share=share).float() for words in texts]
        both = parts if len(parts) == 2 else team.both(parts[0])
        classifier_free(both[0], both[1], 6.0)

    told = steps(step)
    traffic = traffic_of(
        size.config, size.grid[1:], size.dtype, shards=team.roles.shards, causal=False
    )
    tell("guided step", roles=str(team.roles), layer_bytes=traffic.sums + traffic.frames, **told)


def by_chunks(
    size: Size, count: int, device: torch.device, steps: Callable[..., dict[str, Any]],
    tell: Callable[..., None],
) -> None:  # fmt: skip
    """A chunk of ten latent frames after others: four steps, and one that commits it."""
    if count > CHUNK:
        return
    team = assemble(Roles(shards=count))
    chunks = rolled(size, device, team)
    next(chunks)
    told = steps(lambda: next(chunks))
    minute_s = told["median_ms"] * MINUTE_CHUNKS / 1000
    tell("chunk of ten latent frames", roles=str(team.roles), minute_s=round(minute_s, 2), **told)


def rolled(size: Size, device: torch.device, team: Team = ALL) -> Any:  # noqa: ANN401
    """Chunks of a film of an hour."""
    model = random_model(size.config, size.dtype, device)
    _, text, mask = inputs(size.config, (1, *size.grid[1:]), size.tokens, size.dtype, device)
    shape = (size.config.latent_channels, *size.grid[1:])

    def draw(place: range, _step: int) -> torch.Tensor:
        return torch.randn(1, shape[0], len(place), *shape[1:], device=device)

    return roll(model, text, mask, draw, 1 + 14_400, team)


def decoded(size: Size, device: torch.device, tell: Callable[..., None]) -> None:
    """Chunks decoded after one another, and meanwhile on another device."""
    other = torch.device("cuda", 1) if device.type == "cuda" else device
    times = {"one after the other": walk(size, device, device, meanwhile=False)}
    times["decoded meanwhile"] = walk(size, device, other, meanwhile=True)
    first = times["one after the other"]
    kind = "Wan's decoder" if with_wan(size) else "a decoder of our own"
    for what, each_s in times.items():
        tell(f"chunk, {what}", chunk_s=round(each_s, 4), decoder=kind,
             times_one_device=round(first / each_s, 3))  # fmt: skip


def walk(size: Size, home: torch.device, other: torch.device, *, meanwhile: bool) -> float:
    """Seconds a chunk, denoised and decoded to bytes, after two chunks to warm up."""
    decode = decoder_on(size, other)
    began = 0.0
    for count in (2, size.chunks):
        chunks = islice(rolled(size, home), count)
        began = time.perf_counter()
        for frames in decode(ahead(chunks, home) if meanwhile else chunks):
            frames.cpu()
    return (time.perf_counter() - began) / size.chunks


def with_wan(size: Size) -> bool:
    return size.config != TINY and find_spec("diffusers") is not None


def decoder_on(
    size: Size, device: torch.device
) -> Callable[[Iterator[torch.Tensor]], Iterator[torch.Tensor]]:
    """Chunks to frames: by Wan's decoder if diffusers is here, else by one of our own."""
    if with_wan(size):
        from longtake.bench.run import decoder_of
        from longtake.bench.shapes import shape_named

        public, _ = decoder_of(shape_named("480p"), device, size.dtype)
        return lambda chunks: public.decode_chunks(chunks, size.dtype, device)
    with torch.device(device):
        own = Autoencoder(size.decoder).to(size.dtype).eval().requires_grad_(False)
    cache = StreamCache()
    sides = [side // size.decoder.spatial_stride for side in size.pixels]

    def decode(chunks: Iterator[torch.Tensor]) -> Iterator[torch.Tensor]:
        for chunk in chunks:
            latents = torch.randn(1, size.decoder.latent_channels, chunk.shape[2], *sides)
            yield own.decode(latents.to(device), cache)

    return decode


def trained(
    size: Size, workers: Workers, device: torch.device, steps: Callable[..., dict[str, Any]],
    tell: Callable[..., None], how: dict[str, Any],
) -> None:  # fmt: skip
    """A training step in parts (FSDP2), one clip a process; or of a LoRA over frozen weights."""
    count = workers.size
    latents, text, mask = inputs(size.config, size.grid, size.tokens, torch.float32, device)
    precision: Any = "bf16" if size.dtype == torch.bfloat16 else "fp32"
    config = ShardedConfig(batch=count, warmup=1, precision=precision, **how)
    model = random_model(size.config, size.dtype if config.lora else torch.float32, device)
    with tempfile.TemporaryDirectory() as folder:
        trainer = ShardedTrainer(
            model.requires_grad_(True), lambda *_: Clip(latents, text, mask), config, Path(folder),
            workers, device,
        )  # fmt: skip
        told = steps(trainer.one_step)
    for name in ("median_ms", "least_ms", "most_ms"):
        told[name] = round(told[name] / count, 3)
    what = f"training a LoRA of rank {config.lora}, a clip" if config.lora else "training, a clip"
    what += ", compiled" if config.compile else ""
    what += f", {config.keep_layers} layers kept" if config.keep_layers else ""
    tell(what, clips_a_step=count, **told)


def timed(
    runs: int, device: torch.device, workers: Workers, step: Callable[[], object]
) -> dict[str, Any]:
    """Median and spread of some runs after two to warm up, everybody beginning together."""
    times = []
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    for _ in range(runs + 2):
        workers.wait()
        _wait(device)
        start = time.perf_counter()
        step()
        _wait(device)
        times.append(1000 * (time.perf_counter() - start))
    times = sorted(times[2:])
    cuda = device.type == "cuda"
    peak = torch.cuda.max_memory_allocated(device) / 2**30 if cuda else 0.0
    return {
        "median_ms": round(statistics.median(times), 3),
        "least_ms": round(times[0], 3),
        "most_ms": round(times[-1], 3),
        "runs": runs,
        "peak_gib": round(peak, 2),
    }


def random_model(
    config: TransformerConfig, dtype: torch.dtype, device: torch.device
) -> Transformer:
    """The same weights in every process."""
    with torch.device("meta"):
        model = Transformer(config)
    model = model.to(dtype).to_empty(device=device).eval().requires_grad_(False)
    generator = torch.Generator(device).manual_seed(0)
    for name, weight in model.named_parameters():
        if weight.ndim > 1:
            weight.normal_(std=0.5 * weight[0].numel() ** -0.5, generator=generator)
        else:
            weight.fill_(1.0 if "norm" in name and "bias" not in name else 0.0)
    return model


def inputs(
    config: TransformerConfig, grid: tuple[int, int, int], tokens: int, dtype: torch.dtype,
    device: torch.device,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:  # fmt: skip
    generator = torch.Generator(device).manual_seed(1)
    latents = torch.randn(1, config.latent_channels, *grid, generator=generator, device=device)
    text = torch.randn(1, tokens, config.text_width, generator=generator, device=device)
    return latents, text.to(dtype), torch.ones(1, tokens, dtype=torch.bool, device=device)


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _tell(
    arguments: argparse.Namespace, count: int, device: torch.device, what: str, **told: object
) -> None:
    if int(os.environ["RANK"]) > 0:
        return
    card = torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU"
    line = {"what": what, "gpus": count, "size": arguments.size, **told, "processor": card}
    with arguments.lines.open("a") as file:
        file.write(json.dumps(line | {"torch": torch.__version__}) + "\n")


if __name__ == "__main__":
    main()
