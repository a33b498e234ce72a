"""`longtake precision-report` and `longtake selftest`."""

import json
import os
from collections.abc import Iterator
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from longtake.cli.interrupts import raise_if_stopped
from longtake.cli.memory import memory_errors
from longtake.cli.official import settings_for, tell_fetching
from longtake.cli.options import FilmOptions, PublicOptions, TellOptions, parse_size
from longtake.cli.precision_verbs import ReportingOptions, SelftestOptions
from longtake.cli.progress import Display, display, tell
from longtake.config import SampleConfig, frames_for
from longtake.errors import CannotHere, OutputError, SettingError
from longtake.evaluate.precision import (
    FEW,
    LayerCost,
    Make,
    layer_costs,
    passes_of,
    stay_high,
    whole_costs,
)
from longtake.evaluate.precision_report import PrecisionReport, write_plot
from longtake.evaluate.prompts import draw
from longtake.evaluate.report import write_json
from longtake.model import Transformer
from longtake.official.folder import read_model
from longtake.official.pipeline import Condition, OfficialPipeline, Running
from longtake.official.settings import OfficialConfig
from longtake.official.source import locate
from longtake.pipeline import device_of, load
from longtake.pipeline.quantized import stored_format
from longtake.presets import find, is_public
from longtake.quantize import Format, has_units, trials
from longtake.storage import check_writable, output_errors

REPORT, PLOT = "report.json", "layers.png"
MOST_CLIPS, MOST_PASSES = 64, 64
PUBLIC_STEPS = 8
"""Steps of a public model's clips: enough to see errors add up."""
_DONE = "the report is finished"


def try_formats(which: Format | None, where: SelftestOptions, how: TellOptions) -> None:
    """Tell what each trial came to.

    Raises:
        CannotHere: a trial failed.
    """
    device = device_of(where.device)
    found = [
        (name, trial) for name in ([which] if which else FEW) for trial in trials(name, device)
    ]
    if how.as_json:
        tell(json.dumps([{"format": name, **asdict(trial)} for name, trial in found]))
    elif not how.quiet:
        for name, trial in found:
            tell(f"{'ok ' if trial.fine else 'BAD'}  {name} {trial.what}: {trial.told}")
    if bad := [f"{name} {trial.what}" for name, trial in found if not trial.fine]:
        msg = f"not as it should be: {', '.join(bad)}; models unpack their weights instead"
        raise CannotHere(msg)


@torch.no_grad()
def report_on(name: str, of: ReportingOptions, how: TellOptions) -> None:
    """Measure a model and write and tell what came out.

    Raises:
        SettingError: a value out of range, or weights that are in few bits already.
        OutputError: an older report, or no right to write.
    """
    _check(of)
    device = device_of(of.device)
    with display(quiet=how.quiet) as show, memory_errors("fewer --seconds or --device cpu"):
        show.stage("load", 0, 1)
        build = _public if is_public(name) else _own
        denoiser, makes, clip = build(name, of, device, show)
        show.stage("load", 1, 1)
        report = _measured(name, denoiser, makes, clip, of, show)
    write_plot(of.output / PLOT, report.layers)
    write_json(of.output / REPORT, report.as_json())
    if how.as_json:
        tell(json.dumps(report.as_json()), done=_DONE)
    elif not how.quiet:
        tell(f"{report.as_text()}\n{of.output / REPORT}: all numbers\n{of.output / PLOT}: a plot",
             done=_DONE)  # fmt: skip


def _measured(
    name: str,
    denoiser: Transformer,
    makes: list[Make],
    clip: str,
    of: ReportingOptions,
    show: Display,
) -> PrecisionReport:
    made = [passes_of(denoiser, make, of.passes) for make in makes]
    passes = made[0][1]
    layers: list[LayerCost] = []
    for event in layer_costs(denoiser, passes):
        raise_if_stopped()
        if isinstance(event, LayerCost):
            layers.append(event)
        else:
            show.stage("measure", event.done, event.total)
    clips = [(make, film) for make, (film, _) in zip(makes, made, strict=True)]
    device = next(denoiser.parameters()).device
    return PrecisionReport(
        model=name,
        device=torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU",
        emulated=_emulated(device),
        clip=clip,
        layers=tuple(layers),
        whole=tuple(_each(whole_costs(denoiser, passes, clips))),
        most=of.most,
        stay_high={how: stay_high(layers, how, of.most) for how in FEW},
    )


def _each(costs: Iterator) -> Iterator:
    for cost in costs:
        raise_if_stopped()
        yield cost


def _emulated(device: torch.device) -> str:
    missing = [how for how in FEW if not has_units(how, device)]
    named = " and ".join(missing) or "none"
    return (
        "everything in fp32 but what is rounded; products of rounded numbers are emulated, so that "
        f"they are the same everywhere (formats this device has no units for: {named})"
    )


def _own(
    name: str, of: ReportingOptions, device: torch.device, _show: Display
) -> tuple[Transformer, list[Make], str]:
    _refuse_few(find(name).folder, name)
    pipe = load(name, device="cuda" if device.type == "cuda" else "cpu", precision="fp32")
    _refuse_chunks(name, by_chunks=bool(pipe.config.chunk))
    plain = pipe.defaults
    width, height = parse_size(of.size) if of.size else (plain.width, plain.height)
    settings = replace(
        plain,
        width=width,
        height=height,
        frames=frames_for(of.seconds),
        steps=of.steps or plain.steps,
    )

    def make(prompt: str) -> Tensor:
        return pipe.generate(prompt, settings=settings).frames

    prompts = [asked.prompt for asked in draw(of.clips, 0)][: of.clips]
    return pipe.transformer, [partial(make, prompt) for prompt in prompts], _clip(of, settings)


def _public(
    name: str, of: ReportingOptions, device: torch.device, show: Display
) -> tuple[Transformer, list[Make], str]:
    """Clips of a public model are its latents, so that no VAE is needed."""
    found = read_model(locate(name, lambda what: tell_fetching(what, show)))
    _refuse_few(found.folder / "transformer", name)
    _refuse_chunks(name, by_chunks=found.causal)
    running = Running(device=device, dtype=torch.float32, offload="text")
    pipe = OfficialPipeline(found, running)
    film = FilmOptions(seconds=of.seconds, size=of.size, steps=of.steps or PUBLIC_STEPS)
    settings, _ = settings_for(found, film, PublicOptions())
    prompts = [asked.prompt for asked in draw(of.clips, 0)][: of.clips]
    conditions = [pipe.condition(prompt, settings)[0] for prompt in prompts]

    def make(condition: Condition) -> Tensor:
        *_, latents = pipe.denoise(pipe.noise(settings), condition, settings)
        return latents

    makes = [partial(make, condition) for condition in conditions]
    return pipe.denoiser(), makes, f"latents of {_clip(of, settings)}"


def _clip(of: ReportingOptions, settings: SampleConfig | OfficialConfig) -> str:
    return (
        f"{of.clips} clips of {settings.width}x{settings.height}x{settings.frames}, "
        f"{settings.steps} steps"
    )


def _refuse_chunks(name: str, *, by_chunks: bool) -> None:
    if by_chunks:
        msg = f"the report is for models that make films in one pass; {name} goes on by chunks"
        raise SettingError(msg)


def _refuse_few(folder: Path, name: str) -> None:
    if stored := stored_format(folder):
        msg = f"{name} is stored in {stored}; the report wants the weights in full it came from"
        raise SettingError(msg)


def _check(of: ReportingOptions) -> None:
    for option, value, least, most, fix in (
        ("clips", of.clips, 1, MOST_CLIPS, 1),
        ("passes", of.passes, 1, MOST_PASSES, 2),
        ("most", of.most, 1e-6, 1, 0.05),
        ("seconds", of.seconds, 0.05, 60, 0.5),
        ("steps", of.steps or 1, 1, 1000, 8),
    ):
        # Written so that NaN fails.
        if not least <= value <= most:
            msg = f"--{option} must be {least:g} to {most:g}, got {value}; try {fix}"
            raise SettingError(msg)
    with output_errors(of.output / REPORT):
        of.output.mkdir(parents=True, exist_ok=True)
    for path in (of.output / REPORT, of.output / PLOT):
        if os.path.lexists(path) and not of.overwrite:
            msg = f"{path} exists already; add --overwrite or choose another folder with -o"
            raise OutputError(msg)
        check_writable(path)
