"""Every figure of the README and the model card, from the shipped weights.

python benchmarks/figures.py [--only film,world] [--model previz] [--folder docs/figures]
"""

import argparse
import csv
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache
from io import BytesIO
from pathlib import Path
from tempfile import TemporaryDirectory

import matplotlib as mpl
import numpy as np
import torch
from bench_autoencoder import FRAMES, HEIGHT, WIDTH, held_out_clips, round_trip, score
from jaxtyping import UInt8
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image
from torch import Tensor

import longtake
from longtake import Pipeline
from longtake.config import FPS, Cue, SampleConfig
from longtake.media.sheet import Clip, film_strips, save_png
from longtake.pipeline import Frames
from longtake.world import caption, render, sample_scenes
from longtake.world.level import FIRST, WHOLE, Level

ROOT = Path(__file__).parents[1]
NAMES = ("film", "films", "minute", "world", "whole_world", "reconstruction", "training")
LARGEST_BYTES = 300_000
"""Largest picture; with a dozen of them the tree stays far under its budget."""
SEED = 7
FILM_PROMPT = "a red car drives left to right across a desert at sunset, the camera pans with it"
PROMPTS = (
    "a large blue ball rolls from left to right across the snow, the camera pans right",
    "a small pink cube spins on a checkerboard floor at night, static camera",
    "a green cylinder slides toward the camera in the desert at sunset, the camera pulls back",
    "a large orange cone moves in a circle on the road at noon, the camera orbits the scene",
    "a purple pyramid stands still in a meadow at dusk, the camera cranes up",
    "a yellow ring rolls right to left across the grass, the camera trucks left",
    "a person in red walks away from the camera on a beach at sunset, the camera pushes in",
    "a cyan car drives from right to left and a green tree stands still on a street at night",
)
"""Every kind, ground and light once at least, and each kind of camera move."""
MINUTE = "a blue car drives in circles on sand at sunset, the camera orbits"
BY_DAY, AT_NIGHT = "a yellow tree stands on snow by day", "a yellow tree stands on snow at night"
MINUTE_S, CHANGE_S, MINUTE_SEED = 60.0, 12.0, 5
WORLD_SEED, WORLD_SCENES, WORLD_FRAMES, WORLD_SECONDS = 11, 6, 6, 5.0
RECONSTRUCTED = 4
COLOURS, SCALES = (256, 128, 64), (1.0, 0.85, 0.7, 0.55, 0.4, 0.25)
INK, ACCENT, BACK = "#222222", "#b5472f", "#fafaf8"


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--only", default=",".join(NAMES), help="names, separated by commas")
    parser.add_argument("--model", default="previz")
    parser.add_argument("--folder", type=Path, default=ROOT / "docs" / "figures")
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)

    @cache
    def model() -> Pipeline:
        return longtake.load(options.model)

    for name in options.only.split(","):
        start = time.perf_counter()
        path = options.folder / f"{name}.png"
        draw(name, path, model)
        print(f"{path.name}: {path.stat().st_size:,} bytes, {time.perf_counter() - start:.0f} s")


def draw(name: str, path: Path, model: Callable[[], Pipeline]) -> None:
    """Make one figure; the model is loaded only for those that show it."""
    match name:
        case "film":
            film(path, model())
        case "films":
            films(path, model())
        case "minute":
            minute(path, model())
        case "world":
            world(path)
        case "whole_world":
            world(path, level=WHOLE)
        case "reconstruction":
            reconstruction(path, model())
        case "training":
            training(path, ROOT / "docs" / "training")
        case _:
            message = f"no figure named {name!r}; there are {', '.join(NAMES)}"
            raise SystemExit(message)


FURTHER = (
    ("transformer_further", "two GPUs, more noise"),
    ("transformer_whole", "the whole world"),
    ("causal_whole", "by chunks"),
    ("transformer_whole_2", "the whole world, levels up to 1"),
    ("causal_whole_2", "by chunks, noisier past"),
    ("transformer_whole_3", "longer"),
    ("causal_whole_3", "by chunks, longer"),
)
"""Logs of the runs after the first, and what was new in each."""


def film(path: Path, model: Pipeline, settings: SampleConfig | None = None) -> None:
    """The README's film."""
    settings = settings or replace(model.defaults, seed=SEED)
    small_strips(path, [model.generate(FILM_PROMPT, settings=settings).frames], columns=8)


def films(path: Path, model: Pipeline, settings: SampleConfig | None = None) -> None:
    """Films of varied prompts, first sample each."""
    settings = settings or replace(model.defaults, seed=SEED)
    made = [model.generate(prompt, settings=settings).frames for prompt in PROMPTS]
    small_strips(path, made, PROMPTS, columns=6)


def minute(path: Path, model: Pipeline, settings: SampleConfig | None = None) -> None:
    """A minute in one take, and a take whose prompt changes half-way."""
    settings = settings or replace(model.defaults, seed=MINUTE_SEED)
    takes = [
        made(model, MINUTE, (), seconds(settings, MINUTE_S)),
        made(model, BY_DAY, (Cue(at_s=CHANGE_S, text=AT_NIGHT),), seconds(settings, 2 * CHANGE_S)),
    ]
    labels = [f"{MINUTE} ({MINUTE_S:g} s)", f"{BY_DAY}; from {CHANGE_S:g} s on: {AT_NIGHT}"]
    small_strips(path, takes, labels, columns=7)


def seconds(settings: SampleConfig, length_s: float) -> SampleConfig:
    """The same settings for a film of so long."""
    return replace(settings, frames=1 + round(length_s * FPS))


def made(
    model: Pipeline, prompt: str, cues: Sequence[Cue], settings: SampleConfig
) -> UInt8[Tensor, "frames height width 3"]:
    """All frames of a take."""
    events = model.stream(prompt, settings, cues=cues)
    return torch.cat([event.pixels for event in events if isinstance(event, Frames)])


def world(path: Path, height: int = HEIGHT, width: int = WIDTH, level: Level = FIRST) -> None:
    """Rendered truth of a level with its captions."""
    scenes = sample_scenes(WORLD_SCENES, np.random.default_rng(WORLD_SEED), level=level)
    fps = (WORLD_FRAMES - 1) / WORLD_SECONDS
    clips = render(scenes, frames=WORLD_FRAMES, height=height, width=width, fps=fps)
    rng = random.Random(WORLD_SEED)
    labels = [caption(scenes, index, rng).text for index in range(WORLD_SCENES)]
    small_strips(path, list(clips), labels, columns=WORLD_FRAMES)


def reconstruction(
    path: Path, model: Pipeline, size: tuple[int, int, int] = (FRAMES, HEIGHT, WIDTH)
) -> None:
    """Held-out clips, each above what the autoencoder makes of it."""
    clips, labels = [], []
    for number, (_, clip) in enumerate(held_out_clips(RECONSTRUCTED, *size), start=1):
        back = round_trip(model.autoencoder, clip.to(model.device)).cpu()
        clips += [clip, back]
        labels += [f"clip {number}: original", f"round trip: {score(clip, back):.1f} dB"]
    small_strips(path, clips, labels, columns=6, cell_width=176)


def training(path: Path, logs: Path) -> None:
    """What training brought per minute of the card."""
    style = {"font.size": 10, "axes.edgecolor": INK, "text.color": INK, "axes.facecolor": BACK}
    with mpl.rc_context(style):
        figure = Figure(figsize=(9, 3.4), dpi=110, facecolor=BACK, layout="constrained")
        left, right = figure.subplots(1, 2)
        minutes, quality = curve(logs / "autoencoder.csv", "psnr")
        plot(left, minutes, quality, "autoencoder: PSNR of training batches, dB")
        left.set_ylim(bottom=float(np.quantile(quality, 0.02)))
        minutes, loss = curve(logs / "transformer.csv", "loss")
        plot(right, minutes, loss, "transformer: loss, mean squared error of the velocity")
        end = minutes[-1]
        for (name, label), shade in zip(FURTHER, np.linspace(0, 0.6, len(FURTHER)), strict=True):
            further, harder = curve(logs / f"{name}.csv", "loss")
            right.plot(end + further, harder, color=str(shade), linewidth=1.6, label=label)
            end += further[-1]
        right.set_xlim(0, end)
        right.legend(frameon=False)
        right.set_yscale("log")
        right.yaxis.set_major_formatter("{x:g}")
        right.yaxis.set_minor_formatter("{x:g}")
        right.set_ylim(loss.min() * 0.9, float(np.quantile(loss, 0.99)) * 1.05)
        buffer = BytesIO()
        figure.savefig(buffer, format="png", metadata={"Software": None})
    save_small(path, Image.open(buffer).convert("RGB"))


def plot(axes: Axes, minutes: np.ndarray, values: np.ndarray, title: str) -> None:
    """One curve; every line of a log is a mean already."""
    axes.plot(minutes, values, color=ACCENT, linewidth=1.6)
    axes.set_title(title, loc="left", fontsize=10)
    axes.set_xlabel("minutes")
    axes.set_xlim(0, minutes[-1])
    axes.grid(visible=True, which="both", color=INK, alpha=0.12, linewidth=0.6)
    axes.spines[["top", "right"]].set_visible(False)


def curve(path: Path, column: str) -> tuple[np.ndarray, np.ndarray]:
    """Minutes and one column of a training log.

    The clock of a run that was taken up again starts at 0, so the time before is added to it.
    """
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    clock = np.array([float(row["time_s"]) for row in rows])
    restarts = np.diff(clock, prepend=0.0) < 0
    before = np.cumsum(np.where(restarts, np.roll(clock, 1), 0.0))
    return (clock + before) / 60, np.array([float(row[column]) for row in rows])


def small_strips(
    path: Path,
    clips: Sequence[Clip],
    labels: Sequence[str] = (),
    *,
    columns: int = 8,
    cell_width: int = 192,
) -> None:
    """Film strips that do not weigh the repository down."""
    with TemporaryDirectory() as folder:
        whole = Path(folder) / "strips.png"
        film_strips(whole, clips, labels, columns=columns, cell_width=cell_width)
        save_small(path, Image.open(whole).convert("RGB"))


def save_small(path: Path, image: Image.Image, largest_bytes: int = LARGEST_BYTES) -> None:
    """Write a picture with as many pixels and colours as fit.

    Raises:
        ValueError: not even the smallest fits.
    """
    for scale in SCALES:
        size = (round(image.width * scale), round(image.height * scale))
        scaled = image if scale == 1 else image.resize(size, Image.Resampling.LANCZOS)
        for colours in COLOURS:
            small = in_few_colours(scaled, colours)
            buffer = BytesIO()
            small.save(buffer, format="PNG")
            if buffer.tell() <= largest_bytes:
                save_png(path, small)
                return
    message = f"{path.name} is larger than {largest_bytes:,} bytes at any size; show less in it"
    raise ValueError(message)


def in_few_colours(image: Image.Image, colours: int) -> Image.Image:
    """The picture with a palette in which small things keep their colour."""
    # A quarter of the pixels finds the same palette in a tenth of the time.
    few = image.resize((image.width // 2, image.height // 2), Image.Resampling.NEAREST)
    palette = few.quantize(colours, Image.Quantize.MAXCOVERAGE, kmeans=1)
    return image.quantize(palette=palette, dither=Image.Dither.NONE)


if __name__ == "__main__":
    main()
