"""The page of what machine is needed, from the planner and from measurements in files.

python -m longtake.cli.hardware_page > docs/hardware.md
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, get_args

import torch

from longtake.official.folder import PublicModel
from longtake.official.pipeline import Offload
from longtake.official.plan import Peaks, peaks_of
from longtake.official.published import GEMMA, Published, published
from longtake.official.settings import OfficialConfig
from longtake.planner import Grid, Weights, forward_flops, forward_peak, weight_bytes
from longtake.text.gemma import MAX_TOKENS

RESULTS = Path(__file__).parents[3] / "benchmarks" / "results"
CARDS_GIB = (8, 12, 16, 24, 32, 48, 80, 96, 141)
USABLE = 0.94
"""Share of a card that a film can have: driver, desktop and the allocator's gaps take the rest."""
GIB = 2**30
CARD = 24 * GIB
"""Memory of the card whose passes are counted; from 60 GiB on they take more frames at once."""
WEIGHTS = {
    "fp32": Weights(dtype=torch.float32, card_bytes=CARD),
    "bf16": Weights(dtype=torch.bfloat16, card_bytes=CARD),
    "fp16": Weights(dtype=torch.float16, card_bytes=CARD),
    "fp8": Weights(dtype=torch.bfloat16, how="fp8", way="multiply", card_bytes=CARD),
    "nvfp4": Weights(dtype=torch.bfloat16, how="nvfp4", card_bytes=CARD),
}
"""As a card of the H100's kind holds them; without units for fp8 its layers are unpacked."""
STEPS, GUIDED = 50, 2
FILMS: tuple[tuple[Published, int, int, int], ...] = (
    ("480p", 832, 480, 81), ("480p", 832, 480, 161), ("480p", 832, 480, 321),
    ("480p", 832, 480, 961), ("longsana", 832, 480, 81), ("longsana", 832, 480, 321),
    ("longsana", 832, 480, 961), ("720p", 1280, 704, 81), ("720p", 1280, 704, 161),
    ("720p", 1280, 704, 321), ("720p", 1280, 704, 961),
)  # fmt: skip
_NAMES = {
    "480p": "SANA-Video 2B 480p", "longsana": "LongSANA 2B 480p", "720p": "SANA-Video 2B 720p"
}  # fmt: skip
_HEAD = """\
# What machine is needed

Made by `python -m longtake.cli.hardware_page`; no number on this page was typed.

| looks like | is |
|---|---|
| **12.3** | measured on the card named, in a file of `benchmarks/results` |
| 12.3 † | measured and sent in by a user, in a file `contributed_….jsonl` there |
| *~12.3* | computed by the planner from shapes alone; never run |

A computed figure counts every value that is alive at once beside a card's kernels, and 124 MiB
that its libraries keep, as `longtake plan` does. The allocator's gaps come on top, so a card is
taken for full at 94 % of its memory. The embedded model `previz` runs everywhere: a film of 5 s
takes under 2 GiB. Films longer than a model was trained on can be computed; whether they are any
good was not measured.
"""
_TIME = """
## Time

Work of a film as published: 50 steps with guidance, 100 forwards; LongSANA 5 forwards a chunk.
At 100 TFLOP/s kept up, 1 PFLOP takes 10 s; `longtake plan` runs a layer on your card and tells the
time there. Loading, text and VAE are not in it.

| model | film | frames | work, PFLOP | by the measured forward, s |
|---|---|---|---|---|
"""


@dataclass(frozen=True, slots=True)
class Planned:
    """One film of a model, with its memory in each precision and way of offloading."""

    which: Published
    settings: OfficialConfig
    peaks: dict[str, dict[Offload, Peaks]]
    petaflop: float

    @property
    def title(self) -> str:
        """Model, size and length."""
        return f"{_NAMES[self.which]} | {_size(self.settings)} | {self.settings.frames}"


def hardware_page(films: Sequence[tuple[Published, int, int, int]] = FILMS) -> str:
    """The page as Markdown."""
    measured = list(_measured())
    planned = [_planned(*film) for film in films]
    lines = [_HEAD, *_cards(planned), *_memory(planned), *_weights()]
    lines += [_TIME.rstrip("\n"), *(_time(film, measured) for film in planned)]
    lines += [*_forwards(measured), *_accuracy(measured), *_caps(measured)]
    return "\n".join(lines) + "\n"


def _planned(which: Published, width: int, height: int, frames: int) -> Planned:
    settings = OfficialConfig(width=width, height=height, frames=frames)
    with published(which) as model:
        peaks = {
            name: peaks_of(model, settings, weights, GEMMA, *get_args(Offload))
            for name, weights in WEIGHTS.items()
        }
        return Planned(which, settings, peaks, _work(model, settings) / 1e15)


def _work(model: PublicModel, settings: OfficialConfig) -> float:
    grid = _grid(model, settings.width, settings.height, settings.frames)
    forwards = 5 if model.causal else STEPS * GUIDED
    return forwards * forward_flops(model.transformer, grid, MAX_TOKENS)


def _grid(model: PublicModel, width: int, height: int, frames: int) -> Grid:
    stride = model.vae.spatial_stride
    return model.latent_frames(frames), height // stride, width // stride


def _cards(films: Sequence[Planned]) -> Iterator[str]:
    yield "## Which film on which card\n"
    yield (
        "The highest precision that fits with the least offloading (`--offload`, [what each means]"
        "(guides/official.md)); all computed. `no`: not even nvfp4 with its layers on the host.\n"
    )
    yield "| model | film | frames | " + " | ".join(f"{gib} GiB" for gib in CARDS_GIB) + " |"
    yield "|---|---|---|" + "---|" * len(CARDS_GIB)
    for film in films:
        yield f"| {film.title} | " + " | ".join(_best(film, gib) for gib in CARDS_GIB) + " |"


def _best(film: Planned, gib: int) -> str:
    for name in ("bf16", "fp8", "nvfp4"):
        for offload, peaks in film.peaks[name].items():
            if peaks.most <= USABLE * gib * GIB:
                return f"*~{name}, {offload}*"
    return "*~no*"


def _memory(films: Sequence[Planned]) -> Iterator[str]:
    yield "\n## Memory of the card\n"
    yield "Most at once, in GiB: text encoder, denoising or decoding, whichever takes most.\n"
    ways = get_args(Offload)
    yield "| model | film | frames | precision | " + " | ".join(f"`{way}`" for way in ways) + " |"
    yield "|---|---|---|---|" + "---|" * len(ways)
    for film in films:
        for name, each in film.peaks.items():
            cells = " | ".join(
                f"*~{each[way].most / GIB:.1f}* ({_most(each[way])})" for way in ways
            )
            yield f"| {film.title} | {name} | {cells} |"


def _most(peaks: Peaks) -> str:
    stages = {"text": peaks.text, "denoise": peaks.denoise, "decode": peaks.decode}
    return max(stages, key=lambda stage: stages[stage])


def _weights() -> Iterator[str]:
    yield "\n## Weights of the denoiser\n"
    yield "| precision | resident, GiB | of bf16 |"
    yield "|---|---|---|"
    with published("480p") as model:
        sizes = {name: weight_bytes(model.transformer, w)[0] for name, w in WEIGHTS.items()}
    for name, size in sizes.items():
        share = size / sizes["bf16"]
        yield f"| {name} | *~{size / GIB:.2f}* | *~{share:.2f}* |"


def _time(film: Planned, measured: Sequence[dict[str, Any]]) -> str:
    forwards = STEPS * GUIDED
    told = [
        f"{_shown(row, row['forward_ms'] * forwards / 1000, '.1f')} {row['precision']}, "
        f"{row['processor']}"
        for row in measured
        if row["what"] == "forward"
        and film.which != "longsana"
        and (row["size"], row["frames"]) == (_size(film.settings), film.settings.frames)
    ]
    return f"| {film.title} | *~{film.petaflop:.2f}* | {'; '.join(told) or 'not yet'} |"


def _forwards(measured: Sequence[dict[str, Any]]) -> Iterator[str]:
    yield "\n## One forward, measured\n"
    rows = [row for row in measured if row["what"] == "forward"]
    if not rows:
        yield _not_yet("forward")
        return
    yield "| card | film | frames | precision | ms | TFLOP/s | weights, GiB | error to bf16 |"
    yield "|---|---|---|---|---|---|---|---|"
    for row in rows:
        way = f" ({row['way']})" if row["way"] else ""
        yield (
            f"| {row['processor']} | {row['size']} | {row['frames']} | {row['precision']}{way} | "
            f"{_shown(row, row['forward_ms'], '.1f')} | {_shown(row, row['tflops'], '.0f')} | "
            f"{_shown(row, row['resident_gib'], '.2f')} | {row['error_to_bf16']:.1e} |"
        )


def _accuracy(measured: Sequence[dict[str, Any]]) -> Iterator[str]:
    yield "\n## The planner against measurements\n"
    rows = [row for row in measured if row["what"] == "planner" and row["measured_gib"]]
    if not rows:
        yield _not_yet("planner")
        return
    yield "| card | film | frames | precision | planned, GiB | measured, GiB | off |"
    yield "|---|---|---|---|---|---|---|"
    for row in rows:
        planned = _planned_forward(row)
        yield (
            f"| {row['processor']} | {row['size']} | {row['frames']} | {row['precision']} | "
            f"*~{planned:.2f}* | {_shown(row, row['measured_gib'], '.2f')} | "
            f"{100 * (planned / row['measured_gib'] - 1):+.1f} % |"
        )


def _planned_forward(row: dict[str, Any]) -> float:
    """GiB of a forward on a card like the one of a measurement, as it is planned today."""
    which: Published = "480p" if row["size"] == "832x480" else "720p"
    width, height = (int(side) for side in row["size"].split("x"))
    card = replace(WEIGHTS[row["precision"]], card_bytes=int(row["card_gib"] * GIB))
    with published(which) as model:
        grid = _grid(model, width, height, row["frames"])
        peak = forward_peak(model.transformer, grid, MAX_TOKENS, card)
        return (weight_bytes(model.transformer, card)[0] + peak) / GIB


def _caps(measured: Sequence[dict[str, Any]]) -> Iterator[str]:
    yield "\n## The denoiser in less memory than the card has\n"
    rows = [row for row in measured if row["what"] == "caps" and row["ran"] is not None]
    if not rows:
        yield _not_yet("caps")
        return
    yield "| card | limit, GiB | film | precision | offload | planned, GiB | ran |"
    yield "|---|---|---|---|---|---|---|"
    for row in rows:
        ran = f"{_shown(row, row['forward_ms'], '.0f')} ms" if row["ran"] else "**no**"
        yield (
            f"| {row['processor']} | {row['cap_gib']} | {row['size']}x{row['frames']} | "
            f"{row['precision']} | {row['offload']} | *~{row['planned_gib']:.1f}* | {ran} |"
        )


def _not_yet(part: str) -> str:
    return (
        f"Not yet: `python benchmarks/bench_precision.py --only {part} --out "
        "benchmarks/results/precision_CARD_DATE.jsonl` on a card fills it."
    )


def _measured() -> Iterator[dict[str, Any]]:
    """Lines of every measurement on a card, with the file's name telling who measured."""
    for pattern, mark in (("precision_*.jsonl", False), ("contributed_*.jsonl", True)):
        for path in sorted(RESULTS.glob(pattern)):
            for line in path.read_text("utf-8").splitlines():
                row = json.loads(line)
                if row["processor"] != "CPU":
                    yield row | {"contributed": mark}


def _shown(row: dict[str, Any], value: float, form: str) -> str:
    return f"{value:{form}} †" if row["contributed"] else f"**{value:{form}}**"


def _size(settings: OfficialConfig) -> str:
    return f"{settings.width}x{settings.height}"


if __name__ == "__main__":
    print(hardware_page(), end="")
