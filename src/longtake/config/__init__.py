"""Every setting: frozen dataclasses, JSON in and out."""

import math
from collections.abc import Mapping
from dataclasses import MISSING, asdict, dataclass, field, fields, is_dataclass
from difflib import get_close_matches
from types import UnionType
from typing import Any, Literal, TypeVar, get_args, get_origin, get_type_hints

from longtake.config.grain import MOST_GRAIN, Grain
from longtake.config.limits import (
    CELL,
    FPS,
    MAX_SECONDS,
    MAX_SEED,
    SIDE_STEP,
    TEMPORAL_STRIDE,
    check_sides,
    made_side,
    nearest_side,
)
from longtake.config.lora import MOST_LORAS, LoraUse, lora_use
from longtake.config.refine import Refine
from longtake.config.training import (
    Bucket,
    CausalConfig,
    JumpConfig,
    MatchConfig,
    ShardedConfig,
    TrainConfig,
)
from longtake.errors import SettingError

__all__ = [
    "CELL",
    "FPS",
    "MAX_PROMPT",
    "MAX_SECONDS",
    "MAX_SEED",
    "MOST_GRAIN",
    "MOST_LORAS",
    "SIDE_STEP",
    "TAKE_SUFFIX",
    "TEMPORAL_STRIDE",
    "AttentionMode",
    "AutoencoderConfig",
    "Bucket",
    "CausalConfig",
    "Cue",
    "Grain",
    "JumpConfig",
    "LoraUse",
    "MatchConfig",
    "ModelConfig",
    "Refine",
    "SampleConfig",
    "SamplerName",
    "Sampling",
    "ShardedConfig",
    "TextConfig",
    "TrainConfig",
    "TransformerConfig",
    "check_sides",
    "frames_for",
    "from_dict",
    "latent_frames_for",
    "lora_use",
    "made_side",
    "merge",
    "nearest_side",
    "to_dict",
]

TAKE_SUFFIX = ".longtake"
"""How the name of a take's folder ends; its film has the same name with .mp4."""
MAX_PROMPT = 10_000
"""Longest prompt in characters."""

AttentionMode = Literal["linear", "block", "softmax"]
SamplerName = Literal["dpm", "euler"]
Config = TypeVar("Config")


@dataclass(frozen=True, slots=True, kw_only=True)
class AutoencoderConfig:
    """Shape of the causal video autoencoder."""

    latent_channels: int = 64
    """Channels of a latent; more keep more detail and make the denoiser's task harder."""
    patch: int = 8
    """Pixels folded into channels before the first layer."""
    widths: tuple[int, ...] = (112, 192, 288)
    """Channels of each stage; each step down halves height, width and frame rate."""
    encoder_blocks: tuple[int, ...] = (2, 2, 1)
    """Residual blocks of each encoder stage, finest first."""
    decoder_blocks: tuple[int, ...] = (3, 3, 2)
    """Residual blocks of each decoder stage, finest first."""

    def __post_init__(self) -> None:
        """Check that the stages add up."""
        if not len(self.widths) == len(self.encoder_blocks) == len(self.decoder_blocks) == 3:
            msg = f"an autoencoder has 3 stages, got widths {self.widths}"
            raise SettingError(msg)

    @property
    def spatial_stride(self) -> int:
        """Pixels a latent cell covers along height and along width."""
        return self.patch * 4


@dataclass(frozen=True, slots=True, kw_only=True)
class TextConfig:
    """Shape of the text encoder that is trained with the denoiser."""

    width: int = 192
    """Channels of a token."""
    depth: int = 3
    """Transformer layers."""
    heads: int = 6
    """Attention heads; must divide the width."""
    max_tokens: int = 64
    """Longest prompt in tokens; the rest is cut and the user is told."""

    def __post_init__(self) -> None:
        """Check that heads divide the width."""
        if self.width % self.heads:
            msg = f"text width {self.width} is not a multiple of heads {self.heads}"
            raise SettingError(msg)


@dataclass(frozen=True, slots=True, kw_only=True)
class TransformerConfig:
    """Shape of the denoiser."""

    latent_channels: int = 64
    """Channels of the latents it denoises."""
    width: int = 256
    """Channels of a video token."""
    depth: int = 8
    """Number of layers."""
    heads: int = 4
    """Attention heads; must divide the width."""
    ffn_ratio: float = 2.5
    """Hidden width of the Mix-FFN over the width."""
    attention: AttentionMode = "linear"
    """`linear` (published form), `block` (softmax in a segment, linear across) or `softmax`."""
    segment: int = 5
    """Latent frames of a segment, the first one more (frame 0); only `block` looks at it."""
    text_width: int = 192
    """Channels of the text embeddings it reads."""
    rope_theta: float = 100.0
    """Base of the rotary angles; small grids want a small base, the public checkpoints 10,000."""
    patch: tuple[int, ...] = (1, 1, 1)
    """Latent frames, rows and columns folded into one token."""
    out_channels: int = 0
    """Channels it returns, the first of which are the velocity; 0: as many as it reads."""
    cross_heads: int = 0
    """Heads of the cross-attention; 0: as many as the self-attention has."""
    cross_width: int = 0
    """Channels of the cross-attention's heads together; 0: the width."""
    qk_norm: bool = True
    """RMSNorm of queries and keys over all heads."""
    qkv_bias: bool = False
    """Biases of the self-attention's queries, keys and values."""
    ffn_norm_affine: bool = False
    """The norm before the Mix-FFN has a weight and a bias of its own."""
    norm_eps: float = 1e-6
    """Floor inside the two norms of a layer."""
    cross_norm_eps: float = 1e-6
    """Floor inside the norms of the cross-attention's queries and keys; 1e-5 in diffusers."""
    attention_eps: float = 1e-8
    """Floor of the linear normaliser; 1e-15 in diffusers."""
    guidance_embedding: bool = False
    """It reads the guidance scale beside sigma, as models distilled from guidance do."""

    def __post_init__(self) -> None:
        """Check that heads divide the widths, the rotary parts are even and a patch has 3 sides."""
        if self.width % self.heads or (self.width // self.heads) % 2:
            msg = f"width {self.width} must split into {self.heads} even heads"
            raise SettingError(msg)
        if (self.cross_width or self.width) % (self.cross_heads or self.heads):
            msg = (
                f"cross_width {self.cross_width or self.width} must split into "
                f"{self.cross_heads or self.heads} heads"
            )
            raise SettingError(msg)
        if len(self.patch) != 3 or min(self.patch) < 1:
            msg = f"patch must be 3 counts (frames, rows, columns), got {self.patch}"
            raise SettingError(msg)
        if self.out_channels and self.out_channels < self.latent_channels:
            msg = (
                f"out_channels must be at least latent_channels {self.latent_channels}, "
                f"got {self.out_channels}"
            )
            raise SettingError(msg)
        if self.segment < 1:
            msg = f"segment must be at least 1 latent frame, got {self.segment}"
            raise SettingError(msg)


@dataclass(frozen=True, slots=True, kw_only=True)
class SampleConfig:
    """How one film is made from a prompt."""

    width: int = 448
    """Frame width in pixels; a multiple of 8."""
    height: int = 256
    """Frame height in pixels; a multiple of 8."""
    frames: int = 81
    """Output frames; 16 x seconds + 1. Made as 4n + 1 (frame 0 stands alone), then trimmed."""
    seed: int = 0
    """Which film of the many that fit the prompt; 0 to 2^64 - 1."""
    steps: int = 12
    """Sampler steps; time grows in proportion."""
    guidance: float = 3.0
    """Classifier-free guidance scale; 1.0 turns it off and halves the cost."""
    shift: float = 10.0
    """Timestep shift; above 1 more steps are spent at high noise, where motion is decided."""
    sampler: SamplerName = "dpm"
    """`dpm` (DPM-Solver++ 2M, flow form) or `euler`."""
    negative: str = ""
    """What the film shall not show: guidance leads away from it instead of from no prompt."""

    def __post_init__(self) -> None:
        """Check every range, naming the nearest value that works."""
        check_sides(self.width, self.height, SIDE_STEP)
        limit = int(MAX_SECONDS * FPS) + 1
        if not 1 <= self.frames <= limit:
            msg = f"frames must be 1 to {limit}, got {self.frames}; try 81 (5 seconds)"
            raise SettingError(msg)
        if not 0 <= self.seed <= MAX_SEED:
            msg = (
                f"seed must be 0 to {MAX_SEED}, got {self.seed}; "
                f"the nearest is {min(max(self.seed, 0), MAX_SEED)}"
            )
            raise SettingError(msg)
        if not 1 <= self.steps <= 1000:
            msg = f"steps must be 1 to 1000, got {self.steps}; try 12"
            raise SettingError(msg)
        if not (math.isfinite(self.guidance) and 1.0 <= self.guidance <= 30.0):
            msg = f"guidance must be 1 to 30, got {self.guidance}; try 3"
            raise SettingError(msg)
        if not (math.isfinite(self.shift) and 0.1 <= self.shift <= 100.0):
            msg = f"shift must be 0.1 to 100, got {self.shift}; try 10"
            raise SettingError(msg)
        if len(self.negative) > MAX_PROMPT:
            msg = f"negative has {len(self.negative):,} characters; the most is {MAX_PROMPT:,}"
            raise SettingError(msg)

    @property
    def made(self) -> tuple[int, int]:
        """Width and height that the model makes; the film is cut from their middle."""
        return made_side(self.width), made_side(self.height)


_PLAIN = SampleConfig()


@dataclass(frozen=True, slots=True, kw_only=True)
class Sampling:
    """How a model is sampled if nobody asks for something else."""

    steps: int = _PLAIN.steps
    """Sampler steps; a model that was trained for few steps wants just those."""
    guidance: float = _PLAIN.guidance
    """Classifier-free guidance scale; 1 for a model that has learned it."""
    shift: float = _PLAIN.shift
    """Timestep shift."""
    sampler: SamplerName = _PLAIN.sampler
    """Solver."""

    def __post_init__(self) -> None:
        """Check the ranges, which are those of a film's settings."""
        self.settings()

    def settings(self) -> SampleConfig:
        """A film's settings with these among them, the rest by default."""
        return SampleConfig(
            steps=self.steps, guidance=self.guidance, shift=self.shift, sampler=self.sampler
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Cue:
    """What happens next in a take: from a time on, the prompt goes on with these words."""

    at_s: float
    """Seconds from the start; it takes effect at the first chunk border from there on."""
    text: str
    """What to show from then on; what was said before still holds."""
    over_s: float = 0.0
    """Seconds over which it gains weight, chunk by chunk; 0: it holds at once."""
    seed: int | None = None
    """Another seed from then on: the same words, made anew; None: that of the film goes on."""

    def __post_init__(self) -> None:
        """Check that there is such a time and something to say."""
        if not 0 <= self.over_s <= MAX_SECONDS:
            msg = f"a prompt gains weight over 0 to {MAX_SECONDS:g} s, got {self.over_s:g}"
            raise SettingError(msg)
        if not (math.isfinite(self.at_s) and self.at_s > 0):
            msg = (
                f"a prompt changes at a time above 0, got {self.at_s:g} s; "
                "what holds from the start belongs in the prompt itself"
            )
            raise SettingError(msg)
        if self.seed is not None and not 0 <= self.seed <= MAX_SEED:
            msg = f"seed must be 0 to {MAX_SEED}, got {self.seed} at {self.at_s:g} s"
            raise SettingError(msg)
        if not self.text.strip() and self.seed is None:
            msg = f"the prompt at {self.at_s:g} s is empty; say what happens then"
            raise SettingError(msg)


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelConfig:
    """Everything but the weights that a trained model is: its `model.json`."""

    autoencoder: AutoencoderConfig
    """Shape of the autoencoder."""
    transformer: TransformerConfig
    """Shape of the denoiser."""
    text: TextConfig
    """Shape of the text encoder."""
    words: tuple[str, ...]
    """The vocabulary, in token order."""
    max_frames: int = 81
    """Longest take the model was trained on; with chunks it makes longer ones too, and says so."""
    chunk: int = 0
    """Latent frames it goes on by, 1 to 7, on a state of constant size; 0: all in one pass."""
    sampling: Sampling = field(default_factory=Sampling)
    """How it is sampled if nobody asks for something else."""
    grain: Grain = field(default_factory=Grain)
    """What lies over its films."""
    refine: Refine | None = None
    """How films larger than it was trained on are made; None: directly."""

    def __post_init__(self) -> None:
        """Check that the networks fit each other, and that a take can be gone on with."""
        if not 0 <= self.chunk <= 7:
            msg = f"chunk must be 0 to 7 latent frames, got {self.chunk}"
            raise SettingError(msg)
        if self.chunk and self.transformer.attention == "softmax":
            msg = "softmax attention has no state of constant size; chunk must be 0 with it"
            raise SettingError(msg)
        for name, value, other, wanted in (
            ("transformer.latent_channels", self.transformer.latent_channels,
             "autoencoder.latent_channels", self.autoencoder.latent_channels),
            ("transformer.text_width", self.transformer.text_width, "text.width", self.text.width),
        ):  # fmt: skip
            if value != wanted:
                msg = f"{name} must be {wanted} as {other} is, got {value}"
                raise SettingError(msg)


def frames_for(seconds: float) -> int:
    """Frames of a take: 16 x seconds + 1, seconds rounded up to the next frame.

    Raises:
        SettingError: seconds is not a number in (0, 86,400].
    """
    if seconds > MAX_SECONDS:
        msg = (
            f"seconds must be at most {MAX_SECONDS:g}, a day, got {seconds:g}: the time and the "
            "disk for it are not there; try 60"
        )
        raise SettingError(msg)
    if not (math.isfinite(seconds) and seconds > 0):
        msg = f"seconds must be above 0 and at most {MAX_SECONDS:g}, got {seconds:g}; try 5"
        raise SettingError(msg)
    return math.ceil(round(seconds * FPS, 6)) + 1


def latent_frames_for(frames: int) -> int:
    """Latent frames that hold this many frames; the last group of four may be trimmed."""
    return math.ceil((frames - 1) / TEMPORAL_STRIDE) + 1


def to_dict(config: Any) -> dict[str, Any]:  # noqa: ANN401 - any of the dataclasses above
    """Plain JSON-ready values of a config."""
    return asdict(config)


def from_dict(cls: type[Config], data: Mapping[str, Any]) -> Config:
    """Build a config from JSON values; an unknown or mistyped setting is an error.

    Raises:
        SettingError: a key the config does not have, or a value of the wrong type.
    """
    hints = get_type_hints(cls)
    for key in data:
        if key not in hints:
            near = get_close_matches(str(key), hints, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"it has {', '.join(sorted(hints))}"
            msg = f"unknown setting {key!r} in {cls.__name__}; {hint}"
            raise SettingError(msg)
    for f in fields(cls):  # pyrefly: ignore - a dataclass, as its hints were read above
        if f.name not in data and f.default is MISSING and f.default_factory is MISSING:
            msg = f"{cls.__name__} lacks the setting {f.name!r}; add it"
            raise SettingError(msg)
    values = {
        key: _coerce(hints[key], value, f"{cls.__name__}.{key}") for key, value in data.items()
    }
    return cls(**values)


def merge(config: Config, changes: Mapping[str, Any]) -> Config:
    """A config with some settings changed, nested configs in part; unknown keys are errors.

    Raises:
        SettingError: a key the config does not have, or a value of the wrong type.
    """
    data = {name: getattr(config, name) for name in get_type_hints(type(config))}
    for key, value in changes.items():
        nested = key in data and is_dataclass(data[key]) and isinstance(value, Mapping)
        data[key] = merge(data[key], value) if nested else value
    return from_dict(type(config), data)


def _coerce(hint: Any, value: Any, name: str) -> Any:  # noqa: ANN401 - JSON in, any field out
    """Turn a JSON value into the field's type without guessing."""
    origin, args = get_origin(hint), get_args(hint)
    if origin is UnionType:
        # Only "a type or nothing" occurs.
        return None if value is None else _coerce(args[0], value, name)
    if isinstance(hint, type) and is_dataclass(hint) and isinstance(value, Mapping):
        return from_dict(hint, value)
    if origin is tuple and isinstance(value, (list, tuple)):
        return tuple(_coerce(args[0], item, name) for item in value)
    if origin is Literal and value in args:
        return value
    number = isinstance(value, int) and not isinstance(value, bool)
    if hint in {int, float} and number:
        return hint(value)
    if isinstance(hint, type) and hint is not int and isinstance(value, hint):
        return value
    msg = f"{name} cannot be {value!r}; it wants {getattr(hint, '__name__', hint)}"
    raise SettingError(msg)
