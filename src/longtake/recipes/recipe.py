"""The settings of a recipe: every stage's, and the shapes."""

from dataclasses import dataclass, field, replace
from typing import Literal

from longtake.config import (
    AutoencoderConfig,
    CausalConfig,
    JumpConfig,
    MatchConfig,
    ModelConfig,
    TextConfig,
    TrainConfig,
    TransformerConfig,
)
from longtake.errors import SettingError
from longtake.text.tokenizer import split
from longtake.train.takes import Filming, check_whole_chunks
from longtake.world import vocabulary
from longtake.world.level import FIRST, Level, level_named

LevelName = Literal["first", "cast", "action", "whole"]

HELD_OUT_SEED = 777
"""Scenes of this seed are only looked at, never trained on."""


def world_words(level: Level = FIRST) -> tuple[str, ...]:
    """Every word a level's captions can say, as the tokenizer splits them, and the comma."""
    return tuple(sorted({word for entry in vocabulary(level) for word in split(entry)} | {","}))


@dataclass(frozen=True, slots=True, kw_only=True)
class PrevizRecipe:
    """The settings of all stages and the shapes; the defaults are what `previz` came from."""

    model: ModelConfig = field(
        default_factory=lambda: ModelConfig(
            autoencoder=AutoencoderConfig(),
            transformer=TransformerConfig(),
            text=TextConfig(),
            words=world_words(),
        )
    )
    """Shapes; the vocabulary is the level's unless another is given."""
    level: LevelName = "first"
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
    causal: TrainConfig = field(
        default_factory=lambda: TrainConfig(
            steps=2500, batch=12, frames=161, pool=2048, refresh_every=16, log_every=50, seed=4,
            learning_rate=5e-4, muon_learning_rate=7.5e-4, shift=3.0, ema=0.998,
        )
    )  # fmt: skip
    """Third stage, run by its name alone: from a trained model to one that goes on by chunks."""
    takes: CausalConfig = field(default_factory=CausalConfig)
    """What the third stage teaches."""
    few_steps: TrainConfig = field(
        default_factory=lambda: TrainConfig(
            steps=1500, batch=16, pool=2048, refresh_every=16, log_every=50, seed=5,
            learning_rate=3e-4, muon_learning_rate=4e-4, caption_dropout=0.0, ema=0.998,
        )
    )  # fmt: skip
    """Fourth stage, run by its name alone: from a trained model to one that needs few steps."""
    jumps: JumpConfig = field(default_factory=JumpConfig)
    """What the fourth stage teaches."""
    matching: TrainConfig = field(
        default_factory=lambda: TrainConfig(
            steps=1000, batch=8, frames=161, pool=2048, refresh_every=16, log_every=50, seed=8,
            learning_rate=5e-4, muon_learning_rate=7.5e-4, caption_dropout=0.0, ema=0.99, shift=3.0,
        )
    )  # fmt: skip
    """Fifth stage, run by its name alone: a few-step model learns from takes of its own."""
    match: MatchConfig = field(default_factory=MatchConfig)
    """How the fifth stage teaches."""
    decoder: TrainConfig = field(
        default_factory=lambda: TrainConfig(
            steps=2000, batch=8, frames=33, pool=512, refresh_every=10, log_every=50, seed=9,
            learning_rate=3e-4, muon_learning_rate=4e-4, ema=0.998, latent_noise=0.15,
        )
    )  # fmt: skip
    """Last stage, run by its name alone: the decoder learns to overlook errors of a denoiser."""
    held_out: int = 32
    """Held-out clips that statistics and scores are measured on."""

    @property
    def filming(self) -> Filming:
        """What the clips of the third stage are filmed of."""
        return Filming(config=self.causal, takes=self.takes, level=level_named(self.level))

    def __post_init__(self) -> None:
        """Check what must fit across the stages, and take the level's words."""
        check_whole_chunks(self.causal.frames, self.takes.chunk, "causal.frames")
        if self.model.words == world_words():
            level = level_named(self.level)
            tokens = max(self.model.text.max_tokens, level.most_tokens)
            text = replace(self.model.text, max_tokens=tokens)
            model = replace(self.model, words=world_words(level), text=text)
            object.__setattr__(self, "model", model)
        if self.held_out < 1:
            msg = f"held_out must be at least 1, got {self.held_out}"
            raise SettingError(msg)
        if self.causal.frames > self.takes.max_frames:
            msg = (
                f"causal.frames must be at most takes.max_frames {self.takes.max_frames}, "
                f"got {self.causal.frames}; change one of them"
            )
            raise SettingError(msg)
        if self.transformer.frames > self.model.max_frames:
            msg = (
                f"transformer.frames must be at most model.max_frames {self.model.max_frames}, "
                f"got {self.transformer.frames}; change one of them"
            )
            raise SettingError(msg)
