"""`longtake bench`: how fast a model runs here, told so that it can be checked."""

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Parameter

from longtake.cli.memory import memory_errors
from longtake.cli.options import TellOptions, WholeNumber
from longtake.cli.progress import Display, display, tell
from longtake.errors import OutputError, SettingError
from longtake.presets import is_public
from longtake.storage import check_writable

if TYPE_CHECKING:
    import torch

    from longtake.bench.shapes import Shape
    from longtake.pipeline import Event

RANDOM = {"random-480p": "480p", "random-720p": "720p", "random-tiny": "tiny"}
"""Public shapes with random weights, by the name a user types."""
PROMPT = "a red ball bounces on a grass field during the day"
"""The one prompt, so that no report holds anybody's own."""


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class BenchOptions:
    """What is measured, and beside what."""

    model: str = "previz"
    """A preset, or the folder of a model, for whole films; random-480p, random-720p or random-tiny
    for forward and decode of a public shape with random weights."""
    frames: WholeNumber = 81
    """Length of the film."""
    steps: WholeNumber | None = None
    """Sampler steps of the film. Default: the model's own."""
    runs: WholeNumber = 5
    """Counted runs, of which the median is told; the first, cold one is told apart."""
    against: str | None = None
    """diffusers: the same shape, weights and arithmetic through it, eager and compiled (with
    random-... models). Or an earlier report: it is refused unless it measured the same."""
    report: Path | None = None
    """Write everything to this Markdown file: no paths, no names, no prompts."""
    overwrite: Annotated[bool, Parameter(negative="")] = False
    """Replace an older report."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where to compute; auto takes a GPU if there is one."""
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    """Arithmetic; auto takes bf16 where the processor has it."""


Report = Mapping[str, Any]
_BENCH, _TELL = BenchOptions(), TellOptions()


def bench(*, options: BenchOptions = _BENCH, how: TellOptions = _TELL) -> None:
    """Measure how fast a model runs here: cold and warm, stage by stage, with peak memory.

    Args:
        options: What is measured, and beside what.
        how: What is told.
    """
    _check(options)
    from longtake.bench.report import against, facts, ratios, read_report, times, write_report

    beside = options.against
    before = None if beside in {None, "diffusers"} else read_report(Path(str(beside)))
    with display(quiet=how.quiet) as show, memory_errors("fewer --frames or --device cpu"):
        run = _shape if options.model in RANDOM else _film
        report = run(options, before, show)
    if before is not None:
        report["against"] = against(report, before)
    if options.against == "diffusers":
        report["ratios"] = ratios(report)
    if options.report is not None:
        write_report(report, options.report)
    if how.as_json:
        tell(json.dumps(report))
    elif not how.quiet:
        lines = [*facts(report), *(f"{seconds:10.4f} s  {name}" for name, seconds in times(report))]
        for key, other in (("ratios", "diffusers"), ("against", "the earlier run")):
            lines += [f"{ratio:9.2f} x  {name}: time of {other} over ours"
                      for name, ratio in report.get(key, {}).items()]  # fmt: skip
        tell("\n".join(lines))


def _check(options: BenchOptions) -> None:
    """Find what could be in the way before any work.

    Raises:
        SettingError: a value out of range, or two that exclude each other.
        OutputError: a report that is there already.
    """
    if not 1 <= options.runs <= 1000:
        msg = f"--runs must be 1 to 1000, got {options.runs}; try 5"
        raise SettingError(msg)
    if options.against == "diffusers" and options.model not in RANDOM:
        msg = (
            "--against diffusers compares a public shape with random weights, got --model "
            f"{options.model}; try --model random-480p"
        )
        raise SettingError(msg)
    if options.report is not None:
        if options.report.exists() and not options.overwrite:
            msg = f"{options.report} exists already; add --overwrite or choose another name"
            raise OutputError(msg)
        check_writable(options.report)


def _shape(options: BenchOptions, before: Report | None, show: Display) -> dict[str, Any]:
    """A public shape with random weights."""
    from longtake.bench.run import measure_shape, measure_theirs
    from longtake.bench.shapes import shape_named
    from longtake.pipeline import device_of
    from longtake.pipeline.precision import arithmetic_for

    device = device_of(options.device)
    dtype = arithmetic_for(options.precision, device).dtype
    name = RANDOM[options.model]
    shape: Shape = shape_named(name)  # pyrefly: ignore - one of the names above

    def next_is(text: str) -> None:
        show.note(f"measuring: {text}")

    settings = {
        "denoiser": asdict(shape.transformer),
        "latents": list(shape.latents),
        "vae": shape.vae,
        "text_tokens": shape.text_tokens,
    }
    what = f"random weights, {name} shape"
    report = _report(options, what, settings, (dtype, device), before)
    report["measured"] = measure_shape(shape, device, dtype, options.runs, next_is)
    if options.against == "diffusers":
        modes = ("eager", "compiled") if device.type == "cuda" else ("eager",)
        report["diffusers"] = measure_theirs(shape, device, dtype, options.runs, modes, next_is)
    return report


def _film(options: BenchOptions, before: Report | None, show: Display) -> dict[str, Any]:
    """Whole films of a model that has weights."""
    import torch

    from longtake.bench.film import cold_and_warm
    from longtake.pipeline import device_of
    from longtake.pipeline.precision import arithmetic_for

    device = device_of(options.device)
    dtype = arithmetic_for(options.precision, device).dtype
    if is_public(options.model):
        film, settings, what = _public(options, device, dtype)
    else:
        film, settings, what = _own(options, dtype)
    report = _report(options, what, settings, (dtype, device), before)
    total, made = 1 + options.runs, 0

    def next_film() -> "Iterable[Event]":
        nonlocal made
        show.stage("measure", made, total)
        made += 1
        return film()

    with torch.no_grad():
        report["measured"] = cold_and_warm(next_film, device, options.runs)
    show.stage("measure", total, total)
    return report


def _own(
    options: BenchOptions, dtype: "torch.dtype"
) -> "tuple[Callable[[], Iterable[Event]], dict[str, Any], str]":
    from longtake.pipeline import load

    pipe = load(options.model, device=options.device, precision=_name(dtype))
    settings = replace(pipe.defaults, frames=options.frames)
    if options.steps is not None:
        settings = replace(settings, steps=options.steps)
    what = f"films of model {pipe.model_hash[:16]}"
    return (lambda: pipe.stream(PROMPT, settings)), asdict(settings), what


def _public(
    options: BenchOptions, device: "torch.device", dtype: "torch.dtype"
) -> "tuple[Callable[[], Iterable[Event]], dict[str, Any], str]":
    from longtake.official.folder import read_model
    from longtake.official.pipeline import OfficialPipeline, Running
    from longtake.official.settings import OfficialConfig
    from longtake.official.source import fingerprint

    folder = Path(options.model)
    if not folder.is_dir():
        msg = f"bench fetches nothing; name a folder that is here, got {options.model}"
        raise SettingError(msg)
    model = read_model(folder)
    large = model.vae.name == "AutoencoderKLLTX2Video"
    settings = OfficialConfig(
        width=1280 if large else 832, height=704 if large else 480, frames=options.frames,
        steps=50 if options.steps is None else options.steps, sampler=model.sampler,
        flow_shift=model.flow_shift,
    )  # fmt: skip
    pipe = OfficialPipeline(model, Running(device=device, dtype=dtype, offload="none"))
    what = f"films of public model {fingerprint(folder)[:16]}"
    return (lambda: pipe.stream(PROMPT, settings)), asdict(settings), what


def _report(
    options: BenchOptions,
    what: str,
    settings: dict[str, Any],
    how: "tuple[torch.dtype, torch.device]",
    before: Report | None,
) -> dict[str, Any]:
    """What will be measured; refused if it is not what an earlier run measured."""
    from longtake.bench.origin import origin_of
    from longtake.bench.report import check_alike

    dtype, device = how
    # Through JSON, so that a report read back has the same values to compare.
    report = {
        "what": what,
        "settings": json.loads(json.dumps(settings)),
        "precision": _name(dtype),
        "origin": origin_of(device, _command(options)),
    }
    if before is not None:
        check_alike(report, before)
    return report


def _command(options: BenchOptions) -> str:
    """The command that measures this again; files are not named."""
    known = options.model in {*RANDOM, "previz"}
    words = ["longtake bench --model", options.model if known else "FOLDER"]
    for name in ("frames", "steps", "runs", "device", "precision"):
        value = getattr(options, name)
        if value != getattr(_BENCH, name):
            words += [f"--{name}", str(value)]
    if options.against is not None:
        words += ["--against", "diffusers" if options.against == "diffusers" else "REPORT"]
    return " ".join(words)


def _name(dtype: "torch.dtype") -> Literal["fp32", "bf16", "fp16"]:
    match str(dtype):
        case "torch.float32":
            return "fp32"
        case "torch.bfloat16":
            return "bf16"
        case _:
            return "fp16"
