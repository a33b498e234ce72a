"""Shots to takes: which frames the model makes for each, so that the cut is exact.

A shot that begins by a cut is a take of its own: frame 0 of the grid is the first of its head
handle. One that continues, or dissolves, goes on with the take of the shot before: it begins at
the first chunk border at or after that shot's last frame, for there the prompt can change, and
what lies between is trimmed. The state is kept at that border; a tail handle lies beyond it.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from fractions import Fraction

from longtake.config import FPS, Cue, ModelConfig, SampleConfig
from longtake.errors import ShotListError
from longtake.rollout.grid import Grid
from longtake.shots.retime import covered, needed
from longtake.shots.shot import Shot, ShotList, before, order_of


@dataclass(frozen=True, slots=True, kw_only=True)
class TakePlan:
    """The part of a take that is made for one shot."""

    prompt: str
    """What holds from the start of the take."""
    cues: tuple[Cue, ...] = ()
    """How the prompt goes on, up to this shot."""
    settings: SampleConfig
    """Everything else; its frames count from the start of the take."""
    first: int = 0
    """Number of the chunk it begins with; 0 for a take of its own."""
    border: int = 0
    """Number of the chunk before which the state is kept; 0 where everything is one pass."""
    skipped: int = 0
    """Frames of the take before it."""
    head: int = 0
    """Frames of the cut before the shot's own first one."""

    @property
    def made(self) -> int:
        """Frames of the model that are made."""
        return self.settings.frames - self.skipped


@dataclass(frozen=True, slots=True, kw_only=True)
class Planned:
    """A shot, its place in the cut, and what is made for it."""

    shot: Shot
    at: int
    """Frame of the cut at which it begins."""
    take: TakePlan
    tail: int
    """Frames of the cut after the shot's own last one."""

    @property
    def shown(self) -> int:
        """Frames of the shot's file, handles included."""
        return self.take.head + self.shot.frames + self.tail


def plan(
    scene: ShotList,
    name: str,
    model: ModelConfig,
    settings: SampleConfig,
    handles: int = 0,
    locked: Mapping[str, TakePlan] | None = None,
) -> tuple[Planned, ...]:
    """What is made for each shot, in the order they are shown.

    Args:
        scene: The shot list.
        name: Of the model, for messages.
        model: Whether and in what steps it goes on.
        settings: Size, steps and what else all shots share.
        handles: Frames wanted before and after each shot.
        locked: Takes that stay as they are, by code.

    Raises:
        ShotListError: what this model cannot do, by row and column.
    """
    made: dict[str, Planned] = {}
    starts = dict(zip((shot.code for shot in scene.shots), scene.starts(), strict=True))
    needs = before(scene.shots)
    for shot in order_of(scene.shots):
        own = replace(settings, seed=shot.seed, negative=shot.negative)
        if locked and shot.code in locked:
            take = locked[shot.code]
        elif not model.chunk:
            take = _one_pass(shot, name, model, own, scene.rate.fps, handles)
        else:
            past = made[needs[shot.code]].take if shot.transition != "cut" else None
            take = _by_chunks(shot, Grid(model.chunk), past, own, scene.rate.fps, handles)
        made[shot.code] = _placed(shot, starts[shot.code], take, scene.rate.fps, handles)
    return tuple(made[shot.code] for shot in scene.shots)


def _placed(shot: Shot, at: int, take: TakePlan, fps: Fraction, handles: int) -> Planned:
    spare = covered(take.made, fps) - take.head - shot.frames
    if spare < 0:
        msg = (
            f"{shot.row}, column duration: {shot.code} is locked and its take has "
            f"{covered(take.made, fps) - take.head} frames, the list wants {shot.frames}; unlock it"
        )
        raise ShotListError(msg)
    return Planned(shot=shot, at=at, take=take, tail=min(handles, spare))


def _one_pass(
    shot: Shot, name: str, model: ModelConfig, settings: SampleConfig, fps: Fraction, handles: int
) -> TakePlan:
    column, what = "transition", shot.transition
    if shot.transition == "cut":
        column, what = "first_frame", "begin with a picture" if shot.picture or shot.after else ""
    if what:
        msg = (
            f"{shot.row}, column {column}: {name} makes each film in one pass and was not trained "
            f"to {what}; make it a plain cut"
        )
        raise ShotListError(msg)
    most = covered(model.max_frames, fps)
    if shot.frames > most:
        msg = (
            f"{shot.row}, column duration: {shot.frames} frames are "
            f"{float(shot.frames / fps):.2f} s, and {name} makes up to {most} frames in one pass; "
            f"the nearest that works is {most}f, or split the shot"
        )
        raise ShotListError(msg)
    head = min(handles, (most - shot.frames) // 2)
    frames = needed(head + shot.frames + head, fps)
    return TakePlan(prompt=shot.prompt, settings=replace(settings, frames=frames), head=head)


def _by_chunks(
    shot: Shot,
    grid: Grid,
    past: TakePlan | None,
    settings: SampleConfig,
    fps: Fraction,
    handles: int,
) -> TakePlan:
    head = handles if past is None and not (shot.picture or shot.after) else 0
    first = past.border if past else 0
    skipped = grid.frames(first).start
    border = grid.chunks(skipped + needed(head + shot.frames, fps))
    whole = grid.chunks(skipped + needed(head + shot.frames + handles, fps))
    settings = replace(settings, frames=grid.frames(whole - 1).stop)
    take = TakePlan(
        prompt=shot.prompt,
        settings=settings,
        first=first,
        border=border,
        skipped=skipped,
        head=head,
    )
    if past is None:
        return take
    cue = Cue(at_s=grid.begins_s(first), text=shot.prompt, over_s=float(shot.dissolve / fps))
    return replace(take, prompt=past.prompt, cues=(*past.cues, cue))


def last_frame(planned: Planned, fps: Fraction) -> int:
    """The model's frame that is shown last, counted from the first made for the shot."""
    return int((planned.take.head + planned.shot.frames - 1) * FPS / fps)
