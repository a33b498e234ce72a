"""Last stage: the decoder of a finished model learns to overlook the errors of a denoiser.

A denoiser's latents are off by a little, in every latent frame by another little, and a decoder
that knows true latents alone shows it: what stands still jumps with every fourth frame.
"""

import logging
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from longtake.checkpoints import read_json
from longtake.config import ModelConfig, TrainConfig, from_dict, to_dict
from longtake.media.sheet import film_strips
from longtake.parallel import ALONE, Workers
from longtake.presets import MODEL_FILE
from longtake.recipes.autoencoder import (
    autoencoder_inputs,
    compile_residuals,
    held_out_frames,
    held_out_psnr,
)
from longtake.recipes.denoiser import first_fill
from longtake.recipes.recipe import HELD_OUT_SEED, PrevizRecipe
from longtake.recipes.weights import export_model, parts_from
from longtake.rollout.pixels import to_bytes
from longtake.train.data import Batch, generator_for, pixel_ring, to_signed
from longtake.train.loop import Loss, Prepare, Stage, Trainer
from longtake.train.losses import pixel_loss
from longtake.vae import Autoencoder
from longtake.vae.autoencoder import StreamCache
from longtake.world.level import level_named

logger = logging.getLogger("longtake.train")
LEARNS = ("latents_in", "decoder", "pixels_out")
"""Begins the names of the weights that lead from latents to pixels."""
SHOWN_NOISE = 0.1
"""Deviation of the noise in the preview, and in what the log tells of flicker."""


def train_decoder(
    recipe: PrevizRecipe,
    folder: Path,
    device: torch.device,
    start: Path,
    workers: Workers = ALONE,
) -> float | None:
    """Train the way from noisy latents to the clips they are of; all else stays as it is.

    Latents mean the same as before, so that denoiser and takes go on as they were.
    Returns the PSNR on held-out clips without noise in dB, to the first worker.

    Args:
        recipe: Settings.
        folder: Where the weights, the log and the pictures go.
        device: Where to train.
        start: The model.
        workers: Those who train together; the first writes.
    """
    config = recipe.decoder
    shapes = from_dict(ModelConfig, read_json(start / MODEL_FILE))
    torch.manual_seed(config.seed)
    parts = parts_from(start, shapes, device)
    model = parts[2]
    for name, weight in model.named_parameters():
        weight.requires_grad_(name.startswith(LEARNS))
    if config.compile:
        compile_residuals(model)

    @torch.compiler.set_stance("force_eager")
    def preview(path: Path) -> None:
        frames = held_out_frames(recipe, 3, device)
        films = [film for clip in frames for film in (clip, _noisy(model, clip))]
        film_strips(path, films)

    stage = Stage(
        name="decoder",
        module=model,
        outer=("pixels_out", "latents_in"),
        ring=pixel_ring(config, device, workers, level_named(recipe.level)),
        fill=first_fill(config),
        prepare=_decoder_inputs(config, model),
        loss=_decoder_loss(model, config),
        metric="psnr",
        preview=preview,
        shapes=to_dict(shapes.autoencoder),
    )
    trainer = Trainer(stage, config, folder, workers)
    tell = partial(_tell, model, recipe, device)
    if workers.first and not trainer.step:
        tell(" at the start")
    trainer.run()
    if not workers.first:
        return None
    quality = tell("")
    export_model(folder, parts, shapes)
    return quality


def _decoder_inputs(config: TrainConfig, model: Autoencoder) -> Prepare:
    """Those of the first stage, with noise of a deviation drawn for each clip."""
    drawn = autoencoder_inputs(config, model.config)

    def prepare(batch: Batch, generator: torch.Generator) -> Batch:
        frames, weight, noise = drawn(batch, generator)
        deviation = torch.rand(len(frames), generator=generator, device=frames.device)
        return frames, weight, noise * (config.latent_noise * deviation).view(-1, 1, 1, 1, 1)

    return prepare


def _decoder_loss(model: Autoencoder, config: TrainConfig) -> Loss:
    """Clips to (loss, PSNR of the batch in dB)."""
    score = torch.compile(pixel_loss, dynamic=False) if config.compile else pixel_loss

    def loss(frames: Tensor, weight: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        target = to_signed(frames)
        enabled = config.precision == "bf16"
        # Two of them: weights cast inside no_grad and kept would have no gradient later.
        with torch.no_grad(), torch.autocast(target.device.type, torch.bfloat16, enabled=enabled):
            raw, _ = model.moments(target, StreamCache())
        with torch.autocast(target.device.type, torch.bfloat16, enabled=enabled):
            off = noise * model.latent_std[:, None, None, None]
            predicted = model.reconstruct(raw + off, StreamCache())
        total, squared = score(target, predicted, weight, squared_weight=config.squared)
        return total, -10 * torch.log10(squared.detach() / 4)

    return loss


@torch.no_grad()
def _noisy(model: Autoencoder, clip: Tensor) -> Tensor:
    """A clip as the decoder shows latents that are off by the same draws every time."""
    latents = model.encode(to_signed(clip[None]))
    generator = generator_for(HELD_OUT_SEED, 0, latents.device)
    noise = torch.randn(latents.shape, generator=generator, device=latents.device)
    return to_bytes(model.decode(latents + SHOWN_NOISE * noise)[0])


@torch.compiler.set_stance("force_eager")
def _tell(model: Autoencoder, recipe: PrevizRecipe, device: torch.device, when: str) -> float:
    """Log PSNR without noise, and how much more films change with noise than they should."""
    quality = held_out_psnr(model, recipe, device)
    frames = held_out_frames(recipe, min(recipe.held_out, 8), device)
    true, shown = (
        sum(change_of(clip) for clip in clips)
        for clips in (frames, [_noisy(model, clip) for clip in frames])
    )
    ratio = shown / max(true, 1e-6)
    logger.info(
        "decoder: held-out PSNR %.2f dB, change %.2f times the true%s", quality, ratio, when
    )
    return quality


def change_of(film: Tensor) -> float:
    """Mean change of a byte from frame to frame."""
    values = film.float()
    return (values[1:] - values[:-1]).abs().mean().item()
