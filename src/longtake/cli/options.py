"""Options that several verbs share, and what they mean."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter, Token

from longtake.cli.prompt import read_prompt
from longtake.config import (
    CELL,
    FPS,
    MAX_SECONDS,
    SIDE_STEP,
    Cue,
    LoraUse,
    SampleConfig,
    SamplerName,
    frames_for,
    lora_use,
    nearest_side,
)
from longtake.errors import SettingError

NAMED_SIZES = {"480p": (832, 480), "720p": (1280, 720)}
"""Sizes by name; where nothing is cut from films, 704 rows stand for 720."""
LONG_S = 20.0
"""Films longer than this keep their newest state without being asked."""
_DEFAULTS = SampleConfig()
_SIZE = re.compile(r"(\d{1,5})[xX×](\d{1,5})")
_TIME = re.compile(r"(?:(\d{1,5}):)?(\d{1,6}(?:\.\d{1,6})?)s?")


def _whole(_hint: object, tokens: Sequence[Token]) -> int:
    """Read a whole number; the parser's own way rounds 1.5 in silence."""
    return int(tokens[0].value)


WholeNumber = Annotated[int, Parameter(converter=_whole)]
"""An option that takes digits only."""


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class FilmOptions:
    """What decides the pixels beside the prompt."""

    seconds: float | None = None
    """Length; rounded up to the next of 16 frames a second. Default: 5."""
    frames: WholeNumber | None = None
    """Length in frames, instead of --seconds; 16 x seconds + 1."""
    size: str | None = None
    """WIDTHxHEIGHT in pixels, multiples of 8, of 32 with a public model; also 480p, 720p. Default:
    448x256, or what a public model was published for."""
    seed: WholeNumber = _DEFAULTS.seed
    """Which film of the many that fit the prompt; the same seed gives the same film."""
    steps: WholeNumber | None = None
    """Sampler steps; time grows in proportion. Default: the model's own, 12 unless it was trained
    for fewer; 50 with a public model."""
    guidance: float | None = None
    """How strongly the prompt pulls; 1 turns guidance off and halves the time. Default: the model's
    own, 3 or 1; 6 with a public model."""
    shift: Annotated[float | None, Parameter(name=("--shift", "--flow-shift"))] = None
    """Timestep shift; above 1 more steps decide motion, fewer decide detail. Default: the
    model's own, 10; 8 with a public model."""
    sampler: SamplerName | None = None
    """Solver: dpm (DPM-Solver++ 2M) or euler. Default: the model's own."""


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class TakeOptions:
    """What only a model that goes on by chunks can do."""

    prompt_at: Annotated[
        tuple[tuple[str, str], ...], Parameter(negative="", show_default=False)
    ] = ()
    """A time and what happens then, as 20s "the sun sets"; once or more, in the order of time."""
    image: Path | None = None
    """PNG, JPEG or WebP that the film begins with."""


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class PublicOptions:
    """What only public models know."""

    motion_score: WholeNumber | None = None
    """Amount of motion asked for; 0 asks for none in particular. Default: 30."""
    negative: str | None = None
    """What guidance pushes away from. Default: nothing in particular."""
    instruction: Literal["video", "image", "none"] | None = None
    """Wording the text encoder reads before the prompt. Default: video."""
    offload: Literal["none", "text", "block"] | None = None
    """What leaves the GPU when it is not at work: nothing; text encoder, denoiser and VAE in turn;
    or the denoiser's layers among themselves too. Default: text."""


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class KeepOptions:
    """What stays of a take's folder."""

    keep: Annotated[bool, Parameter(negative="")] = False
    """Keep the folder beside the film, with the newest state; films over 20 s do anyway."""
    keep_every: str | None = None
    """Keep a state at every so many seconds as well, as 5s; branch goes on from there at once."""


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class ModelOptions:
    """Which model runs, and how."""

    model: str = "previz"
    """Model by name; a folder with a model.json; or a public model, as a folder with a
    model_index.json or as OWNER/NAME@REVISION on the hub."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where to compute; auto takes a GPU if there is one."""
    precision: Literal["auto", "fp32", "bf16", "fp16", "fp8", "nvfp4"] = "auto"
    """Arithmetic; auto takes bf16 where the processor has it, or what the weights are stored in.
    fp8 and nvfp4 hold the denoiser's large layers in 8 or 4.5 bits a weight, and multiply in them
    where the card can."""


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class EngineOptions:
    """What runs the workers."""

    engine: Literal["local", "ray"] = "local"
    """What runs the workers: processes of this machine, or actors of a Ray cluster."""
    ray_address: str = ""
    """HOST:PORT of the cluster, or auto for one that runs here. Default: a Ray of one's own, on
    this machine."""
    workers: WholeNumber = 1
    """Workers that make films, each with the model in memory."""
    threads: WholeNumber = 0
    """Threads of each worker; 0: as many as there are cores, with Ray one."""
    model: str = "previz"
    """Model by name, or a folder with a model.json; with Ray it lies there on every machine."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where to compute; auto takes a GPU if there is one."""
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    """Arithmetic; auto takes bf16 where the processor has it."""


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class LoraOptions:
    """What is laid over the model."""

    lora: Annotated[tuple[str, ...], Parameter(negative="", show_default=False)] = ()
    """A LoRA from longtake finetune, as FILE or FILE:STRENGTH; once or more."""

    @property
    def uses(self) -> tuple[LoraUse, ...]:
        """What was asked for, by full paths."""
        return uses_of(self.lora)


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class RunOptions(ModelOptions):
    """Which model runs, how, and on how many devices."""

    gpus: WholeNumber = 1
    """GPUs of this machine that make the film together, or CPU processes with --device cpu."""


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class SameModelOptions:
    """Which model goes on with a take: the one that began it."""

    model: str | None = None
    """Where that model lies now. Default: where it lay; previz for a film without a take."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where to compute; auto takes a GPU if there is one."""
    precision: Literal["fp32", "bf16", "fp16", "fp8", "nvfp4"] | None = None
    """Arithmetic. Default: that of the take; no other gives the same film."""
    lora: Annotated[tuple[str, ...], Parameter(negative="", show_default=False)] = ()
    """Where its LoRAs lie now, as FILE or FILE:STRENGTH in the same order. Default: where they
    lay."""
    allow_different: Annotated[bool, Parameter(negative="")] = False
    """Go on under other arithmetic as well, as of another machine; other bytes come of it."""


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class OutputOptions:
    """What is written and told."""

    output: Annotated[Path | None, Parameter(name=("--output", "-o"))] = None
    """The mp4. Default: film.mp4, or the old film's name and what was done to it."""
    sheet: bool = True
    """A contact sheet, a PNG of the same name."""
    metadata: bool = True
    """Prompt and settings inside the mp4."""
    overwrite: Annotated[bool, Parameter(negative="")] = False
    """Replace existing files."""
    as_json: Annotated[bool, Parameter(name="--json", negative="")] = False
    """Report as one JSON object on stdout."""
    quiet: Annotated[bool, Parameter(negative="")] = False
    """Say nothing but errors."""


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class TellOptions:
    """What is told."""

    as_json: Annotated[bool, Parameter(name="--json", negative="")] = False
    """Report as one JSON object on stdout."""
    quiet: Annotated[bool, Parameter(negative="")] = False
    """Say nothing but errors."""


def settings_of(
    film: FilmOptions, defaults: SampleConfig = _DEFAULTS
) -> tuple[SampleConfig, list[str]]:
    """The settings these options ask for, and what the user should know of how they were taken.

    Args:
        film: The options.
        defaults: The model's own, where an option is not given.

    Raises:
        SettingError: a value out of range, or two that exclude each other.
    """
    width, height = defaults.width, defaults.height
    if film.size is not None:
        width, height = parse_size(film.size)
    frames, notes = frames_of(film)
    settings = SampleConfig(
        width=width,
        height=height,
        frames=frames,
        seed=film.seed,
        steps=defaults.steps if film.steps is None else film.steps,
        guidance=defaults.guidance if film.guidance is None else film.guidance,
        shift=defaults.shift if film.shift is None else film.shift,
        sampler=film.sampler or defaults.sampler,
    )
    return settings, notes


def frames_of(film: FilmOptions) -> tuple[int, list[str]]:
    """Frames these options ask for, and what the user should know of how they were taken.

    Raises:
        SettingError: a length out of range, or both ways to give one.
    """
    frames, notes = _DEFAULTS.frames, []
    if film.seconds is not None and film.frames is not None:
        msg = (
            f"--seconds and --frames exclude each other, got {film.seconds:g} and {film.frames}; "
            "give one of them"
        )
        raise SettingError(msg)
    if film.frames is not None:
        frames = film.frames
    if film.seconds is not None:
        frames = frames_for(film.seconds)
        rounded = (frames - 1) / FPS
        if abs(rounded - film.seconds) > 1e-6:
            notes.append(f"{film.seconds:g} seconds became {rounded:g}, the next whole frame")
    return frames, notes


def parse_size(text: str, cell: int = SIDE_STEP) -> tuple[int, int]:
    """Width and height from WIDTHxHEIGHT or a name; multiples of a cell.

    Raises:
        SettingError: anything else.
    """
    if text in NAMED_SIZES:
        width, height = NAMED_SIZES[text]
        # Of what is cut into cells nothing is cut off.
        return width, height if cell == SIDE_STEP else height // CELL * CELL
    found = _SIZE.fullmatch(text)
    if found is None:
        names = ", ".join(NAMED_SIZES)
        msg = f"size must be WIDTHxHEIGHT as 448x256, or {names}, got {text!r}"
        raise SettingError(msg)
    width, height = int(found[1]), int(found[2])
    near = [nearest_side(side, cell) for side in (width, height)]
    if near != [width, height]:
        msg = (
            f"size must be two multiples of {cell} from 64 to 4096, got {text}; "
            f"the nearest is {near[0]}x{near[1]}"
        )
        raise SettingError(msg)
    return width, height


def uses_of(texts: Sequence[str]) -> tuple[LoraUse, ...]:
    """LoRAs from FILE or FILE:STRENGTH, by full paths.

    Raises:
        SettingError: no file, or a strength out of range.
    """
    uses = [lora_use(text) for text in texts]
    return tuple(replace(use, file=str(Path(use.file).absolute())) for use in uses)


def refuse_public(public: PublicOptions, model: ModelOptions) -> None:
    """Refuse, with a model of our own, what only public models know.

    Raises:
        SettingError: such an option was given.
    """
    for name, value in vars(public).items():
        if value is not None:
            msg = (
                f"--{name.replace('_', '-')} is for public models; {model.model} has no such thing"
            )
            raise SettingError(msg)


def seconds_of(text: str, option: str) -> float:
    """Seconds from a time as 20, 20s, 12.5s or 1:30.

    Raises:
        SettingError: anything else, a negative time among it.
    """
    found = _TIME.fullmatch(text)
    if found is None:
        msg = f"{option} wants a time from 0 on, as 20s or 1:30, got {text!r}"
        raise SettingError(msg)
    seconds = 60 * int(found[1] or 0) + float(found[2])
    if seconds > MAX_SECONDS:
        msg = f"{option} wants a time of at most {MAX_SECONDS:g} s, got {text!r}"
        raise SettingError(msg)
    return seconds


def cues_of(prompt_at: Sequence[tuple[str, str]]) -> tuple[Cue, ...]:
    """How the prompt goes on.

    Raises:
        SettingError: a time that is none.
        PromptError: a text that is none.
    """
    return tuple(
        Cue(at_s=seconds_of(at, "--prompt-at"), text=read_prompt(text)) for at, text in prompt_at
    )


def kept(options: KeepOptions, frames: int) -> tuple[bool, float]:
    """Whether the folder stays, and how many seconds apart the states in it are; 0: one state.

    Raises:
        SettingError: a time that is none.
    """
    every = 0.0
    if options.keep_every is not None:
        every = seconds_of(options.keep_every, "--keep-every")
    long = (frames - 1) / FPS > LONG_S
    return options.keep or options.keep_every is not None or long, every
