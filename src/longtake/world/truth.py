"""Exact truth of every clip: poses, tracks, boxes, visibility and events."""

import math
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import torch
from einops import einsum, rearrange
from jaxtyping import Bool, Float
from torch import Tensor

from longtake.config import FPS
from longtake.world.cast import COLOURS, KINDS, MOTIONS, PRIMITIVES, SIZES, Primitive
from longtake.world.choreography import (
    BOUNCE_S,
    TAN_HALF,
    CameraPath,
    Tracks,
    frame_times,
    move_camera,
    table,
    track,
)
from longtake.world.geometry import PARTS_PER_SUBJECT, place, project
from longtake.world.render import render_ids
from longtake.world.scene import MAX_SUBJECTS, SLOTS, WORLD_VERSION, Scenes
from longtake.world.stage import CAMERAS, GROUNDS, LIGHTS

Box = tuple[float, float, float, float]
Point = tuple[float, float, float]
_ROUND_POINTS = 24
_SLACK = 1.02
"""Boxes come from points on the surface; this covers what bulges between them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pose:
    """Camera of one frame; metres and unit vectors."""

    eye: Point
    right: Point
    up: Point
    forward: Point
    focal: float
    """Focal length in frame heights."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """Something that happens to a subject at a moment."""

    what: Literal["contact", "enters", "leaves"]
    time_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class SubjectTruth:
    """One subject through a clip; one entry per frame."""

    kind: str
    colour: str
    size: str
    motion: str
    slot: str
    track: tuple[Point, ...]
    """Point the subject stands on, in metres: x right, y up, z away from the camera."""
    boxes: tuple[Box | None, ...]
    """Left, top, right, bottom in pixels, cut at the frame; None while out of it."""
    in_frame: tuple[float, ...]
    """Share of the whole box that lies in the frame."""
    visible: tuple[float, ...] | None
    """Share of the subject that is seen, from `with_visibility`."""
    events: tuple[Event, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ClipTruth:
    """Everything that is true of a clip; `dataclasses.asdict` makes it JSON."""

    version: int
    ground: str
    light: str
    camera: str
    fps: float
    height: int
    width: int
    poses: tuple[Pose, ...]
    subjects: tuple[SubjectTruth, ...]


def truth(
    scenes: Scenes,
    *,
    frames: int = 81,
    fps: float = FPS,
    height: int = 256,
    width: int = 448,
    start_s: float = 0.0,
) -> list[ClipTruth]:
    """What is true of each clip, without rendering it."""
    times = frame_times(len(scenes), frames, fps, start_s, torch.device("cpu"))
    camera, tracks = move_camera(scenes, times), track(scenes, times)
    full, behind = _boxes(scenes, camera, tracks, height, width)
    return [
        ClipTruth(
            version=WORLD_VERSION,
            ground=GROUNDS[scenes.ground[clip]].name,
            light=LIGHTS[scenes.light[clip]].name,
            camera=CAMERAS[scenes.camera[clip]].name,
            fps=float(fps),
            height=height,
            width=width,
            poses=_poses(camera, clip),
            subjects=tuple(
                _subject(
                    scenes, clip, i, tracks.position[clip, :, i], times[clip],
                    _cut(full[clip, :, i], behind[clip, :, i], height, width),
                )
                for i in range(int(scenes.num_subjects[clip]))
            ),
        )
        for clip in range(len(scenes))
    ]  # fmt: skip


def with_visibility(
    truths: list[ClipTruth], scenes: Scenes, *, start_s: float = 0.0, scale: int = 4
) -> list[ClipTruth]:
    """Add each subject's visible share, seen in id maps `scale` times smaller than the frames.

    It is the share of the box in the frame times the share of the pixels there that nothing hides.
    """
    whole = truths[0]
    frames, height, width = len(whole.poses), whole.height // scale, whole.width // scale

    def count(view: Scenes, number: int) -> Float[np.ndarray, "b frames"]:
        ids = render_ids(
            view, frames=frames, height=height, width=width, start_s=start_s, fps=whole.fps
        )
        return (ids == number).sum((2, 3)).double().numpy()

    shares = []
    for i in range(MAX_SUBJECTS):
        alone = count(_without_others(scenes, i), i)
        shares.append(np.where(alone > 0, count(scenes, i) / np.maximum(alone, 1), 0.0))
    return [
        replace(
            clip,
            subjects=tuple(
                replace(
                    subject,
                    visible=tuple(
                        round(float(share * inside), 4)
                        for share, inside in zip(shares[i][n], subject.in_frame, strict=True)
                    ),
                )
                for i, subject in enumerate(clip.subjects)
            ),
        )
        for n, clip in enumerate(truths)
    ]


def _without_others(scenes: Scenes, keep: int) -> Scenes:
    """The same scenes with every other subject moved out of the world."""
    jitter = scenes.subject_jitter.copy()
    motion = scenes.motion.copy()
    others = [i for i in range(MAX_SUBJECTS) if i != keep]
    jitter[:, others, 1] = _ELSEWHERE
    motion[:, others] = 0
    return replace(scenes, subject_jitter=jitter, motion=motion)


_ELSEWHERE = 1e5
"""Jitter of x that puts a subject tens of kilometres away."""


def _poses(camera: CameraPath, clip: int) -> tuple[Pose, ...]:
    rows = torch.stack(
        [camera.eye[clip], camera.right[clip], camera.up[clip], camera.forward[clip]], dim=1
    )
    focal = 1 / (2 * TAN_HALF)
    return tuple(
        Pose(
            eye=_point(eye), right=_point(right), up=_point(up), forward=_point(forward),
            focal=round(focal, 6),
        )
        for eye, right, up, forward in rows.tolist()
    )  # fmt: skip


def _point(values: list[float]) -> Point:
    x, y, z = (round(value, 5) for value in values)
    return x, y, z


def _subject(
    scenes: Scenes,
    clip: int,
    i: int,
    positions: Float[Tensor, "frames 3"],
    times: Float[Tensor, " frames"],
    cut: tuple[list[Box | None], list[float]],
) -> SubjectTruth:
    boxes, inside = cut
    motion = MOTIONS[scenes.motion[clip, i]]
    events = _crossings(inside, times.tolist())
    if motion.bounce:
        events += _contacts(float(scenes.subject_jitter[clip, i, 4]), times.tolist())
    return SubjectTruth(
        kind=KINDS[scenes.kind[clip, i]].name,
        colour=COLOURS[scenes.colour[clip, i]].name,
        size=SIZES[scenes.size[clip, i]].name,
        motion=motion.name,
        slot=SLOTS[scenes.slot[clip, i]],
        track=tuple(_point(p) for p in positions.tolist()),
        boxes=tuple(boxes),
        in_frame=tuple(inside),
        visible=None,
        events=tuple(sorted(events, key=lambda event: event.time_s)),
    )


def _contacts(phase: float, times: list[float]) -> list[Event]:
    """Moments at which a bouncing subject touches the ground."""
    first = math.ceil(times[0] / BOUNCE_S + phase)
    last = math.floor(times[-1] / BOUNCE_S + phase)
    return [
        Event(what="contact", time_s=round((n - phase) * BOUNCE_S, 4))
        for n in range(first, last + 1)
    ]


def _crossings(inside: list[float], times: list[float]) -> list[Event]:
    """Moments at which more than half of a subject comes into the frame or goes out of it."""
    events = []
    for before, after, time_s in zip(inside, inside[1:], times[1:], strict=False):
        if before < 0.5 <= after:
            events.append(Event(what="enters", time_s=round(time_s, 4)))
        elif after < 0.5 <= before:
            events.append(Event(what="leaves", time_s=round(time_s, 4)))
    return events


def _boxes(
    scenes: Scenes, camera: CameraPath, tracks: Tracks, height: int, width: int
) -> tuple[Float[Tensor, "b frames subjects 4"], Bool[Tensor, "b frames subjects"]]:
    """Whole boxes in pixels, and where a subject reaches behind the camera."""
    solids = place(scenes, tracks)
    count = MAX_SUBJECTS * PARTS_PER_SUBJECT
    primitive = solids.primitive[:, :count]
    shown = primitive >= 0
    surface = table([_surface(p) for p in PRIMITIVES], solids.half)
    local = surface[primitive.clamp(min=0).long()] * _SLACK * solids.half[:, :count, None]
    points = solids.centre[:, :, :count, None] + einsum(
        solids.turn[:, :, :count], local, "b f p i j, b p n j -> b f p n i"
    )
    u, v, behind = project(camera, points)
    focal = height / (2 * TAN_HALF)
    x, y = width / 2 + u * focal, height / 2 - v * focal
    far = torch.where(shown[:, None, :, None], 0.0, torch.inf)

    def per_subject(values: Tensor) -> Tensor:
        return rearrange(values, "b f (s p) n -> b f s (p n)", s=MAX_SUBJECTS)

    sides = [
        per_subject(x + far).amin(-1),
        per_subject(y + far).amin(-1),
        per_subject(x - far).amax(-1),
        per_subject(y - far).amax(-1),
    ]
    behind = behind & shown[:, None, :, None]
    return torch.stack(sides, dim=-1), per_subject(behind).any(-1)


def _cut(
    full: Float[Tensor, "frames 4"], behind: Bool[Tensor, " frames"], height: int, width: int
) -> tuple[list[Box | None], list[float]]:
    """Boxes cut at the frame and the share of each that lies in it."""
    boxes: list[Box | None] = []
    shares = []
    for (left, top, right, bottom), hidden in zip(full.tolist(), behind.tolist(), strict=True):
        box = (max(left, 0.0), max(top, 0.0), min(right, float(width)), min(bottom, float(height)))
        area = max(box[2] - box[0], 0.0) * max(box[3] - box[1], 0.0)
        gone = hidden or area <= 0
        boxes.append(None if gone else tuple(round(side, 2) for side in box))  # pyrefly: ignore
        shares.append(0.0 if gone else round(area / ((right - left) * (bottom - top)), 4))
    return boxes, shares


def _surface(primitive: Primitive) -> list[Point]:
    """Points whose hull is close to the primitive, all lists equally long."""
    turns = [2 * math.pi * i / _ROUND_POINTS for i in range(_ROUND_POINTS)]
    circle = [(math.cos(a), math.sin(a)) for a in turns]
    square = [(x, z) for x in (-1.0, 1.0) for z in (-1.0, 1.0)]
    points: list[Point]
    match primitive:
        case "sphere":
            rings = [math.pi * i / 12 for i in range(1, 12)]
            points = [
                (math.sin(a) * x, math.cos(a), math.sin(a) * z) for a in rings for x, z in circle
            ]
            points += [(0.0, 1.0, 0.0), (0.0, -1.0, 0.0)]
        case "cube":
            points = [(x, y, z) for x, z in square for y in (-1.0, 1.0)]
        case "cylinder":
            points = [(x, y, z) for x, z in circle for y in (-1.0, 1.0)]
        case "cone":
            points = [(0.0, 1.0, 0.0)] + [(x, -1.0, z) for x, z in circle]
        case "pyramid":
            points = [(0.0, 1.0, 0.0)] + [(x, -1.0, z) for x, z in square]
        case "ring":
            points = [(x, y, z) for x, y in circle for z in (-1.0, 1.0)]
    most = 11 * _ROUND_POINTS + 2
    return (points * math.ceil(most / len(points)))[:most]
