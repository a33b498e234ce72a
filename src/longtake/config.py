"""Every setting: frozen dataclasses, JSON in and out."""

import math
from collections.abc import Mapping
from dataclasses import MISSING, asdict, dataclass, fields, is_dataclass
from difflib import get_close_matches
from types import UnionType
from typing import Any, Literal, TypeVar, get_args, get_origin, get_type_hints

from longtake.errors import SettingError

FPS = 16
"""Native frame rate of every preset."""
TEMPORAL_STRIDE = 4
"""Frames an autoencoder packs into one latent frame; frame 0 stands alone."""
MAX_SECONDS = 86_400.0
"""Longest take: a day. Memory sets no limit; time and disk do, long before."""
TAKE_SUFFIX = ".longtake"
"""How the name of a take's folder ends; its film has the same name with .mp4."""
MAX_SEED = 2**64 - 1
"""Seeds are unsigned 64-bit numbers."""

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
    """Frame width in pixels; a multiple of 32."""
    height: int = 256
    """Frame height in pixels; a multiple of 32."""
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
        _check_sides(self.width, self.height)
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Cue:
    """What happens next in a take: from a time on, the prompt goes on with these words."""

    at_s: float
    """Seconds from the start; it takes effect at the first chunk border from there on."""
    text: str
    """What to show from then on; what was said before still holds."""
    over_s: float = 0.0
    """Seconds over which it gains weight, chunk by chunk; 0: it holds at once."""

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
        if not self.text.strip():
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
    shift: float = 2.0
    """Timestep shift of the noise levels trained on."""
    kl: float = 2e-4
    """Weight of the autoencoder's KL term."""
    squared: float = 2.0
    """Weight of the autoencoder's squared error."""
    subjects: float = 0.0
    """Extra weight of the pixels of subjects and their shadows, for the autoencoder."""
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
        _check_sides(self.width, self.height)
        if self.frames < 5 or self.frames % TEMPORAL_STRIDE != 1:
            near = max(self.frames - 2, 4) // TEMPORAL_STRIDE * TEMPORAL_STRIDE + 1
            msg = f"frames must be 4n + 1, got {self.frames}; the nearest are {near} and {near + 4}"
            raise SettingError(msg)
        for name, value, low, high in (
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
            ("shift", self.shift, 0.1, 100),
            ("kl", self.kl, 0, 10**6),
            ("squared", self.squared, 0, 10**6),
            ("subjects", self.subjects, 0, 10**6),
            ("seed", self.seed, 0, MAX_SEED),
            ("pool", self.pool, 1, 10**7),
            ("render_batch", self.render_batch, 1, 10**5),
            ("refresh_every", self.refresh_every, 1, 10**9),
            ("log_every", self.log_every, 1, 10**9),
            ("checkpoint_every", self.checkpoint_every, 1, 10**9),
            ("preview_every", self.preview_every, 0, 10**9),
        ):
            # Written so that NaN fails.
            if not low <= value <= high:
                msg = f"{name} must be {low:,} to {high:,}, got {value}"
                raise SettingError(msg)
        if self.pool % self.render_batch:
            near = max(self.pool // self.render_batch, 1) * self.render_batch
            msg = (
                f"pool must be a multiple of render_batch {self.render_batch}, got {self.pool}; "
                f"the nearest is {near}"
            )
            raise SettingError(msg)


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
        for name, value in (
            ("scripts", self.scripts),
            ("history_noise", self.history_noise),
            ("clean_history", self.clean_history),
            ("first_frame", self.first_frame),
        ):
            if not 0 <= value <= 1:
                msg = f"{name} must be 0 to 1, got {value}"
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


def _check_sides(width: int, height: int) -> None:
    """Check a frame's size, naming the nearest value that works."""
    for name, value in (("width", width), ("height", height)):
        if value % 32 or not 64 <= value <= 4096:
            near = min(max(round(value / 32) * 32, 64), 4096)
            msg = (
                f"{name} must be a multiple of 32 from 64 to 4096, got {value}; "
                f"the nearest is {near}"
            )
            raise SettingError(msg)


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
