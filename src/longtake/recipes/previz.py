"""From nothing to the embedded model: autoencoder first, then text encoder and denoiser."""

import json
import logging
import random
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from jaxtyping import UInt8
from torch import Tensor, nn

from longtake import flow
from longtake.checkpoints import load_tensors, save_tensors
from longtake.config import (
    AutoencoderConfig,
    ModelConfig,
    SampleConfig,
    TextConfig,
    TrainConfig,
    TransformerConfig,
    latent_frames_for,
    to_dict,
)
from longtake.errors import SettingError
from longtake.media.sheet import film_strips
from longtake.model import Transformer
from longtake.parallel import ALONE, Workers
from longtake.pipeline import Parts, Pipeline, build, to_bytes
from longtake.presets import MODEL_FILE
from longtake.recipes.folder import Which, check_folder, drop_states, has_weights, weights_path
from longtake.storage import atomic_write, output_errors
from longtake.text import TextEncoder, Tokenizer
from longtake.text.tokenizer import NULL, PAD, split
from longtake.train.data import Batch, latent_ring, pixel_ring, to_signed
from longtake.train.loop import Loss, Prepare, Stage, Trainer
from longtake.train.losses import autoencoder_loss, flow_loss, psnr
from longtake.vae import Autoencoder
from longtake.vae.autoencoder import StreamCache
from longtake.vae.layers import Residual
from longtake.world import caption, render, sample_scenes, vocabulary
from longtake.world.level import FIRST, Level, level_named

logger = logging.getLogger("longtake.train")
HELD_OUT_SEED = 777
"""Scenes of this seed are only looked at, never trained on."""


def world_words(level: Level = FIRST) -> tuple[str, ...]:
    """Every word a level's captions can say, as the tokenizer splits them, and the comma."""
    return tuple(sorted({word for entry in vocabulary(level) for word in split(entry)} | {","}))


@dataclass(frozen=True, slots=True, kw_only=True)
class PrevizRecipe:
    """The settings of both stages and the shapes; the defaults are what `previz` came from."""

    model: ModelConfig = field(
        default_factory=lambda: ModelConfig(
            autoencoder=AutoencoderConfig(),
            transformer=TransformerConfig(),
            text=TextConfig(),
            words=world_words(),
        )
    )
    """Shapes; the vocabulary is the level's unless another is given."""
    level: Literal["first", "cast", "action", "whole"] = "first"
    """How much of the world is trained on; wider levels can go on from narrower ones' weights."""
    autoencoder: TrainConfig = field(
        default_factory=lambda: TrainConfig(
            steps=4717,
            batch=12,
            frames=17,
            learning_rate=6e-4,
            muon_learning_rate=1e-3,
            ema=0.998,
            pool=1024,
            refresh_every=10,
            log_every=100,
        )
    )
    """First stage."""
    transformer: TrainConfig = field(
        default_factory=lambda: TrainConfig(
            steps=9189, batch=32, pool=8192, refresh_every=8, log_every=100, seed=1
        )
    )
    """Second stage."""
    held_out: int = 32
    """Held-out clips that statistics and scores are measured on."""

    def __post_init__(self) -> None:
        """Check what must fit across the stages, and take the level's words."""
        if self.model.words == world_words():
            level = level_named(self.level)
            tokens = max(self.model.text.max_tokens, level.most_tokens)
            text = replace(self.model.text, max_tokens=tokens)
            model = replace(self.model, words=world_words(level), text=text)
            object.__setattr__(self, "model", model)
        if self.held_out < 1:
            msg = f"held_out must be at least 1, got {self.held_out}"
            raise SettingError(msg)
        if self.transformer.frames > self.model.max_frames:
            msg = (
                f"transformer.frames must be at most model.max_frames {self.model.max_frames}, "
                f"got {self.transformer.frames}; change one of them"
            )
            raise SettingError(msg)


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What a run left."""

    files: tuple[str, ...]
    """Names of the files in its folder."""
    held_out_psnr: float | None
    """PSNR of the autoencoder on held-out clips in dB; None if its stage was left out."""


def train_autoencoder(
    recipe: PrevizRecipe,
    folder: Path,
    device: torch.device,
    start: Path | None = None,
    workers: Workers = ALONE,
) -> float | None:
    """First stage: pixels to latents and back; leaves `autoencoder.safetensors` in the folder.

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
        _compile_residuals(model)

    @torch.compiler.set_stance("force_eager")
    def preview(path: Path) -> None:
        frames = _held_out_frames(recipe, 4, device)
        film_strips(path, [row for pair in zip(frames, _round_trip(model, frames), strict=True)
                           for row in pair])  # fmt: skip

    stage = Stage(
        name="autoencoder",
        module=model,
        outer=("pixels_in", "pixels_out", "latents_in", "latents_out"),
        ring=pixel_ring(config, device, workers, level_named(recipe.level)),
        fill=min(8, config.pool // config.render_batch),
        prepare=_autoencoder_inputs(config, recipe.model.autoencoder),
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


def train_transformer(
    recipe: PrevizRecipe,
    folder: Path,
    device: torch.device,
    autoencoder: Autoencoder,
    start: Path | None = None,
    workers: Workers = ALONE,
) -> None:
    """Second stage: noise and text to latents; leaves a loadable model in the folder.

    Args:
        recipe: Settings.
        folder: Where the weights, the log and the pictures go.
        device: Where to train.
        autoencoder: The first stage's result; it does not change.
        start: Weights to go on from, with a fresh optimiser.
        workers: Those who train together; the first writes.
    """
    config, shapes = recipe.transformer, recipe.model
    torch.manual_seed(config.seed)
    tokenizer = Tokenizer(shapes.words, shapes.text.max_tokens)
    autoencoder.eval().requires_grad_(False)
    text, transformer, _ = build(shapes)
    both = nn.ModuleDict({"text": text, "transformer": transformer}).to(device)
    if start is not None:
        fill_text(text, start, shapes.words)
        fill(transformer, weights_path(start, "transformer"))
    if config.compile:
        _compile_residuals(autoencoder)
        for block in transformer.blocks:
            block.compile(dynamic=False)

    @torch.compiler.set_stance("force_eager")
    def preview(path: Path) -> None:
        _sample_strips(path, recipe, (text, transformer, autoencoder))

    stage = Stage(
        name="transformer",
        module=both,
        outer=("text.tokens", "text.positions", "transformer.embed", "transformer.head"),
        ring=latent_ring(config, autoencoder, tokenizer, workers, level_named(recipe.level)),
        fill=max(1, config.pool // config.render_batch // 4),
        prepare=_denoiser_inputs(config),
        loss=_denoiser_loss(text, transformer, config),
        metric="low_noise",
        preview=preview,
        shapes=to_dict(shapes),
    )
    Trainer(stage, config, folder, workers).run()
    if not workers.first:
        return
    export(text, weights_path(folder, "text"))
    export(transformer, weights_path(folder, "transformer"))
    export(autoencoder, weights_path(folder, "autoencoder"))
    with atomic_write(folder / MODEL_FILE) as temp, output_errors(folder / MODEL_FILE):
        temp.write_text(json.dumps(to_dict(shapes), indent=1) + "\n", "utf-8")


def run(
    recipe: PrevizRecipe,
    folder: Path,
    *,
    stage: Which = "all",
    device: torch.device,
    start: Path | None = None,
    workers: Workers = ALONE,
) -> Outcome:
    """Run the stages; an interrupted run in the same folder goes on where it stopped.

    Args:
        recipe: Settings.
        folder: Where everything goes.
        stage: Both stages, or one of them.
        device: Where to train.
        start: A folder of weights to go on from; the second stage alone needs its autoencoder.
        workers: Those who train together, each with a batch of its own; the first writes.

    Raises:
        OutputError: the folder holds a finished model, or cannot be written.
        SettingError: settings other than those of the run to resume, or no weights to start from.
        CannotHere: tensorboard is missing.
    """
    torch.set_float32_matmul_precision("high")
    check_folder(folder, stage, start)
    workers.wait()
    quality, finished = None, start or folder
    if stage != "transformer":
        quality, finished = train_autoencoder(recipe, folder, device, start, workers), folder
        workers.wait()
        # Else the graphs of both stages together exceed the compiler's limit, and some run slowly.
        torch.compiler.reset()
    if stage != "autoencoder":
        # Read back even if it was just trained: a resumed run sees the same rounded weights.
        autoencoder = Autoencoder(recipe.model.autoencoder).to(device)
        fill(autoencoder, weights_path(finished, "autoencoder"))
        denoiser = start if start and has_weights(start, "transformer") else None
        train_transformer(recipe, folder, device, autoencoder, denoiser, workers)
        workers.wait()
        drop_states(folder)
    files = sorted(path.name for path in folder.iterdir() if path.is_file())
    return Outcome(files=tuple(files), held_out_psnr=quality)


@torch.compiler.set_stance("force_eager")
@torch.no_grad()
def measure_latents(model: Autoencoder, recipe: PrevizRecipe, device: torch.device) -> None:
    """Set the channel means and deviations that make latents of unit variance."""
    frames = _held_out_frames(recipe, recipe.held_out, device)
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
    frames = _held_out_frames(recipe, recipe.held_out, device)
    scores = [
        psnr(to_signed(clip[None]), to_signed(back[None]))
        for clip, back in zip(frames, _round_trip(model, frames), strict=True)
    ]
    return torch.stack(scores).mean().item()


def export(module: nn.Module, path: Path) -> None:
    """Write weights in bf16, as they ship."""
    save_tensors(path, {k: v.detach().to(torch.bfloat16) for k, v in module.state_dict().items()})


def fill(module: nn.Module, path: Path) -> None:
    """Load weights of exactly this module's names and shapes."""
    expected = {name: tuple(value.shape) for name, value in module.state_dict().items()}
    module.load_state_dict(load_tensors(path, expected))


def fill_text(text: TextEncoder, folder: Path, words: tuple[str, ...]) -> None:
    """Load a text encoder of other words or a shorter prompt; what is new keeps fresh rows.

    Args:
        text: Encoder to fill.
        folder: Weights to go on from.
        words: Words of the encoder, in order.
    """
    path, shapes = weights_path(folder, "text"), folder / MODEL_FILE
    before = json.loads(shapes.read_text("utf-8")) if shapes.is_file() else {}
    known = tuple(before.get("words", words))
    places = before.get("text", {}).get("max_tokens", len(text.positions))
    special = text.tokens.num_embeddings - len(words)
    own = {name: value.clone() for name, value in text.state_dict().items()}
    expected = {name: tuple(value.shape) for name, value in own.items()}
    expected["tokens.weight"] = (special + len(known), text.config.width)
    expected["positions"] = (places, text.config.width)
    loaded = load_tensors(path, expected)
    rows = {word: special + i for i, word in enumerate(known)}
    shared = [(special + i, rows[word]) for i, word in enumerate(words) if word in rows]
    to, origin = zip(*[(i, i) for i in range(special)], *shared, strict=True)
    own["tokens.weight"][list(to)] = loaded.pop("tokens.weight")[list(origin)].to(own["positions"])
    few = min(places, len(own["positions"]))
    own["positions"][:few] = loaded.pop("positions")[:few].to(own["positions"])
    text.load_state_dict(own | loaded)
    logger.info("%d of %d words start fresh", len(words) - len(shared), len(words))


def _compile_residuals(model: Autoencoder) -> None:
    """Compile the blocks that take the time; equal shapes share one graph."""
    for module in model.modules():
        if isinstance(module, Residual):
            module.compile(dynamic=False)


def _held_out_frames(
    recipe: PrevizRecipe, clips: int, device: torch.device
) -> list[UInt8[Tensor, "frames height width 3"]]:
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


def _autoencoder_inputs(config: TrainConfig, shape: AutoencoderConfig) -> Prepare:
    """Clips and the noise their latents are drawn with."""
    stride, latent_frames = shape.spatial_stride, latent_frames_for(config.frames)
    grid = (latent_frames, config.height // stride, config.width // stride)

    def prepare(batch: Batch, generator: torch.Generator) -> Batch:
        (frames,) = batch
        size = (len(frames), shape.latent_channels, *grid)
        return frames, torch.randn(size, generator=generator, device=frames.device)

    return prepare


def _autoencoder_loss(model: Autoencoder, config: TrainConfig) -> Loss:
    """Clips to (loss, PSNR of the batch in dB)."""
    score = torch.compile(autoencoder_loss, dynamic=False) if config.compile else autoencoder_loss

    def loss(frames: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
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
            kl_weight=config.kl,
            squared_weight=config.squared,
        )
        return total, -10 * torch.log10(squared.detach() / 4)

    return loss


def _denoiser_inputs(config: TrainConfig) -> Prepare:
    """Clean latents, noise, a noise level and a caption of each clip."""

    def prepare(batch: Batch, generator: torch.Generator) -> Batch:
        clean, wordings = batch[0].float(), batch[1].long()
        tokens = _drop_captions(wordings, config.caption_dropout, generator)
        noise = torch.randn(clean.shape, generator=generator, device=clean.device)
        level = flow.logit_normal(len(clean), config.shift, generator, clean.device)
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


def _drop_captions(wordings: Tensor, dropout: float, generator: torch.Generator) -> Tensor:
    """One wording of each clip; some become the null prompt, which guidance pushes away from."""
    rows, device = len(wordings), wordings.device
    chosen = torch.randint(wordings.shape[1], (rows,), generator=generator, device=device)
    tokens = wordings[torch.arange(rows, device=device), chosen]
    null = torch.full_like(tokens[:1], PAD)
    null[:, 0] = NULL
    dropped = torch.rand(rows, generator=generator, device=device) < dropout
    return torch.where(dropped[:, None], null, tokens)


def _sample_strips(path: Path, recipe: PrevizRecipe, parts: Parts) -> None:
    """Film strips of the model's films of a few held-out captions."""
    scenes = sample_scenes(8, np.random.default_rng(HELD_OUT_SEED), level=level_named(recipe.level))
    pipeline = Pipeline(name="training", model_hash="", config=recipe.model, parts=parts)
    config = recipe.transformer
    settings = SampleConfig(
        width=config.width, height=config.height, frames=config.frames, seed=config.seed
    )
    rng = random.Random(HELD_OUT_SEED)
    prompts = [caption(scenes, index, rng).text for index in range(len(scenes))]
    with torch.autocast(pipeline.device.type, torch.bfloat16, enabled=config.precision == "bf16"):
        films = [pipeline.generate(prompt, settings=settings).frames for prompt in prompts]
    film_strips(path, films, labels=prompts)
