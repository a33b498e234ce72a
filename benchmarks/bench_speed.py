"""Every row of the speed table of docs/performance.md on one card, in eight minutes at most.

python benchmarks/bench_speed.py [--only forward_480p,decode] [--budget 450] [--tiny] [--out DIR]

Each section is guarded: one that fails or runs out of time is told and the next begins. A JSON line
is printed as soon as a section is done, and DIR/speed.json is rewritten, so that nothing is lost if
the machine goes. Random weights; diffusers, where it is installed, runs beside us on the same
tensors. `--tiny` runs every section at toy size, on a CPU as well.
"""

import argparse
import json
import os
import signal
import time
import traceback
from collections.abc import Callable
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from longtake.bench import theirs
from longtake.bench.clock import Timing, settle, time_of
from longtake.bench.origin import origin_of
from longtake.bench.run import agreement, decoded, decoder_of, free
from longtake.bench.shapes import Inputs, Shape, inputs_of, random_denoiser, shape_named
from longtake.errors import CannotHere
from longtake.flow import published_schedule
from longtake.guidance import classifier_free
from longtake.kernels import ops, trial
from longtake.model import Reading, Transformer
from longtake.model.transformer import Layout
from longtake.pipeline.precision import arithmetic_for
from longtake.quantize import Format, choose_way, low_layers, quantize
from longtake.samplers import sampler_of
from longtake.vae import wan

START = time.monotonic()
TILES = ((128, 2), (64, 1), (256, 4), (128, 4), (256, 8), (64, 2), (128, 1), (256, 2))
"""Channels and warps of the depthwise kernel that are tried."""


class Bench:
    """Sections, what they found, and the time that is left."""

    def __init__(self, arguments: argparse.Namespace) -> None:
        cuda = torch.cuda.is_available()
        self.tiny, self.budget, self.out = arguments.tiny, arguments.budget, arguments.out
        self.device = torch.device("cuda" if cuda else "cpu")
        self.dtype = torch.bfloat16 if cuda else torch.float32
        self.runs = 2 if self.tiny else 10
        self.found: dict[str, Any] = {}

    def shape(self, name: str, *, latent_frames: int | None = None) -> Shape:
        """A published shape, or the toy one in its place."""
        shape = shape_named("tiny" if self.tiny else name)
        if latent_frames is not None:
            frames = min(latent_frames, 8) if self.tiny else latent_frames
            shape = replace(shape, latents=(frames, *shape.latents[1:]))
        return shape

    def left(self) -> float:
        """Seconds."""
        return self.budget - (time.monotonic() - START)

    def time(self, work: Callable[[], object], runs: int | None = None) -> dict[str, Any]:
        """A timing as plain values, in milliseconds."""
        timing: Timing = time_of(work, self.device, runs or self.runs)
        return {
            "ms": round(1e3 * timing.median_s, 4),
            "fastest_ms": round(1e3 * timing.fastest_s, 4),
            "slowest_ms": round(1e3 * timing.slowest_s, 4),
            "first_s": round(timing.first_s, 3),
            "runs": timing.runs,
            "peak_gib": timing.peak_gib,
        }

    def run(self, name: str, section: Callable[["Bench"], dict[str, Any]]) -> None:
        """Run one section, tell what it found, and keep it."""
        if self.left() < 5:
            self.keep(name, {"left_out": "no time left"})
            return
        began = time.monotonic()
        signal.alarm(max(int(self.left()), 1))
        try:
            with torch.no_grad():
                found = section(self)
        except Exception as problem:  # noqa: BLE001 - the next section is another matter
            found = {"failed": " ".join(f"{type(problem).__name__}: {problem}".split())[:400]}
            traceback.print_exc()
        finally:
            signal.alarm(0)
        free(self.device)
        self.keep(name, found | {"section_s": round(time.monotonic() - began, 1)})

    def keep(self, name: str, found: dict[str, Any]) -> None:
        """Print a section and write all of them."""
        self.found[name] = found
        print(json.dumps({name: found}), flush=True)
        self.out.mkdir(parents=True, exist_ok=True)
        path = self.out / "speed.json"
        path.with_suffix(".part").write_text(json.dumps(self.found, indent=1) + "\n", "utf-8")
        path.with_suffix(".part").replace(path)


def kernels(bench: Bench) -> dict[str, Any]:
    """Which kernels are trusted on this card, and how long their first use takes."""
    began = time.monotonic()
    origin = origin_of(bench.device, "python benchmarks/bench_speed.py" + " --tiny" * bench.tiny)
    return {"origin": origin, "trials_s": round(time.monotonic() - began, 1)}


def accuracy(bench: Bench) -> dict[str, Any]:
    """Error of a layer in bf16 against float64, of its output and of what it adds to its input.

    With kernels, without, and of diffusers' layer, on the same weights and inputs.
    """
    shape = bench.shape("480p", latent_frames=3)
    model = random_denoiser(replace(shape.transformer, depth=1), bench.device, torch.bfloat16)
    before, after = one_layer(deepcopy(model).double(), shape, torch.float64)

    def errors(x: Tensor, y: Tensor) -> dict[str, float]:
        x, y = x.view_as(before), y.view_as(after)
        return {"output": apart(y, after), "added": apart(y - x, after - before)}

    found: dict[str, Any] = {"ours": errors(*one_layer(model, shape, torch.bfloat16))}
    with trial.without():
        found["ours_plain"] = errors(*one_layer(model, shape, torch.bfloat16))
    try:
        found["diffusers"] = errors(*their_layer(model, shape))
    except CannotHere as missing:
        found["diffusers"] = f"left out: {missing}"
    return found | {"bound": 1e-2}


def one_layer(model: Transformer, shape: Shape, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """What a layer reads and what it makes."""
    inputs = inputs_of(shape, model.head_table.device, dtype)
    reading = model.read(inputs.text, inputs.mask, trim=True)
    grid = model._grid(inputs.latents)
    layout = Layout(model._rotary(grid, 0), grid[1], (grid[0],), causal=False)
    x = model._tokens(inputs.latents)
    _, modulation = model.noise_level(inputs.sigma)
    y, _ = model.blocks[0](x, modulation, reading.layers[0], layout)
    return x.double(), y.double()


def their_layer(model: Transformer, shape: Shape) -> tuple[Tensor, Tensor]:
    """The same of diffusers' layer around these weights."""
    reference = theirs.their_denoiser(model)
    kept: list[Tensor] = []

    def keep(_: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        kept.extend((inputs[0].double(), output.double()))

    handle = reference.transformer_blocks[0].register_forward_hook(keep)
    theirs.their_forward(reference, inputs_of(shape, model.head_table.device, torch.bfloat16))()
    handle.remove()
    return kept[0], kept[1]


def apart(one: Tensor, other: Tensor) -> float:
    return round(((one - other).norm() / other.norm()).item(), 6)


def forward(bench: Bench, name: str) -> dict[str, Any]:
    """A forward of ours, with kernels and without."""
    shape = bench.shape(name)
    model = random_denoiser(shape.transformer, bench.device, bench.dtype)
    inputs = inputs_of(shape, bench.device, bench.dtype)
    reading = model.read(inputs.text, inputs.mask, trim=True)

    def work() -> Tensor:
        return model.predict(inputs.latents, inputs.sigma, reading)

    found = {"tokens": shape.tokens, "ours": bench.time(work)}
    print(json.dumps(found), flush=True)
    with trial.without():
        found["ours_plain"] = bench.time(work, 3)
    return found


def graphs(bench: Bench) -> dict[str, Any]:
    """Forwards at 720p replayed as one CUDA graph, which must give the same values."""
    found: dict[str, Any] = {}
    if bench.device.type != "cuda":
        return {"left_out": "no CUDA card"}
    for frames in (3, 11):
        shape = bench.shape("720p", latent_frames=frames)
        model = random_denoiser(shape.transformer, bench.device, bench.dtype)
        inputs = inputs_of(shape, bench.device, bench.dtype)
        reading = model.read(inputs.text, inputs.mask, trim=True)

        def work(m: Transformer = model, i: Inputs = inputs, r: Reading = reading) -> Tensor:
            return m.predict(i.latents, i.sigma, r)

        found[f"{frames} latent frames"] = {
            "tokens": shape.tokens, "eager": bench.time(work), "graph": graphed(bench, work)
        }  # fmt: skip
    return found


def graphed(bench: Bench, work: Callable[[], Tensor]) -> dict[str, Any]:
    """A timing of the replayed work, and whether it gave the same."""
    wanted = work()
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        work()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        given = work()
    timing = bench.time(graph.replay)
    return timing | {"equal": bool(torch.equal(given, wanted))}


def profile(bench: Bench) -> dict[str, Any]:
    """Where a forward at 480p spends its time, kernel by kernel."""
    shape = bench.shape("480p")
    model = random_denoiser(shape.transformer, bench.device, bench.dtype)
    inputs = inputs_of(shape, bench.device, bench.dtype)
    reading = model.read(inputs.text, inputs.mask, trim=True)
    for _ in range(2):
        model.predict(inputs.latents, inputs.sigma, reading)
    settle(bench.device)
    cuda = bench.device.type == "cuda"
    activity = torch.profiler.ProfilerActivity
    kinds = [activity.CUDA, activity.CPU] if cuda else [activity.CPU]
    with torch.profiler.profile(activities=kinds) as recorded:
        model.predict(inputs.latents, inputs.sigma, reading)
        settle(bench.device)
    averages = recorded.key_averages()
    spent = "self_device_time_total" if cuda else "self_cpu_time_total"
    table = averages.table(sort_by=spent, row_limit=30, max_name_column_width=70)
    (bench.out / "profile_480p.txt").write_text(table, "utf-8")
    print(table, flush=True)
    top = sorted(averages, key=lambda event: -getattr(event, spent))[:30]
    return {
        "kernels": [
            {"name": e.key[:120], "us": round(getattr(e, spent), 1), "count": e.count} for e in top
        ]
    }


def pieces(bench: Bench) -> dict[str, Any]:
    """Each kernel at the size of 480p, beside its reference, with the bytes it cannot avoid."""
    shape = bench.shape("480p")
    config, (t, rows, columns) = shape.transformer, shape.latents
    h, w, d = rows // 2, columns // 2, config.width
    hidden, size = int(d * config.ffn_ratio), d // config.heads
    make = {"device": bench.device, "dtype": bench.dtype}
    x, y, z = (torch.randn(1, t, h * w, d, **make) for _ in range(3))
    gate, shift, scale = (torch.randn(1, t, 1, d, **make) for _ in range(3))
    weight = torch.ones(d, **make)
    wide = torch.randn(1, t, h * w, 2 * hidden, **make)
    taps = torch.randn(2 * hidden, 1, 3, 3, **make)
    bias = torch.randn(2 * hidden, **make)
    qkv = torch.randn(1, t * h * w, 3 * d, **make)
    angle = torch.rand(t * h * w, size // 2, device=bench.device)
    rotary, n = (angle.cos(), angle.sin()), t * h * w
    query = torch.randn(1, n, config.heads, size, **make).transpose(1, 2)
    key = torch.randn(1, 300, config.heads, size, **make).transpose(1, 2)
    unit = x.numel() * x.element_size()
    works: dict[str, tuple[Callable[[], object], float]] = {
        "modulated_norm": (lambda: ops.modulated_norm(x, shift, scale, 1e-6), 2),
        "gated_residual": (lambda: ops.gated_residual(x, gate, y), 3),
        "gated_residual of two": (lambda: ops.gated_residual(x, gate, y, z), 4),
        "residual_norm": (lambda: ops.residual_norm(x, y, shift, scale, 1e-6), 4),
        "rms_norm": (lambda: ops.rms_norm(x, weight, 1e-5), 2),
        "gated_depthwise": (lambda: ops.gated_depthwise(wide, taps, bias, h), 9),
        "packed_linear_attention": (
            lambda: ops.packed_linear_attention(qkv, weight, weight, rotary, config.heads, (n,)),
            5,
        ),
        "text_attention": (lambda: ops.text_attention(query, key, key, None), 2),
        "to_fp8": (lambda: ops.to_fp8(x.flatten(0, 2)), 1.5),
        "taps_to_fp8": (lambda: ops.taps_to_fp8(x, None, None), 2.5),
    }
    found: dict[str, Any] = {}
    for name, (work, units) in works.items():
        timing = bench.time(work)
        with trial.without():
            plain = bench.time(work, 3)
        rate = units * unit / timing["ms"] / 1e6
        found[name] = {"ms": timing["ms"], "gb_s": round(rate, 1), "plain_ms": plain["ms"]}
        print(json.dumps({name: found[name]}), flush=True)
    if bench.device.type == "cuda" and trial.passed("gated_depthwise", bench.device):
        found["gated_depthwise tiles"] = tiles(bench, wide, taps, bias, h)
    return found


def tiles(
    bench: Bench, x: Tensor, taps: Tensor, bias: Tensor, height: int
) -> dict[str, float | str]:
    """The depthwise kernel at other tiles: channels, warps."""
    from longtake.kernels.triton.gated_depthwise import gated_depthwise

    found: dict[str, float | str] = {}
    for tile in TILES:
        try:
            timing = bench.time(lambda t=tile: gated_depthwise(x, taps, bias, height, t), 5)
            found[str(tile)] = timing["ms"]
        except Exception as problem:  # noqa: BLE001 - a tile that does not fit is an answer
            found[str(tile)] = type(problem).__name__
    return found


def chunk(bench: Bench) -> dict[str, Any]:
    """One pass over ten latent frames that go on from a state, at 480p."""
    shape = bench.shape("480p", latent_frames=10)
    model = random_denoiser(shape.transformer, bench.device, bench.dtype)
    inputs = inputs_of(shape, bench.device, bench.dtype)
    reading = model.read(inputs.text, inputs.mask, trim=True)
    frames = (inputs.latents.shape[2],)
    _, state = model.go_on(inputs.latents, inputs.sigma, reading, frames)
    return {
        "tokens": shape.tokens,
        "ours": bench.time(
            lambda: model.go_on(inputs.latents, inputs.sigma, reading, frames, state)
        ),
    }


def length(bench: Bench) -> dict[str, Any]:
    """Time per token of 161 latent frames over that of 21."""
    found: dict[str, Any] = {}
    for frames in (21, 161):
        shape = bench.shape("480p", latent_frames=frames)
        model = random_denoiser(shape.transformer, bench.device, bench.dtype)
        inputs = inputs_of(shape, bench.device, bench.dtype)
        reading = model.read(inputs.text, inputs.mask, trim=True)
        timing = bench.time(
            lambda m=model, i=inputs, r=reading: m.predict(i.latents, i.sigma, r), 3
        )
        found[f"{frames} latent frames"] = timing | {
            "tokens": shape.tokens,
            "us_per_token": round(1e3 * timing["ms"] / shape.tokens, 4),
        }
        del model, inputs, reading
        free(bench.device)
    first, last = (each["us_per_token"] for each in found.values())
    return found | {"ratio": round(last / first, 4)}


def diffusers(bench: Bench, name: str) -> dict[str, Any]:
    """The same forward through diffusers, eager and with each layer compiled."""
    shape = bench.shape(name)
    model = random_denoiser(shape.transformer, bench.device, bench.dtype)
    inputs = inputs_of(shape, bench.device, bench.dtype)
    reading = model.read(inputs.text, inputs.mask, trim=True)
    reference = theirs.their_denoiser(model)
    run = theirs.their_forward(reference, inputs)
    found: dict[str, Any] = {"apart": agreement(model, reference, inputs)}
    found["ours"] = bench.time(lambda: model.predict(inputs.latents, inputs.sigma, reading))
    found["eager"] = bench.time(run, 5)
    print(json.dumps(found), flush=True)
    if bench.device.type == "cuda":
        theirs.compile_blocks(reference)
        found["compiled"] = bench.time(run)
    for mode in ("eager", "compiled"):
        if mode in found:
            found[f"times_{mode}"] = round(found[mode]["ms"] / found["ours"]["ms"], 3)
    return found


def all_pairs(bench: Bench) -> dict[str, Any]:
    """Wan 2.1 with 1.3 billion weights, which attends to all pairs, through diffusers."""
    sizes = {"832x480x81": (21, 60, 104), "1280x720x81": (21, 90, 160)}
    found = {}
    for name, sides in sizes.items():
        here = (3, 8, 12) if bench.tiny else sides
        run = theirs.wan_forward(bench.device, bench.dtype, here, tiny=bench.tiny)
        found[name] = bench.time(run, 5)
        del run
        free(bench.device)
    return found


def decode(bench: Bench, name: str) -> dict[str, Any]:
    """Latents to frames, ours beside diffusers' own in the same arithmetic."""
    shape = bench.shape(name)
    autoencoder, latents = decoder_of(shape, bench.device, bench.dtype)
    vae, found = autoencoder.vae, {}
    found["ours"] = bench.time(lambda: decoded(autoencoder, latents), 3)
    if shape.vae == "AutoencoderKLWan":
        for count in (1, 4):

            def work(count: int = count) -> int:
                z = vae.post_quant_conv(latents)
                return sum(part.shape[2] for part in wan.decode(vae.decoder, iter((z,)), count))

            found[f"ours, {count} latent frames at once"] = bench.time(work, 3)
    scaled = latents * autoencoder.std.to(latents) + autoencoder.mean.to(latents)
    own = torch.cat(list(autoencoder.decode_stream(latents, latents.dtype, bench.device)), dim=1)
    wanted = vae.decode(scaled).sample.clamp(-1, 1).movedim(1, -1).float()
    found["apart"] = apart(own.double(), wanted.double())
    del own, wanted
    free(bench.device)
    found["diffusers"] = bench.time(lambda: vae.decode(scaled).sample, 3)
    found["times"] = round(found["diffusers"]["ms"] / found["ours"]["ms"], 3)
    return found


def clip(bench: Bench, how: Format | None = None) -> dict[str, Any]:
    """Fifty steps with guidance and a decode at 480p: a 5 s film but for text encoder and mp4."""
    shape = bench.shape("480p")
    model = random_denoiser(shape.transformer, bench.device, bench.dtype)
    if how is not None:
        quantize(model, how, low_layers(model, how), bench.device)
        choose_way(model, arithmetic_for(how, bench.device).way(bench.device))
    inputs = inputs_of(shape, bench.device, bench.dtype)
    readings = [model.read(inputs.text, inputs.mask, trim=True) for _ in range(2)]
    autoencoder, latents = decoder_of(shape, bench.device, bench.dtype)

    def velocity(x: Tensor, sigma: float) -> Tensor:
        levels = torch.full_like(inputs.sigma, sigma)
        parts = [model.predict(x, levels, reading).float() for reading in readings]
        return classifier_free(parts[0], parts[1], 6.0)

    def film() -> float:
        began = time.perf_counter()
        x = inputs.latents.float()
        for after in sampler_of("dpm")(
            velocity, x, published_schedule(3 if bench.tiny else 50, 8.0)
        ):
            x = after
        settle(bench.device)
        denoised = time.perf_counter() - began
        decoded(autoencoder, x.to(latents.dtype))
        return denoised

    film()
    settle(bench.device)
    began = time.perf_counter()
    denoised = film()
    settle(bench.device)
    whole = time.perf_counter() - began
    return {"clip_s": round(whole, 3), "denoise_s": round(denoised, 3)}


SECTIONS: dict[str, Callable[[Bench], dict[str, Any]]] = {
    "kernels": kernels,
    "accuracy": accuracy,
    "forward_480p": lambda bench: forward(bench, "480p"),
    "profile_480p": profile,
    "pieces_480p": pieces,
    "forward_720p": lambda bench: forward(bench, "720p"),
    "decode_480p": lambda bench: decode(bench, "480p"),
    "decode_720p": lambda bench: decode(bench, "720p"),
    "chunk_480p": chunk,
    "diffusers_480p": lambda bench: diffusers(bench, "480p"),
    "diffusers_720p": lambda bench: diffusers(bench, "720p"),
    "length": length,
    "wan": all_pairs,
    "clip_480p": clip,
    "clip_480p_fp8": lambda bench: clip(bench, "fp8"),
    "graphs_720p": graphs,
}
"""In the order of what is wanted first."""


def out_of_time(*_: object) -> None:
    raise TimeoutError


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--only", default="", help="sections, with commas between")
    parser.add_argument("--budget", type=float, default=450.0, help="seconds for all of it")
    parser.add_argument("--tiny", action="store_true")
    parser.add_argument("--out", type=Path, default=Path(os.environ.get("OUT", ".")))
    arguments = parser.parse_args()
    wanted = arguments.only.split(",") if arguments.only else list(SECTIONS)
    if unknown := [name for name in wanted if name not in SECTIONS]:
        parser.error(f"no section {unknown[0]!r}; there are {', '.join(SECTIONS)}")
    signal.signal(signal.SIGALRM, out_of_time)
    bench = Bench(arguments)
    for name in wanted:
        bench.run(name, SECTIONS[name])


if __name__ == "__main__":
    main()
