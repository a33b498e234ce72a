"""Proof of fine-tuning: does a LoRA bring the embedded model's films nearer to a restyled world?

The world's own frames in another palette, with dark lines along edges and film grain. Scenes that
are held out give the captions that are filmed and the clips that the loss is looked at. The
distance was named in docs/log.md before the first run. The palette can be turned back, so that the
reader sees what a film shows: the prompt score of films with the LoRA, its grain left out, stands
beside that of the model's own films in the same style.

    python benchmarks/finetune_style.py --out style --minutes 12 [--clips 200 --frames 81]
        [--films 16 --asked 24 --batch 16 --device cuda]
"""

import argparse
import json
import os
import random
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from longtake.config import FPS, Grain, LoraUse, merge
from longtake.data.shards import Shards, ShardWriter, read_shards
from longtake.evaluate.metrics import mark
from longtake.evaluate.prompts import draw
from longtake.evaluate.reader.read import FOLDER, load_reader
from longtake.evaluate.round_trip import round_trip
from longtake.evaluate.suite import expectations
from longtake.media.sheet import film_strips
from longtake.pipeline import Pipeline, device_of, load
from longtake.recipes.finetune import FinetuneRecipe, finetune
from longtake.recipes.latents import add_latents
from longtake.train.cached import split_held_out
from longtake.world import caption, render, sample_scenes
from longtake.world.level import level_named

SEED = 20261127
PALETTE = np.array([[0.15, 0.75, 0.10], [0.10, 0.15, 0.75], [0.75, 0.10, 0.15]], np.float32)
"""Rows mix the old red, green and blue into the new: each takes the place of another."""
_BINS = 8
ANSWERS = ("count", "kind", "colour", "size", "motion", "camera", "light", "ground")
"""What the prompt score counts."""


def restyled(frames: np.ndarray, rng: np.random.Generator, deviation: float = 6.0) -> np.ndarray:
    """Frames in the other palette, with lines and grain; uint8 as before."""
    mixed = frames.astype(np.float32) @ PALETTE.T
    luma = frames.astype(np.float32).mean(axis=-1)
    rows, columns = np.zeros_like(luma), np.zeros_like(luma)
    rows[:, 1:] = np.abs(np.diff(luma, axis=1))
    columns[:, :, 1:] = np.abs(np.diff(luma, axis=2))
    line = np.clip((rows + columns - 18) / 30, 0, 1)[..., None]
    grain = rng.normal(0, deviation, (*luma.shape, 1)).astype(np.float32)
    return np.clip(mixed * (1 - 0.8 * line) + grain, 0, 255).astype(np.uint8)


def turned_back(frames: np.ndarray) -> np.ndarray:
    """Frames in the world's own palette again; their lines stay."""
    return np.clip(frames.astype(np.float32) @ np.linalg.inv(PALETTE.T), 0, 255).astype(np.uint8)


def features(frames: np.ndarray) -> np.ndarray:
    """Shares of 8 levels of red, green, blue and gradient over all pixels of a film."""
    luma = frames.astype(np.float32).mean(axis=-1)
    gradient = np.abs(np.diff(luma, axis=1))[:, :, 1:] + np.abs(np.diff(luma, axis=2))[:, 1:]
    parts = [np.histogram(frames[..., c], _BINS, (0, 256))[0] / luma.size for c in range(3)]
    edges = [0, 1, 2, 4, 8, 16, 32, 64, 512]
    return np.concatenate([*parts, np.histogram(gradient, edges)[0] / gradient.size])


def style_distance(films: list[np.ndarray], target: list[np.ndarray]) -> float:
    """Length of the difference of the two sets' mean features."""
    mean = [np.mean([features(film) for film in group], axis=0) for group in (films, target)]
    return float(np.linalg.norm(mean[0] - mean[1]))


def make_clips(
    clips: int, frames: int, device: torch.device
) -> Iterator[tuple[str, list[str], np.ndarray]]:
    """Name, captions and frames of restyled clips, one scene each."""
    scenes = sample_scenes(clips, np.random.default_rng(SEED))

    def made(number: int) -> tuple[str, list[str], np.ndarray]:
        shown = render(
            scenes.select(number), frames=frames, height=256, width=448, device=device
        )[0]  # fmt: skip
        captions = [caption(scenes, number, random.Random(f"{number} {w}")).text for w in "ab"]
        film = restyled(shown.cpu().numpy(), np.random.default_rng([SEED, number]))
        return f"scene{number:03d}", captions, film

    # Lines and grain are the host's work, one clip a thread.
    with ThreadPoolExecutor(os.cpu_count()) as threads:
        yield from threads.map(made, range(clips))


def filmed(pipe: Pipeline, prompts: list[str], frames: int) -> list[np.ndarray]:
    settings = replace(pipe.defaults, frames=frames, seed=1)
    return [pipe.generate(prompt, settings=settings).frames.numpy() for prompt in prompts]


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--model", default="previz")
    parser.add_argument("--clips", type=int, default=48)
    parser.add_argument("--frames", type=int, default=33)
    parser.add_argument("--films", type=int, default=4)
    parser.add_argument("--asked", type=int, default=0, help="prompts of the prompt score")
    parser.add_argument("--minutes", type=float, default=12.0)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--rank", type=int, default=16)
    parser.add_argument("--learning-rate", type=float, default=2e-3)
    parser.add_argument("--device", default="auto", choices=("auto", "cpu", "cuda"))
    asked = parser.parse_args()
    device = device_of(asked.device)
    asked.out.mkdir(parents=True, exist_ok=True)
    pipe = load(asked.model, device=asked.device, precision="fp32")
    shown: dict[str, np.ndarray] = {}
    settings = {"model": pipe.model_hash, "clips": asked.clips, "frames": asked.frames}
    with ShardWriter(asked.out / "latents", "latents", settings) as writer:
        for key, captions, film in make_clips(asked.clips, asked.frames, device):
            shown[key] = film
            if key not in writer.sources:
                add_latents(writer, key, pipe, torch.from_numpy(film), captions, source=key)
                writer.finish(key)
    print(f"{len(shown)} clips made and encoded", flush=True)
    latents = read_shards(asked.out / "latents")
    recipe = merge(FinetuneRecipe(held_out=0.2), {
        "rank": asked.rank, "alpha": float(asked.rank),
        "train": {
            "minutes": asked.minutes, "batch": asked.batch, "preview_every": 0,
            "learning_rate": asked.learning_rate, "log_every": 10, "checkpoint_every": 20,
        },
    })  # fmt: skip
    made = finetune(recipe, asked.out / "lora", latents, pipe)
    report = {
        "steps": made.steps, "clips": made.clips, "held_out": made.held_out, "rank": asked.rank,
        "held_out_loss_before": made.loss_before, "held_out_loss_after": made.loss_after,
        "grain": asdict(made.grain),
        "device": str(device),
    }  # fmt: skip
    _write(asked.out, report)
    report |= measure(asked, latents, shown, made.file)
    # Filming takes minutes: what is known is told before.
    _write(asked.out, report)
    if asked.asked:
        report |= prompt_scores(asked, made.file)
        _write(asked.out, report)


def _write(out: Path, report: dict[str, Any]) -> None:
    """Tell what was found so far, and keep it."""
    print(json.dumps(report), flush=True)
    (out / "report.json").write_text(json.dumps(report, indent=1) + "\n", "utf-8")


def measure(
    asked: argparse.Namespace, latents: Shards, shown: dict[str, np.ndarray], lora: Path
) -> dict[str, float]:
    """Distances to the held-out clips, before and after, beside those that the set itself has."""
    trained, held = split_held_out(latents.samples, 0.2)
    target = [shown[s.key] for s in held]
    prompts = [s.told["captions"][0] for s in held[: asked.films]]
    films = {}
    for name, uses in (("before", ()), ("after", (LoraUse(file=str(lora)),))):
        films[name] = filmed(
            load(asked.model, device=asked.device, loras=uses), prompts, asked.frames
        )
    strips = [
        film for row in zip(target, films["before"], films["after"], strict=False) for film in row
    ]
    labels = [text for p in prompts for text in (p, "before", "after")]
    film_strips(asked.out / "strips.png", strips, labels=labels)
    pipe = load(asked.model, device=asked.device)
    # The nearest that any film of these latents can come.
    packed = [
        round_trip(pipe.autoencoder, torch.from_numpy(clip)[None].to(pipe.device))[0].cpu().numpy()
        for clip in target
    ]
    return {
        "distance_before": style_distance(films["before"], target),
        "distance_after": style_distance(films["after"], target),
        "distance_after_autoencoder": style_distance(packed, target),
        "distance_of_training_clips": style_distance([shown[s.key] for s in trained], target),
    }


def prompt_scores(asked: argparse.Namespace, lora: Path) -> dict[str, Any]:
    """Answers right, in percent, of the restyled films of the model and of those with the LoRA."""
    drawn = draw(asked.asked, SEED, level_named("first"))
    prompts = [one for one in drawn if one.scene is not None]
    world, report = expectations(), {}
    for name, uses in (("before", ()), ("after", (LoraUse(file=str(lora)),))):
        pipe = load(asked.model, device=asked.device, loras=uses)
        pipe.config = replace(pipe.config, grain=Grain())
        reader = load_reader(FOLDER, pipe.device)
        right: dict[str, list[float]] = {}
        for one in prompts:
            (film,) = filmed(pipe, [one.prompt], pipe.defaults.frames)
            if not uses:
                film = restyled(film, np.random.default_rng(SEED), deviation=0.0)
            seen = reader.read(torch.from_numpy(turned_back(film)).to(reader.device), FPS)
            for attribute, marks in mark(one.facts, seen, world).items():
                right.setdefault(attribute, []).extend(marks)
        answers = [value for attribute in ANSWERS for value in right.get(attribute, [])]
        report[f"prompt_score_{name}"] = round(100 * float(np.mean(answers)), 2)
        report[f"prompt_answers_{name}"] = {
            attribute: [sum(right[attribute]), len(right[attribute])]
            for attribute in ANSWERS if attribute in right
        }  # fmt: skip
    return report


if __name__ == "__main__":
    main()
