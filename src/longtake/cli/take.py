"""A take from its folder to its film, as every verb that makes one does it."""

import hashlib
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import torch
from jaxtyping import UInt8
from PIL import Image
from torch import Tensor

from longtake import __version__
from longtake.cli.interrupts import raise_if_stopped
from longtake.cli.memory import memory_errors
from longtake.cli.options import LONG_S
from longtake.cli.output import Output
from longtake.cli.progress import Display
from longtake.config import FPS, SampleConfig
from longtake.errors import CannotHere, MediaError, OutputError, SettingError
from longtake.media.frames import Frame, pick
from longtake.media.manifest import Manifest
from longtake.media.picture import read_picture
from longtake.media.sheet import contact_sheet, save_png, spread
from longtake.pipeline import (
    Border,
    Device,
    Frames,
    Notice,
    Picture,
    Pipeline,
    Precision,
    Progress,
    load,
)
from longtake.rollout.disk import check_disk, disk_of, shown
from longtake.rollout.folder import HEAD, PICTURE, TakeFolder
from longtake.rollout.fork import fork
from longtake.rollout.grid import Grid
from longtake.rollout.manifest import TakeManifest, write_manifest
from longtake.rollout.recording import Recording
from longtake.rollout.snapshot import save_snapshot

HISTORY_S = 5.0
"""Most of a film without a state that the model is shown."""
SHEET_FRAMES = 12
"""Most frames on a contact sheet."""


def load_for_take(
    model: str, device: Device, precision: Precision, threads: int | None = None
) -> Pipeline:
    """A model that computes with a fixed number of threads.

    Args:
        model: Preset by name, or a folder.
        device: Where to compute.
        precision: Arithmetic.
        threads: Those the take began with. Default: the most here that are a power of two, for
            with other numbers single operations in fp32 give other bytes.

    Raises:
        ModelError: no such model.
        WeightsError: damaged or foreign weights.
        CannotHere: no such device.
    """
    torch.set_num_threads(threads or 1 << (torch.get_num_threads().bit_length() - 1))
    return load(model, device=device, precision=precision)


def begin(output: Output) -> TakeFolder:
    """An empty folder for a new take; one that is there was checked for --overwrite.

    Raises:
        OutputError: it cannot be made.
    """
    folder = TakeFolder(output.folder)
    folder.remove()
    folder.begin()
    return folder


def tell_disk(pipe: Pipeline, manifest: TakeManifest, place: Path, show: Display) -> None:
    """Prove that there is disk for a take, and tell how much a long one needs.

    Raises:
        CannotHere: there is not enough.
    """
    disk = disk_of(
        pipe.config,
        manifest.settings,
        bytes_per_value=2 if pipe.precision == "bf16" else 4,
        kept_states=len(manifest.kept),
    )
    if (manifest.frames - 1) / FPS > LONG_S:
        show.note(
            f"needs up to {shown(disk.making)} of disk while it is made; "
            f"each state takes {shown(disk.state)}"
        )
    check_disk(disk, place)


def make_new(
    pipe: Pipeline,
    output: Output,
    manifest: TakeManifest,
    picture: Picture | None,
    show: Display,
) -> list[str]:
    """Make a take from its beginning; return what the user was told.

    Raises:
        SettingError: something asked for that this model cannot do.
        CannotHere: no disk or memory for it.
    """
    pipe.check(manifest.prompt, manifest.settings, manifest.cues, picture)
    tell_disk(pipe, manifest, output.film.parent, show)
    folder = begin(output)
    if picture is not None:
        path = folder.path / PICTURE
        save_png(path, Image.fromarray(picture.numpy()))
        manifest = replace(manifest, picture=hashlib.sha256(path.read_bytes()).hexdigest())
    write_manifest(folder.path, manifest)
    return record(pipe, output, manifest, show, fresh=True)


def make_fork(
    pipe: Pipeline,
    old: Path,
    was: TakeManifest,
    manifest: TakeManifest,
    output: Output,
    show: Display,
    *,
    allow_different: bool,
) -> list[str]:
    """Make a take that begins as another one did; return what the user was told.

    Args:
        pipe: The model that made the other.
        old: Folder of the other.
        was: What the other is made from.
        manifest: What the new one is made from; its last cue tells where it turns off.
        output: Film, sheet and folder of the new one.
        show: Takes progress.
        allow_different: Go on under other arithmetic too.

    Raises:
        StateError: the other was made with other weights or arithmetic.
        CannotHere: no disk or memory for it.
    """
    was.check_identity(pipe.identity, old, allow_different=allow_different)
    pipe.check(manifest.prompt, manifest.settings, manifest.cues)
    tell_disk(pipe, manifest, output.film.parent, show)
    turn = min(manifest.turn, was.chunks)
    new = begin(output)
    at = fork(TakeFolder(old), new, was, turn, pipe.identity, allow_different=allow_different)
    if at < turn:
        show.note(
            f"no state was kept at {was.made_s(turn):.2f} s; what comes after "
            f"{was.made_s(at):.2f} s is made again (--keep-every keeps more)"
        )
    manifest = replace(manifest, identity=pipe.identity, finished=False)
    write_manifest(new.path, manifest)
    return record(pipe, output, manifest, show, fresh=True, allow_different=allow_different)


def make_after(
    pipe: Pipeline,
    output: Output,
    manifest: TakeManifest,
    film: Iterator[Frame],
    show: Display,
) -> tuple[TakeManifest, list[str]]:
    """Make a take that goes on from the frames of any film; tell what it is made from, and notes.

    Args:
        pipe: The model.
        output: Film, sheet and folder of the new one.
        manifest: Its settings count frame 0 and the frames to be made.
        film: The film's frames.
        show: Takes progress.

    Raises:
        MediaError: damaged, or shorter than a chunk.
        CannotHere: no disk or memory for it.
    """
    tell_disk(pipe, manifest, output.film.parent, show)
    folder = begin(output)
    try:
        last, before = _keep_head(folder, film, manifest.grid)
        text, settings = manifest.prompt, manifest.settings
        snapshot = pipe.remember(last, text, settings)
        save_snapshot(folder.state(snapshot.chunk), snapshot, pipe.identity)
        settings = replace(settings, frames=settings.frames - 1 + len(last))
        manifest = replace(manifest, settings=settings, begins=snapshot.chunk, before=before)
        write_manifest(folder.path, manifest)
    except BaseException:
        folder.remove()
        raise
    show.note(f"goes on from the last {len(last) / FPS:.2f} s; frames before are encoded anew")
    return manifest, record(pipe, output, manifest, show, fresh=True)


def _keep_head(
    folder: TakeFolder, film: Iterator[Frame], grid: Grid
) -> tuple[UInt8[Tensor, "frames height width 3"], int]:
    """Store a film as a piece; the frames of its last whole chunks, and how many it has."""
    least = grid.frames(0).stop
    most = grid.frames(max(grid.chunk_at(HISTORY_S), 1) - 1).stop
    last: deque[Tensor] = deque(maxlen=most)
    total = 0

    def passing() -> Iterator[Frame]:
        nonlocal total
        for frame in film:
            raise_if_stopped()
            last.append(frame)
            total += 1
            yield frame

    folder.store(HEAD, passing())
    if total < least:
        msg = (
            f"the film has {total} frames and the model goes on from {least} or more; "
            "longtake generate --image goes on from a picture"
        )
        raise MediaError(msg)
    per_chunk = least - 1
    whole = 1 + (len(last) - 1) // per_chunk * per_chunk
    return torch.cat(list(last)[-whole:]), total


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
    folder = TakeFolder(output.folder)
    recording = Recording(
        folder, output.film, manifest, pipe.identity, allow_different=allow_different
    )
    if allow_different and manifest.identity != pipe.identity:
        write_manifest(folder.path, replace(manifest, identity=pipe.identity))
    with _kept(recording, fresh=fresh), memory_errors("a smaller --size or --device cpu"):
        with recording:
            first = recording.chunk
            if not fresh or recording.notes:
                _tell_start(recording, show)
            notices = _roll(pipe, recording, show)
            recording.finish(tags_of(manifest, pipe) if manifest.metadata else {})
        _finish(recording, output, changed=first < manifest.chunks)
    return notices


def tags_of(manifest: TakeManifest, pipe: Pipeline) -> dict[str, str]:
    """What the film carries of what it was made from."""
    return film_manifest(manifest, pipe.name).tags()


def film_manifest(manifest: TakeManifest, model: str) -> Manifest:
    """A take as its film tells it."""
    return Manifest(
        prompt=manifest.prompt,
        model=model,
        model_hash=manifest.identity.model_hash,
        version=manifest.version,
        settings=manifest.settings,
        precision=manifest.identity.precision,
        cues=manifest.cues,
        picture=manifest.picture,
        before=manifest.before,
    )


def new_manifest(
    pipe: Pipeline, output: Output, model: str, prompt: str, settings: SampleConfig
) -> TakeManifest:
    """A take from the beginning, with nothing kept.

    Raises:
        SettingError: the model does not go on by chunks.
    """
    if not pipe.config.chunk:
        msg = f"{pipe.name} was not trained to go on by chunks; it makes films in one pass"
        raise SettingError(msg)
    folder = Path(model)
    return TakeManifest(
        film=output.film.name,
        model=str(folder.absolute()) if folder.is_dir() else model,
        identity=pipe.identity,
        threads=torch.get_num_threads(),
        version=__version__,
        chunk=pipe.config.chunk,
        prompt=prompt,
        settings=settings,
        sheet=output.sheet is not None,
    )


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
    pixels, notes = read_picture(path, settings.width, settings.height)
    assert not notes, "it was stored as it is needed"
    return pixels


def _finish(recording: Recording, output: Output, *, changed: bool) -> None:
    manifest = recording.manifest
    if output.sheet is not None:
        numbers = spread(manifest.frames, SHEET_FRAMES)
        pictures = pick(output.film, numbers)
        said = ". ".join([manifest.prompt.rstrip(" ."), *(cue.text for cue in manifest.cues)])
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
