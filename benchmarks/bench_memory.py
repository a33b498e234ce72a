"""Memory and time against length: softmax, with and without a cache, `block` and `linear`.

python benchmarks/bench_memory.py measure --out memory.json [--what layer] [--seconds 5,20,60,300]
python benchmarks/bench_memory.py plot memory.json --figure docs/figures/memory.png

One pass over a film of the embedded model's shape: an attention layer alone, the whole denoiser.
`materialised` is computed, for nobody can store its scores; `flash` sees the whole film at once;
the others go chunk by chunk. Of those some chunks along the film are timed with the past they
would have, and stand for the rest. Each case has a process of its own, so that its peak is its own:
on a GPU as allocated, on a CPU as resident, both beyond what the weights take.
"""

import argparse
import json
import platform
import resource
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Literal, NamedTuple, get_args

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float
from torch import Tensor

from longtake.config import TransformerConfig, frames_for, latent_frames_for
from longtake.kernels import ops
from longtake.kernels.ops import Memory
from longtake.kernels.reference.attention import rotate
from longtake.model import LayerState, State, Transformer
from longtake.model.attention import SelfAttention
from longtake.model.embeddings import Rotary, rotary_3d
from longtake.rollout.grid import Grid

Mode = Literal["materialised", "flash", "cache", "window", "block", "linear"]
What = Literal["layer", "denoiser"]
MODES: tuple[Mode, ...] = get_args(Mode)
TEXT_TOKENS = 24
LABELS: dict[Mode, str] = {
    "materialised": "softmax, scores stored (computed)", "flash": "flash softmax",
    "cache": "causal softmax, growing cache", "window": "causal softmax, window",
    "block": "block", "linear": "linear",
}  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One thing to measure."""

    what: What
    mode: Mode
    seconds: int
    size: tuple[int, int] = (8, 14)
    """Rows and columns of tokens of a latent frame."""
    chunk: int = 5
    window: int = 16
    """Latent frames before its own chunk that a window sees."""
    samples: int = 5
    """Chunks that are timed."""
    depth: int = TransformerConfig().depth
    width: int = TransformerConfig().width
    heads: int = TransformerConfig().heads
    device: str = "cpu"
    precision: Literal["bf16", "fp32"] = "fp32"

    @property
    def latent_frames(self) -> int:
        """Of the whole film."""
        return latent_frames_for(frames_for(self.seconds))

    @property
    def per_frame(self) -> int:
        """Tokens of a latent frame."""
        return self.size[0] * self.size[1]

    @property
    def dtype(self) -> torch.dtype:
        """Of the weights."""
        return torch.bfloat16 if self.precision == "bf16" else torch.float32

    @property
    def config(self) -> TransformerConfig:
        """Shape of the denoiser."""
        attention = self.mode if self.mode in ("block", "linear") else "softmax"
        return TransformerConfig(
            attention=attention, segment=self.chunk, depth=self.depth, width=self.width,
            heads=self.heads,
        )  # fmt: skip


class Cache(NamedTuple):
    """Keys and values of the past, turned by their positions."""

    keys: Float[Tensor, "b heads n k"]
    values: Float[Tensor, "b heads n k"]


class CachedAttention(SelfAttention):
    """Causal softmax: a chunk looks at itself and at all that the cache holds."""

    def advance(
        self,
        x: Float[Tensor, "b n d"],
        rotary: Rotary,
        chunks: tuple[int, ...],  # noqa: ARG002 - one chunk at a time
        past: Cache | None,
        share: None = None,  # noqa: ARG002 - one device
    ) -> tuple[Float[Tensor, "b n d"], Cache]:
        q, k, v = ops.packed_heads(self.qkv(x), self.norm_q, self.norm_k, self.heads)
        q, k = rotate(q, *rotary), rotate(k, *rotary)
        if past is None:
            cache = Cache(k, v)
        else:
            # The last places of the buffers are the chunk's own: a real cache does not copy.
            cache, own = past, k.shape[2]
            cache.keys[:, :, -own:], cache.values[:, :, -own:] = k, v
        y = F.scaled_dot_product_attention(q, *cache)
        return self.out(rearrange(y, "b heads n k -> b n (heads k)")), cache


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    verbs = parser.add_subparsers(dest="verb", required=True)
    measuring = verbs.add_parser("measure")
    measuring.add_argument("--out", type=Path, required=True)
    measuring.add_argument("--what", default="layer,denoiser")
    measuring.add_argument("--modes", default=",".join(MODES))
    measuring.add_argument("--seconds", default="5,20,60,300")
    measuring.add_argument("--precision", choices=("bf16", "fp32"))
    measuring.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    measuring.add_argument("--most-s", type=float, default=120, help="longer passes are reckoned")
    measuring.add_argument("--threads", type=int, default=torch.get_num_threads())
    plotting = verbs.add_parser("plot")
    plotting.add_argument("report", type=Path)
    plotting.add_argument("--figure", type=Path, required=True)
    options = parser.parse_args()
    if options.verb == "plot":
        plot(json.loads(options.report.read_text()), options.figure)
        return
    precision = options.precision or ("bf16" if options.device == "cuda" else "fp32")
    rows = []
    for what in options.what.split(","):
        for mode in options.modes.split(","):
            cases = [
                Case(what=what, mode=mode, seconds=int(text), device=options.device,
                     precision=precision)
                for text in options.seconds.split(",")
            ]  # fmt: skip
            rows += list(measured(cases, options.most_s, options.threads))
    report = {
        "what": "memory and time against length", "device": options.device,
        "precision": precision, "threads": options.threads, "rows": rows,
        "processor": torch.cuda.get_device_name() if options.device == "cuda"
        else platform.machine(),
        "torch": torch.__version__,
    }  # fmt: skip
    options.out.write_text(json.dumps(report, indent=1) + "\n")
    print(json.dumps(report))


def measured(cases: list[Case], most_s: float, threads: int) -> Iterator[dict]:
    """Each length in a process of its own; what would take too long is reckoned from the last."""
    last: dict | None = None
    for case in cases:
        row = computed(case) if case.mode == "materialised" else None
        if row is None and last is not None and case.mode == "flash":
            grown = case.latent_frames / last["latent_frames"]
            if last["time_s"] * grown**2 > most_s:
                row = reckoned(last, case, grown)
        if row is None:
            with get_context("spawn").Pool(1) as pool:
                row = pool.apply(run, (case, threads))
        last = {**asdict(case), "latent_frames": case.latent_frames, **row}
        print(json.dumps(last), flush=True)
        yield last


def computed(case: Case) -> dict:
    """What storing the scores of one layer would take."""
    tokens = case.latent_frames * case.per_frame
    scores = case.heads * tokens**2 * case.dtype.itemsize
    return {"time_s": None, "peak_bytes": scores, "state_bytes": 0, "how": "computed"}


def reckoned(last: dict, case: Case, grown: float) -> dict:
    """Time grows with the square of the length at most, memory with the length."""
    return {
        "time_s": last["time_s"] * grown**2, "peak_bytes": round(last["peak_bytes"] * grown),
        "state_bytes": 0, "how": f"reckoned from {last['seconds']} s, not {case.seconds} s",
    }  # fmt: skip


def run(case: Case, threads: int) -> dict:
    """One case, in a fresh process."""
    torch.set_num_threads(threads)
    with torch.inference_mode():
        if case.mode == "flash":
            return whole(case)
        return by_chunks(case)


def whole(case: Case) -> dict:
    """One pass that sees everything at once."""
    model = network(case)
    tokens = case.latent_frames * case.per_frame
    before = Peak(case.device)
    if isinstance(model, Transformer):
        given = inputs(case, case.latent_frames)
        took = timed(lambda: model(*given), case.device)
    else:
        x = torch.randn(1, tokens, case.width, device=case.device, dtype=case.dtype)
        turns = turns_of(case, case.latent_frames, 0)
        took = timed(lambda: model(x, turns, (tokens,)), case.device)
    return {"time_s": took, "peak_bytes": before.grown(), "state_bytes": 0, "how": "measured"}


def by_chunks(case: Case) -> dict:
    """Some chunks with the past they have, which stand for all of them."""
    model = network(case)
    grid = Grid(case.chunk)
    count = grid.chunks(frames_for(case.seconds))
    places = sorted(
        {round(n * (count - 1) / max(case.samples - 1, 1)) for n in range(case.samples)}
    )
    before, times, size = Peak(case.device), [], 0
    for chunk in places:
        frames = grid.latent_frames(chunk)
        past = state(case, frames.start, len(frames)) if chunk else None
        took = timed(lambda: advance(model, case, len(frames), frames.start, past), case.device)  # noqa: B023
        times.append(took)
        size = 0 if past is None else bytes_of(past)
    return {
        "time_s": statistics.mean(times) * count, "peak_bytes": before.grown(),
        "state_bytes": size, "last_chunk_s": times[-1], "first_chunk_s": times[0],
        "how": f"{len(places)} of {count} chunks timed",
    }  # fmt: skip


def network(case: Case) -> Transformer | SelfAttention:
    """The denoiser, or one of its attention layers, with random weights."""
    causal = case.mode in ("cache", "window")
    if case.what == "layer":
        made = CachedAttention(case.config) if causal else SelfAttention(case.config)
        return made.to(case.device, case.dtype).eval()
    model = Transformer(case.config)
    if causal:
        for block in model.blocks:
            block.self_attention = CachedAttention(case.config)
    return model.to(case.device, case.dtype).eval()


def advance(
    model: Transformer | SelfAttention, case: Case, count: int, start: int, past: State | None
) -> object:
    """One chunk after its past."""
    if isinstance(model, Transformer):
        return model.advance(*inputs(case, count), (count,), past)
    tokens = count * case.per_frame
    x = torch.randn(1, tokens, case.width, device=case.device, dtype=case.dtype)
    memory = None if past is None else past.layers[0].memory
    return model.advance(x, turns_of(case, count, start), (tokens,), memory)


def state(case: Case, start: int, count: int) -> State:
    """What `start` latent frames leave behind: as large as the real one, of random numbers."""
    size = case.width // case.heads
    layers = []
    for _ in range(case.depth if case.what == "denoiser" else 1):
        if case.mode in ("cache", "window"):
            seen = min(start, case.window) if case.mode == "window" else start
            shape = (1, case.heads, (seen + count) * case.per_frame, size)
            memory = Cache(*(torch.randn(shape, device=case.device).to(case.dtype) for _ in "kv"))
        else:
            sums = torch.randn(1, case.heads, size, size, device=case.device)
            memory = Memory(sums, torch.rand(1, case.heads, 1, size, device=case.device) + 1)
        frame = torch.randn(1, case.per_frame, case.width, device=case.device, dtype=case.dtype)
        layers.append(LayerState(memory, frame))
    return State(tuple(layers), start)


def inputs(case: Case, count: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Latents, sigmas, text and its mask."""
    config, device = case.config, case.device
    return (
        torch.randn(1, config.latent_channels, count, *case.size, device=device),
        torch.full((1, count), 0.5, device=device),
        torch.randn(1, TEXT_TOKENS, config.text_width, device=device, dtype=case.dtype),
        torch.ones(1, TEXT_TOKENS, dtype=torch.bool, device=device),
    )


def turns_of(case: Case, count: int, start: int) -> Rotary:
    """Rotary positions of some latent frames."""
    size = case.width // case.heads
    theta, device = case.config.rope_theta, torch.device(case.device)
    return rotary_3d((count, *case.size), size, theta, device, start=start)


def timed(work: Callable[[], object], device: str, runs: int = 3) -> float:
    """Median seconds after a first run that does not count; long work is run once."""
    times: list[float] = []
    for number in range(runs + 1):
        begin = time.perf_counter()
        work()
        if device == "cuda":
            torch.cuda.synchronize()
        times.append(time.perf_counter() - begin)
        if number == 0 and times[0] > 5:
            return times[0]
    return statistics.median(times[1:])


def bytes_of(past: State) -> int:
    """Size of everything that is carried on."""
    tensors = [x for layer in past.layers for x in (*layer.memory, layer.frame)]
    return sum(x.numel() * x.element_size() for x in tensors)


class Peak:
    """The most memory that was taken since it was made."""

    def __init__(self, device: str) -> None:
        self.device = device
        if device == "cuda":
            torch.cuda.reset_peak_memory_stats()
            self.before = torch.cuda.memory_allocated()
        else:
            self.before = 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

    def grown(self) -> int:
        """Bytes beyond what was taken before."""
        if self.device == "cuda":
            return torch.cuda.max_memory_allocated() - self.before
        return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - self.before


def plot(report: dict, path: Path) -> None:
    """Time and memory against length on logarithmic axes, layer and denoiser."""
    from matplotlib.figure import Figure

    kinds = list(dict.fromkeys(row["what"] for row in report["rows"]))
    figure = Figure(figsize=(9, 3.4 * len(kinds)), layout="constrained")
    for what, pair in zip(kinds, figure.subplots(len(kinds), 2, squeeze=False), strict=True):
        quantities = (("time_s", 1, "seconds of one pass"), ("peak_bytes", 2**20, "peak MiB"))
        for axes, (name, unit, title) in zip(pair, quantities, strict=True):
            for number, mode in enumerate(MODES):
                rows = [r for r in report["rows"] if (r["what"], r["mode"]) == (what, mode)]
                points = [(r["seconds"], r[name] / unit) for r in rows if r[name]]
                if points:
                    # Not every panel has every mode; each keeps its colour.
                    look = {"marker": "o", "color": f"C{number}", "label": LABELS[mode]}
                    axes.plot(*zip(*points, strict=True), **look)
            axes.set(xscale="log", yscale="log", xlabel="seconds of film", title=f"{what}: {title}")
            axes.set_xticks(sorted({r["seconds"] for r in report["rows"]}))
            axes.get_xaxis().set_major_formatter("{x:g}")
    figure.legend(*figure.axes[-1].get_legend_handles_labels(), loc="outside lower center", ncol=3)
    figure.savefig(path, dpi=110)


if __name__ == "__main__":
    main()
