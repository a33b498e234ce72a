"""`longtake generate`: one prompt, one mp4 and its contact sheet."""

import time
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from longtake import __version__
from longtake.cli.interrupts import raise_if_stopped
from longtake.cli.memory import memory_errors
from longtake.cli.options import (
    FilmOptions,
    KeepOptions,
    ModelOptions,
    OutputOptions,
    TakeOptions,
    cues_of,
    kept,
    settings_of,
)
from longtake.cli.output import Output, check_output
from longtake.cli.progress import Display, display
from longtake.cli.prompt import read_prompt
from longtake.cli.report import report_of, tell_report
from longtake.config import FPS, SampleConfig
from longtake.errors import SettingError
from longtake.media.manifest import Manifest
from longtake.presets import find

if TYPE_CHECKING:
    from longtake.pipeline import Picture, Pipeline

_FILM, _TAKE, _KEEP = FilmOptions(), TakeOptions(), KeepOptions()
_MODEL, _OUTPUT = ModelOptions(), OutputOptions()


def generate(
    prompt: str,
    /,
    *,
    film: FilmOptions = _FILM,
    take: TakeOptions = _TAKE,
    keep: KeepOptions = _KEEP,
    model: ModelOptions = _MODEL,
    out: OutputOptions = _OUTPUT,
) -> None:
    """Make a film from a prompt.

    Args:
        prompt: What to show, in quotes; - reads it from stdin.
        film: The film.
        take: Changes inside it, and its beginning.
        keep: What stays beside it.
        model: The model.
        out: The output.
    """
    started = time.perf_counter()
    text = read_prompt(prompt)
    settings, warnings = settings_of(film)
    cues = cues_of(take.prompt_at)
    stays, every_s = kept(keep, settings.frames)
    find(model.model)
    film_path = out.output or Path("film.mp4")
    output = check_output(film_path, sheet=out.sheet, overwrite=out.overwrite)
    fix = "fewer --seconds, a smaller --size or --device cpu"
    with display(quiet=out.quiet) as show, memory_errors(fix):
        from longtake.cli.start import make_new, new_manifest
        from longtake.pipeline import load
        from longtake.rollout.manifest import film_manifest
        from longtake.rollout.numerics import fix_threads

        picture, notes = _picture(take.image, settings)
        warnings += notes
        for warning in warnings:
            show.note(warning)
        show.stage("load", 0, 1)
        fix_threads()
        pipe = load(model.model, device=model.device, precision=model.precision)
        show.stage("load", 1, 1)
        if pipe.config.chunk:
            plain = new_manifest(pipe, output, model.model, text, settings)
            manifest = replace(
                plain, cues=cues, keep=stays, keep_every_s=every_s, metadata=out.metadata
            )
            told = make_new(pipe, output, manifest, picture, show)
            made = film_manifest(manifest, pipe.name)
        else:
            _refuse_keeping(pipe, keep)
            pipe.check(text, settings, cues, picture)
            made = _manifest(pipe, text, settings)
            told = _in_one_pass(pipe, made, output, made.tags() if out.metadata else {}, show)
    report = report_of(
        pipe, made, output, settings.frames, started=started, warnings=warnings + told
    )
    tell_report(report, out)


def _picture(path: Path | None, settings: SampleConfig) -> "tuple[Picture | None, list[str]]":
    from longtake.media.picture import read_picture

    return (None, []) if path is None else read_picture(path, settings.width, settings.height)


def _refuse_keeping(pipe: "Pipeline", keep: KeepOptions) -> None:
    for option, given in (("--keep-every", keep.keep_every is not None), ("--keep", keep.keep)):
        if given:
            msg = f"{option}: {pipe.name} was not trained to go on by chunks and has no state"
            raise SettingError(msg)


def _manifest(pipe: "Pipeline", text: str, settings: SampleConfig) -> Manifest:
    return Manifest(
        prompt=text,
        model=pipe.name,
        model_hash=pipe.model_hash,
        version=__version__,
        settings=settings,
        precision=pipe.precision,
    )


def _in_one_pass(
    pipe: "Pipeline", manifest: Manifest, output: Output, tags: dict[str, str], show: Display
) -> list[str]:
    """Write the film and its sheet as the frames come; return the model's notices."""
    from longtake.cli.take import SHEET_FRAMES
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
