"""Where every subject and the camera are at each moment, from scenes and times."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from longtake.world.cast import KINDS, MOTIONS, SIZES
from longtake.world.scene import Scenes
from longtake.world.stage import CAMERAS

CLIP_S = 5.0
"""One-way moves of subjects and camera take this long, then hold."""
TAN_HALF = math.tan(math.radians(18.0))
"""Tangent of half the vertical field of view."""
DISTANCE = 9.0
"""Metres from camera to the scene's middle, half-way through any move."""
AIM = 1.0
"""Height the camera looks at."""

_SLOT_X = (-2.15, 0.0, 2.15)
_ROW_Z = (-1.5, 0.0, 1.8)
_CROSSING = 3.8
_CROSSING_WITH_CAMERA = 1.15
_CROSSING_AGAINST_CAMERA = 0.82
_NEAREST, _FARTHEST = -3.0, 6.5
_CIRCLE_S, _SPIN_S = 4.0, 2.6
BOUNCE_S = 1.1
"""Seconds from one contact with the ground to the next."""
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
    scale: Float[Tensor, "b subjects"]
    """Metres per unit of the kind's parts."""
    travels: Float[Tensor, "b subjects"]
    """1 where the subject goes somewhere, else 0."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CameraPath:
    """The camera over time; right, up and forward are unit vectors."""

    eye: Float[Tensor, "b frames 3"]
    right: Float[Tensor, "b frames 3"]
    up: Float[Tensor, "b frames 3"]
    forward: Float[Tensor, "b frames 3"]


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


def track(scenes: Scenes, times: Float[Tensor, "b frames"]) -> Tracks:
    """Follow the subjects through the given times."""
    device = times.device
    jitter = on_device(scenes.subject_jitter, device)
    j = jitter[:, None] - 0.5
    motion = table([[m.lateral, m.depth, m.circle, m.bounce, m.spin] for m in MOTIONS], times)
    moves = motion[on_device(scenes.motion, device)][:, None]
    lateral, depth, circle, bounce, spin = moves.unbind(-1)
    kinds = table([[k.faces_travel, k.rest_deg, k.rest_spread_deg] for k in KINDS], times)
    faces, rest, spread = kinds[on_device(scenes.kind, device)][:, None].unbind(-1)
    metres = table([s.metres for s in SIZES], times)[on_device(scenes.size, device)]
    scale = metres * (1 + 2 * _SIZE_SPREAD * (jitter[:, :, 0] - 0.5))
    alone = on_device(scenes.num_subjects == 1, device)[:, None, None].float()

    t = times[:, :, None]
    done = (t / CLIP_S).clamp(0, 1)
    reach = on_device(_crossing(scenes), device)[:, None]
    x = table(_SLOT_X, times)[on_device(scenes.slot, device)][:, None] + 0.5 * j[..., 1]
    z = table(_ROW_Z, times)[on_device(scenes.row, device)][:, None] + 0.5 * j[..., 2]
    x = torch.where(lateral != 0, lateral * reach * (2 * done - 1), x)
    along = (0.5 + (done - 0.5) * depth) * (_FARTHEST - _NEAREST) + _NEAREST
    z = torch.where(depth != 0, along + j[..., 2], z)
    turn = torch.where(jitter[:, None, :, 3] < 0.5, -1.0, 1.0)
    radius = 1.15 + 0.45 * alone
    speed = turn * 2 * math.pi / _CIRCLE_S
    angle = speed * t + 2 * math.pi * jitter[:, None, :, 4]
    x = x + circle * radius * torch.cos(angle)
    z = z + circle * radius * torch.sin(angle)
    hop = t / BOUNCE_S + jitter[:, None, :, 4]
    hop = hop - torch.floor(hop)
    y = bounce * (0.8 + 0.35 * scale[:, None]) * 4 * hop * (1 - hop)

    travels = ((lateral != 0) | (depth != 0) | (circle != 0)).float()
    going = torch.where(circle != 0, angle + turn * math.pi / 2, torch.atan2(depth, lateral))
    resting = torch.deg2rad(rest + 2 * spread * j[..., 5])
    heading = torch.where(faces * travels > 0, going, resting)
    heading = heading + spin * turn * (2 * math.pi / _SPIN_S) * t
    gone = (
        lateral.abs() * 2 * reach * done
        + depth.abs() * (_FARTHEST - _NEAREST) * done
        + circle * radius * speed.abs() * t
    )
    path = torch.where(faces > 0, gone, x * travels)
    return Tracks(
        position=torch.stack(torch.broadcast_tensors(x, y, z), dim=-1),
        heading=heading.expand_as(path),
        path=path,
        scale=scale,
        travels=travels[:, 0],
    )


def _crossing(scenes: Scenes) -> Float[np.ndarray, "b subjects"]:
    """Half the way of a crossing subject: longer with the camera's move, shorter against it."""
    sideways = np.array([np.sign(c.pan_deg + c.truck) for c in CAMERAS])[scenes.camera]
    lateral = np.array([m.lateral for m in MOTIONS])[scenes.motion]
    agreement = sideways[:, None] * lateral
    gain = np.where(agreement > 0, _CROSSING_WITH_CAMERA, 1.0)
    gain = np.where(agreement < 0, _CROSSING_AGAINST_CAMERA, gain)
    return (_CROSSING * gain).astype(np.float32)


def move_camera(scenes: Scenes, times: Float[Tensor, "b frames"]) -> CameraPath:
    """Follow the camera through the given times."""
    device = times.device
    jitter = on_device(scenes.scene_jitter, device)
    moves = table(
        [
            [
                math.radians(c.pan_deg),
                c.truck,
                c.dolly,
                math.radians(c.orbit_deg),
                c.crane,
                c.height,
            ]
            for c in CAMERAS
        ],
        times,
    )[on_device(scenes.camera, device)]
    pan, truck, dolly, orbit, crane, height = moves.unbind(-1)
    orbit = orbit * torch.where(jitter[:, 0] < 0.5, -1.0, 1.0)
    # From -0.5 to 0.5 within the clip, by an amplitude that varies a little.
    done = ((times / CLIP_S).clamp(0, 1) - 0.5) * (1 + 0.2 * (jitter[:, 1:2] - 0.5))
    distance = DISTANCE + 0.6 * (jitter[:, 2:3] - 0.5) + dolly[:, None] * done
    eye_y = height[:, None] + 0.4 * (jitter[:, 3:4] - 0.5) + crane[:, None] * done
    around = orbit[:, None] * done
    yaw = around + pan[:, None] * done + 0.05 * (jitter[:, 4:5] - 0.5)
    pitch = torch.atan2(AIM - eye_y, torch.full_like(eye_y, DISTANCE))
    aside = truck[:, None] * done
    sa, ca = torch.sin(around), torch.cos(around)
    sy, cy, sp, cp = torch.sin(yaw), torch.cos(yaw), torch.sin(pitch), torch.cos(pitch)
    zero = torch.zeros_like(yaw)
    return CameraPath(
        eye=torch.stack([aside * ca - distance * sa, eye_y, -aside * sa - distance * ca], dim=-1),
        right=torch.stack([cy, zero, -sy], dim=-1),
        up=torch.stack([-sy * sp, cp, -cy * sp], dim=-1),
        forward=torch.stack([sy * cp, sp, cy * cp], dim=-1),
    )
