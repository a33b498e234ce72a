"""`linear`, `block` with several segments, and `softmax`, trained alike from the start.

python benchmarks/compare_attention.py train --out DIR [--only linear,block-5] [--steps 1500]
python benchmarks/compare_attention.py time --out DIR [--only linear,block-5]
python benchmarks/compare_attention.py plot DIR --figure docs/figures/attention.png

A smaller copy of the denoiser (width 192, 6 layers) is trained at every setting on the same clips
of the world's first level with the same number of steps and a rate that does not decay, so that its
curve can be read at equal steps and at equal time. `train` leaves DIR/<setting>.json, and several
can train side by side; `time` leaves DIR/<setting>.time.json and wants the machine for itself.
"""

import argparse
import csv
import json
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from jaxtyping import UInt8
from torch import Tensor

from longtake.config import AttentionMode, TransformerConfig, merge
from longtake.evaluate.prompts import draw
from longtake.evaluate.reader.read import load_reader
from longtake.evaluate.round_trip import film_scenes
from longtake.evaluate.suite import Read, films, scores
from longtake.model import Transformer
from longtake.pipeline import device_of, load
from longtake.recipes.previz import PrevizRecipe, run

ROOT = Path(__file__).parents[1]
SHIPPED = ROOT / "src/longtake/weights/previz"
LATENT_FRAMES = {"5 s": 21, "20 s": 81}
TEXT_TOKENS = 24
SETTLE_STEPS = 150
GROUP = 4
"""Frames of a latent frame."""


@dataclass(frozen=True, slots=True)
class Setting:
    """One way to attend."""

    attention: AttentionMode
    segment: int = 5

    @property
    def name(self) -> str:
        """As it is asked for and stored."""
        return f"block-{self.segment}" if self.attention == "block" else self.attention


SETTINGS = (
    Setting("linear"),
    Setting("block", 2),
    Setting("block", 5),
    Setting("block", 10),
    Setting("block", 20),
    Setting("softmax"),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    verbs = parser.add_subparsers(dest="verb", required=True)
    training = verbs.add_parser("train")
    training.add_argument("--out", type=Path, required=True)
    training.add_argument("--only", default=",".join(s.name for s in SETTINGS))
    training.add_argument("--steps", type=int, default=1500)
    training.add_argument("--films", type=int, default=24)
    training.add_argument("--changes", default="{}", help="settings of the recipe, as JSON")
    timing = verbs.add_parser("time")
    timing.add_argument("--out", type=Path, required=True)
    timing.add_argument("--only", default=",".join(s.name for s in SETTINGS))
    timing.add_argument("--steps", type=int, default=SETTLE_STEPS + 100)
    timing.add_argument("--changes", default="{}", help="settings of the recipe, as JSON")
    plotting = verbs.add_parser("plot")
    plotting.add_argument("folder", type=Path)
    plotting.add_argument("--figure", type=Path, required=True)
    options = parser.parse_args()
    if options.verb == "plot":
        plot(options.folder, options.figure)
        return
    for setting in SETTINGS:
        if setting.name in options.only.split(","):
            recipe = merge(proxy(setting, options.steps), json.loads(options.changes))
            if options.verb == "train":
                scored(setting, recipe, options.out, options.films)
            else:
                clocked(setting, recipe, options.out)


def scored(setting: Setting, recipe: PrevizRecipe, out: Path, count: int) -> None:
    """Train one setting and film with it; leaves `<setting>.json`."""
    folder = out / setting.name
    curve = trained(recipe, folder)
    found = {
        "setting": setting.name,
        "curve": curve,
        **(film_scores(folder, setting, count, recipe) if count else {}),
    }
    (out / f"{setting.name}.json").write_text(json.dumps(found, indent=1) + "\n")
    print(json.dumps({key: value for key, value in found.items() if key != "curve"}), flush=True)


def clocked(setting: Setting, recipe: PrevizRecipe, out: Path) -> None:
    """Time steps of training and forwards of one setting; leaves `<setting>.time.json`."""
    device = device_of("auto")
    with TemporaryDirectory() as folder:
        curve = trained(recipe, Path(folder) / "run")
    found = {
        "setting": setting.name,
        "step_s": step_time(curve, recipe.transformer.batch),
        "forward": {
            length: forward_cost(recipe.model.transformer, latent_frames, device)
            for length, latent_frames in LATENT_FRAMES.items()
        },
        "processor": torch.cuda.get_device_name() if device.type == "cuda" else "cpu",
        "torch": torch.__version__,
    }
    out.mkdir(parents=True, exist_ok=True)
    (out / f"{setting.name}.time.json").write_text(json.dumps(found, indent=1) + "\n")
    print(json.dumps(found), flush=True)


def trained(recipe: PrevizRecipe, folder: Path) -> list[dict[str, float]]:
    """Train a denoiser from the start on the autoencoder that ships; the rows of its log."""
    with TemporaryDirectory() as start:
        for path in SHIPPED.glob("autoencoder*"):
            (Path(start) / path.name).symlink_to(path)
        run(recipe, folder, stage="transformer", device=device_of("auto"), start=Path(start))
    return read_curve(folder / "transformer.csv")


def proxy(setting: Setting, steps: int) -> PrevizRecipe:
    """The recipe of a smaller denoiser that attends so."""
    recipe = PrevizRecipe()
    shape = replace(
        recipe.model.transformer,
        width=192, depth=6, heads=3, attention=setting.attention, segment=setting.segment,
    )  # fmt: skip
    training = replace(
        recipe.transformer, steps=steps, decay=0.0, ema=0.995, shift=3.0, pool=4096, log_every=50
    )
    model = replace(recipe.model, transformer=shape)
    return replace(recipe, model=model, transformer=training, held_out=1)


def read_curve(path: Path) -> list[dict[str, float]]:
    """Rows of a training log."""
    with path.open() as file:
        return [{key: float(value) for key, value in row.items()} for row in csv.DictReader(file)]


def step_time(curve: list[dict[str, float]], batch: int) -> float:
    """Seconds of a step once everything is compiled, with its share of fresh clips."""
    settled = [row for row in curve if row["step"] > SETTLE_STEPS] or curve
    return batch / statistics.median(row["clips_per_s"] for row in settled)


@torch.inference_mode()
def forward_cost(
    config: TransformerConfig, latent_frames: int, device: torch.device, runs: int = 9
) -> dict[str, float | None]:
    """Median milliseconds and peak MiB over the weights of one forward of one film."""
    cuda = device.type == "cuda"
    model = Transformer(config).to(device, torch.bfloat16).eval()
    latents = torch.randn(1, config.latent_channels, latent_frames, 8, 14, device=device)
    sigma = torch.full((1, latent_frames), 0.5, device=device)
    text = torch.randn(1, TEXT_TOKENS, config.text_width, device=device, dtype=torch.bfloat16)
    mask = torch.ones(1, TEXT_TOKENS, dtype=torch.bool, device=device)
    before = torch.cuda.memory_allocated() if cuda else 0
    times = []
    for number in range(runs + 2):
        if number == 2 and cuda:
            torch.cuda.reset_peak_memory_stats()
        start = time.perf_counter()
        model(latents, sigma, text, mask)
        if cuda:
            torch.cuda.synchronize()
        times.append(1e3 * (time.perf_counter() - start))
    peak = (torch.cuda.max_memory_allocated() - before) / 2**20 if cuda else None
    return {"median_ms": statistics.median(times[2:]), "peak_mib": peak}


def film_scores(folder: Path, setting: Setting, count: int, recipe: PrevizRecipe) -> dict:
    """Scores of films of held-out prompts, and their detail inside and across segments."""
    pipe = load(str(folder))
    reader = load_reader(device=pipe.device)
    size = recipe.transformer
    settings = replace(pipe.defaults, width=size.width, height=size.height, frames=size.frames)
    asked = draw(count, seed=0)
    read = [e for e in films(asked, pipe, reader, settings) if isinstance(e, Read)]
    inside, across = [], []
    for one in asked[: max(count // 3, 1)]:
        made = pipe.generate(one.prompt, settings=settings).frames
        shape = {"height": size.height, "width": size.width, "frames": size.frames}
        true = next(film_scenes(one.scene, pipe.autoencoder, pipe.device, **shape))
        for found, changes in zip((inside, across), parts(setting), strict=True):
            # A segment as long as the film is never left.
            if (changed := change(true, changes)) is not None:
                found.append(change(torch.as_tensor(made), changes) / changed)
    return {
        "scores": scores(read),
        "change_inside_over_truth": statistics.median(inside),
        "change_across_over_truth": statistics.median(across) if across else None,
    }


def parts(setting: Setting) -> tuple[Callable[[int], bool], Callable[[int], bool]]:
    """Which steps from frame to frame stay inside a segment, and which cross into the next."""

    def crosses(frame: int) -> bool:
        return frame % (GROUP * setting.segment) == 0

    return (lambda frame: not crosses(frame)), crosses


def change(
    film: UInt8[Tensor, "frames height width 3"], chosen: Callable[[int], bool]
) -> float | None:
    """Mean change of a byte between the chosen frames and the next ones; None if there are none."""
    pairs = [frame for frame in range(1, len(film) - 1) if chosen(frame)]
    if not pairs:
        return None
    values = film.float()
    return statistics.mean((values[i + 1] - values[i]).abs().mean().item() for i in pairs)


def plot(folder: Path, path: Path) -> None:
    """Loss at equal steps and at equal time, time and memory of a 20 s forward, by setting."""
    from matplotlib.figure import Figure

    found = [
        json.loads((folder / f"{s.name}.json").read_text())
        | json.loads((folder / f"{s.name}.time.json").read_text())
        for s in SETTINGS
        if (folder / f"{s.name}.json").exists()
    ]
    names = [one["setting"] for one in found]
    seconds = min(one["curve"][-1]["step"] * one["step_s"] for one in found)
    rows = {
        "loss at equal steps": [late(one["curve"], one["curve"][-1]["step"]) for one in found],
        "loss at equal time": [late(one["curve"], seconds / one["step_s"]) for one in found],
        "training step, ms": [1e3 * one["step_s"] for one in found],
        "20 s forward, ms": [one["forward"]["20 s"]["median_ms"] for one in found],
        "20 s forward, MiB": [one["forward"]["20 s"]["peak_mib"] for one in found],
    }
    figure = Figure(figsize=(11, 2.6), layout="constrained")
    for axes, (title, values) in zip(figure.subplots(1, len(rows)), rows.items(), strict=True):
        axes.plot(names, values, marker="o", color="#b5472f")
        axes.set_title(title, fontsize=9)
        axes.tick_params(axis="x", rotation=60, labelsize=8)
        axes.tick_params(axis="y", labelsize=8)
        if "loss" not in title:
            axes.set_ylim(bottom=0)
    figure.savefig(path, dpi=110)
    print(json.dumps(dict(zip(names, zip(*rows.values(), strict=True), strict=True))))


def late(curve: list[dict[str, float]], step: float) -> float:
    """Mean loss of the last fifth of the steps up to this one."""
    return statistics.mean(row["loss"] for row in curve if 0.8 * step <= row["step"] <= step)


if __name__ == "__main__":
    main()
