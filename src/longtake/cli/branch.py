"""`longtake branch`: another continuation of a take, from any time on."""

import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from longtake.cli.memory import memory_errors
from longtake.cli.options import (
    KeepOptions,
    OutputOptions,
    SameModelOptions,
    kept,
    seconds_of,
)
from longtake.cli.output import check_output
from longtake.cli.progress import display
from longtake.cli.prompt import read_prompt
from longtake.cli.report import tell_take
from longtake.cli.resume import load_same, take_at
from longtake.config import FPS, Cue, frames_for
from longtake.errors import SettingError

if TYPE_CHECKING:
    from longtake.rollout.manifest import TakeManifest

_KEEP, _MODEL, _OUTPUT = KeepOptions(), SameModelOptions(), OutputOptions()


def branch(
    take: Path,
    prompt: str,
    /,
    *,
    at: str,
    seconds: float | None = None,
    keep: KeepOptions = _KEEP,
    model: SameModelOptions = _MODEL,
    out: OutputOptions = _OUTPUT,
) -> None:
    """Make another continuation of a take, without making what comes before again.

    Args:
        take: Folder of the take, or the film beside it.
        prompt: What happens then, in place of what happened; - reads it from stdin.
        at: When, as 30s or 1:30; it takes effect at the first chunk border from there on.
        seconds: Length of the whole new film. Default: that of the take.
        keep: What stays beside it.
        model: The model.
        out: The output.
    """
    started = time.perf_counter()
    from longtake.cli.start import make_fork

    text, at_s = read_prompt(prompt), seconds_of(at, "--at")
    folder, old = take_at(take)
    frames = old.frames if seconds is None else frames_for(seconds)
    manifest = _turned(old, text, at_s, frames)
    film = out.output or folder.with_name(f"{folder.stem}-branch.mp4")
    output = check_output(film, sheet=out.sheet, overwrite=out.overwrite)
    keeping = kept(keep, manifest.frames)
    manifest = replace(
        manifest, film=film.name, sheet=out.sheet, metadata=out.metadata,
        keep=keeping[0], keep_every_s=keeping[1],
    )  # fmt: skip
    with display(quiet=out.quiet) as show, memory_errors("a smaller --size or --device cpu"):
        pipe = load_same(old, model, show)
        different = model.allow_different
        told = make_fork(pipe, folder, old, manifest, output, show, allow_different=different)
    tell_take(pipe, manifest, output, out, started=started, warnings=told)


def _turned(old: "TakeManifest", text: str, at_s: float, frames: int) -> "TakeManifest":
    """The take that turns off at a time.

    Raises:
        SettingError: no chunk of the take begins there.
    """
    own_s = at_s - old.shift_s
    chunk = old.grid.chunk_at(own_s)
    total = round(old.settings.frames + frames - old.frames)
    first_s = old.made_s(max(old.begins, 1))
    if not max(old.begins, 1) <= chunk <= old.chunks or old.grid.frames(chunk).start >= total:
        last_s = min(old.made_s(old.chunks), (frames - 1) / FPS)
        msg = f"--at must be {first_s:.2f} to {last_s:.2f} s here, got {at_s:g}"
        raise SettingError(msg)
    before = tuple(cue for cue in old.cues if old.grid.chunk_at(cue.at_s) < chunk)
    settings = replace(old.settings, frames=total)
    cues = (*before, Cue(at_s=own_s, text=text))
    return replace(old, settings=settings, cues=cues, turn=chunk)
