"""Options that verbs over a shot list share, and what they mean."""

from collections.abc import Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from longtake.cli.options import WholeNumber, parse_size
from longtake.config import SampleConfig, SamplerName
from longtake.errors import OutputError, SettingError
from longtake.shots.shot import ShotList

_DEFAULTS = SampleConfig()
MOST_HANDLES = 240
"""Most frames before and after a shot."""


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class ListOptions:
    """How the shot list is read."""

    rate: str | None = None
    """Frames a second: 16, 23.976, 24, 25, 29.97 (drop-frame), 29.97ndf or 30. Default: the
    list's own, or 24."""
    cast: Annotated[tuple[tuple[str, str], ...], Parameter(negative="", show_default=False)] = ()
    """A name and what it stands for in every prompt, as HERO "a small red ball"; once or more."""
    size: str = f"{_DEFAULTS.width}x{_DEFAULTS.height}"
    """WIDTHxHEIGHT in pixels, multiples of 8; also 480p, 720p."""


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class ShotOptions:
    """How shots are made."""

    handles: WholeNumber = 8
    """Frames before and after each shot in its own file; fewer where the model has no room."""
    retime: Literal["duplicate", "blend", "motion"] = "duplicate"
    """How 16 frames a second become the list's rate: show the newest, mix two, or move along
    estimated motion."""
    lock: Annotated[tuple[str, ...], Parameter(negative="", show_default=False)] = ()
    """A shot whose newest take stays, whatever the list says; once or more."""
    steps: WholeNumber | None = None
    """Sampler steps; time grows in proportion. Default: the model's own."""
    guidance: float | None = None
    """How strongly prompts pull; 1 turns guidance off and halves the time. Default: the model's
    own."""
    shift: float | None = None
    """Timestep shift; above 1 more steps decide motion, fewer decide detail. Default: the model's
    own."""
    sampler: SamplerName | None = None
    """Solver: dpm (DPM-Solver++ 2M) or euler. Default: the model's own."""


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class SceneOutput:
    """What is written and told."""

    output: Annotated[Path | None, Parameter(name=("--output", "-o"))] = None
    """The scene's folder. Default: the list's name without its ending."""
    audio: Path | None = None
    """Sound that goes under the cut as a guide."""
    slate: bool = True
    """A copy with a slate, and show, shot, take, timecode and seed burnt in."""
    metadata: bool = True
    """List and settings inside the mp4."""
    as_json: Annotated[bool, Parameter(name="--json", negative="")] = False
    """Report as one JSON object on stdout."""
    quiet: Annotated[bool, Parameter(negative="")] = False
    """Say nothing but errors."""


def shared_settings(
    size: str, shots: ShotOptions, defaults: SampleConfig = _DEFAULTS
) -> SampleConfig:
    """What all shots of a scene have in common.

    Args:
        size: As it was typed.
        shots: How shots are made.
        defaults: The model's own, where an option is not given.

    Raises:
        SettingError: a value out of range.
    """
    if not 0 <= shots.handles <= MOST_HANDLES:
        msg = f"--handles must be 0 to {MOST_HANDLES} frames, got {shots.handles}; try 8"
        raise SettingError(msg)
    width, height = parse_size(size)
    return SampleConfig(
        width=width,
        height=height,
        steps=defaults.steps if shots.steps is None else shots.steps,
        guidance=defaults.guidance if shots.guidance is None else shots.guidance,
        shift=defaults.shift if shots.shift is None else shots.shift,
        sampler=shots.sampler or defaults.sampler,
    )


def cast_of(given: Sequence[tuple[str, str]]) -> dict[str, str]:
    """The cast by name.

    Raises:
        SettingError: a name twice, or one that is no word.
    """
    found: dict[str, str] = {}
    for name, said in given:
        if not name.isidentifier() or name in found:
            msg = f"--cast wants a name of letters once, then what it stands for, got {name!r}"
            raise SettingError(msg)
        found[name] = said
    return found


def codes_of(named: Sequence[str], scene: ShotList) -> tuple[str, ...]:
    """Shots by the names that a user types: whole, or without the scene.

    Raises:
        SettingError: no such shot, or several.
    """
    found = []
    codes = [shot.code for shot in scene.shots]
    for name in named:
        fits = [code for code in codes if code == name or code.endswith(f"_{name}")]
        if len(fits) != 1:
            near = get_close_matches(name, codes, n=1, cutoff=0.3)
            hint = f"did you mean {near[0]}?" if near else f"there is {', '.join(codes)[:200]}"
            msg = f"--lock {name}: {len(fits) or 'no'} shots of that name; {hint}"
            raise SettingError(msg)
        found += fits
    return tuple(found)


def scene_folder(shot_list: Path, asked: Path | None) -> Path:
    """Where a scene goes.

    Raises:
        OutputError: an mp4 was named.
    """
    folder = asked or shot_list.with_suffix("")
    if folder.suffix.lower() == ".mp4":
        msg = f"a scene is a folder, got {folder}; try {folder.with_suffix('')}"
        raise OutputError(msg)
    return folder
