"""A job's film, from its request to the files in its folder."""

import hashlib
import resource
import time
from collections.abc import Callable, Generator, Mapping
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from longtake import __version__
from longtake.config import FPS, to_dict
from longtake.errors import StateError
from longtake.media.frames import pick
from longtake.media.manifest import Manifest
from longtake.media.picture import read_picture
from longtake.media.sheet import contact_sheet, save_png, spread
from longtake.media.video import VideoWriter
from longtake.pipeline import Border, Event, Frames, Notice, Picture, Pipeline
from longtake.rollout.disk import check_disk, disk_of
from longtake.rollout.folder import PICTURE, TakeFolder
from longtake.rollout.fork import fork
from longtake.rollout.manifest import (
    NAME,
    TakeManifest,
    film_manifest,
    read_manifest,
    write_manifest,
)
from longtake.rollout.numerics import fix_threads
from longtake.rollout.pixels import checksum
from longtake.rollout.recording import Recording
from longtake.server.files import JobFiles
from longtake.server.jobs import KEEP_EVERY_S, FilmRequest

SHEET_FRAMES, SPRITES, SPRITE_WIDTH = 12, 60, 160
_SPRITE_COLUMNS = 10


@dataclass(frozen=True, slots=True)
class Kept:
    """A block that an attempt before stored; it may have been killed before it told so."""

    block: int
    """Blocks so far."""


Tell = Callable[[Event | Kept, int], None]
"""Takes each event and the frames ready; raises to stop."""


@dataclass(frozen=True, slots=True)
class Made:
    """What came of a job."""

    file: str
    """Name of the film in the job's folder."""
    sha256: str
    bytes: int
    frames: int
    width: int
    height: int
    seconds: float
    inference_time_s: float
    peak_memory_mb: int
    notices: tuple[str, ...]
    manifest: Mapping[str, Any]
    pictures: Mapping[str, str]
    """File names by variant."""
    state: str
    """Name of the newest state, below the take's folder; empty without one."""


def make(pipe: Pipeline, request: FilmRequest, files: JobFiles, attempt: int, tell: Tell) -> Made:
    """Make a job's film and pictures; what an attempt before stored is gone on from.

    Args:
        pipe: The model.
        request: What decides the film.
        files: The job's folder.
        attempt: Its number is in the names, so that a late attempt cannot touch a newer one's.
        tell: Hears of every event.

    Raises:
        LongtakeError: it cannot be made as asked, or not here.
    """
    started = time.perf_counter()
    pipe.check(request.prompt, request.settings, request.cues)
    files.sweep(attempt)
    film = files.path(f"video-{attempt}.mp4")
    notices: list[str] = []

    def heard(event: Event | Kept, ready: int) -> None:
        if isinstance(event, Notice):
            notices.append(event.text)
        tell(event, ready)

    if pipe.config.chunk:
        manifest, state = _by_chunks(pipe, request, files, film, heard)
    else:
        manifest, state = _in_one_pass(pipe, request, film, heard), ""
    frames = manifest.settings.frames
    return Made(
        file=film.name,
        sha256=_sha256(film),
        bytes=film.stat().st_size,
        frames=frames,
        width=manifest.settings.width,
        height=manifest.settings.height,
        seconds=(frames - 1) / FPS,
        inference_time_s=round(time.perf_counter() - started, 3),
        peak_memory_mb=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10,
        notices=tuple(dict.fromkeys(notices)),
        manifest=to_dict(manifest),
        pictures=_pictures(film, manifest, files, attempt),
        state=state,
    )


def _in_one_pass(pipe: Pipeline, request: FilmRequest, film: Path, tell: Tell) -> Manifest:
    """All of the film or nothing; a later attempt begins again and gives the same bytes."""
    settings = request.settings
    manifest = Manifest(
        prompt=request.prompt,
        model=pipe.name,
        model_hash=pipe.model_hash,
        version=__version__,
        settings=settings,
        precision=pipe.precision,
    )
    fix_threads()
    size = {"width": settings.width, "height": settings.height}
    # Closed at once if the job ends here, or its maker would go on for a while.
    with (
        VideoWriter(film, **size, metadata=manifest.tags()) as writer,
        closing(pipe.stream(request.prompt, settings)) as events,
    ):
        for event in events:
            if isinstance(event, Frames):
                writer.write(event.pixels)
            tell(event, writer.frames)
    return manifest


def _by_chunks(
    pipe: Pipeline, request: FilmRequest, files: JobFiles, film: Path, tell: Tell
) -> tuple[Manifest, str]:
    """Chunk after chunk; a later attempt goes on from the last that is stored."""
    take, resumed = TakeFolder(files.take), _has_take(files)
    manifest = _take_manifest(pipe, request, files)
    fix_threads(manifest.threads)
    width = 2 if pipe.precision == "bf16" else 4
    kept = len(manifest.kept)
    disk = disk_of(pipe.config, manifest.settings, bytes_per_value=width, kept_states=kept)
    check_disk(disk, files.folder)
    with Recording(take, film, manifest, pipe.identity) as recording:
        for note in recording.notes:
            tell(Notice(note), 0)
        # What the first attempt begins with is another film's, and not news.
        for block in range(1, recording.chunk + 1) if resumed else ():
            tell(Kept(block), min(manifest.grid.frames(block).start, manifest.frames))
        if recording.chunk < manifest.chunks:
            with closing(_stream(pipe, manifest, recording, files)) as events:
                for event in events:
                    if isinstance(event, Border):
                        recording.add(event.pixels, event.snapshot)
                    ready = manifest.grid.frames(recording.chunk).start if recording.chunk else 0
                    tell(event, min(ready, manifest.frames))
        told = film_manifest(manifest, pipe.name)
        recording.finish(told.tags())
    write_manifest(take.path, replace(manifest, finished=True))
    states = take.states()
    return told, take.state(states[-1]).name if states else ""


def _stream(
    pipe: Pipeline, manifest: TakeManifest, recording: Recording, files: JobFiles
) -> Generator[Event, None, None]:
    begins_with = bool(manifest.picture) and recording.start is None
    return pipe.stream(
        manifest.prompt,
        manifest.settings,
        cues=manifest.cues,
        picture=_picture(manifest, files) if begins_with else None,
        start=recording.start,
    )


def _take_manifest(pipe: Pipeline, request: FilmRequest, files: JobFiles) -> TakeManifest:
    """That of an attempt before, or a new one.

    Raises:
        StateError: it was made with other weights or arithmetic.
    """
    if _has_take(files):
        manifest = read_manifest(files.take)
        manifest.check_identity(pipe.identity, files.take, allow_different=False)
        return manifest
    fix_threads()
    manifest = TakeManifest(
        film="video.mp4",
        model=request.model,
        identity=pipe.identity,
        threads=torch.get_num_threads(),
        version=__version__,
        chunk=pipe.config.chunk,
        prompt=request.prompt,
        cues=request.cues,
        settings=request.settings,
        keep=True,
        keep_every_s=KEEP_EVERY_S,
    )
    take = TakeFolder(files.take)
    take.remove()  # an attempt that did not come as far as its manifest
    take.begin()
    if request.parent:
        manifest = _forked(pipe, request, files, manifest)
    elif request.picture:
        settings = request.settings
        pixels, _ = read_picture(files.picture, settings.width, settings.height)
        save_png(files.take / PICTURE, Image.fromarray(pixels.numpy()))
        manifest = replace(manifest, picture=checksum(pixels))
    write_manifest(files.take, manifest)
    return manifest


def _has_take(files: JobFiles) -> bool:
    """Whether an attempt has begun a take."""
    return (files.take / NAME).is_file()


def _forked(
    pipe: Pipeline, request: FilmRequest, files: JobFiles, manifest: TakeManifest
) -> TakeManifest:
    """A take that begins as its parent did; files are linked, so the parent may be deleted."""
    parent = files.beside(request.parent)
    if not _has_take(parent):
        msg = "the video that is to be extended is gone; make it again"
        raise StateError(msg)
    was = read_manifest(parent.take)
    was.check_identity(pipe.identity, parent.take, allow_different=False)
    turn = request.turn or min(was.grid.chunk_at(was.settings.frames / FPS), was.chunks)
    fork(TakeFolder(parent.take), TakeFolder(files.take), was, turn, pipe.identity)
    return replace(manifest, threads=was.threads, picture=was.picture, turn=turn)


def _picture(manifest: TakeManifest, files: JobFiles) -> Picture:
    pixels, _ = read_picture(
        files.take / PICTURE, manifest.settings.width, manifest.settings.height
    )
    if checksum(pixels) != manifest.picture:
        msg = "the picture that the take began with was changed; make the take again"
        raise StateError(msg)
    return pixels


def _pictures(film: Path, manifest: Manifest, files: JobFiles, attempt: int) -> dict[str, str]:
    """A thumbnail, a sheet with the words, and small frames in a grid."""
    frames = manifest.settings.frames
    shown, small = spread(frames, SHEET_FRAMES), spread(frames, SPRITES)
    numbers = sorted({*shown, *small})
    found = dict(zip(numbers, pick(film, numbers), strict=True))
    told = (cue.text for cue in manifest.cues if cue.text)
    said = ". ".join([manifest.prompt.rstrip(" ."), *told])
    sheet = contact_sheet([found[n] for n in shown], [n / FPS for n in shown], said)
    made = {
        "thumbnail": Image.fromarray(found[0].numpy()),
        "contact_sheet": sheet,
        "spritesheet": _sprites([found[n] for n in small]),
    }
    names = {variant: f"{variant}-{attempt}.png" for variant in made}
    for variant, image in made.items():
        save_png(files.path(names[variant]), image)
    return names


def _sprites(frames: list[Picture]) -> Image.Image:
    height, width, _ = frames[0].shape
    size = (SPRITE_WIDTH, max(round(height * SPRITE_WIDTH / width), 1))
    columns = min(_SPRITE_COLUMNS, len(frames))
    rows = -(-len(frames) // columns)
    sheet = Image.new("RGB", (columns * size[0], rows * size[1]))
    for number, frame in enumerate(frames):
        place = (number % columns * size[0], number // columns * size[1])
        sheet.paste(Image.fromarray(frame.numpy()).resize(size), place)
    return sheet


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
