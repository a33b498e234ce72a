"""A tiny model in a folder, and shards of clips and latents for it."""

import json
from pathlib import Path

import torch
from safetensors.torch import save

from longtake.checkpoints import LoraHead, save_lora
from longtake.config import ModelConfig, merge
from longtake.data.shards import Shards, ShardWriter, read_shards
from longtake.media.video import VideoWriter
from longtake.model.lora import Factors, shapes
from longtake.pipeline import Pipeline, build, load
from longtake.recipes.finetune import FinetuneRecipe
from longtake.recipes.weights import export_model

RECIPE = merge(
    FinetuneRecipe(),
    {
        "rank": 4, "alpha": 8.0, "held_out": 0.2,
        "train": {
            "steps": 6, "batch": 2, "precision": "fp32", "log_every": 2, "checkpoint_every": 2,
            "preview_every": 4, "warmup": 1, "learning_rate": 0.01,
        },
    },
)  # fmt: skip
TINY_MODEL = {
    "autoencoder": {
        "latent_channels": 8, "widths": [16, 24, 32],
        "encoder_blocks": [1, 1, 1], "decoder_blocks": [1, 1, 1],
    },
    "transformer": {
        "latent_channels": 8, "width": 48, "depth": 2, "heads": 2, "text_width": 24,
    },
    "text": {"width": 24, "depth": 1, "heads": 2},
}  # fmt: skip
"""Shapes that a recipe for tests changes to."""
CAPTIONS = ["a red ball bounces on grass", "a blue sphere on grass"]


def save_model(folder: Path, config: ModelConfig, seed: int = 0) -> Path:
    torch.manual_seed(seed)
    parts = build(config)
    # A fresh head gives no velocity at all, whatever lies before it.
    torch.nn.init.normal_(parts[1].head.weight, std=0.1)
    folder.mkdir(parents=True, exist_ok=True)
    export_model(folder, parts, config)
    return folder


def loaded(folder: Path, *loras) -> Pipeline:
    return load(str(folder), device="cpu", precision="fp32", loras=loras)


def random_factors(pipe: Pipeline, rank: int = 2, seed: int = 1) -> dict[str, Factors]:
    generator = torch.Generator().manual_seed(seed)
    return {
        name: Factors(
            torch.randn(rank, columns, generator=generator) / columns**0.5,
            torch.randn(rows, rank, generator=generator) / rank,
        )
        for name, (rows, columns) in shapes(pipe.transformer).items()
    }


def save_random_lora(path: Path, pipe: Pipeline, rank: int = 2, **changes) -> Path:
    factors = random_factors(pipe, rank)
    told = {"base": pipe.model_hash, "rank": rank, "alpha": 2.0, "targets": tuple(sorted(factors))}
    save_lora(path, LoraHead(**told | changes), {name: tuple(f) for name, f in factors.items()})
    return path


def latent_shards(folder: Path, pipe: Pipeline, clips: int = 6, frames: int = 3, **more) -> Shards:
    """Latents of random clips, one source each."""
    config, generator = pipe.config, torch.Generator().manual_seed(7)
    channels, width = config.transformer.latent_channels, config.text.width
    settings = {"model": pipe.model_hash}
    with ShardWriter(folder, "latents", settings, shard_bytes=4000) as writer:
        for number in range(clips):
            mask = torch.ones(1, config.text.max_tokens, dtype=torch.bool)
            latents = torch.randn(channels, frames, 2, 3, generator=generator)
            tensors = {
                "latents": latents.bfloat16(),
                "text": torch.randn(1, config.text.max_tokens, width, generator=generator),
                "mask": mask,
            }
            told = {
                "source": f"film{number}.mp4", "shape": list(latents.shape),
                "captions": CAPTIONS[:1], "width": 96, "height": 64, "frames": 4 * frames - 3,
                **more,
            }  # fmt: skip
            writer.add(f"clip{number}", {"safetensors": save(tensors)}, told)
            writer.finish(f"film{number}.mp4")
    return read_shards(folder)


def clip_shards(folder: Path, clips: int = 3, frames: int = 9) -> Shards:
    """Clips of moving gradients, as `data prepare` leaves them."""
    rows, columns = torch.meshgrid(torch.arange(64), torch.arange(96), indexing="ij")
    folder.mkdir(parents=True, exist_ok=True)
    with ShardWriter(folder, "clips", {}) as writer:
        for number in range(clips):
            film = folder / "film.mp4"
            moved = [(rows + columns * 2 + 40 * number + 5 * t) % 256 for t in range(frames)]
            with VideoWriter(film, width=96, height=64) as out:
                out.write(torch.stack(moved)[..., None].expand(-1, -1, -1, 3).byte().contiguous())
            parts = {"mp4": film.read_bytes(), "json": json.dumps({"captions": CAPTIONS}).encode()}
            film.unlink()
            writer.add(f"clip{number}", parts, {"source": f"film{number}.mp4"})
            writer.finish(f"film{number}.mp4")
    return read_shards(folder)
