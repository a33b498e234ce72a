"""`longtake generate`: one prompt, one mp4 and its contact sheet."""

import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from longtake import __version__
from longtake.cli.memory import memory_errors
from longtake.cli.options import (
    FilmOptions,
    KeepOptions,
    LoraOptions,
    OutputOptions,
    PublicOptions,
    RunOptions,
    TakeOptions,
    cues_of,
    kept,
    refuse_public,
    settings_of,
)
from longtake.cli.output import check_output
from longtake.cli.progress import Display, display
from longtake.cli.prompt import read_prompt
from longtake.cli.report import report_of, tell_report
from longtake.cli.several import Place, gather, refuse_torchrun
from longtake.config import SampleConfig
from longtake.errors import SettingError
from longtake.media.manifest import Manifest
from longtake.presets import find, is_public

if TYPE_CHECKING:
    from longtake.pipeline import Picture, Pipeline

_FILM, _TAKE, _KEEP = FilmOptions(), TakeOptions(), KeepOptions()
_MODEL, _LORA = RunOptions(), LoraOptions()
_PUBLIC, _OUTPUT = PublicOptions(), OutputOptions()


def generate(
    prompt: str,
    /,
    *,
    film: FilmOptions = _FILM,
    take: TakeOptions = _TAKE,
    keep: KeepOptions = _KEEP,
    model: RunOptions = _MODEL,
    lora: LoraOptions = _LORA,
    public: PublicOptions = _PUBLIC,
    out: OutputOptions = _OUTPUT,
) -> None:
    """Make a film from a prompt.

    Args:
        prompt: What to show, in quotes; - reads it from stdin.
        film: The film.
        take: Changes inside it, and its beginning.
        keep: What stays beside it.
        model: The model.
        lora: What is laid over it.
        public: The public model.
        out: The output.
    """
    refuse_torchrun()
    text = read_prompt(prompt)
    if is_public(model.model):
        from longtake.cli.official import film_of

        film_of(
            text, film=film, take=take, keep=keep, model=model, lora=lora, public=public, out=out
        )
        return
    refuse_public(public, model)
    _film(text, film=film, take=take, keep=keep, model=model, lora=lora, out=out)


def _film(
    text: str,
    *,
    film: FilmOptions,
    take: TakeOptions,
    keep: KeepOptions,
    model: RunOptions,
    lora: LoraOptions,
    out: OutputOptions,
) -> None:
    """Make a film with a model of our own."""
    started = time.perf_counter()
    settings, warnings = settings_of(film)
    cues = cues_of(take.prompt_at)
    stays, every_s = kept(keep, settings.frames)
    find(model.model)
    film_path = out.output or Path("film.mp4")
    output = check_output(film_path, sheet=out.sheet, overwrite=out.overwrite)
    place = None
    if model.gpus != 1:
        place = gather(model, film, text)
        if place is None:
            return
    fix = "fewer --seconds, a smaller --size or --device cpu"
    with display(quiet=out.quiet) as show, memory_errors(fix):
        from longtake.cli.one_pass import follow, write_film
        from longtake.cli.start import make_new, new_manifest
        from longtake.rollout.manifest import film_manifest

        picture, notes = _picture(take.image, settings)
        warnings += notes
        for warning in warnings:
            show.note(warning)
        pipe = _loaded(model, lora, place, show)
        settings, _ = settings_of(film, pipe.defaults)
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
            events = pipe.stream(text, settings)
            if place is not None and not place.team.first:
                follow(events)
                return
            told = write_film(events, made, output, made.tags() if out.metadata else {}, show)
    report = report_of(
        pipe, made, output, settings.frames, started=started, warnings=warnings + told
    )
    tell_report(report, out)


def _loaded(model: RunOptions, lora: LoraOptions, place: Place | None, show: Display) -> "Pipeline":
    """The model, in its place among others."""
    show.stage("load", 0, 1)
    from longtake.pipeline import load
    from longtake.rollout.numerics import fix_threads

    fix_threads()
    pipe = load(model.model, device=model.device, precision=model.precision, loras=lora.uses)
    if place is not None:
        show.note(f"{model.gpus} GPUs: {place.team.roles}")
        pipe = pipe.spread(place.team, place.decoder)
    show.stage("load", 1, 1)
    return pipe


def _picture(path: Path | None, settings: SampleConfig) -> "tuple[Picture | None, list[str]]":
    from longtake.media.picture import read_picture

    return (None, []) if path is None else read_picture(path, settings.width, settings.height)


def _refuse_keeping(pipe: "Pipeline", keep: KeepOptions) -> None:
    for option, given in (("--keep-every", keep.keep_every is not None), ("--keep", keep.keep)):
        if given:
            msg = f"{option}: {pipe.name} was not trained to go on by chunks and has no state"
            raise SettingError(msg)


def _manifest(pipe: "Pipeline", text: str, settings: SampleConfig) -> Manifest:
    import torch

    from longtake.rollout.numerics import processor_of

    return Manifest(
        prompt=text,
        model=pipe.name,
        model_hash=pipe.model_hash,
        version=__version__,
        settings=settings,
        precision=pipe.precision,
        processor=processor_of(pipe.device),
        torch=str(torch.__version__),
        loras=tuple(replace(use, file=Path(use.file).name) for use in pipe.loras),
    )
