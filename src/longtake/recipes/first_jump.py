"""Fifth stage: the caption decides what a film begins as, not what the noise happens to be like.

The mean of noise over a latent frame is never quite zero. A little below the highest noise level a
true film's mean shines through by as much, so a model that has seen few clips at the very top takes
the one for the other: a film becomes rainy because its seed is. Here a copy of the model learns the
mean of a film's latents from the caption alone: light and ground. All else of the first jump, and
the jumps after it, stay what they are in the model.
"""

import random
from copy import deepcopy
from functools import partial
from itertools import pairwise
from pathlib import Path

import torch
from torch import Tensor, nn

from longtake import flow
from longtake.checkpoints import read_json
from longtake.config import ModelConfig, from_dict, to_dict
from longtake.errors import SettingError
from longtake.model import Transformer
from longtake.parallel import ALONE, Workers
from longtake.presets import MODEL_FILE
from longtake.recipes.denoiser import OUTER, compile_layers, first_fill, sample_strips
from longtake.recipes.recipe import HELD_OUT_SEED, PrevizRecipe
from longtake.recipes.tuning import tune
from longtake.recipes.weights import parts_from
from longtake.text import TextEncoder, Tokenizer
from longtake.train.data import (
    Batch,
    Ring,
    caption_tokens,
    generator_for,
    scenes_of_batch,
    to_signed,
)
from longtake.train.loop import Loss, Prepare, Stage
from longtake.vae import Autoencoder
from longtake.world import render
from longtake.world.level import level_named

Denoiser = tuple[TextEncoder, Transformer]


def train_first_jump(
    recipe: PrevizRecipe,
    folder: Path,
    device: torch.device,
    start: Path,
    workers: Workers = ALONE,
) -> float | None:
    """Train a copy of a model of few steps to heed the caption; leaves a model like it.

    Returns the loss on held-out clips, to the first worker.

    Args:
        recipe: Settings; the shapes and the vocabulary are those of the model.
        folder: Where the weights, the log and the pictures go.
        device: Where to train.
        start: The model: teacher, and what the copy begins as.
        workers: Those who train together; the first writes.

    Raises:
        SettingError: a model that goes on by no chunks or needs guidance.
    """
    config = recipe.first_jump
    shapes = from_dict(ModelConfig, read_json(start / MODEL_FILE))
    _check_few_steps(shapes, start)
    torch.manual_seed(config.seed)
    text, transformer, autoencoder = parts = parts_from(start, shapes, device)
    teacher = deepcopy(text).requires_grad_(False), deepcopy(transformer).requires_grad_(False)
    if config.compile:
        compile_layers(autoencoder, transformer, teacher[1])

    @torch.compiler.set_stance("force_eager")
    def preview(path: Path) -> None:
        sample_strips(path, config, recipe.level, shapes, parts)

    stage = Stage(
        name="first_jump",
        module=nn.ModuleDict({"text": text, "transformer": transformer}),
        outer=OUTER,
        ring=_ring(recipe, shapes, autoencoder, config.seed, workers),
        fill=first_fill(config),
        prepare=_inputs(recipe, shapes),
        loss=_heeding((text, transformer), teacher, recipe, shapes),
        metric="mean_error",
        preview=preview,
        shapes=to_dict(shapes),
        one_shape=False,
    )
    unseen = _ring(recipe, shapes, autoencoder, HELD_OUT_SEED, ALONE)
    held_out = partial(_held_out_loss, stage, unseen)
    return tune(stage, config, folder, workers, held_out, parts, shapes)


def _check_few_steps(shapes: ModelConfig, start: Path) -> None:
    if not shapes.chunk or shapes.sampling.guidance != 1:
        msg = (
            "the first_jump stage wants a model that goes on by chunks and needs no guidance, "
            f"which {start} is not; run causal and few_steps before it"
        )
        raise SettingError(msg)


@torch.compiler.set_stance("force_eager")
@torch.no_grad()
def _held_out_loss(stage: Stage, unseen: Ring) -> float:
    """Loss of the first jump on one rendering of clips that training never sees."""
    device = next(stage.module.parameters()).device
    means, noise, _, tokens = stage.prepare(unseen.make(0), generator_for(HELD_OUT_SEED, 0, device))
    return stage.loss(means, noise, torch.tensor(0), tokens)[0].item()


def _ring(
    recipe: PrevizRecipe,
    shapes: ModelConfig,
    autoencoder: Autoencoder,
    seed: int,
    workers: Workers,
) -> Ring:
    """Mean latents of the first frame and of what follows it, with tokenised captions."""
    config, level = recipe.first_jump, level_named(recipe.level)
    tokenizer = Tokenizer(shapes.words, shapes.text.max_tokens)
    device = autoencoder.latent_mean.device

    @torch.no_grad()
    def make(number: int) -> Batch:
        scenes = scenes_of_batch(seed, number, config.render_batch, level, config.simple)
        size = {"frames": config.frames, "height": config.height, "width": config.width}
        frames = render(scenes, **size, device=device)
        latents = torch.cat([autoencoder.encode(to_signed(part)) for part in frames.split(4)])
        means = latents.float().mean(dim=(3, 4))
        after = means[:, :, 1:].mean(dim=2)
        tokens = caption_tokens(scenes, tokenizer, random.Random(f"{seed} {number}"), level)
        return torch.stack([means[:, :, 0], after], dim=2), tokens.to(device)

    return Ring(make, config.pool // config.render_batch, workers)


def _inputs(recipe: PrevizRecipe, shapes: ModelConfig) -> Prepare:
    """Means, noise of a first chunk, which later jump is kept, and one wording of each clip."""
    config, stride = recipe.first_jump, shapes.autoencoder.spatial_stride
    size = (config.height // stride, config.width // stride)

    def prepare(batch: Batch, generator: torch.Generator) -> Batch:
        means, wordings = batch[0], batch[1].long()
        rows, device = len(means), means.device
        shape = (rows, shapes.transformer.latent_channels, 1 + shapes.chunk, *size)
        noise = torch.randn(shape, generator=generator, device=device)
        chosen = torch.randint(wordings.shape[1], (rows,), generator=generator, device=device)
        place = torch.randint(1, shapes.sampling.steps, (), generator=generator, device=device)
        return means, noise, place, wordings[torch.arange(rows, device=device), chosen]

    return prepare


def _heeding(
    student: Denoiser, teacher: Denoiser, recipe: PrevizRecipe, shapes: ModelConfig
) -> Loss:
    """Those inputs to (the loss, the error of the means alone)."""
    config, sampling = recipe.first_jump, shapes.sampling
    levels = flow.schedule(sampling.steps, sampling.shift).tolist()

    def told(denoiser: Denoiser, tokens: Tensor, x: Tensor, sigma: float) -> Tensor:
        text, transformer = denoiser
        enabled = config.precision == "bf16"
        with torch.autocast(x.device.type, torch.bfloat16, enabled=enabled):
            embeddings, mask = text(tokens)
            level = torch.full((len(x), x.shape[2]), sigma, device=x.device)
            frames = (x.shape[2],)
            return transformer.advance(x, level, embeddings, mask, frames, None)[0].float()

    def later(noise: Tensor, place: int, tokens: Tensor) -> Tensor:
        """Squared error of one of the later jumps against the teacher's, on the teacher's way."""
        x = begin = velocity = noise
        with torch.no_grad():
            for sigma, after in pairwise(levels[: place + 2]):
                begin, velocity = x, told(teacher, tokens, x, sigma)
                x = x + (after - sigma) * velocity
        return (told(student, tokens, begin, levels[place]) - velocity).square().mean()

    def loss(means: Tensor, noise: Tensor, place: Tensor, tokens: Tensor) -> tuple[Tensor, Tensor]:
        with torch.no_grad():
            before = told(teacher, tokens, noise, levels[0])
        # At sigma 1 the clean latents are noise - velocity.
        change = told(student, tokens, noise, levels[0]) - before
        mean = change.mean(dim=(3, 4), keepdim=True)
        seen = (noise - before).mean(dim=(3, 4)) - mean[..., 0, 0]
        wanted = torch.cat([means[:, :, :1], means[:, :, 1:].expand(-1, -1, shapes.chunk)], dim=2)
        error = (seen - wanted).square().mean()
        few = max(1, len(noise) // 2)
        kept = (change - mean).square().mean() + later(noise[:few], int(place), tokens[:few])
        return error + kept, error.detach()

    return loss
