"""How a take begins: from nothing, from another take, or from the frames of any film."""

from collections import deque
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import torch
from jaxtyping import UInt8
from PIL import Image
from torch import Tensor

from longtake import __version__
from longtake.cli.interrupts import raise_if_stopped
from longtake.cli.options import LONG_S
from longtake.cli.output import Output
from longtake.cli.progress import Display
from longtake.cli.take import record
from longtake.config import FPS, SampleConfig
from longtake.errors import MediaError, SettingError
from longtake.media.frames import Frame
from longtake.media.sheet import save_png
from longtake.pipeline import Picture, Pipeline
from longtake.rollout.disk import check_disk, disk_of, shown
from longtake.rollout.folder import HEAD, PICTURE, TakeFolder
from longtake.rollout.fork import fork
from longtake.rollout.grid import Grid
from longtake.rollout.manifest import TakeManifest, write_manifest
from longtake.rollout.pixels import checksum
from longtake.rollout.snapshot import save_snapshot

HISTORY_S = 5.0
"""Most of a film without a state that the model is shown."""


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
        loras=pipe.loras,
        identity=pipe.identity,
        threads=torch.get_num_threads(),
        version=__version__,
        chunk=pipe.config.chunk,
        prompt=prompt,
        settings=settings,
        sheet=output.sheet is not None,
    )


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
    _tell_disk(pipe, manifest, output.film.parent, show)
    folder = _begin(output)
    if picture is not None:
        save_png(folder.path / PICTURE, Image.fromarray(picture.numpy()))
        manifest = replace(manifest, picture=checksum(picture))
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
    _tell_disk(pipe, manifest, output.film.parent, show)
    turn = min(manifest.turn, was.chunks)
    new = _begin(output)
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
    _tell_disk(pipe, manifest, output.film.parent, show)
    folder = _begin(output)
    try:
        last, before = _keep_head(folder, film, manifest.grid)
        text, settings = manifest.prompt, manifest.settings
        snapshot = pipe.remember(last, text, settings)
        save_snapshot(folder.state(snapshot.chunk), snapshot, pipe.identity)
        settings = replace(settings, frames=settings.frames - 1 + len(last))
        manifest = replace(
            manifest,
            settings=settings,
            begins=snapshot.chunk,
            before=before,
            history=checksum(last),
        )
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


def _begin(output: Output) -> TakeFolder:
    """An empty folder for a new take; one that is there was checked for --overwrite.

    Raises:
        OutputError: it cannot be made.
    """
    folder = TakeFolder(output.folder)
    folder.remove()
    folder.begin()
    return folder


def _tell_disk(pipe: Pipeline, manifest: TakeManifest, place: Path, show: Display) -> None:
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
            f"needs about {shown(disk.making)} of disk while it is made; "
            f"each state takes {shown(disk.state)}"
        )
    check_disk(disk, place)
