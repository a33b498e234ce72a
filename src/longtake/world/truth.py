"""Exact truth of every clip: poses, tracks, boxes, visibility and events."""

import math
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import torch
from einops import einsum, rearrange
from jaxtyping import Bool, Float, Int8
from torch import Tensor

from longtake.config import FPS
from longtake.world.bodies import PRIMITIVES, Primitive
from longtake.world.camera import CameraPath, move_camera
from longtake.world.cast import COLOURS, KINDS, MATERIALS, MOTIONS, SIZES, Motion
from longtake.world.choreography import (
    BOUNCE_S,
    Tracks,
    frame_times,
    table,
    track,
)
from longtake.world.geometry import parts_per_subject, place, project
from longtake.world.render import render_ids
from longtake.world.scene import SLOTS, WORLD_VERSION, Scenes
from longtake.world.stage import CAMERAS, GROUNDS, LIGHTS, SHOTS

EventKind = Literal["contact", "enters", "leaves", "appears", "disappears", "starts", "changes"]
Box = tuple[float, float, float, float]
Point = tuple[float, float, float]
_ROUND_POINTS = 24
_SEEN = 0.05
"""Metres below which a subject counts as gone."""
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

    what: EventKind
    time_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class SubjectTruth:
    """One subject through a clip; one entry per frame."""

    kind: str
    colour: str
    size: str
    material: str
    motion: str
    then: str | None
    """Motion after the change."""
    follows: int | None
    """Number of the subject it trails."""
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
    wind: float
    """How far grass sways, 0 to 1."""
    camera: str
    shot: str
    """Size of the first subject in the frame."""
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
    gone = tracks.scale < _SEEN
    return [
        ClipTruth(
            version=WORLD_VERSION,
            ground=GROUNDS[scenes.ground[clip]].name,
            light=LIGHTS[scenes.light[clip]].name,
            wind=float(scenes.wind[clip]),
            camera=CAMERAS[scenes.camera[clip]].name,
            shot=SHOTS[scenes.shot[clip]].name,
            fps=float(fps),
            height=height,
            width=width,
            poses=_poses(camera, clip),
            subjects=tuple(
                _subject(
                    scenes, clip, i, tracks.position[clip, :, i], times[clip],
                    _cut(full[clip, :, i], behind[clip, :, i] | gone[clip, :, i], height, width),
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

    def ids(only: int | None) -> Int8[Tensor, "b frames height width"]:
        return render_ids(
            scenes, frames=frames, height=height, width=width, start_s=start_s, fps=whole.fps,
            only=only,
        )  # fmt: skip

    def count(seen: Int8[Tensor, "b frames height width"], number: int) -> np.ndarray:
        return (seen == number).sum((2, 3)).double().numpy()

    together, shares = ids(None), []
    for i in range(scenes.kind.shape[1]):
        alone = count(ids(i), i)
        shares.append(np.where(alone > 0, count(together, i) / np.maximum(alone, 1), 0.0))
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


def _poses(camera: CameraPath, clip: int) -> tuple[Pose, ...]:
    rows = torch.stack(
        [camera.eye[clip], camera.right[clip], camera.up[clip], camera.forward[clip]], dim=1
    )
    focal = 1 / (2 * camera.tan_half[clip])
    return tuple(
        Pose(
            eye=_point(eye), right=_point(right), up=_point(up), forward=_point(forward),
            focal=round(length, 6),
        )
        for (eye, right, up, forward), length in zip(rows.tolist(), focal.tolist(), strict=True)
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
    changes = bool(np.isfinite(scenes.change_s[clip, i]))
    return SubjectTruth(
        kind=KINDS[scenes.kind[clip, i]].name,
        colour=COLOURS[scenes.colour[clip, i]].name,
        size=SIZES[scenes.size[clip, i]].name,
        material=MATERIALS[scenes.material[clip, i]].name,
        motion=motion.name,
        then=MOTIONS[scenes.then[clip, i]].name if changes else None,
        follows=0 if motion.follows else None,
        slot=SLOTS[scenes.slot[clip, i]],
        track=tuple(_point(p) for p in positions.tolist()),
        boxes=tuple(boxes),
        in_frame=tuple(inside),
        visible=None,
        events=_events(scenes, clip, i, inside, times.tolist()),
    )


def _events(
    scenes: Scenes, clip: int, i: int, inside: list[float], times: list[float]
) -> tuple[Event, ...]:
    """What happens to a subject within the given times, in order."""
    motion, then = MOTIONS[scenes.motion[clip, i]], MOTIONS[scenes.then[clip, i]]
    start, change = float(scenes.start_s[clip, i]), float(scenes.change_s[clip, i])
    phase = float(scenes.subject_jitter[clip, i, 4]) if start == 0 else 0.0
    events = _crossings(inside, times, (motion, then))
    if motion.bounce:
        # Whoever is in the air when the next motion begins comes down first.
        end = times[-1]
        if math.isfinite(change):
            hops = math.ceil((change - start) / BOUNCE_S + phase)
            end = min(end, start + (hops - phase) * BOUNCE_S + 1e-3)
        events += _contacts(phase, start, end, times[0])
    if then.bounce and math.isfinite(change):
        events += _contacts(0.0, change, times[-1], times[0])
    if start > 0:
        events.append(Event(what="starts", time_s=start))
    if math.isfinite(change):
        events.append(Event(what="changes", time_s=change))
    inside_clip = [e for e in events if times[0] <= e.time_s <= times[-1]]
    return tuple(sorted(inside_clip, key=lambda event: event.time_s))


def _contacts(phase: float, start: float, until: float, since: float) -> list[Event]:
    """Moments at which a subject that bounces from `start` on touches the ground."""
    first = math.ceil(max(since - start, 0.0) / BOUNCE_S + phase)
    last = math.floor((until - start) / BOUNCE_S + phase)
    return [
        Event(what="contact", time_s=round(start + (n - phase) * BOUNCE_S, 4))
        for n in range(first, last + 1)
    ]


def _crossings(
    inside: list[float], times: list[float], motions: tuple[Motion, Motion]
) -> list[Event]:
    """Moments at which more than half of a subject comes to be in the frame or ceases to be."""
    pops = any(motion.at_once for motion in motions)
    comes: EventKind = "appears" if pops else "enters"
    goes: EventKind = "disappears" if pops else "leaves"
    events = []
    for before, after, time_s in zip(inside, inside[1:], times[1:], strict=False):
        if before < 0.5 <= after:
            events.append(Event(what=comes, time_s=round(time_s, 4)))
        elif after < 0.5 <= before:
            events.append(Event(what=goes, time_s=round(time_s, 4)))
    return events


def _boxes(
    scenes: Scenes, camera: CameraPath, tracks: Tracks, height: int, width: int
) -> tuple[Float[Tensor, "b frames subjects 4"], Bool[Tensor, "b frames subjects"]]:
    """Whole boxes in pixels, and where a subject reaches behind the camera."""
    solids = place(scenes, tracks)
    subjects = scenes.kind.shape[1]
    count = subjects * parts_per_subject(scenes)
    primitive = solids.primitive[:, :count]
    shown = primitive >= 0
    surface = table([_surface(p) for p in PRIMITIVES], solids.half)
    local = (
        surface[primitive.clamp(min=0).long()][:, None] * _SLACK * solids.half[:, :, :count, None]
    )
    points = solids.centre[:, :, :count, None] + einsum(
        solids.turn[:, :, :count], local, "b f p i j, b f p n j -> b f p n i"
    )
    u, v, behind = project(camera, points)
    focal = height / (2 * camera.tan_half[:, :, None, None])
    x, y = width / 2 + u * focal, height / 2 - v * focal
    far = torch.where(shown[:, None, :, None], 0.0, torch.inf)

    def per_subject(values: Tensor) -> Tensor:
        return rearrange(values, "b f (s p) n -> b f s (p n)", s=subjects)

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
