"""`longtake extend`: a film goes on, from its take's state or from the pixels of any other."""

import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from cyclopts import Parameter

from longtake.cli.memory import memory_errors
from longtake.cli.options import (
    KeepOptions,
    OutputOptions,
    SameModelOptions,
    WholeNumber,
    kept,
    uses_of,
)
from longtake.cli.output import Output, check_output
from longtake.cli.progress import Display, display
from longtake.cli.prompt import read_prompt
from longtake.cli.report import tell_take
from longtake.cli.resume import load_same, take_at
from longtake.config import FPS, SIDE_STEP, TAKE_SUFFIX, Cue, frames_for, nearest_side
from longtake.errors import MediaError, PromptError, SettingError, StateError
from longtake.presets import find

if TYPE_CHECKING:
    from longtake.media.frames import Looks
    from longtake.pipeline import Pipeline
    from longtake.rollout.manifest import TakeManifest


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class MoreOptions:
    """What comes after."""

    seconds: float = 5.0
    """How much longer the film becomes."""
    seed: WholeNumber | None = None
    """Which continuation of a film without a state; a take goes on with its own seed."""


_MORE, _KEEP = MoreOptions(), KeepOptions()
_MODEL, _OUTPUT = SameModelOptions(), OutputOptions()


@dataclass(frozen=True, slots=True)
class _Asked:
    """What the arguments ask for."""

    film: Path
    text: str | None
    added: int
    """Frames."""
    seed: int | None
    keep: KeepOptions
    model: SameModelOptions
    out: OutputOptions
    output: Output

    def kept_as_asked(self, manifest: "TakeManifest") -> "TakeManifest":
        """A take that is kept and told as asked."""
        keeping = kept(self.keep, manifest.frames)
        return replace(
            manifest, film=self.output.film.name, sheet=self.out.sheet, keep=keeping[0],
            keep_every_s=keeping[1], metadata=self.out.metadata,
        )  # fmt: skip


def extend(
    film: Path,
    prompt: str | None = None,
    /,
    *,
    more: MoreOptions = _MORE,
    keep: KeepOptions = _KEEP,
    model: SameModelOptions = _MODEL,
    out: OutputOptions = _OUTPUT,
) -> None:
    """Make a film longer.

    A take whose folder was kept goes on from its state: first come the frames that its end had
    cut off. Of any other film of the model's rate the last 5 seconds are what the model knows;
    the prompt then has to tell the whole scene.

    Args:
        film: The film, or the folder of its take.
        prompt: What happens next; - reads it from stdin. A take needs none.
        more: What comes after.
        keep: What stays beside it.
        model: The model.
        out: The output.
    """
    started = time.perf_counter()
    text = None if prompt is None else read_prompt(prompt)
    added = frames_for(more.seconds) - 1
    target = out.output or film.with_name(f"{film.stem}-extended.mp4")
    from_state = film.with_suffix(TAKE_SUFFIX).is_dir()
    make = _from_state if from_state else _from_pixels
    output = check_output(target, sheet=out.sheet, overwrite=out.overwrite)
    asked = _Asked(film, text, added, more.seed, keep, model, out, output)
    with display(quiet=out.quiet) as show, memory_errors("a smaller film or --device cpu"):
        pipe, manifest, told = make(asked, show)

    tell_take(pipe, manifest, output, out, started=started, warnings=told)


def _from_state(asked: _Asked, show: Display) -> "tuple[Pipeline, TakeManifest, list[str]]":
    folder, old = take_at(asked.film)
    if not old.finished:
        msg = f"{folder} is unfinished; longtake resume {folder} comes first"
        raise StateError(msg)
    if asked.seed is not None:
        msg = f"{folder} goes on with its own seed {old.settings.seed}; leave out --seed"
        raise SettingError(msg)
    from longtake.cli.start import make_fork

    frames, cues = old.settings.frames, old.cues
    if asked.text is not None:
        cues = (*cues, Cue(at_s=frames / FPS, text=asked.text))
    settings = replace(old.settings, frames=frames + asked.added)
    manifest = replace(old, settings=settings, cues=cues, turn=old.grid.chunk_at(frames / FPS))
    manifest = asked.kept_as_asked(manifest)
    pipe = load_same(old, asked.model, show)
    different = asked.model.allow_different
    told = make_fork(pipe, folder, old, manifest, asked.output, show, allow_different=different)
    return pipe, manifest, told


def _from_pixels(asked: _Asked, show: Display) -> "tuple[Pipeline, TakeManifest, list[str]]":
    from longtake.cli.start import make_after, new_manifest
    from longtake.media.frames import frames_of, looks_of
    from longtake.pipeline import load
    from longtake.rollout.numerics import fix_threads

    if asked.text is None:
        msg = (
            f"{asked.film} has no state beside it, so the prompt has to tell the whole scene; "
            'try: longtake extend FILM "a red ball rolls on over grass"'
        )
        raise PromptError(msg)
    looks = looks_of(asked.film)
    _check_looks(asked.film, looks)
    name = asked.model.model or "previz"
    find(name)
    show.stage("load", 0, 1)
    fix_threads()
    pipe = load(
        name,
        device=asked.model.device,
        precision=asked.model.precision or "auto",
        loras=uses_of(asked.model.lora),
    )
    show.stage("load", 1, 1)
    settings = replace(
        pipe.defaults,
        width=looks.width,
        height=looks.height,
        frames=asked.added + 1,
        seed=asked.seed or 0,
    )
    manifest = new_manifest(pipe, asked.output, name, asked.text, settings)
    pipe.check(asked.text, settings)
    manifest, told = make_after(
        pipe, asked.output, asked.kept_as_asked(manifest), frames_of(asked.film), show
    )
    return pipe, manifest, told


def _check_looks(film: Path, looks: "Looks") -> None:
    if looks.fps != FPS:
        msg = (
            f"{film} has {float(looks.fps):g} frames a second and the model makes {FPS}; "
            f"re-time it first, e.g. ffmpeg -i {film} -r {FPS} retimed.mp4"
        )
        raise MediaError(msg)
    near = [nearest_side(side) for side in (looks.width, looks.height)]
    if near != [looks.width, looks.height]:
        msg = (
            f"{film} is {looks.width}x{looks.height} and sides must be multiples of {SIDE_STEP} "
            f"from 64 to 4096; scale it first, e.g. to {near[0]}x{near[1]}"
        )
        raise MediaError(msg)
