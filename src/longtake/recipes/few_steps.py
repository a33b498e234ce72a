"""Fourth stage: a model that needs many guided steps learns to make the same films in few."""

from copy import deepcopy
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor, nn

from longtake import flow
from longtake.checkpoints import read_json
from longtake.config import (
    JumpConfig,
    ModelConfig,
    Refine,
    Sampling,
    TrainConfig,
    from_dict,
    to_dict,
)
from longtake.errors import SettingError
from longtake.guidance import classifier_free
from longtake.model import Transformer
from longtake.parallel import ALONE, Workers
from longtake.pipeline import Parts
from longtake.presets import MODEL_FILE
from longtake.recipes.causal import noisy_past
from longtake.recipes.denoiser import (
    OUTER,
    compile_layers,
    drop_captions,
    first_fill,
    null_like,
    sample_strips,
)
from longtake.recipes.recipe import HELD_OUT_SEED, PrevizRecipe, world_words
from longtake.recipes.tuning import held_out_loss, tune
from longtake.recipes.weights import parts_from
from longtake.text import TextEncoder, Tokenizer
from longtake.train.causal import after_history, history_states
from longtake.train.data import Batch, Ring, latent_ring
from longtake.train.few_steps import Velocity, dpm_solver_2m, euler, mean_velocity
from longtake.train.loop import Loss, Prepare, Size, Stage
from longtake.train.losses import jump_loss
from longtake.train.takes import Filming, check_whole_chunks, take_ring
from longtake.vae import Autoencoder
from longtake.world.level import level_named

Denoiser = tuple[TextEncoder, Transformer]
_BEGINNINGS = 9
"""Levels that a film is painted over another from, while it is learned."""


def few_steps_shapes(start: Path, config: TrainConfig, jumps: JumpConfig) -> ModelConfig:
    """What the stage leaves: the model it goes on from, sampled in jumps without guidance.

    Where it learned to refine larger films, they are made so, from the middle of the levels.
    """
    shapes = from_dict(ModelConfig, read_json(start / MODEL_FILE))
    sampling = Sampling(steps=jumps.steps, guidance=1.0, shift=jumps.shift, sampler="euler")
    refine, over = shapes.refine, [size for size in config.sizes if size.highest < 1.0]
    if over:
        level = round(0.75 * over[0].highest, 6)
        refine = Refine(width=config.width, height=config.height, level=level)
    return replace(shapes, sampling=sampling, refine=refine)


def train_few_steps(
    recipe: PrevizRecipe,
    folder: Path,
    device: torch.device,
    start: Path,
    workers: Workers = ALONE,
) -> float | None:
    """Train a copy of a model to jump where the model walks; leaves one that needs few steps.

    Returns the loss on held-out clips, to the first worker.

    Args:
        recipe: Settings; the shapes and the vocabulary are those of the model.
        folder: Where the weights, the log and the pictures go.
        device: Where to train.
        start: The model: teacher, and what the student begins as. Its autoencoder does not change.
        workers: Those who train together; the first writes.

    Raises:
        SettingError: clips that the model was not made for.
    """
    config, jumps = recipe.few_steps, recipe.jumps
    shapes = few_steps_shapes(start, config, jumps)
    filming = filming_of(recipe, config, shapes, "few_steps")
    for size in config.at_each_size[1:]:
        filming_of(recipe, size, shapes, "few_steps.sizes")
    torch.manual_seed(config.seed)
    text, transformer, autoencoder = parts = parts_from(start, shapes, device)
    teacher = deepcopy(text).requires_grad_(False), deepcopy(transformer).requires_grad_(False)
    if config.compile:
        compile_layers(autoencoder, transformer, teacher[1])

    @torch.compiler.set_stance("force_eager")
    def preview(path: Path) -> None:
        sample_strips(path, config, recipe.level, shapes, parts)

    own, *further = (
        _at_size(clips, shapes, jumps, parts, teacher, workers) for clips in filming.at_each_size
    )
    stage = Stage(
        name="few_steps",
        module=nn.ModuleDict({"text": text, "transformer": transformer}),
        outer=OUTER,
        ring=own.ring,
        fill=own.fill,
        prepare=own.prepare,
        loss=own.loss,
        metric="last_jump",
        preview=preview,
        shapes=to_dict(shapes) | {"takes": to_dict(filming.takes), "jumps": to_dict(jumps)},
        further=tuple(further),
    )
    return tune(stage, config, folder, workers, own.held_out, parts, shapes)


def _at_size(
    filming: Filming,
    shapes: ModelConfig,
    jumps: JumpConfig,
    parts: Parts,
    teacher: Denoiser,
    workers: Workers,
) -> Size:
    """The stage at one size."""
    text, transformer, autoencoder = parts
    config, chunks = filming.config, filming.chunks if shapes.chunk else ()
    if config.highest < 1.0:
        jumps = replace(jumps, own=0.0)
    prepare = _jump_inputs(filming, jumps, chunks)
    loss = _jump_loss((text, transformer), teacher, config, jumps, chunks)
    other = replace(filming, config=replace(config, seed=HELD_OUT_SEED))
    unseen = partial(_ring(other, shapes, autoencoder, ALONE).make, 0)
    return Size(
        ring=_ring(filming, shapes, autoencoder, workers),
        fill=first_fill(config),
        prepare=prepare,
        loss=loss,
        held_out=partial(held_out_loss, prepare, loss, unseen),
    )


def filming_of(
    recipe: PrevizRecipe, config: TrainConfig, shapes: ModelConfig, stage: str
) -> Filming:
    """Clips of a stage as the model makes them; scripts too if it goes on by chunks.

    Raises:
        SettingError: too long or no whole chunks, or words that the model does not know.
    """
    level = level_named(recipe.level)
    if unknown := sorted(set(world_words(level)) - set(shapes.words)):
        msg = (
            f"level {recipe.level} has words that the model does not know, as {unknown[0]!r}; "
            "set the level that it was trained on"
        )
        raise SettingError(msg)
    name = f"{stage}.frames"
    if config.frames > shapes.max_frames:
        msg = (
            f"{name} must be at most {shapes.max_frames}, the longest take of the "
            f"model, got {config.frames}"
        )
        raise SettingError(msg)
    if not shapes.chunk:
        return Filming(config=config, takes=recipe.takes, level=level)
    check_whole_chunks(config.frames, shapes.chunk, name)
    return Filming(config=config, takes=replace(recipe.takes, chunk=shapes.chunk), level=level)


def _ring(
    filming: Filming, shapes: ModelConfig, autoencoder: Autoencoder, workers: Workers
) -> Ring:
    tokenizer = Tokenizer(shapes.words, shapes.text.max_tokens)
    if shapes.chunk:
        return take_ring(filming, autoencoder, tokenizer, workers)
    return latent_ring(filming.config, autoencoder, tokenizer, workers, filming.level)


def jump_levels(highest: float, jumps: JumpConfig) -> Float[Tensor, "jumps levels"]:
    """The levels that the teacher passes on each jump, falling.

    From noise to a film each jump begins where the one before ended. Below the highest level 1
    each is the only one of a film that is painted over another: from somewhere in the upper half
    down to 0 in even parts.
    """
    if highest == 1.0:
        levels = flow.schedule(jumps.steps * jumps.parts, jumps.shift)
        return levels.float().unfold(0, jumps.parts + 1, jumps.parts)
    begins = highest * torch.linspace(0.5, 1.0, _BEGINNINGS)
    return begins[:, None] * torch.linspace(1.0, 0.0, jumps.parts + 1)


def _jump_inputs(filming: Filming, jumps: JumpConfig, chunks: tuple[int, ...]) -> Prepare:
    """Latents, which jump each chunk makes, captions, and the past if there is one."""
    takes, dropout = filming.takes, filming.config.caption_dropout
    count = len(jump_levels(filming.config.highest, jumps))

    def prepare(batch: Batch, generator: torch.Generator) -> Batch:
        clean, wordings = batch[0].float(), batch[1].long()
        rows, _, latent_frames, _, _ = clean.shape
        device = clean.device
        tokens = drop_captions(wordings, dropout, generator)
        noise = torch.randn(clean.shape, generator=generator, device=device)
        sizes = chunks or (latent_frames,)
        shape = (len(sizes), rows, 1)
        places = torch.randint(count, shape, generator=generator, device=device)
        place = torch.cat([p.expand(-1, n) for p, n in zip(places, sizes, strict=True)], dim=1)
        given = torch.zeros_like(place, dtype=torch.bool)
        if not chunks:
            return clean, noise, place, given, tokens
        chance = torch.rand(rows, generator=generator, device=device)
        given[:, 0] = chance < takes.first_frame
        return clean, noise, place, given, tokens, *noisy_past(clean, takes, generator)

    return prepare


def _jump_loss(
    student: Denoiser,
    teacher: Denoiser,
    config: TrainConfig,
    jumps: JumpConfig,
    chunks: tuple[int, ...],
) -> Loss:
    """Those inputs to (loss of the jumps, that of the last jumps)."""
    device = teacher[1].head_table.device
    table = jump_levels(config.highest, jumps).to(device)
    before = torch.arange(len(table), device=device)[:, None, None]

    def autocast() -> torch.autocast:
        # One for each pass: weights cast inside no_grad and kept would have no gradient later.
        return torch.autocast(device.type, torch.bfloat16, enabled=config.precision == "bf16")

    def loss(
        clean: Tensor, noise: Tensor, place: Tensor, given: Tensor, tokens: Tensor, *past: Tensor
    ) -> tuple[Tensor, Tensor]:
        levels = table[place].movedim(-1, 0) * ~given
        x = flow.interpolate(clean, noise, levels[0])
        own = round(jumps.own * len(x))
        if own:
            path = (table[before.minimum(place), 0] * ~given)[:, :own]
            begin = flow.interpolate(clean[:own], noise[:own], path[0])
            with torch.no_grad(), autocast():
                jump = velocity_of(
                    student, chunks, tokens[:own], tuple(part[:own] for part in past)
                )
                x = torch.cat([euler(jump, begin, path), x[own:]])
        with torch.no_grad(), autocast():
            walk = guided(teacher, jumps.guidance, chunks, tokens, past)
            end = dpm_solver_2m(walk, x, levels)
        with autocast():
            predicted = velocity_of(student, chunks, tokens, past)(x, levels[0])
        first, last = levels[0], levels[-1]
        return jump_loss(mean_velocity(x, end, first, last), predicted, first, last)

    return loss


def velocity_of(
    denoiser: Denoiser, chunks: tuple[int, ...], tokens: Tensor, past: Batch
) -> Velocity:
    """The denoiser under captions; by chunks after a past, which it reads once."""
    text, transformer = denoiser
    embeddings, mask = text(tokens.flatten(0, -2))
    if not chunks:
        return lambda x, sigma: transformer(x, sigma, embeddings, mask).float()
    told = embeddings.unflatten(0, tokens.shape[:-1]), mask.view(tokens.shape)
    history, levels = past
    states = history_states(transformer, history, levels, *told, chunks)
    return lambda x, sigma: after_history(transformer, states, x, sigma, *told).float()


def guided(
    denoiser: Denoiser, scale: float, chunks: tuple[int, ...], tokens: Tensor, past: Batch
) -> Velocity:
    """The denoiser pushed away from what it does without a caption, as in a film."""
    if scale == 1.0:
        return velocity_of(denoiser, chunks, tokens, past)
    twice = tuple(torch.cat([part, part]) for part in past)
    both = velocity_of(denoiser, chunks, torch.cat([tokens, null_like(tokens)]), twice)

    def velocity(x: Tensor, sigma: Tensor) -> Tensor:
        conditional, unconditional = both(torch.cat([x, x]), torch.cat([sigma, sigma])).chunk(2)
        return classifier_free(conditional, unconditional, scale)

    return velocity
