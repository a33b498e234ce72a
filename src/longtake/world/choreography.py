"""Where every subject is at each moment, from scenes and times."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from longtake.world.cast import KINDS, MOTIONS, SIZES
from longtake.world.scene import CAMERA_COORDINATES, Scenes
from longtake.world.stage import CAMERAS, SHOTS

CLIP_S = 5.0
"""One-way moves of subjects and camera take this long, then hold."""
TAN_HALF = math.tan(math.radians(18.0))
"""Tangent of half the vertical field of view."""
_SLOT_X = (-2.15, 0.0, 2.15)
_ROW_Z = (-1.5, 0.0, 1.8, 4.2)
_CROSSING = 3.8
_CROSSING_WITH_CAMERA = 1.15
_CROSSING_AGAINST_CAMERA = 0.82
_NEAREST, _FARTHEST = -3.0, 6.5
_CIRCLE_S, _SPIN_S = 4.0, 2.6
BOUNCE_S = 1.1
"""Seconds from one contact with the ground to the next."""
JUMP_S = 1.2
TRAVEL_S = 3.0
"""Seconds from the middle of the frame to outside it."""
_AWAY_S, _BACK_S = 1.8, 2.8
"""Seconds that a returning subject takes out or back, and when it turns back."""
_SWAY, _SWAYS = 1.0, 1.5
"""Metres to either side of a zigzag, and its periods within a clip."""
_POP_S = 0.2
"""Seconds in which something appears or disappears."""
_FRAME_ASPECT = 1.75
"""Width over height of the frame that subjects leave."""
_SIZE_SPREAD = 0.06


@dataclass(frozen=True, slots=True, kw_only=True)
class Tracks:
    """Subjects over time."""

    position: Float[Tensor, "b frames subjects 3"]
    """Point the subject stands on, in metres; x right, y up, z away from the camera."""
    heading: Float[Tensor, "b frames subjects"]
    """Radians; 0 looks right, a quarter turn looks away from the camera."""
    path: Float[Tensor, "b frames subjects"]
    """Metres travelled, signed for kinds that do not turn to where they go."""
    scale: Float[Tensor, "b frames subjects"]
    """Metres per unit of the kind's parts."""
    travels: Float[Tensor, "b subjects"]
    """1 where the subject goes somewhere, else 0."""
    time_s: Float[Tensor, "b frames"]


def table(rows: Sequence[object], like: Tensor) -> Tensor:
    """A constant table on the device of `like`."""
    return torch.tensor(rows, dtype=torch.float32, device=like.device)


def on_device(array: np.ndarray, device: torch.device) -> Tensor:
    """An array as a tensor on a device."""
    return torch.from_numpy(np.ascontiguousarray(array)).to(device)


def frame_times(
    num: int, frames: int, fps: float, start_s: float | np.ndarray, device: torch.device
) -> Float[Tensor, "b frames"]:
    """Times of the frames of each clip in seconds."""
    start = torch.as_tensor(np.broadcast_to(np.asarray(start_s, dtype=np.float32), (num,)).copy())
    return start.to(device)[:, None] + torch.arange(frames, device=device) / fps


@dataclass(frozen=True, slots=True, kw_only=True)
class _Way:
    """How the subjects move in one phase: a coefficient of each, see `cast.Motion`."""

    lateral: Tensor
    depth: Tensor
    circle: Tensor
    bounce: Tensor
    spin: Tensor
    comes: Tensor
    goes: Tensor
    returns: Tensor
    sways: Tensor
    jumps: Tensor
    size_from: Tensor
    size_to: Tensor
    at_once: Tensor
    follows: Tensor

    @property
    def travels(self) -> Tensor:
        going = (self.lateral != 0) | (self.depth != 0) | (self.circle != 0)
        leaving = (self.comes != 0) | (self.goes != 0) | (self.returns != 0)
        return (going | leaving | (self.follows != 0)).float()


@dataclass(frozen=True, slots=True, kw_only=True)
class _Cast:
    """What stays the same about the subjects, each `b 1 subjects`."""

    x: Tensor
    z: Tensor
    stray: Tensor
    """Metres by which a way in depth is moved."""
    scale: Tensor
    reach: Tensor
    """Half the way across the frame."""
    edge: Tensor
    """Distance from the middle at which a subject is out of the frame."""
    turn: Tensor
    """Sense of rotation."""
    phase: Tensor
    """A share of a turn of its own."""
    radius: Tensor
    faces: Tensor
    resting: Tensor
    side: Tensor
    """Side of the frame it is nearer to."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Phase:
    """Where one phase takes the subjects, each `b frames subjects`."""

    x: Tensor
    y: Tensor
    z: Tensor
    heading: Tensor
    gone: Tensor
    """Metres travelled."""
    size: Tensor


_COEFFICIENTS = tuple(field.name for field in fields(_Way))
_WAYS = [[float(getattr(motion, name)) for name in _COEFFICIENTS] for motion in MOTIONS]


def _ways(motion: np.ndarray, like: Tensor) -> _Way:
    rows = table(_WAYS, like)[on_device(motion, like.device)][:, None].unbind(-1)
    return _Way(**dict(zip(_COEFFICIENTS, rows, strict=True)))


def track(scenes: Scenes, times: Float[Tensor, "b frames"]) -> Tracks:
    """Follow the subjects through the given times."""
    cast = _assemble(scenes, times)
    way = _ways(scenes.motion, times)
    now = times[:, :, None]
    start, change = (
        on_device(column, times.device)[:, None] for column in (scenes.start_s, scenes.change_s)
    )
    elapsed = (torch.minimum(now, change) - start).clamp(min=0)
    # Who bounces comes down first.
    phase = torch.where(start > 0, 0.0, cast.phase)
    landing = (torch.ceil((change - start) / BOUNCE_S + phase) - phase) * BOUNCE_S
    airborne = torch.minimum((now - start).clamp(min=0), landing)
    done = _first_phase(cast, way, elapsed, airborne / BOUNCE_S + phase)
    travels = way.travels
    if np.isfinite(scenes.change_s).any():
        then = _ways(scenes.then, times)
        done = _second_phase(cast, then, done, (now - change).clamp(min=0))
        travels = torch.maximum(travels, then.travels)
    path = torch.where(cast.faces > 0, done.gone, done.x * travels)
    if any(MOTIONS[i].follows for i in np.unique(scenes.motion)):
        done, path = _trail(cast, way, done, path)
    x, y, z, heading, path, scale = torch.broadcast_tensors(
        done.x, done.y, done.z, done.heading, path, cast.scale * done.size
    )
    return Tracks(
        position=torch.stack([x, y, z], dim=-1),
        heading=heading,
        path=path,
        scale=scale,
        travels=travels[:, 0],
        time_s=times,
    )


def _assemble(scenes: Scenes, times: Float[Tensor, "b frames"]) -> _Cast:
    """What the scenes say of each subject, apart from how it moves."""
    device = times.device
    jitter = on_device(scenes.subject_jitter, device)
    j = jitter[:, None] - 0.5
    kinds = table([[k.faces_travel, k.rest_deg, k.rest_spread_deg] for k in KINDS], times)
    faces, rest, spread = kinds[on_device(scenes.kind, device)][:, None].unbind(-1)
    metres = table([s.metres for s in SIZES], times)[on_device(scenes.size, device)]
    scale = (metres * (1 + 2 * _SIZE_SPREAD * (jitter[:, :, 0] - 0.5)))[:, None]
    alone = on_device(scenes.num_subjects == 1, device)[:, None, None].float()
    slot = table(_SLOT_X, times)[on_device(scenes.slot, device)]
    x = (slot + on_device(scenes.aside, device))[:, None] + 0.5 * j[..., 1]
    z = table(_ROW_Z, times)[on_device(scenes.row, device)][:, None] + 0.5 * j[..., 2]
    turn = torch.where(jitter[:, None, :, 3] < 0.5, -1.0, 1.0)
    widest = on_device(_widest_view(scenes), device)[:, None, None]
    return _Cast(
        x=x,
        z=z,
        stray=j[..., 2],
        scale=scale,
        reach=on_device(_crossing(scenes), device)[:, None],
        edge=TAN_HALF * _FRAME_ASPECT * (widest[..., 0] * (widest[..., 1] + z)) + 1.2 * scale,
        turn=turn,
        phase=jitter[:, None, :, 4],
        radius=1.15 + 0.45 * alone,
        faces=faces,
        resting=torch.deg2rad(rest + 2 * spread * j[..., 5]),
        side=torch.where(slot[:, None] == 0, turn, torch.sign(slot)[:, None]),
    )


def _first_phase(cast: _Cast, way: _Way, t: Tensor, hops: Tensor) -> _Phase:
    """From the clip's start; `hops` counts a bouncing subject's contacts with the ground."""
    done = (t / CLIP_S).clamp(0, 1)
    x = torch.where(way.lateral != 0, way.lateral * cast.reach * (2 * done - 1), cast.x)
    along = (0.5 + (done - 0.5) * way.depth) * (_FARTHEST - _NEAREST) + _NEAREST
    z = torch.where(way.depth != 0, along + cast.stray, cast.z)
    speed = cast.turn * 2 * math.pi / _CIRCLE_S
    angle = speed * t + 2 * math.pi * cast.phase
    x = x + way.circle * cast.radius * torch.cos(angle)
    z = z + way.circle * cast.radius * torch.sin(angle)
    swing = 2 * math.pi * _SWAYS * done
    z = z + way.sways * _SWAY * torch.sin(swing)
    x, leaving, left = _leave(cast, way, x, t)
    slope = way.sways * _SWAY * 2 * math.pi * _SWAYS * torch.cos(swing) / (2 * cast.reach)
    straight = torch.atan2(way.depth + slope, way.lateral + leaving)
    going = torch.where(way.circle != 0, angle + cast.turn * math.pi / 2, straight)
    heading = torch.where(cast.faces * way.travels > 0, going, cast.resting)
    gone = (
        way.lateral.abs() * 2 * cast.reach * done
        + way.depth.abs() * (_FARTHEST - _NEAREST) * done
        + way.circle * cast.radius * speed.abs() * t
        + left
    )
    hops = hops - torch.floor(hops)
    return _Phase(
        x=x,
        y=_height(cast, way, hops, t),
        z=z,
        heading=heading + way.spin * cast.turn * (2 * math.pi / _SPIN_S) * t,
        gone=gone,
        size=_size(way, t),
    )


def _second_phase(cast: _Cast, way: _Way, before: _Phase, t: Tensor) -> _Phase:
    """What a second motion adds, from where the first ended; `t` is 0 until then."""
    hops = t / BOUNCE_S
    x, leaving, left = _leave(cast, way, before.x, t)
    done = (t / CLIP_S).clamp(0, 1)
    away = way.lateral * 2 * cast.reach * done
    going = torch.where(
        cast.faces * way.travels * (t > 0) > 0,
        torch.atan2(way.depth, way.lateral + leaving),
        before.heading,
    )
    return _Phase(
        x=x + away,
        y=before.y + _height(cast, way, hops - torch.floor(hops), t),
        z=before.z + way.depth * (_FARTHEST - _NEAREST) * done,
        heading=going + way.spin * cast.turn * (2 * math.pi / _SPIN_S) * t,
        gone=before.gone + left + away.abs(),
        size=before.size * _size(way, t),
    )


def _leave(cast: _Cast, way: _Way, x: Tensor, t: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Places of those that come into the frame or go out; which way they head; metres gone."""
    inward = 1 - (t / TRAVEL_S).clamp(0, 1)
    outward = (t / TRAVEL_S).clamp(0, 1)
    off, back = (t / _AWAY_S).clamp(0, 1), ((t - _BACK_S) / _AWAY_S).clamp(0, 1)
    out = way.comes.abs() * inward + way.goes.abs() * outward + way.returns * (off - back)
    side = way.comes + way.goes + way.returns * cast.side
    heads = way.goes - way.comes + way.returns * cast.side * torch.where(t < _BACK_S, 1.0, -1.0)
    way_out = side * cast.edge - x
    covered = way.comes.abs() * (1 - inward) + way.goes.abs() * outward + way.returns * (off + back)
    return x + way_out * out, heads, way_out.abs() * covered


def _height(cast: _Cast, way: _Way, hop: Tensor, t: Tensor) -> Tensor:
    """Metres above the ground of those that bounce or jump."""
    y = way.bounce * (0.8 + 0.35 * cast.scale) * 4 * hop * (1 - hop)
    leap = (t / JUMP_S).clamp(0, 1)
    return y + way.jumps * (0.9 + 0.35 * cast.scale) * 4 * leap * (1 - leap)


def _size(way: _Way, t: Tensor) -> Tensor:
    """Factor on the size."""
    done = torch.where(way.at_once > 0, t / _POP_S, t / CLIP_S).clamp(0, 1)
    return way.size_from + (way.size_to - way.size_from) * done


def _trail(cast: _Cast, way: _Way, done: _Phase, path: Tensor) -> tuple[_Phase, Tensor]:
    """Put followers behind the first subject, which crosses the frame."""
    follows = way.follows > 0
    gap = way.lateral[..., :1] * (0.95 * (cast.scale[..., :1] + cast.scale) + 0.3)
    heading = torch.where(cast.faces > 0, done.heading[..., :1], done.heading)
    x = torch.where(follows, done.x[..., :1] - gap, done.x)
    behind = _Phase(
        x=x,
        y=done.y,
        z=torch.where(follows, done.z[..., :1], done.z),
        heading=torch.where(follows, heading, done.heading),
        gone=done.gone,
        size=done.size,
    )
    own = torch.where(cast.faces > 0, done.gone[..., :1], x)
    return behind, torch.where(follows, own, path)


def _widest_view(scenes: Scenes) -> Float[np.ndarray, "b 2"]:
    """Factor on the view's angle and metres to the middle when the camera sees most."""
    zoom = np.array([math.exp(abs(c.zoom) / 2) for c in CAMERAS])[scenes.camera]
    back = np.array([abs(c.dolly) / 2 + 0.5 for c in CAMERAS])[scenes.camera]
    far = np.array([s.distance for s in SHOTS])[scenes.shot]
    base = dict(zip(CAMERA_COORDINATES, scenes.camera_base.T, strict=True))
    zoom = zoom * np.exp(np.maximum(-base["zoom"], 0))
    back = back + np.maximum(base["dolly"], 0)
    return np.stack([zoom, far + back], axis=1).astype(np.float32)


def _crossing(scenes: Scenes) -> Float[np.ndarray, "b subjects"]:
    """Half the way of a crossing subject: longer with the camera's move, shorter against it."""
    sideways = np.array([np.sign(c.pan_deg + c.truck) for c in CAMERAS])[scenes.camera]
    lateral = np.array([m.lateral for m in MOTIONS])[scenes.motion]
    agreement = sideways[:, None] * lateral
    gain = np.where(agreement > 0, _CROSSING_WITH_CAMERA, 1.0)
    gain = np.where(agreement < 0, _CROSSING_AGAINST_CAMERA, gain)
    return (_CROSSING * gain).astype(np.float32)
