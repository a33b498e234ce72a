"""`longtake evaluate`: films are made and read, and what is right is counted."""

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from longtake.cli.interrupts import raise_if_stopped
from longtake.cli.memory import memory_errors
from longtake.cli.options import LoraOptions, ModelOptions, WholeNumber
from longtake.cli.output import check_files, check_report
from longtake.cli.progress import Display, display, tell
from longtake.cli.prompt import STDIN, read_prompt
from longtake.config import SampleConfig
from longtake.errors import ModelError, SettingError
from longtake.presets import find

if TYPE_CHECKING:
    from longtake.evaluate.prompts import Asked
    from longtake.evaluate.reader.read import Reader
    from longtake.evaluate.suite import Read
    from longtake.pipeline import Pipeline

MOST_FILMS = 10_000
"""Most films of one run."""
_PLOTS = "plots"
_DONE = "the evaluation is finished"


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class SuiteOptions:
    """What is filmed, and what reads it."""

    prompts: Path | None = None
    """A file with a prompt, or a JSON object with prompt and facts, on each line."""
    video: Path | None = None
    """Read this film against the prompt instead of making any."""
    films: WholeNumber | None = None
    """Films to make. Default: 16, or all of --prompts."""
    level: str = "first"
    """How much of the world the drawn prompts show: first, cast, action or whole."""
    seed: WholeNumber = 0
    """Which scenes and wordings are drawn, and which film of each prompt is made."""
    steps: WholeNumber | None = None
    """Sampler steps of each film. Default: the model's own."""
    reader: Path | None = None
    """Folder of the reader's network. Default: the one that ships."""


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class ReportOptions:
    """What is written and told."""

    output: Annotated[Path, Parameter(name=("--output", "-o"))] = Path("evaluation")
    """Folder of the report, the plots and the sheet of the worst films."""
    overwrite: Annotated[bool, Parameter(negative="")] = False
    """Replace the files of an earlier evaluation."""
    as_json: Annotated[Path | None, Parameter(name="--json")] = None
    """Write the report to this file as well; - prints it."""
    quiet: Annotated[bool, Parameter(negative="")] = False
    """Say nothing but errors."""


_SUITE, _MODEL = SuiteOptions(), ModelOptions()
_LORA, _REPORT = LoraOptions(), ReportOptions()


def evaluate(
    prompt: str | None = None,
    /,
    *,
    suite: SuiteOptions = _SUITE,
    model: ModelOptions = _MODEL,
    lora: LoraOptions = _LORA,
    out: ReportOptions = _REPORT,
) -> None:
    """Score a model by films that a reader compares with their prompts.

    Args:
        prompt: One prompt to film and read; it goes with --video too.
        suite: What is filmed and read.
        model: The model.
        lora: What is laid over it.
        out: The report.
    """
    started = time.perf_counter()
    with display(quiet=out.quiet) as show:
        _check(prompt, suite)
        asked = _asked(prompt, suite, show)
        if suite.video is not None:
            report = _read_video(suite.video, asked[0], suite, show)
            text = json.dumps(report, indent=1)
            _check_outputs(out, folder=False)
        else:
            find(model.model)
            _check_outputs(out, folder=True)
            report, text = _run(asked, suite, model, lora, out, show)
    report["elapsed_s"] = round(time.perf_counter() - started, 1)
    _tell(report, text, out)


def _check(prompt: str | None, suite: SuiteOptions) -> None:
    if suite.video is not None and prompt is None:
        msg = 'a film is read against a prompt; try: longtake evaluate "a red ball" --video F.mp4'
        raise SettingError(msg)
    if suite.prompts is not None and prompt is not None:
        msg = "a prompt and --prompts exclude each other; put the prompt in the file"
        raise SettingError(msg)
    if suite.films is not None and not 1 <= suite.films <= MOST_FILMS:
        msg = f"films must be 1 to {MOST_FILMS:,}, got {suite.films}; try 16"
        raise SettingError(msg)
    _settings(suite, SampleConfig())


def _settings(suite: SuiteOptions, plain: SampleConfig) -> SampleConfig:
    """A film's settings: the model's own, and what the options say."""
    steps = plain.steps if suite.steps is None else suite.steps
    return replace(plain, steps=steps, seed=suite.seed)


def _asked(prompt: str | None, suite: SuiteOptions, show: Display) -> "list[Asked]":
    from longtake.evaluate.prompts import draw, one_of, read_prompts
    from longtake.world.level import level_named

    level = level_named(suite.level)
    if prompt is not None:
        asked = [one_of(read_prompt(prompt))]
    elif suite.prompts is not None:
        asked, notes = read_prompts(suite.prompts)
        for note in notes:
            show.note(note)
        asked = asked[: suite.films]
    else:
        return draw(suite.films or 16, suite.seed, level)
    unknown = sorted({word for one in asked for word in one.unknown})
    if unknown:
        more = f" and {len(unknown) - 20} more" if len(unknown) > 20 else ""
        show.note(f"the model does not know: {', '.join(unknown[:20])}{more}")
    nothing = sum(not one.facts for one in asked)
    if nothing:
        show.note(f"{nothing} of {len(asked)} prompts state nothing that can be scored")
    return asked


def _check_outputs(out: ReportOptions, *, folder: bool) -> None:
    """Find what could be in the way before any work."""
    also = None if out.as_json is None or _is_dash(out.as_json) else out.as_json
    if not folder:
        check_files([also] if also else [], overwrite=out.overwrite)
        return
    check_report(out.output, ("report.json",), also, overwrite=out.overwrite)
    (out.output / _PLOTS).mkdir(exist_ok=True)


def _is_dash(path: Path) -> bool:
    return str(path) in (STDIN, "-")


def _reader(suite: SuiteOptions, device: Any, show: Display) -> "Reader":  # noqa: ANN401
    """The reader; without its network what rules alone can tell is scored, and that is said."""
    from longtake.evaluate.reader.read import FOLDER, Reader, load_reader

    try:
        return load_reader(suite.reader or FOLDER, device)
    except ModelError as error:
        if suite.reader is not None:
            raise
        show.note(f"{error}; until then kinds, sizes and motions are not scored")
        return Reader(None)


def _scorable(asked: "Sequence[Asked]", reader: "Reader") -> "list[Asked]":
    from longtake.evaluate.reader.network import HEADS

    if reader.network is not None:
        return list(asked)
    return [
        replace(one, facts=tuple(f for f in one.facts if f.attribute not in HEADS)) for one in asked
    ]


def _run(
    asked: "list[Asked]",
    suite: SuiteOptions,
    model: ModelOptions,
    lora: LoraOptions,
    out: ReportOptions,
    show: Display,
) -> tuple[dict[str, Any], str]:
    from longtake.evaluate.report import table_text, write_json, write_plots, write_worst
    from longtake.evaluate.suite import scores
    from longtake.pipeline import load

    fix = "fewer --films or --device cpu"
    with memory_errors(fix):
        show.stage("load", 0, 1)
        pipe = load(model.model, device=model.device, precision=model.precision, loras=lora.uses)
        reader = _reader(suite, pipe.device, show)
        show.stage("load", 1, 1)
        settings = _settings(suite, pipe.defaults)
        settings = replace(settings, frames=min(settings.frames, pipe.config.max_frames))
        read = _films(_scorable(asked, reader), pipe, reader, settings, show)
    report: dict[str, Any] = {
        "model": pipe.name, "model_hash": pipe.model_hash, "seed": suite.seed, **scores(read),
    }  # fmt: skip
    if reader.network is None:
        for table in (report["metrics"], *report["splits"].values()):
            table.pop("binding", None)
    report["prompts"] = [_row(r) for r in read]
    write_plots(out.output / _PLOTS, report)
    sheet = write_worst(out.output / "worst.png", read)
    write_json(out.output / "report.json", report)
    lines = [table_text(report), f"{out.output / 'report.json'}: all numbers"]
    lines.append(f"{out.output / _PLOTS}: a plot of each metric")
    if sheet:
        lines.append(f"{out.output / 'worst.png'}: the films with most that is wrong")
    return report, "\n".join(lines)


def _films(
    asked: "list[Asked]",
    pipe: "Pipeline",
    reader: "Reader",
    settings: SampleConfig,
    show: Display,
) -> "list[Read]":
    from longtake.evaluate.suite import Read, films

    read: list[Read] = []
    show.stage("films", 0, len(asked))
    for event in films(asked, pipe, reader, settings):
        raise_if_stopped()
        if isinstance(event, Read):
            read.append(event)
            show.stage("films", len(read), len(asked))
    return read


def _row(read: "Read") -> dict[str, Any]:
    seen = read.model
    return {
        "prompt": read.asked.prompt,
        "split": read.asked.split,
        "stated": [[f.subject, f.attribute, f.value] for f in read.asked.facts],
        "seen": _told(seen),
    }


def _told(reading: Any) -> dict[str, Any]:  # noqa: ANN401 - a FilmReading
    return {
        "explained": reading.explained,
        "light": reading.light,
        "ground": reading.ground,
        "camera": reading.camera,
        "subjects": [
            {
                "colour": one.colour, "kind": one.kind, "size": one.size, "motion": one.motion,
                "slot": one.slot, "way_m": list(one.way_m),
            }
            for one in reading.subjects
        ],
    }  # fmt: skip


def _read_video(path: Path, asked: "Asked", suite: SuiteOptions, show: Display) -> dict[str, Any]:
    from longtake.evaluate.metrics import mark
    from longtake.evaluate.suite import expectations
    from longtake.media.video import read_video

    film, fps = read_video(path)
    reader = _reader(suite, "cpu", show)
    reading = reader.read(film, fps)
    for note in reading.notes:
        show.note(note)
    [asked] = _scorable([asked], reader)
    marks = mark(asked.facts, reading, expectations())
    return {
        "video": str(path),
        "prompt": asked.prompt,
        "stated": [[f.subject, f.attribute, f.value] for f in asked.facts],
        "seen": _told(reading),
        "right": {name: all(values) for name, values in marks.items()},
    }


def _tell(report: dict[str, Any], text: str, out: ReportOptions) -> None:
    from longtake.evaluate.report import write_json

    if out.as_json is not None and _is_dash(out.as_json):
        tell(json.dumps(report), done=_DONE)
        return
    if out.as_json is not None:
        write_json(out.as_json, report)
    if not out.quiet:
        tell(text, done=_DONE)
