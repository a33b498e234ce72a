"""From nothing to the embedded model, and on from it: a file for each stage is beside this one."""

from dataclasses import dataclass
from pathlib import Path

import torch

from longtake.parallel import ALONE, Workers
from longtake.recipes.autoencoder import train_autoencoder
from longtake.recipes.causal import train_causal
from longtake.recipes.decoder import train_decoder
from longtake.recipes.denoiser import train_transformer
from longtake.recipes.few_steps import train_few_steps
from longtake.recipes.folder import Which, check_folder, drop_states, has_weights, weights_path
from longtake.recipes.matching import train_matching
from longtake.recipes.recipe import PrevizRecipe
from longtake.recipes.weights import fill
from longtake.vae import Autoencoder


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What a run left."""

    files: tuple[str, ...]
    """Names of the files in its folder."""
    held_out_psnr: float | None
    """PSNR of the autoencoder on held-out clips in dB; None if its stage was left out."""
    held_out_loss: float | None = None
    """Loss of the stages after the first two on held-out clips; None if all were left out."""


def run(
    recipe: PrevizRecipe,
    folder: Path,
    *,
    stage: Which = "all",
    device: torch.device,
    start: Path | None = None,
    teacher: Path | None = None,
    workers: Workers = ALONE,
) -> Outcome:
    """Run the stages; an interrupted run in the same folder goes on where it stopped.

    Args:
        recipe: Settings.
        folder: Where everything goes.
        stage: The stages that begin from nothing, or one stage.
        device: Where to train.
        start: A folder of weights to go on from; the second stage alone needs its autoencoder, the
            others a whole model.
        teacher: The model that `start` learned its few steps from, for the stage matching.
        workers: Those who train together, each with a batch of its own; the first writes.

    Raises:
        OutputError: the folder holds a finished model, or cannot be written.
        SettingError: settings other than those of the run to resume, or no weights to start from.
        CannotHere: tensorboard is missing.
    """
    torch.set_float32_matmul_precision("high")
    check_folder(folder, stage, start, teacher)
    workers.wait()
    quality, loss, finished = None, None, start or folder
    if stage in ("all", "autoencoder"):
        quality, finished = train_autoencoder(recipe, folder, device, start, workers), folder
        workers.wait()
        # Else the graphs of both stages together exceed the compiler's limit, and some run slowly.
        torch.compiler.reset()
    if stage in ("all", "transformer"):
        # Read back even if it was just trained: a resumed run sees the same rounded weights.
        autoencoder = Autoencoder(recipe.model.autoencoder).to(device)
        fill(autoencoder, weights_path(finished, "autoencoder"))
        denoiser = start if start and has_weights(start, "transformer") else None
        train_transformer(recipe, folder, device, autoencoder, denoiser, workers)
    if stage == "causal":
        loss = train_causal(recipe, folder, device, finished, workers)
    if stage == "few_steps":
        loss = train_few_steps(recipe, folder, device, finished, workers)
    if stage == "matching" and teacher is not None:
        loss = train_matching(recipe, folder, device, finished, teacher, workers)
    if stage == "decoder":
        quality = train_decoder(recipe, folder, device, finished, workers)
    if stage != "autoencoder":
        workers.wait()
        drop_states(folder)
    files = sorted(path.name for path in folder.iterdir() if path.is_file())
    return Outcome(files=tuple(files), held_out_psnr=quality, held_out_loss=loss)
