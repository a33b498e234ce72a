"""The public 2B model's own training, stage by stage, as its authors published it.

Sizes, order, optimiser and noise levels are theirs; they gave no numbers of steps and no batch.
What those who distil the causal model to four steps do after it is not here.

Source: SANA-Video (arXiv 2509.24695), sections 3 and 4, and its public configs.
"""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

import torch

from longtake.checkpoints import LoraHead, save_lora
from longtake.checkpoints.public_config import read_transformer_config
from longtake.config import ShardedConfig, TransformerConfig
from longtake.errors import OutputError, SettingError
from longtake.model import Transformer
from longtake.model.lora import Branches, shapes
from longtake.official.folder import copy_parts, read_model
from longtake.official.longsana import CHUNK
from longtake.official.source import fingerprint
from longtake.official.transformer import empty_transformer, load_transformer, save_transformer
from longtake.parallel import Workers
from longtake.presets import PUBLIC_FILE
from longtake.train.latents import LatentFolder
from longtake.train.sharded import ShardedTrainer

StageName = Literal["low", "full", "tune", "causal"]
STRIDE, TEMPORAL = 8, 4
"""Pixels of a latent cell and frames of a latent frame, of the VAE of the 480p model."""
TRANSFORMER = "transformer"
LORA_FILE = "lora.safetensors"
"""What a run that trains a LoRA leaves."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SanaStage:
    """One stage of the published training."""

    name: StageName
    """What a user types."""
    what: str
    """What it teaches, in one line."""
    width: int
    """Of the clips, in pixels."""
    height: int
    """Of the clips, in pixels."""
    frames: int
    """Of a clip, at 16 a second."""
    train: ShardedConfig
    """How it runs; steps and batch are ours, the rest is published."""

    @property
    def grid(self) -> tuple[int, int, int]:
        """Latent frames, rows and columns of a clip."""
        frames = math.ceil((self.frames - 1) / TEMPORAL) + 1
        return frames, self.height // STRIDE, self.width // STRIDE


def low() -> SanaStage:
    """Small and short clips, from weights of an image model or from nothing."""
    return SanaStage(
        name="low", what="motion, on small and short clips", width=336, height=192, frames=41,
        train=ShardedConfig(steps=20_000),
    )  # fmt: skip


def full() -> SanaStage:
    """Clips of the size and length of films."""
    return SanaStage(
        name="full", what="clips of full size and length", width=832, height=480, frames=81,
        train=ShardedConfig(steps=20_000),
    )  # fmt: skip


def tune() -> SanaStage:
    """A few thousand clips that people liked best."""
    return SanaStage(
        name="tune", what="the look of some 5,000 chosen clips", width=832, height=480, frames=81,
        train=ShardedConfig(steps=2_000),
    )  # fmt: skip


def causal() -> SanaStage:
    """Going on chunk by chunk, each after clean ones, noise never falling among them."""
    return SanaStage(
        name="causal", what="going on chunk by chunk", width=832, height=480, frames=81,
        train=ShardedConfig(steps=10_000, chunk=CHUNK),
    )  # fmt: skip


def stage_named(name: str) -> SanaStage:
    """The stage of a name.

    Raises:
        SettingError: no such stage.
    """
    match name:
        case "low":
            return low()
        case "full":
            return full()
        case "tune":
            return tune()
        case "causal":
            return causal()
        case _:
            msg = f"--stage must be one of {', '.join(get_args(StageName))}, got {name}"
            raise SettingError(msg)


def published() -> TransformerConfig:
    """The shape of the published 480p model."""
    config = {"_class_name": "SanaVideoTransformer3DModel", "mlp_ratio": 3.0}
    return read_transformer_config(config, "the published 2B model")


def run_stage(
    stage: SanaStage,
    data: Path,
    out: Path,
    *,
    start: Path | None,
    workers: Workers,
    device: torch.device,
) -> None:
    """Train a stage; an interrupted run in the same folder goes on where it stopped.

    Args:
        stage: Which.
        data: Folder of encoded clips, see `LatentFolder`.
        out: Where the states and afterwards the transformer, or the LoRA, go.
        start: A public model to go on from; None begins with fresh weights.
        workers: Those who train together; the first writes.
        device: Of this worker.

    Raises:
        OutputError: a trained model or LoRA is there already.
        ModelError: a LoRA over a model of which a file is missing.
        SettingError: clips that are not this model's, a rank that it is too small for, or no model
            to start from.
    """
    if (out / TRANSFORMER).exists() or (out / LORA_FILE).exists():
        msg = f"{out} holds a trained model already; choose another folder with --out"
        raise OutputError(msg)
    clips = LatentFolder(data, stage.train.seed)
    model = _model(stage, start)
    _check_clip(clips, model.config)
    # Looked at before hours of training: a LoRA names the whole model that it lies over.
    base = fingerprint(start) if start is not None and stage.train.lora else ""
    trainer = ShardedTrainer(model, clips.clip, stage.train, out, workers, device)
    trainer.run()
    weights = trainer.weights()
    if workers.first and trainer.branches is not None:
        made = f"{stage.name}, {trainer.step} steps of {stage.train.batch} clips"
        _export_lora(trainer.branches, out, base, made)
    elif workers.first:
        _export(weights, model.config, out, start, causal=stage.train.chunk > 0)
    workers.wait()


def _model(stage: SanaStage, start: Path | None) -> Transformer:
    """On the host, with the weights to begin with."""
    if start is None:
        if stage.name != "low" or stage.train.lora:
            msg = f"the stage {stage.name} goes on from a model; name its folder with --start"
            raise SettingError(msg)
        torch.manual_seed(stage.train.seed)
        return Transformer(published())
    # Weights that do not change need no more digits than the layers compute with.
    few = stage.train.lora and stage.train.precision == "bf16"
    dtype = torch.bfloat16 if few else torch.float32
    model = load_transformer(start / TRANSFORMER, dtype, torch.device("cpu"))
    most = min(min(shape) for shape in shapes(model).values())
    if stage.train.lora > most:
        msg = (
            f"--lora must be at most {most}, the smallest side of a matrix, got "
            f"{stage.train.lora:,}"
        )
        raise SettingError(msg)
    return model.requires_grad_(True).train()


def _check_clip(clips: LatentFolder, config: TransformerConfig) -> None:
    clip = clips.clip(0, torch.device("cpu"))
    found = (clip.latents.shape[1], clip.text.shape[-1])
    if found != (config.latent_channels, config.text_width):
        msg = (
            f"{clips.files[0].parent}: clips have {found[0]} latent channels and text of width "
            f"{found[1]}, the model wants {config.latent_channels} and {config.text_width}"
        )
        raise SettingError(msg)


def _export_lora(branches: Branches, out: Path, base: str, made: str) -> None:
    """The changes in one file, for the model they were trained over alone."""
    changes = branches.changes()
    rank = next(iter(changes.values())).a.shape[0]
    head = LoraHead(
        base=base,
        rank=rank,
        alpha=branches.scale * rank,
        targets=tuple(sorted(changes)),
        made=made,
    )
    save_lora(out / LORA_FILE, head, {name: tuple(pair) for name, pair in changes.items()})


def _export(
    weights: dict[str, torch.Tensor],
    config: TransformerConfig,
    out: Path,
    start: Path | None,
    *,
    causal: bool,
) -> None:
    """The transformer, and beside it the other parts of the model it came from."""
    model = empty_transformer(config)
    model.load_state_dict(weights, assign=True)
    save_transformer(model, out / TRANSFORMER, causal=causal)
    if start is not None and (start / PUBLIC_FILE).is_file():
        read_model(start)
        copy_parts(start, out)
