"""`longtake animatic`: the cut with boards in place of shots, before any model runs."""

import json
import os
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from longtake.cli.options import parse_size
from longtake.cli.progress import display, tell
from longtake.cli.scene import ListOptions, cast_of
from longtake.errors import OutputError
from longtake.storage import check_writable


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class AnimaticOutput:
    """What is written and told."""

    output: Annotated[Path | None, Parameter(name=("--output", "-o"))] = None
    """The mp4; timeline and edit list go beside it. Default: the list's name and _animatic.mp4."""
    audio: Path | None = None
    """Sound that goes under it as a guide."""
    overwrite: Annotated[bool, Parameter(negative="")] = False
    """Replace existing files."""
    as_json: Annotated[bool, Parameter(name="--json", negative="")] = False
    """Report as one JSON object on stdout."""
    quiet: Annotated[bool, Parameter(negative="")] = False
    """Say nothing but errors."""


@dataclass(frozen=True, slots=True)
class AnimaticReport:
    """What was made."""

    files: tuple[str, ...]
    shots: int
    frames: int
    seconds: float
    rate: str
    elapsed_s: float
    warnings: tuple[str, ...]


_LIST, _OUTPUT = ListOptions(), AnimaticOutput()


def animatic(
    shot_list: Path, /, *, reading: ListOptions = _LIST, out: AnimaticOutput = _OUTPUT
) -> None:
    """Show the timing of a shot list with title boards that move as the camera will.

    Args:
        shot_list: CSV, TSV, JSON, Fountain or OpenTimelineIO file.
        reading: The list.
        out: The output.
    """
    started = time.perf_counter()
    from longtake.media.guide import check_sound
    from longtake.shots.animatic import animatic as write
    from longtake.shots.read import read_shots
    from longtake.shots.timeline import check_length

    scene = read_shots(shot_list, reading.rate or "", cast_of(reading.cast))
    check_length(scene, shot_list)
    width, height = parse_size(reading.size)
    film = out.output or shot_list.with_name(f"{shot_list.stem}_animatic.mp4")
    files = _checked(film, overwrite=out.overwrite)
    if out.audio:
        check_sound(out.audio)
    with display(quiet=out.quiet) as show:
        for note in scene.notes:
            show.note(note)
        show.stage("cut", 0, 1)
        write(scene, film, width, height, out.audio)
        show.stage("cut", 1, 1)
    report = AnimaticReport(
        files=tuple(map(str, files)),
        shots=len(scene.shots),
        frames=scene.frames,
        seconds=float(scene.rate.seconds(scene.frames)),
        rate=scene.rate.name,
        elapsed_s=round(time.perf_counter() - started, 3),
        warnings=scene.notes,
    )
    if out.as_json:
        tell(json.dumps(asdict(report)))
    elif not out.quiet:
        tell(
            f"{film}: {report.shots} shots, {report.frames} frames, {report.seconds:.2f} s at "
            f"{report.rate} fps\n{files[1].name}, {files[2].name}: the same cut for an editor\n"
            f"took {report.elapsed_s:.1f} s"
        )


def _checked(film: Path, *, overwrite: bool) -> tuple[Path, Path, Path]:
    """The three files, none of which is someone else's.

    Raises:
        OutputError: no mp4, not writable, or there already.
    """
    if film.suffix.lower() != ".mp4":
        msg = f"the output must end in .mp4, got {film.name}; try {film.with_suffix('.mp4')}"
        raise OutputError(msg)
    check_writable(film)
    files = (film, film.with_suffix(".otio"), film.with_suffix(".edl"))
    for path in files:
        if path.is_dir() or (not overwrite and os.path.lexists(path)):
            msg = f"{path} exists already; add --overwrite or choose another name with -o"
            raise OutputError(msg)
    return files
