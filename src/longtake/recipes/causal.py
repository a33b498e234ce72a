"""Third stage: a model that makes films in one pass learns to go on from its own past."""

from dataclasses import replace
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn

from longtake import flow
from longtake.config import CausalConfig, ModelConfig, SampleConfig, to_dict
from longtake.media.sheet import film_strips
from longtake.model import Transformer
from longtake.parallel import ALONE, Workers
from longtake.pipeline import DECODE_CHUNK, Parts
from longtake.recipes.denoiser import (
    OUTER,
    compile_layers,
    drop_captions,
    first_fill,
    noise_levels,
)
from longtake.recipes.recipe import HELD_OUT_SEED, PrevizRecipe
from longtake.recipes.tuning import check_lengths, held_out_loss, tune
from longtake.recipes.weights import parts_from
from longtake.rollout.grid import Grid
from longtake.rollout.pixels import to_bytes
from longtake.rollout.take import Committed, Take
from longtake.samplers import sampler_of
from longtake.text import TextEncoder, Tokenizer
from longtake.text.tokenizer import NULL, PAD, split
from longtake.train.causal import monotone_levels, two_streams
from longtake.train.data import Batch
from longtake.train.loop import Loss, Prepare, Size, Stage
from longtake.train.losses import chunk_loss
from longtake.train.takes import (
    Filming,
    check_whole_chunks,
    take_batch,
    take_ring,
    told_tokens,
)
from longtake.world.window import WINDOW_TOKENS, window_words

_SHOWN = 6
"""Held-out clips in the preview."""


def causal_shapes(recipe: PrevizRecipe) -> ModelConfig:
    """What the stage leaves: the recipe's model with the words of scripts, going on by chunks."""
    filming, shapes, text = recipe.filming, recipe.model, recipe.model.text
    words = set(shapes.words)
    if filming.scripts:
        chunks = max(len(clips.chunks) for clips in filming.at_each_size)
        phrases = window_words(chunks, filming.chunk_s)
        words |= {word for phrase in phrases for word in split(phrase)}
        text = replace(text, max_tokens=max(text.max_tokens, WINDOW_TOKENS))
    added = tuple(sorted(words - set(shapes.words)))
    return replace(
        shapes,
        words=(*shapes.words, *added),
        text=text,
        chunk=recipe.takes.chunk,
        max_frames=recipe.takes.max_frames,
    )


def train_causal(
    recipe: PrevizRecipe,
    folder: Path,
    device: torch.device,
    start: Path,
    workers: Workers = ALONE,
) -> float | None:
    """Train on clips of several chunks; leaves a model that makes films of any length.

    Returns the loss on held-out clips, to the first worker.

    Args:
        recipe: Settings.
        folder: Where the weights, the log and the pictures go.
        device: Where to train.
        start: The model to go on from, with a fresh optimiser; its autoencoder does not change.
        workers: Those who train together; the first writes.

    Raises:
        SettingError: further sizes with clips that are too long for the model or no whole chunks.
    """
    config, filming, shapes = recipe.causal, recipe.filming, causal_shapes(recipe)
    check_lengths(config, recipe.takes.max_frames, "causal")
    for clips in filming.at_each_size:
        check_whole_chunks(clips.config.frames, recipe.takes.chunk, "causal.sizes.frames")
    tokenizer = Tokenizer(shapes.words, shapes.text.max_tokens)
    torch.manual_seed(config.seed)
    text, transformer, autoencoder = parts = parts_from(start, shapes, device)
    if config.compile:
        compile_layers(autoencoder, transformer)

    @torch.compiler.set_stance("force_eager")
    def preview(path: Path) -> None:
        _rollout_strips(path, filming, parts, tokenizer)

    sizes = filming.at_each_size
    own, *further = (_at_size(clips, parts, tokenizer, workers) for clips in sizes)
    stage = Stage(
        name="causal",
        module=nn.ModuleDict({"text": text, "transformer": transformer}),
        outer=OUTER,
        ring=own.ring,
        fill=own.fill,
        prepare=own.prepare,
        loss=own.loss,
        metric="low_noise",
        preview=preview,
        shapes=to_dict(shapes) | {"takes": to_dict(recipe.takes)},
        further=tuple(further),
    )
    return tune(stage, config, folder, workers, own.held_out, parts, shapes)


def _at_size(filming: Filming, parts: Parts, tokenizer: Tokenizer, workers: Workers) -> Size:
    """The stage at one size."""
    text, transformer, autoencoder = parts
    loss = _causal_loss(text, transformer, filming)
    # Measured at draws that do not depend on what `takes` says of them; every chunk at all levels.
    takes = CausalConfig(chunk=filming.takes.chunk, levels="independent")
    measured = _causal_inputs(replace(filming, takes=takes))
    unseen = partial(take_batch, filming, HELD_OUT_SEED, 0, autoencoder, tokenizer)
    return Size(
        ring=take_ring(filming, autoencoder, tokenizer, workers),
        fill=first_fill(filming.config),
        prepare=_causal_inputs(filming),
        loss=loss,
        held_out=partial(held_out_loss, measured, loss, unseen),
    )


def _causal_inputs(filming: Filming) -> Prepare:
    """Latents with a slightly noisy copy of them as the past, levels, and captions by chunk."""
    config, takes = filming.config, filming.takes

    def prepare(batch: Batch, generator: torch.Generator) -> Batch:
        clean, wordings = batch[0].float(), batch[1].long()
        rows, device = len(clean), clean.device

        def chance(share: float) -> Tensor:
            return torch.rand(rows, generator=generator, device=device) < share

        tokens = drop_captions(wordings, config.caption_dropout, generator)
        noise = torch.randn(clean.shape, generator=generator, device=device)
        chunks = len(filming.chunks)
        match takes.levels:
            case "monotone":
                anchor = flow.logit_normal(rows, config.shift, generator, device)
                levels = monotone_levels(rows, chunks, anchor, generator)
            case "independent":
                levels = noise_levels(rows * chunks, config, generator, device)
                levels = levels.view(rows, chunks)
        sigma = torch.cat([levels[:, :1], levels.repeat_interleave(takes.chunk, dim=1)], dim=1)
        sigma[:, 0] *= ~chance(takes.first_frame)
        past, past_sigma = noisy_past(clean, takes, generator)
        return clean, noise, sigma, past, past_sigma, tokens

    return prepare


def noisy_past(
    clean: Tensor, takes: CausalConfig, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """What chunks go on from: the clips with a little noise, some with none; and its levels."""
    rows, device = len(clean), clean.device
    noise = torch.randn(clean.shape, generator=generator, device=device)
    level = takes.history_noise * torch.rand(rows, generator=generator, device=device)
    exact = torch.rand(rows, generator=generator, device=device) < takes.clean_history
    sigma = (level * ~exact)[:, None].expand(-1, clean.shape[2]).contiguous()
    return flow.interpolate(clean, noise, sigma), sigma


def _causal_loss(text: TextEncoder, transformer: Transformer, filming: Filming) -> Loss:
    """Latents, levels, the past and captions to (flow loss, that of chunks of low noise)."""

    def loss(
        clean: Tensor, noise: Tensor, sigma: Tensor, past: Tensor, past_sigma: Tensor,
        tokens: Tensor,
    ) -> tuple[Tensor, Tensor]:  # fmt: skip
        noisy = flow.interpolate(clean, noise, sigma)
        enabled = filming.config.precision == "bf16"
        with torch.autocast(clean.device.type, torch.bfloat16, enabled=enabled):
            embeddings, mask = text(tokens.flatten(0, 1))
            by_chunk = embeddings.unflatten(0, tokens.shape[:2]), mask.view(tokens.shape)
            predicted = two_streams(
                transformer, noisy, sigma, past, past_sigma, *by_chunk, filming.chunks
            )
        return chunk_loss(flow.velocity(clean, noise), predicted, sigma)

    return loss


@torch.no_grad()
def _rollout_strips(path: Path, filming: Filming, parts: Parts, tokenizer: Tokenizer) -> None:
    """Held-out clips as they are, and below each what the model makes of its captions."""
    text, transformer, autoencoder = parts
    config, settings = filming.config, SampleConfig()
    device, stride = autoencoder.latent_mean.device, autoencoder.config.spatial_stride
    frames, told = filming.film(HELD_OUT_SEED, 0, device)
    # Scenes come first and scripts last; some of both are shown.
    shown = torch.linspace(0, len(frames) - 1, min(_SHOWN, len(frames))).long().tolist()
    take = Take(
        transformer=transformer,
        grid=Grid(filming.takes.chunk),
        sampler=sampler_of(settings.sampler),
        sigmas=flow.schedule(settings.steps, settings.shift),
        guidance=settings.guidance,
        size=(config.height // stride, config.width // stride),
        seed=config.seed,
    )
    films, labels = [], []
    for clip in shown:
        tokens = told_tokens([told[clip]], tokenizer)[0, 0].long().to(device)
        null = torch.full_like(tokens[0], PAD)
        null[0] = NULL
        rows = [text(torch.stack([here, null])) for here in tokens]
        made = take.roll(rows.__getitem__, range(len(rows)))
        latents = [event.latents for event in made if isinstance(event, Committed)]
        decoded = autoencoder.decode_stream(torch.cat(latents, dim=2), DECODE_CHUNK)
        films += [frames[clip], torch.cat([to_bytes(part[0]) for part in decoded])]
        labels += ["; ".join(dict.fromkeys(told[clip][0])), "made by chunks"]
    film_strips(path, films, labels=labels, columns=11)
