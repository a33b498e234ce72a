"""Settings of the stages of training."""

import math
from dataclasses import dataclass, replace
from typing import Literal

from longtake.config.limits import (
    FPS,
    MAX_SECONDS,
    MAX_SEED,
    TEMPORAL_STRIDE,
    check_ranges,
    check_sides,
)
from longtake.errors import SettingError


@dataclass(frozen=True, slots=True, kw_only=True)
class Bucket:
    """A further size that a stage trains at, beside its own."""

    width: int
    """Frame width in pixels; a multiple of 32."""
    height: int
    """Frame height in pixels; a multiple of 32."""
    share: float
    """Share of the steps that have this size; 0 only measures it."""
    batch: int
    """Clips of such a step; memory grows with their pixels."""
    frames: int | None = None
    """Frames of a clip, 4n + 1; none: as many as the stage's own."""
    highest: float = 1.0
    """Highest noise level of such clips; below 1 for films that are painted over a smaller one."""

    def __post_init__(self) -> None:
        """Check what a stage checks of its own size, and the share."""
        check_sides(self.width, self.height)
        if self.frames is not None:
            _check_frames(self.frames)
        check_ranges(
            ("share", self.share, 0, 1),
            ("batch", self.batch, 1, 10**5),
            ("highest", self.highest, 0.01, 1),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainConfig:
    """How one training stage runs."""

    steps: int = 10_000
    """Optimiser steps of the whole run; the learning-rate curve spans them."""
    minutes: float = 0.0
    """If above 0, steps is set from the measured step time so that the run lasts this long."""
    batch: int = 32
    """Clips of a step."""
    frames: int = 81
    """Frames of a clip; 4n + 1, because frame 0 stands alone and the rest is packed in fours."""
    height: int = 256
    """Frame height in pixels; a multiple of 32."""
    width: int = 448
    """Frame width in pixels; a multiple of 32."""
    sizes: tuple[Bucket, ...] = ()
    """Further sizes beside width x height, each with a share of the steps; the rest is its own."""
    optimiser: Literal["muon", "adamw"] = "muon"
    """`muon` for hidden matrices with AdamW for the rest, or `adamw` for all."""
    learning_rate: float = 1e-3
    """AdamW's peak learning rate."""
    muon_learning_rate: float = 1.5e-3
    """Muon's peak learning rate."""
    weight_decay: float = 0.01
    """Decoupled weight decay of the hidden matrices."""
    clip: float = 1.0
    """Largest gradient norm."""
    warmup: int = 150
    """Steps until the peak learning rate."""
    decay: float = 0.35
    """Last part of the run in which the learning rate falls to 1 %."""
    ema: float = 0.999
    """Decay of the averaged weights that are shipped."""
    caption_dropout: float = 0.1
    """Share of clips trained without caption, which guidance needs."""
    unnamed: float = 0.0
    """Share of wordings that name no colours, so that a prompt without them shows some."""
    shift: float = 2.0
    """Timestep shift of the noise levels trained on; few_steps trains on those of its jumps."""
    top: float = 0.0
    """Share of noise levels drawn evenly from the top, 0.97 to 1, where a film begins."""
    highest: float = 1.0
    """Highest noise level; below 1 the others shrink with it, and few_steps learns one jump."""
    kl: float = 2e-4
    """Weight of the autoencoder's KL term."""
    squared: float = 2.0
    """Weight of the autoencoder's squared error."""
    subjects: float = 0.0
    """Extra weight of the pixels of subjects and their shadows, for the autoencoder."""
    latent_noise: float = 0.0
    """Highest deviation of the noise that the stage decoder puts on latents, which have 1."""
    simple: float = 0.0
    """Share of renderings with scenes of the first level, which a wider world must not unlearn."""
    seed: int = 0
    """Seed of weights, clips, captions and noise."""
    pool: int = 1024
    """Rendered clips kept on the device, from which batches are drawn; whole renderings."""
    render_batch: int = 16
    """Clips rendered at once."""
    refresh_every: int = 5
    """Steps between two renderings of fresh clips."""
    precision: Literal["bf16", "fp32"] = "bf16"
    """Arithmetic of the networks; weights and sums stay in fp32."""
    compile: bool = True
    """Compile the layers; slower start, faster steps."""
    log_every: int = 50
    """Steps between log lines."""
    checkpoint_every: int = 2000
    """Steps between checkpoints a killed run resumes from."""
    preview_every: int = 0
    """Steps between film strips of what the model makes; 0 makes none."""

    def __post_init__(self) -> None:
        """Check the sizes, and the counts that divide or index something."""
        check_sides(self.width, self.height)
        _check_frames(self.frames)
        if (shares := math.fsum(size.share for size in self.sizes)) > 1:
            msg = f"the shares of sizes must be at most 1 together, got {shares:g}; lower one"
            raise SettingError(msg)
        check_ranges(
            ("steps", self.steps, 1, 10**9),
            ("minutes", self.minutes, 0, 10**5),
            ("batch", self.batch, 1, 10**5),
            ("learning_rate", self.learning_rate, 0, 1),
            ("muon_learning_rate", self.muon_learning_rate, 0, 1),
            ("weight_decay", self.weight_decay, 0, 100),
            ("clip", self.clip, 0, 10**9),
            ("warmup", self.warmup, 0, 10**9),
            ("decay", self.decay, 0, 1),
            ("ema", self.ema, 0, 1),
            ("caption_dropout", self.caption_dropout, 0, 1),
            ("unnamed", self.unnamed, 0, 1),
            ("shift", self.shift, 0.1, 100),
            ("top", self.top, 0, 1),
            ("highest", self.highest, 0.01, 1),
            ("kl", self.kl, 0, 10**6),
            ("squared", self.squared, 0, 10**6),
            ("subjects", self.subjects, 0, 10**6),
            ("latent_noise", self.latent_noise, 0, 2),
            ("simple", self.simple, 0, 1),
            ("seed", self.seed, 0, MAX_SEED),
            ("pool", self.pool, 1, 10**7),
            ("render_batch", self.render_batch, 1, 10**5),
            ("refresh_every", self.refresh_every, 1, 10**9),
            ("log_every", self.log_every, 1, 10**9),
            ("checkpoint_every", self.checkpoint_every, 1, 10**9),
            ("preview_every", self.preview_every, 0, 10**9),
        )
        if self.pool % self.render_batch:
            near = max(self.pool // self.render_batch, 1) * self.render_batch
            msg = (
                f"pool must be a multiple of render_batch {self.render_batch}, got {self.pool}; "
                f"the nearest is {near}"
            )
            raise SettingError(msg)

    @property
    def at_each_size(self) -> tuple["TrainConfig", ...]:
        """The stage at its own size, then at each further one."""
        return (self, *map(self.at, self.sizes))

    def at(self, size: Bucket) -> "TrainConfig":
        """The stage at a further size: as many renderings, in no more memory than its own take."""
        frames = self.frames if size.frames is None else size.frames
        own = self.width * self.height * self.frames
        clips = self.render_batch * own // (size.width * size.height * frames)
        clips = min(max(clips, 1), self.render_batch)
        return replace(
            self,
            width=size.width,
            height=size.height,
            frames=frames,
            batch=size.batch,
            highest=self.highest * size.highest,
            render_batch=clips,
            pool=self.pool // self.render_batch * clips,
            sizes=(),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class CausalConfig:
    """What a model is taught that goes on chunk by chunk."""

    chunk: int = 5
    """Latent frames it goes on by: 1, 2, 4 or 5, so that beats of scripts begin where chunks do."""
    max_frames: int = 961
    """Longest take of the model that is left; it goes on beyond the clips it was trained on."""
    scripts: float = 0.5
    """Share of clips from one-minute scripts; levels in which nobody leaves the frame have none."""
    levels: Literal["monotone", "independent"] = "independent"
    """Noise levels of a clip's chunks: never falling from one to the next, or each on its own."""
    history_noise: float = 0.1
    """Highest noise level of what a chunk goes on from; more forgives more errors in long takes."""
    clean_history: float = 0.25
    """Share of clips that go on from a past without noise, as a rollout does."""
    first_frame: float = 0.25
    """Share of clips whose first frame is given, so that films can start from a picture."""

    def __post_init__(self) -> None:
        """Check that chunks fit beats, and the shares."""
        if self.chunk not in (1, 2, 4, 5):
            msg = f"chunk must be 1, 2, 4 or 5 latent frames, got {self.chunk}; try 5"
            raise SettingError(msg)
        limit = int(MAX_SECONDS * FPS) + 1
        if not 1 <= self.max_frames <= limit:
            msg = f"max_frames must be 1 to {limit}, got {self.max_frames}; try 961 (a minute)"
            raise SettingError(msg)
        check_ranges(
            ("scripts", self.scripts, 0, 1),
            ("history_noise", self.history_noise, 0, 1),
            ("clean_history", self.clean_history, 0, 1),
            ("first_frame", self.first_frame, 0, 1),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class JumpConfig:
    """What a model is taught that makes films in few steps without guidance."""

    steps: int = 4
    """Jumps from noise to a film; the model that is left is sampled with just these."""
    shift: float = 10.0
    """Timestep shift of the levels that the jumps go between, and of the teacher's between them."""
    guidance: float = 3.0
    """Classifier-free guidance scale of the teacher, which the model takes over; 1: none."""
    parts: int = 3
    """Solver steps that the teacher makes of one jump; time grows in proportion."""
    own: float = 0.5
    """Share of clips that jump from where the model's own jumps led, the rest from noised clips."""

    def __post_init__(self) -> None:
        """Check the ranges."""
        check_ranges(
            ("steps", self.steps, 1, 50),
            ("shift", self.shift, 0.1, 100),
            ("guidance", self.guidance, 1, 30),
            ("parts", self.parts, 1, 50),
            ("own", self.own, 0, 1),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class MatchConfig:
    """How a few-step model is made to film as its teacher does, seen on takes of its own."""

    guidance: float = 3.0
    """Classifier-free guidance scale of the teacher, which the model takes over; 1: none."""
    student_rate: float = 0.2
    """Learning rates of the model over those of its critic, which has to keep up with it."""

    def __post_init__(self) -> None:
        """Check the ranges."""
        check_ranges(
            ("guidance", self.guidance, 1, 30),
            ("student_rate", self.student_rate, 1e-6, 1),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class ShardedConfig:
    """How a network that lies in parts on several devices is trained."""

    steps: int = 10_000
    """Optimiser steps of the run."""
    batch: int = 64
    """Clips of a step, over all devices together; each takes its share one after the other."""
    learning_rate: float = 5e-5
    """AdamW's learning rate, constant after the warm-up."""
    warmup: int = 500
    """Steps until it is reached."""
    clip: float = 0.1
    """Largest gradient norm."""
    weight_decay: float = 0.0
    """Decoupled weight decay."""
    shift: float = 3.0
    """Timestep shift of the noise levels trained on."""
    chunk: int = 0
    """Latent frames of a chunk, for a model that goes on by chunks; 0 trains on films at once."""
    lora: int = 0
    """Rank of changes that are trained in place of the weights, which stay as they are; 0 trains
    the weights."""
    precision: Literal["fp32", "bf16"] = "bf16"
    """Arithmetic of the layers; weights, gradients and their sums are fp32."""
    recompute: bool = True
    """Run each layer again in the backward pass, in place of keeping what it made."""
    keep_layers: int = 0
    """Layers that keep it all the same, the last ones: less work, more memory."""
    compile: bool = False
    """Compile the layers: fewer passes over memory, after a first step of minutes."""
    seed: int = 0
    """Seed of the order of clips and of noise."""
    log_every: int = 10
    """Steps between log lines."""
    checkpoint_every: int = 500
    """Steps between states; each takes 12 bytes a weight."""

    def __post_init__(self) -> None:
        """Check the ranges."""
        check_ranges(
            ("steps", self.steps, 1, 10**9),
            ("batch", self.batch, 1, 10**6),
            ("learning_rate", self.learning_rate, 0, 1),
            ("warmup", self.warmup, 0, 10**6),
            ("clip", self.clip, 1e-6, 1e6),
            ("weight_decay", self.weight_decay, 0, 1),
            ("shift", self.shift, 0.1, 100),
            ("chunk", self.chunk, 0, 1000),
            ("lora", self.lora, 0, 4096),
            ("keep_layers", self.keep_layers, 0, 1000),
            ("seed", self.seed, 0, MAX_SEED),
            ("log_every", self.log_every, 1, 10**6),
            ("checkpoint_every", self.checkpoint_every, 1, 10**6),
        )

    def run_again(self, layers: int) -> int:
        """How many layers run again in the backward pass, from the first on."""
        return max(layers - self.keep_layers, 0) if self.recompute else 0


def _check_frames(frames: int) -> None:
    if frames < 5 or frames % TEMPORAL_STRIDE != 1:
        near = max(frames - 2, 4) // TEMPORAL_STRIDE * TEMPORAL_STRIDE + 1
        msg = f"frames must be 4n + 1, got {frames}; the nearest are {near} and {near + 4}"
        raise SettingError(msg)
