"""A LoRA from clips: thin branches beside a finished model learn, and nothing else does."""

import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch
from torch import Tensor

from longtake import flow
from longtake.checkpoints import LoraHead, load_state, save_lora
from longtake.config import CausalConfig, Grain, TrainConfig, from_dict, to_dict
from longtake.config.limits import TEMPORAL_STRIDE
from longtake.data.shards import Sample, Shards
from longtake.errors import MediaError, OutputError, SettingError
from longtake.media.sheet import film_strips
from longtake.model.lora import Branches, shapes
from longtake.pipeline import DECODE_CHUNK, Pipeline
from longtake.recipes.causal import noisy_past
from longtake.recipes.recipe import HELD_OUT_SEED
from longtake.rollout.pixels import to_bytes
from longtake.storage import check_writable
from longtake.text.tokenizer import NULL, PAD
from longtake.train.cached import CachedClips, read_clip, readable, split_held_out
from longtake.train.causal import two_streams
from longtake.train.data import Batch, generator_for
from longtake.train.loop import Loss, Prepare, Stage, Trainer, state_path
from longtake.train.losses import chunk_loss
from longtake.vae.grain import mean_grain

logger = logging.getLogger("longtake.train")
LORA_FILE = "lora.safetensors"
"""What a run leaves."""
STAGE = "finetune"
_SHOWN = 3
"""Held-out clips in the preview."""
_LEVELS = 8
"""Noise levels that each held-out clip is looked at."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FinetuneRecipe:
    """Settings of a fine-tuning run."""

    rank: int = 16
    """Rank of the changes; more can hold more and learns by heart sooner."""
    alpha: float = 16.0
    """The changes are alpha / rank * B A; more learns faster."""
    held_out: float = 0.1
    """Share of the sources whose clips are only looked at; at least one."""
    most_bad: float = 0.05
    """Largest share of clips that cannot be read; more end the run."""
    grain: bool = True
    """Measure the clips' grain, which no latents carry, and lay it over the films of the LoRA."""
    train: TrainConfig = field(
        default_factory=lambda: TrainConfig(
            steps=1000, batch=8, optimiser="adamw", learning_rate=1e-3, warmup=20, ema=0.99,
            pool=16, refresh_every=1, compile=False, log_every=20, checkpoint_every=100,
            preview_every=250, seed=6,
        )
    )  # fmt: skip
    """The run; sizes are the clips', and what concerns rendering is not looked at."""
    takes: CausalConfig = field(default_factory=CausalConfig)
    """How a model that goes on by chunks is taught."""

    def __post_init__(self) -> None:
        """Check the ranges."""
        for name, value, low, high in (
            ("rank", self.rank, 1, 4096),
            ("alpha", self.alpha, 1e-3, 10_000),
            ("held_out", self.held_out, 0, 0.9),
            ("most_bad", self.most_bad, 0, 1),
        ):
            if not low <= value <= high:
                msg = f"{name} must be {low:g} to {high:g}, got {value:g}"
                raise SettingError(msg)
        if self.train.refresh_every != 1:
            msg = f"train.refresh_every is 1 here, got {self.train.refresh_every}; leave it out"
            raise SettingError(msg)
        if self.train.optimiser != "adamw":
            msg = "train.optimiser is adamw here: Muon is for whole matrices; leave it out"
            raise SettingError(msg)


@dataclass(frozen=True, slots=True, kw_only=True)
class Finetuned:
    """What a run left."""

    file: Path
    """The LoRA."""
    rank: int
    """Of its changes."""
    clips: int
    """Trained on."""
    held_out: int
    """Only looked at."""
    bad: int
    """Clips that could not be read."""
    steps: int
    """Of the whole run."""
    loss_before: float
    """On held-out clips, before the first step."""
    loss_after: float
    """On held-out clips, with the averaged weights."""
    grain: Grain
    """Of the clips, and so of films with the LoRA."""


def check_out(folder: Path) -> None:
    """Prove that a run can write its folder and spoils nothing.

    Raises:
        OutputError: a finished LoRA is in it, or it cannot be written.
    """
    if (folder / LORA_FILE).exists():
        msg = f"{folder} holds a finished LoRA already; delete it, or choose another with --out"
        raise OutputError(msg)
    above = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    check_writable(above / LORA_FILE)


def finetune(recipe: FinetuneRecipe, folder: Path, latents: Shards, pipe: Pipeline) -> Finetuned:
    """Train a LoRA; an interrupted run in the same folder goes on where it stopped.

    Args:
        recipe: Settings.
        folder: Where the LoRA, the log, the curves and the pictures go.
        latents: Clips as `precompute` left them.
        pipe: The model, in fp32; it is frozen and not changed.

    Raises:
        OutputError: the folder holds a finished LoRA, or cannot be written.
        SettingError: a rank that the model is too small for, or other settings than the run began
            with.
        MediaError: too few clips, or too many that cannot be read.
    """
    check_out(folder)
    config = recipe.train
    most = min(min(shape) for shape in shapes(pipe.transformer).values())
    if recipe.rank > most:
        msg = f"rank must be at most {most}, the smallest side of a matrix, got {recipe.rank:,}"
        raise SettingError(msg)
    samples = _long_enough(latents.samples, pipe.config.chunk)
    trained, held = split_held_out(samples, recipe.held_out)
    grain = _grain(trained) if recipe.grain else Grain()
    torch.manual_seed(config.seed)
    branches = Branches(pipe.transformer, recipe.rank, recipe.alpha).to(pipe.device)
    try:
        course = _Course(recipe, latents, pipe, trained, held)
        trainer = Trainer(course.stage(branches), config, folder)
        before = course.before(folder, trainer)
        trainer.run()
        after = course.held_out_loss()
        logger.info("held-out loss %.4f before, %.4f after", before, after)
    finally:
        branches.detach()
    head = LoraHead(
        base=pipe.model_hash,
        rank=recipe.rank,
        alpha=recipe.alpha,
        targets=tuple(sorted(branches.changes())),
        grain=grain,
        made=f"{trainer.steps} steps on {len(trained)} clips, data {latents.digest[:12]}",
    )
    save_lora(folder / LORA_FILE, head, {n: tuple(f) for n, f in branches.changes().items()})
    state_path(folder, STAGE).unlink(missing_ok=True)
    return Finetuned(
        file=folder / LORA_FILE,
        rank=recipe.rank,
        clips=len(trained),
        held_out=len(course.held),
        bad=len(course.clips.bad),
        steps=trainer.steps,
        loss_before=before,
        loss_after=after,
        grain=grain,
    )


def resume_step(folder: Path) -> str | None:
    """Where a run that was stopped goes on, in words; None if it begins anew."""
    path = state_path(folder, STAGE)
    if not path.exists():
        return None
    _, settings = load_state(path)
    return f"step {settings['step']} of {settings['steps']}"


def _long_enough(samples: Sequence[Sample], chunk: int) -> tuple[Sample, ...]:
    """Clips of a chunk or more; the others are counted.

    Raises:
        MediaError: all are shorter.
    """
    least = 1 + TEMPORAL_STRIDE * chunk
    found = tuple(sample for sample in samples if sample.told["shape"][1] > chunk)
    if samples and not found:
        msg = f"this model learns from clips of {least} frames or more, and all are shorter"
        raise MediaError(msg)
    if short := len(samples) - len(found):
        logger.warning("left out clips of fewer than %d frames: %d", least, short)
    return found


def _grain(samples: Sequence[Sample]) -> Grain:
    """Of the clips on average; latents of older releases do not tell any."""
    return mean_grain(from_dict(Grain, sample.told.get("grain", {})) for sample in samples)


class _Course:
    """The clips of a run and what is made of them."""

    def __init__(
        self,
        recipe: FinetuneRecipe,
        latents: Shards,
        pipe: Pipeline,
        trained: Sequence[Sample],
        held: Sequence[Sample],
    ) -> None:
        config = recipe.train
        self.recipe, self.latents, self.pipe = recipe, latents, pipe
        self.held = readable(latents, held)
        self.clips = CachedClips(
            latents, trained, config.batch, config.seed, pipe.device, recipe.most_bad
        )
        null = torch.full((1, pipe.tokenizer.max_tokens), PAD, device=pipe.device)
        null[0, 0] = NULL
        with torch.no_grad():
            self.null = pipe.text(null)
        self.prepare = _inputs(recipe, pipe.config.chunk, self.null)
        self.loss = _loss(recipe, pipe)

    def stage(self, branches: Branches) -> Stage:
        pipe = self.pipe
        return Stage(
            name=STAGE,
            module=branches,
            outer=("a.", "b."),
            ring=self.clips,
            fill=1,
            prepare=self.prepare,
            loss=self.loss,
            metric="low_noise",
            preview=self.preview,
            shapes={
                "recipe": to_dict(self.recipe),
                "model": pipe.model_hash,
                "data": self.latents.digest,
            },
            one_shape=self.clips.one_shape,
            held_out=self.held_out_loss,
        )

    def before(self, folder: Path, trainer: Trainer) -> float:
        """The loss before the first step; a resumed run reads what the first wrote down."""
        path = folder / "before.json"
        if trainer.step and path.is_file():
            return float(json.loads(path.read_text("utf-8"))["held_out_loss"])
        loss = self.held_out_loss()
        logger.info("held-out loss %.4f before the first step", loss)
        folder.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps({"held_out_loss": loss}) + "\n", "utf-8")
        return loss

    @torch.no_grad()
    def held_out_loss(self) -> float:
        """Mean over held-out clips, each at the same draws whatever was trained on."""
        total = 0.0
        for number, sample in enumerate(self.held):
            clip = self.clips.stack([read_clip(self.latents, sample)] * _LEVELS)
            generator = generator_for(HELD_OUT_SEED, number, self.pipe.device)
            total += self.loss(*self.prepare(clip, generator))[0].item()
        return total / len(self.held)

    @torch.no_grad()
    def preview(self, path: Path) -> None:
        """Held-out clips as they are, and below each what the model makes of its caption."""
        pipe, films, labels = self.pipe, [], []
        for sample in self.held[:_SHOWN]:
            caption = sample.told["captions"][0]
            latents = read_clip(self.latents, sample)["latents"][None].to(pipe.device).float()
            decoded = pipe.autoencoder.decode_stream(latents, DECODE_CHUNK)
            films.append(torch.cat([to_bytes(part[0]) for part in decoded]).cpu())
            settings = replace(
                pipe.defaults,
                width=sample.told["width"],
                height=sample.told["height"],
                frames=len(films[-1]),
            )
            films.append(pipe.generate(caption, settings=settings).frames)
            labels += [caption, "as it is made now"]
        film_strips(path, films, labels=labels)


def _inputs(recipe: FinetuneRecipe, chunk: int, null: tuple[Tensor, Tensor]) -> Prepare:
    """Latents, noise, levels of each latent frame, the past to go on from, and a wording each."""
    config, takes = recipe.train, replace(recipe.takes, chunk=chunk or recipe.takes.chunk)

    def prepare(batch: Batch, generator: torch.Generator) -> Batch:
        clean = batch[0].float()
        rows, frames, device = len(clean), clean.shape[2], clean.device
        if chunk:
            frames = 1 + (frames - 1) // chunk * chunk
            clean = clean[:, :, :frames]
        text, mask = _wording(batch[1].float(), batch[2], config, generator, null)
        noise = torch.randn(clean.shape, generator=generator, device=device)
        chunks = (frames - 1) // chunk if chunk else 1
        levels = flow.logit_normal(rows * chunks, config.shift, generator, device)
        levels = levels.view(rows, chunks)
        if not chunk:
            return clean, noise, levels.expand(-1, frames), text, mask
        sigma = torch.cat([levels[:, :1], levels.repeat_interleave(chunk, dim=1)], dim=1)
        given = torch.rand(rows, generator=generator, device=device) < takes.first_frame
        sigma[:, 0] *= ~given
        past, past_sigma = noisy_past(clean, takes, generator)
        return clean, noise, sigma, text, mask, past, past_sigma

    return prepare


def _wording(
    text: Tensor,
    mask: Tensor,
    config: TrainConfig,
    generator: torch.Generator,
    null: tuple[Tensor, Tensor],
) -> tuple[Tensor, Tensor]:
    """One wording of each clip; some become the null prompt, which guidance pushes away from."""
    rows, device = len(text), text.device
    chosen = torch.randint(text.shape[1], (rows,), generator=generator, device=device)
    each = torch.arange(rows, device=device)
    dropped = torch.rand(rows, generator=generator, device=device) < config.caption_dropout
    return (
        torch.where(dropped[:, None, None], null[0].float(), text[each, chosen]),
        torch.where(dropped[:, None], null[1], mask[each, chosen]),
    )


def _loss(recipe: FinetuneRecipe, pipe: Pipeline) -> Loss:
    """Those inputs to (flow loss, that of latent frames of low noise)."""
    transformer, chunk = pipe.transformer, pipe.config.chunk
    bf16 = recipe.train.precision == "bf16"

    def loss(
        clean: Tensor, noise: Tensor, sigma: Tensor, text: Tensor, mask: Tensor, *past: Tensor
    ) -> tuple[Tensor, Tensor]:
        noisy = flow.interpolate(clean, noise, sigma)
        with torch.autocast(clean.device.type, torch.bfloat16, enabled=bf16):
            if chunk:
                sizes = (1 + chunk, *[chunk] * ((clean.shape[2] - 1) // chunk - 1))
                texts = text[:, None].expand(-1, len(sizes), -1, -1)
                masks = mask[:, None].expand(-1, len(sizes), -1)
                before, before_sigma = past
                predicted = two_streams(
                    transformer, noisy, sigma, before, before_sigma, texts, masks, sizes
                )
            else:
                predicted = transformer(noisy, sigma, text, mask)
        return chunk_loss(flow.velocity(clean, noise), predicted, sigma)

    return loss
