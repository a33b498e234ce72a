"""First stage: pixels to latents and back."""

import logging
from pathlib import Path

import numpy as np
import torch
from jaxtyping import UInt8
from torch import Tensor

from longtake.config import AutoencoderConfig, TrainConfig, latent_frames_for, to_dict
from longtake.media.sheet import film_strips
from longtake.parallel import ALONE, Workers
from longtake.recipes.folder import weights_path
from longtake.recipes.recipe import HELD_OUT_SEED, PrevizRecipe
from longtake.recipes.weights import export, fill
from longtake.rollout.pixels import to_bytes
from longtake.train.data import Batch, pixel_ring, to_signed
from longtake.train.loop import Loss, Prepare, Stage, Trainer
from longtake.train.losses import autoencoder_loss, psnr
from longtake.vae import Autoencoder
from longtake.vae.autoencoder import StreamCache
from longtake.vae.layers import Residual
from longtake.world import render, sample_scenes
from longtake.world.level import level_named

logger = logging.getLogger("longtake.train")


def train_autoencoder(
    recipe: PrevizRecipe,
    folder: Path,
    device: torch.device,
    start: Path | None = None,
    workers: Workers = ALONE,
) -> float | None:
    """Train on short clips; leaves `autoencoder.safetensors` in the folder.

    Returns the PSNR on held-out clips in dB, to the first worker.

    Args:
        recipe: Settings.
        folder: Where the weights, the log and the pictures go.
        device: Where to train.
        start: Weights to go on from, with a fresh optimiser.
        workers: Those who train together; the first writes.
    """
    config = recipe.autoencoder
    torch.manual_seed(config.seed)
    model = Autoencoder(recipe.model.autoencoder).to(device)
    if start is not None:
        fill(model, weights_path(start, "autoencoder"))
    if config.compile:
        compile_residuals(model)

    @torch.compiler.set_stance("force_eager")
    def preview(path: Path) -> None:
        frames = held_out_frames(recipe, 4, device)
        film_strips(path, [row for pair in zip(frames, _round_trip(model, frames), strict=True)
                           for row in pair])  # fmt: skip

    stage = Stage(
        name="autoencoder",
        module=model,
        outer=("pixels_in", "pixels_out", "latents_in", "latents_out"),
        ring=pixel_ring(config, device, workers, level_named(recipe.level)),
        fill=min(8, config.pool // config.render_batch),
        prepare=autoencoder_inputs(config, recipe.model.autoencoder),
        loss=_autoencoder_loss(model, config),
        metric="psnr",
        preview=preview,
        shapes=to_dict(recipe.model.autoencoder),
    )
    Trainer(stage, config, folder, workers).run()
    if not workers.first:
        return None
    measure_latents(model, recipe, device)
    quality = held_out_psnr(model, recipe, device)
    logger.info("autoencoder: held-out PSNR %.2f dB", quality)
    export(model, weights_path(folder, "autoencoder"))
    return quality


@torch.compiler.set_stance("force_eager")
@torch.no_grad()
def measure_latents(model: Autoencoder, recipe: PrevizRecipe, device: torch.device) -> None:
    """Set the channel means and deviations that make latents of unit variance."""
    frames = held_out_frames(recipe, recipe.held_out, device)
    means = [model.moments(to_signed(clip[None]), StreamCache())[0] for clip in frames]
    values = torch.cat(means).transpose(0, 1).flatten(1)
    model.latent_mean.copy_(values.mean(dim=1))
    deviation = values.std(dim=1)
    # A channel the decoder hardly uses would be blown up to noise the denoiser must then learn.
    model.latent_std.copy_(deviation.clamp_min(0.3 * deviation.max()))


@torch.compiler.set_stance("force_eager")
@torch.no_grad()
def held_out_psnr(model: Autoencoder, recipe: PrevizRecipe, device: torch.device) -> float:
    """Mean over held-out clips of the PSNR after encoding and decoding, bytes to bytes."""
    frames = held_out_frames(recipe, recipe.held_out, device)
    scores = [
        psnr(to_signed(clip[None]), to_signed(back[None]))
        for clip, back in zip(frames, _round_trip(model, frames), strict=True)
    ]
    return torch.stack(scores).mean().item()


def compile_residuals(model: Autoencoder) -> None:
    """Compile the blocks that take the time; equal shapes share one graph."""
    for module in model.modules():
        if isinstance(module, Residual):
            module.compile(dynamic=False)


def held_out_frames(
    recipe: PrevizRecipe, clips: int, device: torch.device
) -> list[UInt8[Tensor, "frames height width 3"]]:
    """Clips that are never trained on, as long and as large as the denoiser's."""
    config = recipe.transformer
    scenes = sample_scenes(
        clips, np.random.default_rng(HELD_OUT_SEED), level=level_named(recipe.level)
    )
    frames = render(
        scenes, frames=config.frames, height=config.height, width=config.width, device=device
    )
    return list(frames)


@torch.no_grad()
def _round_trip(model: Autoencoder, clips: list[Tensor]) -> list[Tensor]:
    return [to_bytes(model.decode(model.encode(to_signed(clip[None])))[0]) for clip in clips]


def autoencoder_inputs(config: TrainConfig, shape: AutoencoderConfig) -> Prepare:
    """Clips, the weight of each pixel and the noise their latents are drawn with."""
    stride, latent_frames = shape.spatial_stride, latent_frames_for(config.frames)
    grid = (latent_frames, config.height // stride, config.width // stride)

    def prepare(batch: Batch, generator: torch.Generator) -> Batch:
        frames, *subjects = batch
        weight = torch.ones(frames.shape[:-1], device=frames.device)
        for mask in subjects:
            weight += config.subjects * mask
        size = (len(frames), shape.latent_channels, *grid)
        noise = torch.randn(size, generator=generator, device=frames.device)
        return frames, weight, noise

    return prepare


def _autoencoder_loss(model: Autoencoder, config: TrainConfig) -> Loss:
    """Clips to (loss, PSNR of the batch in dB)."""
    score = torch.compile(autoencoder_loss, dynamic=False) if config.compile else autoencoder_loss

    def loss(frames: Tensor, weight: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        target = to_signed(frames)
        kind = target.device.type
        with torch.autocast(kind, torch.bfloat16, enabled=config.precision == "bf16"):
            mean, log_variance = model.moments(target, StreamCache())
            predicted = model.reconstruct(mean + (0.5 * log_variance).exp() * noise, StreamCache())
        total, squared = score(
            target,
            predicted,
            mean,
            log_variance,
            weight,
            kl_weight=config.kl,
            squared_weight=config.squared,
        )
        return total, -10 * torch.log10(squared.detach() / 4)

    return loss
