"""The first verdict on real weights: names, shapes, values, hashes, and whether they predict."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import UInt8
from torch import Tensor

from longtake import flow
from longtake.checkpoints.index import sha256_of
from longtake.errors import LongtakeError
from longtake.official.folder import PublicModel, read_model
from longtake.official.parts import load_autoencoder, load_text_encoder
from longtake.official.pipeline import OfficialPipeline, Running
from longtake.official.settings import OfficialConfig
from longtake.official.source import FILES, weight_files
from longtake.official.transformer import load_transformer

PUBLISHED = {16: 2_056_862_144, 128: 2_057_148_928}
"""Parameters of the published denoisers by latent channels."""
SIGMA = 0.5
"""Noise level of the one step."""
TRAINED = 0.6
"""A trained model's loss is below this share of the loss of predicting nothing; else above 1."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing looked at."""

    what: str
    """In a word or two."""
    fine: bool
    """Whether it is as it should be."""
    told: str
    """What was found."""


def check_model(
    folder: Path, clip: UInt8[Tensor, "frames height width 3"], caption: str, running: Running
) -> Iterator[Finding]:
    """Look at everything that can be known of a public model without its makers.

    Args:
        folder: The model.
        clip: Frames of a size the model can make.
        caption: What the clip shows.
        running: Where and how to compute.
    """
    try:
        model = read_model(folder)
    except LongtakeError as error:
        yield Finding(what="configs", fine=False, told=str(error))
        return
    yield Finding(what="configs", fine=True, told=f"{model.vae.name}, {model.sampler}")
    broken = False
    for part in FILES:
        finding = _check_part(model, part, running)
        broken |= not finding.fine
        yield finding
    if broken:
        return
    yield from _hashes(folder)
    yield _one_step(model, clip, caption, running)


def _check_part(model: PublicModel, part: str, running: Running) -> Finding:
    """Names, shapes and values of one part, by loading it."""
    cpu = torch.device("cpu")
    try:
        match part:
            case "transformer":
                loaded = load_transformer(model.folder / part, running.dtype, cpu)
                count = sum(weight.numel() for weight in loaded.parameters())
            case "vae":
                vae = load_autoencoder(model, torch.float32, cpu, None).vae
                count = sum(
                    w.numel() for _, half in vae.named_children() for w in half.parameters()
                )
            case _:
                load_text_encoder(model.folder, running.dtype, cpu)
                return Finding(what=part, fine=True, told="names, shapes and values fit")
    except LongtakeError as error:
        return Finding(what=part, fine=False, told=str(error))
    told = f"names, shapes and values fit, {count:,} parameters"
    if part == "transformer" and count != PUBLISHED.get(model.transformer.latent_channels):
        told += ", not the number of a published model"
    return Finding(what=part, fine=True, told=told)


def _hashes(folder: Path) -> Iterator[Finding]:
    for path in weight_files(folder):
        name = f"{path.parent.name}/{path.name}"
        yield Finding(what="sha256", fine=True, told=f"{name} {sha256_of(path)}")


@torch.no_grad()
def _one_step(
    model: PublicModel, clip: UInt8[Tensor, "frames height width 3"], caption: str, running: Running
) -> Finding:
    """The flow loss of one step on a real clip, against the loss of predicting nothing."""
    pipe = OfficialPipeline(model, running)
    _, height, width, _ = clip.shape
    settings = OfficialConfig(width=width, height=height, frames=len(clip), guidance=1.0)
    (condition,), _ = pipe.condition(caption, settings)
    clean = pipe.latents_of(clip)
    noise = pipe.noise(settings).to(clean)
    sigma = torch.full((1, clean.shape[2]), SIGMA, dtype=torch.float64, device=clean.device)
    noisy = flow.interpolate(clean, noise, sigma.float())
    predicted = pipe.velocity(noisy, sigma, condition)
    target = flow.velocity(clean, noise)
    loss = (predicted - target).square().mean().item()
    share = loss / target.square().mean().item()
    verdict = "these weights predict" if share < TRAINED else "these weights do not predict"
    told = (
        f"{verdict}: flow loss {loss:.3f} at sigma {SIGMA}, {share:.2f} of predicting nothing "
        f"(trained: below {TRAINED})"
    )
    return Finding(what="one step", fine=share < TRAINED, told=told)
