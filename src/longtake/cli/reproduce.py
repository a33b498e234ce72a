"""`longtake reproduce`: a film is made once more from what it carries, and compared."""

import json
import math
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING

from longtake import __version__
from longtake.cli.interrupts import raise_if_stopped
from longtake.cli.memory import memory_errors
from longtake.cli.options import SameModelOptions, TellOptions, uses_of
from longtake.cli.progress import Display, display, tell
from longtake.config import FPS
from longtake.errors import MediaError, SettingError
from longtake.media.manifest import TAG, Manifest, from_tags
from longtake.presets import find

if TYPE_CHECKING:
    from jaxtyping import UInt8
    from torch import Tensor

    from longtake.config import LoraUse
    from longtake.media.compare import Likeness
    from longtake.pipeline import Device, Pipeline
    from longtake.pipeline.precision import Precision
    from longtake.shots.manifest import SceneManifest

_MODEL, _TELL = SameModelOptions(), TellOptions()
_CARRIED = ("title", "comment", "timecode", TAG)
"""Tags that we write; others a player or editor has added."""


@dataclass(frozen=True, slots=True)
class Reproduction:
    """How a film compares with the one made once more."""

    film: str
    same_bytes: bool
    same_frames: bool
    psnr_db: float | None
    """Of all frames that both have together; None if they are equal."""
    worst_db: float | None
    """Of the frame that differs most; None if they are equal."""
    frames: int
    reasons: tuple[str, ...]
    """What is not as it was when the film was made."""
    elapsed_s: float


def reproduce(
    film: Path,
    /,
    *,
    image: Path | None = None,
    model: SameModelOptions = _MODEL,
    out: TellOptions = _TELL,
) -> None:
    """Make a film once more from what it carries, and tell whether the bytes are the same.

    Args:
        film: An mp4 from generate or shoot, with its metadata.
        image: The picture that the film began with, if it did.
        model: The model.
        out: What is told.
    """
    started = time.perf_counter()
    from longtake.media.compare import compare
    from longtake.media.video import read_metadata
    from longtake.pipeline.precision import precision_named
    from longtake.rollout.numerics import fix_threads
    from longtake.shots.manifest import is_scene, manifest_from

    tags = {key: text for key, text in read_metadata(film).items() if key in _CARRIED}
    record = tags.get(TAG, "")
    told = manifest_from(record, film.parent) if is_scene(record) else from_tags(tags)
    if isinstance(told, Manifest):
        _check(told, film, image)
    name = model.model or told.model
    find(name)
    with (
        display(quiet=out.quiet) as show,
        memory_errors("a smaller --size or --device cpu"),
        tempfile.TemporaryDirectory(prefix="longtake-") as place,
    ):
        show.stage("load", 0, 1)
        fix_threads()
        asked = model.precision or precision_named(told.precision)
        loras = uses_of(model.lora) or _beside(told.loras, film)
        adapt = partial(_adapted, name, model.device, asked, loras)
        pipe = adapt(())
        show.stage("load", 1, 1)
        again = Path(place) / "film.mp4"
        if isinstance(told, Manifest):
            _film(pipe, told, image, again, tags, show)
        else:
            _scene(pipe, told, again, tags, show, adapt)
        alike = compare(film, again)
    report = _compared(film, alike, _reasons(pipe, told, film), started)
    if out.as_json:
        tell(json.dumps(asdict(report)))
    elif not out.quiet:
        tell(_summary(report, alike.frames))


def _compared(
    film: Path, alike: "Likeness", reasons: tuple[str, ...], started: float
) -> Reproduction:
    same = alike.mean_db == math.inf and alike.frames[0] == alike.frames[1]
    return Reproduction(
        film=str(film),
        same_bytes=alike.same_bytes,
        same_frames=same,
        psnr_db=round(alike.mean_db, 2) if math.isfinite(alike.mean_db) else None,
        worst_db=round(alike.worst_db, 2) if math.isfinite(alike.worst_db) else None,
        frames=alike.frames[1],
        reasons=reasons,
        elapsed_s=round(time.perf_counter() - started, 3),
    )


def _check(told: Manifest, film: Path, image: Path | None) -> None:
    """Prove that the film carries all it was made from.

    Raises:
        MediaError: it begins with another film, or with a picture that was not given.
    """
    if told.before:
        msg = f"{film} begins with {told.before} frames of another film, which it does not carry"
        raise MediaError(msg)
    if told.picture and image is None:
        msg = f"{film} begins with a picture that it does not carry; give it with --image"
        raise MediaError(msg)
    if image is not None and not told.picture:
        msg = f"{film} does not begin with a picture; leave --image out"
        raise SettingError(msg)


def _beside(loras: "tuple[LoraUse, ...]", film: Path) -> "tuple[LoraUse, ...]":
    """LoRAs that a film names, where they lie: beside the film, or in the working folder.

    Raises:
        MediaError: one lies in neither.
    """
    found = []
    for use in loras:
        places = (film.parent / Path(use.file).name, Path(use.file).name)
        path = next((Path(place) for place in places if Path(place).is_file()), None)
        if path is None:
            msg = f"{film} was made with the LoRA {use.file}; name where it lies with --lora"
            raise MediaError(msg)
        found.append(replace(use, file=str(path)))
    return tuple(found)


def _adapted(
    name: str,
    device: "Device",
    precision: "Precision",
    loras: "tuple[LoraUse, ...]",
    more: "tuple[LoraUse, ...]",
) -> "Pipeline":
    from longtake.pipeline import load

    return load(name, device=device, precision=precision, loras=(*loras, *more))


def _film(
    pipe: "Pipeline",
    told: Manifest,
    image: Path | None,
    again: Path,
    tags: Mapping[str, str],
    show: Display,
) -> None:
    from longtake.media.segments import join_segments
    from longtake.media.video import VideoWriter

    size = {"width": told.settings.width, "height": told.settings.height}
    parts = _parts(pipe, told, image, show)
    if not pipe.config.chunk:
        with VideoWriter(again, **size, metadata=tags) as writer:
            for part in parts:
                writer.write(part)
        return
    pieces: list[Path] = []
    for part in parts:  # a take's film is joined from its chunks, each encoded on its own
        pieces.append(again.with_name(f"{len(pieces):06}.mp4"))
        with VideoWriter(pieces[-1], **size) as writer:
            writer.write(part)
    join_segments(pieces, again, fps=FPS, metadata=tags)


def _parts(
    pipe: "Pipeline", told: Manifest, image: Path | None, show: Display
) -> "Iterator[UInt8[Tensor, 'frames height width 3']]":
    from longtake.media.picture import read_picture
    from longtake.pipeline import Frames, Progress
    from longtake.rollout.pixels import checksum

    settings, picture = told.settings, None
    if image is not None:
        picture, _ = read_picture(image, settings.width, settings.height)
        if checksum(picture) != told.picture:
            msg = f"{image} is not the picture that the film began with"
            raise MediaError(msg)
    for event in pipe.stream(told.prompt, settings, cues=told.cues, picture=picture):
        raise_if_stopped()
        match event:
            case Progress():
                show.stage(event.stage, event.step, event.total)
            case Frames():
                yield event.pixels
            case _:
                pass


def _scene(
    pipe: "Pipeline",
    told: "SceneManifest",
    again: Path,
    tags: Mapping[str, str],
    show: Display,
    adapt: "Callable[[tuple[LoraUse, ...]], Pipeline]",
) -> None:
    from longtake.media.segments import join_segments
    from longtake.shots.plan import plan
    from longtake.shots.render import Made, Rendering
    from longtake.shots.store import Store

    planned = plan(told.scene, pipe.name, pipe.config, told.settings, told.handles)
    store = Store(again.parent / "scene")
    rendering = Rendering(pipe, told.scene, planned, store, told.retiming, adapt=cache(adapt))
    rendering.check()
    for event in rendering.run():
        raise_if_stopped()
        if isinstance(event, Made):
            show.stage("shots", len(rendering.made), len(planned))
    bodies = [store.body(made.record) for made in rendering.cut]
    join_segments(bodies, again, fps=told.scene.rate.fps, metadata=tags)


def _reasons(pipe: "Pipeline", told: "Manifest | SceneManifest", film: Path) -> tuple[str, ...]:
    """What is not as it was: release, weights, arithmetic, machine, or what the film leaves out."""
    import torch

    from longtake.media.guide import has_sound
    from longtake.rollout.numerics import processor_of

    now = {
        "release": (told.version, __version__),
        "weights": (told.model_hash[:12], pipe.model_hash[:12]),
        "precision": (told.precision, pipe.precision),
        "processor": (told.processor, processor_of(pipe.device)),
        "PyTorch": (told.torch, str(torch.__version__)),
    }
    found = [
        f"another {what}: {then or 'not told'}, here {here}"
        for what, (then, here) in now.items()
        if then != here
    ]
    if not isinstance(told, Manifest) and told.frozen:
        found.append(f"locked shots, which are not what the list tells: {', '.join(told.frozen)}")
    if has_sound(film):
        found.append("a guide track, which is not compared")
    return tuple(found)


def _summary(report: Reproduction, frames: tuple[int, int]) -> str:
    if report.same_bytes:
        line = f"{report.film}: equal bytes, {report.frames} frames"
    elif report.same_frames:
        line = f"{report.film}: equal frames, {report.frames} of them, in other bytes"
    elif report.psnr_db is None:
        line = f"{report.film}: the frames that both have are equal"
    else:
        line = f"{report.film}: PSNR {report.psnr_db} dB, {report.worst_db} dB in the worst frame"
    if frames[0] != frames[1]:
        line += f"; {frames[0]} frames there, {frames[1]} made"
    unexplained = "everything told is as it was; the film was changed, or the arithmetic differs"
    reasons = report.reasons or (() if report.same_bytes else (unexplained,))
    return "\n".join([line, *(f"reason: {reason}" for reason in reasons)])
