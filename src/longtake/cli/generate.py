"""`longtake generate`: one prompt, one mp4 and its contact sheet."""

import json
import re
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter, Token

from longtake import __version__
from longtake.cli.interrupts import raise_if_stopped
from longtake.cli.memory import memory_errors, peak_memory_bytes
from longtake.cli.output import Output, check_output
from longtake.cli.progress import Display, display, tell
from longtake.cli.prompt import read_prompt
from longtake.config import FPS, SampleConfig, SamplerName, frames_for
from longtake.errors import SettingError
from longtake.media.manifest import Manifest
from longtake.presets import find

if TYPE_CHECKING:
    from longtake.pipeline import Pipeline

SHEET_FRAMES = 12
"""Most frames on a contact sheet."""
NAMED_SIZES = {"480p": (832, 480), "720p": (1280, 704)}
"""Sizes by name; 704 because 720 is no multiple of 32."""
_DEFAULTS = SampleConfig()
_SIZE = re.compile(r"(\d{1,5})[xX×](\d{1,5})")


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
    size: str = f"{_DEFAULTS.width}x{_DEFAULTS.height}"
    """WIDTHxHEIGHT in pixels, multiples of 32; also 480p, 720p."""
    seed: WholeNumber = _DEFAULTS.seed
    """Which film of the many that fit the prompt; the same seed gives the same film."""
    steps: WholeNumber = _DEFAULTS.steps
    """Sampler steps; time grows in proportion."""
    guidance: float = _DEFAULTS.guidance
    """How strongly the prompt pulls; 1 turns guidance off and halves the time."""
    shift: float = _DEFAULTS.shift
    """Timestep shift; above 1 more steps decide motion, fewer decide detail."""
    sampler: SamplerName = _DEFAULTS.sampler
    """Solver: dpm (DPM-Solver++ 2M) or euler."""


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class ModelOptions:
    """Which model runs, and how."""

    model: str = "previz"
    """Model by name, or a folder with a model.json."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where to compute; auto takes a GPU if there is one."""
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    """Arithmetic; auto takes bf16 where the processor has it."""


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class OutputOptions:
    """What is written and told."""

    output: Annotated[Path, Parameter(name=("--output", "-o"))] = Path("film.mp4")
    """The mp4."""
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What was made; `--json` prints it as it stands here."""

    output: str
    sheet: str | None
    frames: int
    seconds: float
    width: int
    height: int
    fps: int
    seed: int
    model: str
    model_hash: str
    elapsed_s: float
    peak_memory_bytes: int
    unknown_words: tuple[str, ...]
    warnings: tuple[str, ...]


_FILM, _MODEL, _OUTPUT = FilmOptions(), ModelOptions(), OutputOptions()


def generate(
    prompt: str,
    /,
    *,
    film: FilmOptions = _FILM,
    model: ModelOptions = _MODEL,
    out: OutputOptions = _OUTPUT,
) -> None:
    """Make a film from a prompt.

    Args:
        prompt: What to show, in quotes; - reads it from stdin.
        film: The film.
        model: The model.
        out: The output.
    """
    started = time.perf_counter()
    text = read_prompt(prompt)
    settings, warnings = settings_of(film)
    find(model.model)
    output = check_output(out.output, sheet=out.sheet, overwrite=out.overwrite)
    fix = "fewer --seconds, a smaller --size or --device cpu"
    with display(quiet=out.quiet) as show, memory_errors(fix):
        for warning in warnings:
            show.note(warning)
        show.stage("load", 0, 1)
        pipe = _load(model)
        show.stage("load", 1, 1)
        manifest = Manifest(
            prompt=text,
            model=pipe.name,
            model_hash=pipe.model_hash,
            version=__version__,
            settings=settings,
            precision=pipe.precision,
        )
        tags = manifest.tags() if out.metadata else {}
        warnings += _make(pipe, manifest, output, tags, show)
    report = Report(
        output=str(output.film),
        sheet=str(output.sheet) if output.sheet else None,
        frames=settings.frames,
        seconds=settings.frames / FPS,
        width=settings.width,
        height=settings.height,
        fps=FPS,
        seed=settings.seed,
        model=pipe.name,
        model_hash=pipe.model_hash,
        elapsed_s=round(time.perf_counter() - started, 3),
        peak_memory_bytes=peak_memory_bytes(),
        unknown_words=pipe.tokenizer.read(text).unknown,
        warnings=tuple(warnings),
    )
    if out.as_json:
        tell(json.dumps(asdict(report)))
    elif not out.quiet:
        tell(_summary(report))


def settings_of(film: FilmOptions) -> tuple[SampleConfig, list[str]]:
    """The settings these options ask for, and what the user should know of how they were taken.

    Raises:
        SettingError: a value out of range, or two that exclude each other.
    """
    width, height = _parse_size(film.size)
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
    settings = SampleConfig(
        width=width,
        height=height,
        frames=frames,
        seed=film.seed,
        steps=film.steps,
        guidance=film.guidance,
        shift=film.shift,
        sampler=film.sampler,
    )
    return settings, notes


def _parse_size(text: str) -> tuple[int, int]:
    if text in NAMED_SIZES:
        return NAMED_SIZES[text]
    found = _SIZE.fullmatch(text)
    if found is None:
        names = ", ".join(NAMED_SIZES)
        msg = f"size must be WIDTHxHEIGHT as 448x256, or {names}, got {text!r}"
        raise SettingError(msg)
    width, height = int(found[1]), int(found[2])
    near = [min(max(round(side / 32) * 32, 64), 4096) for side in (width, height)]
    if near != [width, height]:
        msg = (
            f"size must be two multiples of 32 from 64 to 4096, got {text}; "
            f"the nearest is {near[0]}x{near[1]}"
        )
        raise SettingError(msg)
    return width, height


def _load(model: ModelOptions) -> "Pipeline":
    from longtake.pipeline import load

    return load(model.model, device=model.device, precision=model.precision)


def _make(
    pipe: "Pipeline", manifest: Manifest, output: Output, tags: dict[str, str], show: Display
) -> list[str]:
    """Write the film and its sheet as the frames come; return the model's notices."""
    from longtake.media.sheet import contact_sheet, spread
    from longtake.media.video import VideoWriter
    from longtake.pipeline import Frames, Notice, Progress
    from longtake.storage import atomic_write, output_errors

    settings, notices, picked = manifest.settings, [], []
    numbers = spread(settings.frames, SHEET_FRAMES)
    with ExitStack() as stack:
        # The film is finished first and the sheet right after: both or none.
        sheet = stack.enter_context(atomic_write(output.sheet)) if output.sheet else None
        writer = stack.enter_context(
            VideoWriter(output.film, width=settings.width, height=settings.height, metadata=tags)
        )
        for event in pipe.stream(manifest.prompt, settings):
            raise_if_stopped()
            match event:
                case Progress():
                    show.stage(event.stage, event.step, event.total)
                case Notice():
                    notices.append(event.text)
                    show.note(event.text)
                case Frames():
                    first, after = writer.frames, writer.frames + len(event.pixels)
                    picked += [event.pixels[n - first] for n in numbers if first <= n < after]
                    writer.write(event.pixels)
        if output.sheet and sheet:
            image = contact_sheet(picked, [n / FPS for n in numbers], manifest.prompt)
            with output_errors(output.sheet):
                image.save(sheet, format="PNG")
    return notices


def _summary(report: Report) -> str:
    film = (
        f"{report.output}: {report.frames} frames, {report.width}x{report.height}, "
        f"{report.seconds:.2f} s at {report.fps} fps, seed {report.seed}, model {report.model}"
    )
    sheet = f"{report.sheet}: contact sheet"
    memory = report.peak_memory_bytes / 2**20
    cost = f"took {report.elapsed_s:.1f} s, peak memory {memory:,.0f} MiB"
    return "\n".join([film, sheet, cost] if report.sheet else [film, cost])
