"""A take from its folder to its film, as every verb that makes one does it."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

from longtake.cli.interrupts import raise_if_stopped
from longtake.cli.memory import memory_errors
from longtake.cli.output import Output
from longtake.cli.progress import Display
from longtake.config import FPS
from longtake.errors import CannotHere, OutputError, StateError
from longtake.media.frames import pick
from longtake.media.picture import read_picture
from longtake.media.sheet import contact_sheet, save_png, spread
from longtake.pipeline import (
    Border,
    Frames,
    Notice,
    Picture,
    Pipeline,
    Progress,
)
from longtake.rollout.folder import PICTURE, TakeFolder
from longtake.rollout.manifest import TakeManifest, film_manifest, write_manifest
from longtake.rollout.pixels import checksum
from longtake.rollout.recording import Recording

SHEET_FRAMES = 12
"""Most frames on a contact sheet."""


def record(
    pipe: Pipeline,
    output: Output,
    manifest: TakeManifest,
    show: Display,
    *,
    fresh: bool,
    allow_different: bool = False,
) -> list[str]:
    """Make the chunks that are missing and the film from all; return what the user was told.

    Args:
        pipe: The model.
        output: Film, sheet and folder; the folder holds the manifest.
        manifest: What the take is made from.
        show: Takes progress.
        fresh: The folder was made by this run: without a chunk nothing of it stays.
        allow_different: Go on under other arithmetic too.

    Raises:
        StateError: the take was made with other weights or arithmetic, or is damaged.
        CannotHere: no disk or memory; what was made stays.
    """
    folder, identity = TakeFolder(output.folder), pipe.identity
    manifest.check_identity(identity, folder.path, allow_different=allow_different)
    if manifest.identity != identity:
        manifest = replace(manifest, identity=identity)
        write_manifest(folder.path, manifest)
    recording = Recording(folder, output.film, manifest, identity, allow_different=allow_different)
    with _kept(recording, fresh=fresh), memory_errors("a smaller --size or --device cpu"):
        with recording:
            first = recording.chunk
            if not fresh or recording.notes:
                _tell_start(recording, show)
            notices = _roll(pipe, recording, show)
            recording.finish(tags_of(manifest, pipe) if manifest.metadata else {})
        _finish(recording, output, changed=first < manifest.chunks)
    return [*recording.notes, *notices]


def tags_of(manifest: TakeManifest, pipe: Pipeline) -> dict[str, str]:
    """What the film carries of what it was made from."""
    return film_manifest(manifest, pipe.name).tags()


def _tell_start(recording: Recording, show: Display) -> None:
    for note in recording.notes:
        show.note(note)
    made_s = recording.manifest.made_s(recording.chunk)
    whole_s = recording.manifest.frames / FPS
    show.note(f"goes on from {made_s:.2f} s of {whole_s:.2f} s")


def _roll(pipe: Pipeline, recording: Recording, show: Display) -> list[str]:
    notices: list[str] = []
    manifest = recording.manifest
    if recording.chunk == manifest.chunks:
        return notices
    events = pipe.stream(
        manifest.prompt,
        manifest.settings,
        cues=manifest.cues,
        picture=_picture(recording),
        start=recording.start,
    )
    for event in events:
        raise_if_stopped()
        match event:
            case Progress():
                show.stage(event.stage, event.step, event.total)
            case Notice():
                notices.append(event.text)
                show.note(event.text)
            case Border():
                recording.add(event.pixels, event.snapshot)
            case Frames():
                pass
    return notices


def _picture(recording: Recording) -> Picture | None:
    manifest = recording.manifest
    if not manifest.picture or recording.start is not None:
        return None
    path, settings = recording.folder.path / PICTURE, manifest.settings
    pixels, _ = read_picture(path, settings.width, settings.height)
    if checksum(pixels) != manifest.picture:
        msg = f"{path} is not the picture that the take began with; make the take again"
        raise StateError(msg)
    return pixels


def _finish(recording: Recording, output: Output, *, changed: bool) -> None:
    manifest = recording.manifest
    if output.sheet is not None:
        numbers = spread(manifest.frames, SHEET_FRAMES)
        pictures = pick(output.film, numbers)
        told = (cue.text for cue in manifest.cues if cue.text)
        said = ". ".join([manifest.prompt.rstrip(" ."), *told])
        save_png(output.sheet, contact_sheet(pictures, [n / FPS for n in numbers], said))
    if not manifest.keep:
        recording.folder.remove()
    elif changed or not manifest.finished:
        write_manifest(recording.folder.path, replace(manifest, finished=True))


@contextmanager
def _kept(recording: Recording, *, fresh: bool) -> Iterator[None]:
    """Say how a run that stops here goes on; a new one without a chunk leaves nothing.

    Raises:
        CannotHere: in place of what stopped it, if that is the disk or the memory.
        KeyboardInterrupt: with the command that goes on.
    """
    try:
        yield
    except BaseException as error:
        first = recording.start.chunk if recording.start else recording.manifest.begins
        if fresh and recording.chunk <= first:
            _discard(recording)
            raise
        made_s = recording.manifest.made_s(recording.chunk)
        on = f"longtake resume {recording.folder.path} goes on from {made_s:.2f} s"
        match error:
            case KeyboardInterrupt():
                raise KeyboardInterrupt(on) from error
            case OutputError():
                msg = f"paused: {error}; then {on}"
                raise CannotHere(msg) from error
            case CannotHere():
                msg = f"paused: {error}; {on}"
                raise CannotHere(msg) from error
            case _:
                raise


def _discard(recording: Recording) -> None:
    recording.folder.remove()
    if recording.began:
        recording.film.unlink(missing_ok=True)
