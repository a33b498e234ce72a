"""Fifth stage: a few-step model makes takes of its own, and learns where clips differ from them."""

from copy import deepcopy
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn

from longtake import flow
from longtake.checkpoints import read_json
from longtake.config import MatchConfig, ModelConfig, from_dict, to_dict
from longtake.errors import SettingError
from longtake.parallel import ALONE, Workers
from longtake.pipeline import Parts
from longtake.presets import MODEL_FILE
from longtake.recipes.denoiser import (
    OUTER,
    compile_layers,
    drop_captions,
    first_fill,
    noise_levels,
    sample_strips,
)
from longtake.recipes.few_steps import Denoiser, filming_of, guided, velocity_of
from longtake.recipes.recipe import HELD_OUT_SEED, PrevizRecipe
from longtake.recipes.tuning import held_out_loss, tune
from longtake.recipes.weights import parts_from
from longtake.text import Tokenizer
from longtake.train.data import Batch
from longtake.train.loop import Loss, Prepare, Size, Stage
from longtake.train.losses import chunk_loss
from longtake.train.matching import at_jump, clean_at, matching_loss, own_takes
from longtake.train.takes import Filming, take_batch, take_ring

_CRITIC = "critic."
"""Begins the names of what learns beside the model and is not left."""


def train_matching(
    recipe: PrevizRecipe,
    folder: Path,
    device: torch.device,
    start: Path,
    teacher: Path,
    workers: Workers = ALONE,
) -> float | None:
    """Train a few-step model on its own takes; leaves one that is sampled as it was before.

    Returns how far critic and teacher are apart on held-out captions, to the first worker.

    Args:
        recipe: Settings; the shapes and the vocabulary are those of the model.
        folder: Where the weights, the log and the pictures go.
        device: Where to train.
        start: The model, which few_steps left. Its autoencoder does not change.
        teacher: The model that few_steps went on from: teacher, and what the critic begins as.
        workers: Those who train together; the first writes.

    Raises:
        SettingError: models that do not belong together, or clips that they were not made for.
    """
    config, match, shapes = recipe.matching, recipe.match, _shapes(start, teacher)
    filming = _filming(recipe, shapes)
    torch.manual_seed(config.seed)
    parts, known = parts_from(start, shapes, device), parts_from(teacher, shapes, device)[:2]
    student, critic = parts[:2], deepcopy(known)
    for part in known:
        part.requires_grad_(False)
    if config.compile:
        compile_layers(parts[2], student[1], known[1], critic[1])

    @torch.compiler.set_stance("force_eager")
    def preview(path: Path) -> None:
        sample_strips(path, config, recipe.level, shapes, parts)

    def at(clips: Filming) -> Size:
        loss = _takes_loss(student, known, critic, clips, match, shapes)
        return _at_size(clips, shapes, parts, loss, workers)

    own, *further = map(at, filming.at_each_size)
    names = ("text", "transformer")
    learns = nn.ModuleDict(dict(zip(names, student, strict=True)))
    learns["critic"] = nn.ModuleDict(dict(zip(names, critic, strict=True)))
    stage = Stage(
        name="matching",
        module=learns,
        outer=(*OUTER, *(_CRITIC + name for name in OUTER)),
        ring=own.ring,
        fill=own.fill,
        prepare=own.prepare,
        loss=own.loss,
        metric="apart",
        preview=preview,
        shapes=to_dict(shapes) | {"takes": to_dict(filming.takes), "match": to_dict(match)},
        rates=tuple((name, match.student_rate) for name in names),
        further=tuple(further),
    )
    return tune(stage, config, folder, workers, own.held_out, parts, shapes)


def _shapes(start: Path, teacher: Path) -> ModelConfig:
    """Those of the model that is trained on.

    Raises:
        SettingError: it makes films in one pass or guided, or its teacher is another network.
    """
    shapes = from_dict(ModelConfig, read_json(start / MODEL_FILE))
    if not shapes.chunk or shapes.sampling.guidance != 1.0:
        msg = (
            f"the matching stage goes on from a model by chunks that few_steps left, and {start} "
            "is none"
        )
        raise SettingError(msg)
    other = from_dict(ModelConfig, read_json(teacher / MODEL_FILE))
    if replace(other, sampling=shapes.sampling, refine=shapes.refine) != shapes:
        msg = f"{teacher} is no teacher of {start}: its networks, words or chunks are others"
        raise SettingError(msg)
    return shapes


def _filming(recipe: PrevizRecipe, shapes: ModelConfig) -> Filming:
    """Clips at the stage's own size; those of all sizes are checked."""
    config = recipe.matching
    for size in config.at_each_size[1:]:
        filming_of(recipe, size, shapes, "matching.sizes")
    return filming_of(recipe, config, shapes, "matching")


def _at_size(
    filming: Filming, shapes: ModelConfig, parts: Parts, loss: Loss, workers: Workers
) -> Size:
    """The stage at one size."""
    config, prepare = filming.config, _takes_inputs(filming, shapes.sampling.steps)
    coded = parts[2], Tokenizer(shapes.words, shapes.text.max_tokens)

    def apart(*inputs: Tensor) -> tuple[Tensor, Tensor]:
        # How far critic and teacher are apart is the model's own; what the critic learns is not.
        both, model = loss(*inputs)
        return model, both

    return Size(
        ring=take_ring(filming, *coded, workers),
        fill=first_fill(config),
        prepare=prepare,
        loss=loss,
        held_out=partial(
            held_out_loss, prepare, apart, partial(take_batch, filming, HELD_OUT_SEED, 0, *coded)
        ),
    )


def _takes_inputs(filming: Filming, jumps: int) -> Prepare:
    """Noise of takes, the jump that learns, the noise it is judged under, and captions.

    Of the clips, only their first frames are used, where one is given.
    """
    config, chunks = filming.config, filming.chunks

    def prepare(batch: Batch, generator: torch.Generator) -> Batch:
        clean, wordings = batch[0].float(), batch[1].long()
        rows, device = len(clean), clean.device
        tokens = drop_captions(wordings, config.caption_dropout, generator)
        noises = torch.randn(3, *clean.shape, generator=generator, device=device)
        given = torch.zeros(rows, clean.shape[2], dtype=torch.bool, device=device)
        chance = torch.rand(rows, generator=generator, device=device)
        given[:, 0] = chance < filming.takes.first_frame
        shape = (rows, len(chunks))
        place = torch.randint(jumps, shape, generator=generator, device=device)
        levels = noise_levels(2 * rows * len(chunks), config, generator, device)

        def spread(by_chunk: Tensor) -> Tensor:
            parts = by_chunk.split(1, dim=-1)
            return torch.cat(
                [part.expand(*part.shape[:-1], n) for part, n in zip(parts, chunks, strict=True)],
                dim=-1,
            )

        levels = levels.view(2, *shape)
        return clean[:, :, :1], noises, given, spread(place), spread(levels), tokens

    return prepare


def _takes_loss(
    student: Denoiser,
    teacher: Denoiser,
    critic: Denoiser,
    filming: Filming,
    match: MatchConfig,
    shapes: ModelConfig,
) -> Loss:
    """Those inputs to (loss of model and critic together, that of the model alone)."""
    config, chunks, sampling = filming.config, filming.chunks, shapes.sampling
    device = teacher[1].head_table.device
    schedule = flow.schedule(sampling.steps, sampling.shift).float().to(device)[:, None, None]

    def autocast() -> torch.autocast:
        # One for each pass: weights cast inside no_grad and kept would have no gradient later.
        return torch.autocast(device.type, torch.bfloat16, enabled=config.precision == "bf16")

    def loss(
        first: Tensor, noises: Tensor, given: Tensor, place: Tensor, levels: Tensor, tokens: Tensor
    ) -> tuple[Tensor, Tensor]:
        wide, falling = given[:, None, :, None, None], schedule * ~given
        seen, judged = levels * ~given
        with torch.no_grad(), autocast():
            embeddings, mask = student[0](tokens.flatten(0, 1))
            told = embeddings.unflatten(0, tokens.shape[:2]), mask.view(tokens.shape)
            noise = torch.where(wide, first, noises[0])
            takes, begun = own_takes(student[1], noise, falling, *told, chunks)
        past, sigma = (takes, torch.zeros_like(seen)), falling[:-1].gather(0, place[None])[0]
        x = at_jump(begun, place)
        with autocast():
            made = clean_at(x, velocity_of(student, chunks, tokens, past)(x, sigma), sigma)
        under = flow.interpolate(made.detach(), noises[1], seen)
        with torch.no_grad(), autocast():
            knows = guided(teacher, match.guidance, chunks, tokens, past)(under, seen)
            guesses = velocity_of(critic, chunks, tokens, past)(under, seen)
        sees = clean_at(under, knows, seen), clean_at(under, guesses, seen)
        apart = matching_loss(made, *sees, ~given)
        noisy = flow.interpolate(made.detach(), noises[2], judged)
        with autocast():
            predicted = velocity_of(critic, chunks, tokens, past)(noisy, judged)
        told_apart, _ = chunk_loss(flow.velocity(made.detach(), noises[2]), predicted, judged)
        return apart + told_apart, apart.detach()

    return loss
