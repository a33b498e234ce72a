"""`longtake resume`: a take that was stopped goes on to the film it would have been."""

import json
import time
from pathlib import Path
from typing import TYPE_CHECKING

from longtake.cli.memory import memory_errors
from longtake.cli.options import SameModelOptions, TellOptions, uses_of
from longtake.cli.output import Output
from longtake.cli.progress import Display, display, tell
from longtake.cli.report import tell_take
from longtake.config import TAKE_SUFFIX
from longtake.errors import StateError
from longtake.storage import check_writable

if TYPE_CHECKING:
    from longtake.pipeline import Pipeline
    from longtake.rollout.manifest import TakeManifest

_MODEL, _TELL = SameModelOptions(), TellOptions()


def resume(take: Path, /, *, model: SameModelOptions = _MODEL, out: TellOptions = _TELL) -> None:
    """Go on with a take that was stopped or killed, to the same bytes.

    Args:
        take: Its folder, or the film beside it.
        model: The model.
        out: What is told.
    """
    started = time.perf_counter()
    from longtake.cli.take import record

    folder, manifest = take_at(take)
    output = output_of(folder, manifest)
    if manifest.finished and output.film.exists():
        line = f"{output.film} is finished already; longtake extend makes it longer"
        if not out.quiet:
            tell(
                json.dumps({"output": str(output.film), "finished": True}) if out.as_json else line
            )
        return
    check_writable(output.film)
    fix = "a smaller --size or --device cpu"
    with display(quiet=out.quiet) as show, memory_errors(fix):
        pipe = load_same(manifest, model, show)
        different = model.allow_different
        told = record(pipe, output, manifest, show, fresh=False, allow_different=different)
    tell_take(pipe, manifest, output, out, started=started, warnings=told)


def _tell_finished(film: Path, out: TellOptions) -> None:
    if out.as_json:
        tell(json.dumps({"output": str(film), "finished": True}))
    elif not out.quiet:
        tell(f"{film} is finished already; longtake extend makes it longer")


def take_at(path: Path) -> "tuple[Path, TakeManifest]":
    """The folder of a take, named by itself or by its film, and what it is made from.

    Raises:
        StateError: there is no take.
    """
    from longtake.rollout.manifest import read_manifest

    folder = path if path.suffix == TAKE_SUFFIX else path.with_suffix(TAKE_SUFFIX)
    if not folder.is_dir():
        msg = (
            f"there is no take at {path}: a take that is unfinished or was kept has a folder "
            f"{folder.name} beside its film"
        )
        raise StateError(msg)
    return folder, read_manifest(folder)


def output_of(folder: Path, manifest: "TakeManifest") -> Output:
    """Where a take's film and sheet lie."""
    film = folder.parent / manifest.film
    return Output(film, film.with_suffix(".png") if manifest.sheet else None)


def load_same(manifest: "TakeManifest", model: SameModelOptions, show: Display) -> "Pipeline":
    """The model that began a take, computing as it did then.

    Raises:
        ModelError: it is not where it was.
        CannotHere: this machine has no such device.
    """
    from longtake.pipeline import load
    from longtake.pipeline.precision import precision_named
    from longtake.rollout.numerics import fix_threads

    show.stage("load", 0, 1)
    precision = model.precision or precision_named(manifest.identity.precision)
    device = model.device
    if device == "auto":
        device = "cuda" if manifest.identity.device == "cuda" else "cpu"
    fix_threads(manifest.threads)
    loras = uses_of(model.lora) or manifest.loras
    pipe = load(model.model or manifest.model, device=device, precision=precision, loras=loras)
    show.stage("load", 1, 1)
    return pipe
