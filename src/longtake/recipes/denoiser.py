"""Second stage: noise and text to latents."""

import random
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from longtake import flow
from longtake.config import ModelConfig, TrainConfig, to_dict
from longtake.media.sheet import film_strips
from longtake.model import Transformer
from longtake.parallel import ALONE, Workers
from longtake.pipeline import Parts, Pipeline, build
from longtake.recipes.autoencoder import compile_residuals
from longtake.recipes.folder import weights_path
from longtake.recipes.recipe import HELD_OUT_SEED, LevelName, PrevizRecipe
from longtake.recipes.tuning import check_lengths, held_out_loss, tune
from longtake.recipes.weights import fill, fill_text
from longtake.text import TextEncoder, Tokenizer
from longtake.text.tokenizer import NULL, PAD
from longtake.train.data import Batch, Ring, latent_ring
from longtake.train.loop import Loss, Prepare, Size, Stage
from longtake.train.losses import flow_loss
from longtake.vae import Autoencoder
from longtake.world import caption, sample_scenes
from longtake.world.level import level_named

OUTER = ("text.tokens", "text.positions", "transformer.embed", "transformer.head")
"""First and last layers of text encoder and denoiser together, which Muon leaves alone."""
_TOP = 0.97
"""Where the top of the noise levels begins: the first step of a film of four ends there."""


def train_transformer(
    recipe: PrevizRecipe,
    folder: Path,
    device: torch.device,
    autoencoder: Autoencoder,
    start: Path | None = None,
    workers: Workers = ALONE,
) -> None:
    """Train on whole clips; leaves a loadable model in the folder.

    Args:
        recipe: Settings.
        folder: Where the weights, the log and the pictures go.
        device: Where to train.
        autoencoder: The first stage's result; it does not change.
        start: Weights to go on from, with a fresh optimiser.
        workers: Those who train together; the first writes.

    Raises:
        SettingError: further sizes with clips that are too long for the model.
    """
    config, shapes = recipe.transformer, recipe.model
    check_lengths(config, shapes.max_frames, "transformer")
    torch.manual_seed(config.seed)
    tokenizer = Tokenizer(shapes.words, shapes.text.max_tokens)
    autoencoder.eval().requires_grad_(False)
    text, transformer, _ = build(shapes)
    both = nn.ModuleDict({"text": text, "transformer": transformer}).to(device)
    if start is not None:
        fill_text(text, start, shapes.words)
        fill(transformer, weights_path(start, "transformer"))
    if config.compile:
        compile_layers(autoencoder, transformer)

    @torch.compiler.set_stance("force_eager")
    def preview(path: Path) -> None:
        sample_strips(path, config, recipe.level, shapes, (text, transformer, autoencoder))

    def ring(own: TrainConfig, workers: Workers) -> Ring:
        return latent_ring(own, autoencoder, tokenizer, workers, level_named(recipe.level))

    loss = _denoiser_loss(text, transformer, config)
    own, *further = (_at_size(size, ring, loss, workers) for size in config.at_each_size)
    stage = Stage(
        name="transformer",
        module=both,
        outer=OUTER,
        ring=own.ring,
        fill=own.fill,
        prepare=own.prepare,
        loss=own.loss,
        metric="low_noise",
        preview=preview,
        shapes=to_dict(shapes),
        further=tuple(further),
    )
    tune(stage, config, folder, workers, own.held_out, (text, transformer, autoencoder), shapes)


def _at_size(
    config: TrainConfig,
    ring: Callable[[TrainConfig, Workers], Ring],
    loss: Loss,
    workers: Workers,
) -> Size:
    """The stage at one size."""
    unseen = partial(ring(replace(config, seed=HELD_OUT_SEED), ALONE).make, 0)
    prepare = _denoiser_inputs(config)
    return Size(
        ring=ring(config, workers),
        fill=first_fill(config),
        prepare=prepare,
        loss=loss,
        held_out=partial(held_out_loss, prepare, loss, unseen),
    )


def compile_layers(autoencoder: Autoencoder, *transformers: Transformer) -> None:
    """Compile the layers that take the time; equal shapes share one graph."""
    compile_residuals(autoencoder)
    for transformer in transformers:
        for block in transformer.blocks:
            block.compile(dynamic=False)


def first_fill(config: TrainConfig) -> int:
    """Batches rendered before the first step: a quarter of the pool."""
    return max(1, config.pool // config.render_batch // 4)


def _denoiser_inputs(config: TrainConfig) -> Prepare:
    """Clean latents, noise, a noise level and a caption of each clip."""

    def prepare(batch: Batch, generator: torch.Generator) -> Batch:
        clean, wordings = batch[0].float(), batch[1].long()
        tokens = drop_captions(wordings, config.caption_dropout, generator)
        noise = torch.randn(clean.shape, generator=generator, device=clean.device)
        level = noise_levels(len(clean), config, generator, clean.device)
        return clean, noise, level, tokens

    return prepare


def _denoiser_loss(text: TextEncoder, transformer: Transformer, config: TrainConfig) -> Loss:
    """Latents and wordings to (flow loss, its mean over the samples of low noise)."""

    def loss(clean: Tensor, noise: Tensor, level: Tensor, tokens: Tensor) -> tuple[Tensor, Tensor]:
        sigma = level[:, None].expand(-1, clean.shape[2])
        kind = clean.device.type
        with torch.autocast(kind, torch.bfloat16, enabled=config.precision == "bf16"):
            embeddings, mask = text(tokens)
            predicted = transformer(flow.interpolate(clean, noise, sigma), sigma, embeddings, mask)
        errors = flow_loss(flow.velocity(clean, noise), predicted)
        low = (level < 0.5).float()
        return errors.mean(), (errors.detach() * low).sum() / low.sum().clamp_min(1)

    return loss


def noise_levels(
    num: int, config: TrainConfig, generator: torch.Generator, device: torch.device
) -> Tensor:
    """Levels of clips or chunks up to `config.highest`, some at the very top (`config.top`).

    Logit-normal levels hardly ever do. A film begins there, and nothing but the caption says as
    what: a model that has seen too little of it reads the noise's mean as the film's own light.
    """
    levels = flow.logit_normal(num, config.shift, generator, device)
    if config.top:
        lot, place = torch.rand(2, num, generator=generator, device=device)
        levels = torch.where(lot < config.top, _TOP + (1 - _TOP) * place, levels)
    return config.highest * levels


def drop_captions(wordings: Tensor, dropout: float, generator: torch.Generator) -> Tensor:
    """One wording of each clip; some become the null prompt, which guidance pushes away from."""
    rows, device = len(wordings), wordings.device
    chosen = torch.randint(wordings.shape[1], (rows,), generator=generator, device=device)
    tokens = wordings[torch.arange(rows, device=device), chosen]
    dropped = torch.rand(rows, generator=generator, device=device) < dropout
    return torch.where(dropped.view(-1, *[1] * (tokens.ndim - 1)), null_like(tokens[:1]), tokens)


def null_like(tokens: Tensor) -> Tensor:
    """The null prompt in each place of a prompt."""
    null = torch.full_like(tokens, PAD)
    null[..., 0].fill_(NULL)
    return null


def sample_strips(
    path: Path, config: TrainConfig, level: LevelName, shapes: ModelConfig, parts: Parts
) -> None:
    """Film strips of the model's films of a few held-out captions.

    Args:
        path: The picture.
        config: Size, length and seed of the films.
        level: Of the scenes.
        shapes: The model, sampled as it says.
        parts: Its networks.
    """
    scenes = sample_scenes(8, np.random.default_rng(HELD_OUT_SEED), level=level_named(level))
    pipeline = Pipeline(name="training", model_hash="", config=shapes, parts=parts)
    settings = replace(
        pipeline.defaults,
        width=config.width,
        height=config.height,
        frames=config.frames,
        seed=config.seed,
    )
    rng = random.Random(HELD_OUT_SEED)
    prompts = [caption(scenes, index, rng).text for index in range(len(scenes))]
    with torch.autocast(pipeline.device.type, torch.bfloat16, enabled=config.precision == "bf16"):
        films = [pipeline.generate(prompt, settings=settings).frames for prompt in prompts]
    film_strips(path, films, labels=prompts)
