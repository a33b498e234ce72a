"""`longtake generate --model` with a public model."""

import hashlib
import os
import time
from dataclasses import replace
from pathlib import Path

import torch

from longtake import __version__
from longtake.checkpoints.hub import Fetching
from longtake.cli.memory import memory_errors, peak_memory_bytes
from longtake.cli.one_pass import follow, write_film
from longtake.cli.options import (
    FilmOptions,
    KeepOptions,
    LoraOptions,
    OutputOptions,
    PublicOptions,
    RunOptions,
    TakeOptions,
    frames_of,
    parse_size,
)
from longtake.cli.output import Output, check_output
from longtake.cli.progress import Display, display
from longtake.cli.report import Report, tell_report
from longtake.cli.several import place_of, public_roles
from longtake.config import FPS
from longtake.errors import SettingError
from longtake.media.picture import read_picture
from longtake.official.folder import PublicModel, read_model
from longtake.official.longsana import LEVELS
from longtake.official.pipeline import OfficialPipeline, Offload, Running, checked_loras
from longtake.official.record import PublicRecord
from longtake.official.settings import OfficialConfig
from longtake.official.source import fingerprint, licences_of, locate
from longtake.parallel import own_device
from longtake.pipeline import Picture, device_of
from longtake.pipeline.loading import arithmetic_of
from longtake.pipeline.loras import hash_with
from longtake.pipeline.precision import Arithmetic
from longtake.pipeline.quantized import stored_format


def film_of(
    text: str,
    *,
    film: FilmOptions,
    take: TakeOptions,
    keep: KeepOptions,
    model: RunOptions,
    lora: LoraOptions,
    public: PublicOptions,
    out: OutputOptions,
) -> None:
    """Make a film with a public model.

    Args:
        text: The prompt.
        film: The film.
        take: Its first picture.
        keep: Nothing can be kept.
        model: The model.
        lora: What is laid over it.
        public: What only public models know.
        out: The output.
    """
    started, film_path = time.perf_counter(), out.output or Path("film.mp4")
    _refuse_takes(take, keep)
    output = check_output(film_path, sheet=out.sheet, overwrite=out.overwrite)
    with display(quiet=out.quiet) as show:
        found = read_model(locate(model.model, lambda what: tell_fetching(what, show)))
    settings, warnings = settings_for(found, film, public)
    roles = public_roles(found, settings, model.gpus)
    place = place_of(roles, device_of(model.device), text)
    if place is None:
        return
    fix = "--offload block, fewer --frames or a smaller --size; longtake plan tells what fits"
    with display(quiet=out.quiet) as show, memory_errors(fix):
        device = own_device(device_of(model.device))
        arithmetic = arithmetic_for_public(found, model, device)
        if note := arithmetic.note(device):
            warnings.append(note)
        running = _running(found, arithmetic, device, public.offload or "text", lora, place.decoder)
        pipe = OfficialPipeline(found, running, place.team)
        pipe.check(text, settings)
        picture, checksum, notes = _first(take.image, settings)
        warnings += notes
        licences = licences_of(found)
        several = [f"{model.gpus} GPUs: {roles}"] if model.gpus > 1 else []
        for note in (*several, *warnings, str(licences)):
            show.note(note)
        record = PublicRecord(
            prompt=text, model=model.model, version=__version__, settings=settings,
            model_hash=hash_with(fingerprint(found.folder), running.loras),
            precision=arithmetic.name, licences=licences, picture=checksum,
            loras=tuple(replace(use, file=Path(use.file).name) for use in running.loras),
        )  # fmt: skip
        events = pipe.stream(text, settings, image=picture)
        if not place.team.first:
            follow(events)
            return
        warnings += write_film(events, record, output, record.tags() if out.metadata else {}, show)
    tell_report(_report(record, output, started, warnings), out)


def _running(
    found: PublicModel, arithmetic: Arithmetic, device: torch.device, offload: Offload,
    lora: LoraOptions, decoder: torch.device | None,
) -> Running:  # fmt: skip
    """How the film is computed; LoRAs are read and checked here, before any other work."""
    return Running(
        device=device, dtype=arithmetic.dtype, how=arithmetic.how, offload=offload,
        cache=cache_folder() / "embeddings", loras=checked_loras(found, lora.uses),
        decode_on=decoder,
    )  # fmt: skip


def _first(path: Path | None, settings: OfficialConfig) -> tuple[Picture | None, str, list[str]]:
    """The first frame, its checksum, and what the user should know of it."""
    if path is None:
        return None, "", []
    picture, notes = read_picture(path, settings.width, settings.height)
    return picture, hashlib.sha256(picture.numpy().tobytes()).hexdigest(), notes


def settings_for(
    model: PublicModel, film: FilmOptions, public: PublicOptions
) -> tuple[OfficialConfig, list[str]]:
    """The settings these options ask for; what is not asked for is as published.

    Raises:
        SettingError: a value out of range.
    """
    frames, notes = frames_of(film)
    large = model.vae.spatial_stride >= 32
    width, height = parse_size(film.size or ("720p" if large else "480p"), max(model.cell))
    plain = OfficialConfig(sampler=model.sampler, flow_shift=model.flow_shift)
    if model.causal:
        # As LongSANA was distilled; its four steps are fixed.
        plain = replace(plain, steps=len(LEVELS), guidance=1.0, motion_score=10)
    settings = OfficialConfig(
        width=width,
        height=height,
        frames=frames,
        seed=film.seed,
        steps=plain.steps if film.steps is None else film.steps,
        guidance=plain.guidance if film.guidance is None else film.guidance,
        flow_shift=plain.flow_shift if film.shift is None else film.shift,
        sampler=film.sampler or plain.sampler,
        motion_score=plain.motion_score if public.motion_score is None else public.motion_score,
        negative=public.negative or "",
        instruction=public.instruction or plain.instruction,
    )
    return settings, notes


def arithmetic_for_public(
    found: PublicModel, model: RunOptions, device: torch.device
) -> Arithmetic:
    """The arithmetic asked for, or that of files in few bits.

    Raises:
        SettingError: another format than that of the files.
        CannotHere: a device that has not got it.
    """
    stored = stored_format(found.folder / "transformer")
    return arithmetic_of(model.precision, stored, model.model, device)


def cache_folder() -> Path:
    """Where prompt embeddings are kept: the user's cache folder."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "longtake"


def _refuse_takes(take: TakeOptions, keep: KeepOptions) -> None:
    for option, given in (
        ("--prompt-at", bool(take.prompt_at)),
        ("--keep", keep.keep),
        ("--keep-every", keep.keep_every is not None),
    ):
        if given:
            msg = (
                f"{option} needs a model that goes on by chunks; a public one makes a film at once"
            )
            raise SettingError(msg)


def tell_fetching(what: Fetching, show: Display) -> None:
    """Show what is about to be fetched, and how large it is.

    Args:
        what: The files.
        show: Takes notes.
    """
    licence = f", licence {what.licence}" if what.licence else ""
    size = what.total_bytes / 2**30
    show.note(
        f"fetching {what.repository} at {what.commit}: {len(what.files)} files, "
        f"{size:.2f} GiB{licence}"
    )
    for name, number in what.files:
        if number >= 2**20:
            show.note(f"  {name}: {number / 2**20:,.0f} MiB")


def _report(record: PublicRecord, output: Output, started: float, warnings: list[str]) -> Report:
    settings = record.settings
    return Report(
        output=str(output.film),
        sheet=str(output.sheet) if output.sheet else None,
        folder=None,
        frames=settings.frames,
        seconds=settings.frames / FPS,
        width=settings.width,
        height=settings.height,
        fps=FPS,
        seed=settings.seed,
        model=record.model,
        model_hash=record.model_hash,
        elapsed_s=round(time.perf_counter() - started, 3),
        peak_memory_bytes=peak_memory_bytes(),
        unknown_words=(),
        warnings=tuple(warnings),
    )
