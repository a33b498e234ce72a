"""Where the camera is at each moment, and how wide it sees."""

import math
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from longtake.world.cast import KINDS, SIZES
from longtake.world.choreography import CLIP_S, TAN_HALF, on_device, table, track
from longtake.world.scene import CAMERA_COORDINATES, Scenes
from longtake.world.stage import CAMERAS, SHOTS

DISTANCE = 9.0
"""Metres from camera to the scene's middle, half-way through any move."""
AIM = 1.0
"""Height the camera looks at."""
_FRAME_ASPECT = 1.6
_FOLLOWED = 0.9
"""Share of its subject's way that a following camera goes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CameraPath:
    """The camera over time; right, up and forward are unit vectors."""

    eye: Float[Tensor, "b frames 3"]
    right: Float[Tensor, "b frames 3"]
    up: Float[Tensor, "b frames 3"]
    forward: Float[Tensor, "b frames 3"]
    tan_half: Float[Tensor, "b frames"]
    """Tangent of half the vertical field of view."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Aim:
    """What the shot is framed on, each `b 1`."""

    distance: Tensor
    nearness: Tensor
    """Share of the usual distance; moves of the camera shrink with it."""
    x: Tensor
    y: Tensor
    z: Tensor


def move_camera(scenes: Scenes, times: Float[Tensor, "b frames"]) -> CameraPath:
    """Follow the camera through the given times."""
    jitter = on_device(scenes.scene_jitter, times.device)
    number = on_device(scenes.camera, times.device)
    aim = _aim(scenes, times)
    move = table(_MOVES, times)[number]
    sense = table([float(name == "orbit_deg") for name in CAMERA_COORDINATES], times)
    move = torch.where((sense > 0) & (jitter[:, :1] < 0.5), -move, move)
    # From -0.5 to 0.5 within the clip, by an amplitude that varies a little.
    done = ((times / CLIP_S).clamp(0, 1) - 0.5) * (1 + 0.2 * (jitter[:, 1:2] - 0.5))
    base = on_device(scenes.camera_base, times.device) * table(_UNITS, times)
    at = [move[:, i, None] * done + base[:, i, None] for i in range(len(CAMERA_COORDINATES))]
    pan, truck, dolly, orbit, crane, tilt, roll, pedestal, zoom = at
    height = table([c.height for c in CAMERAS], times)[number]
    distance = aim.distance + 0.6 * aim.nearness * (jitter[:, 2:3] - 0.5) + aim.nearness * dolly
    usual = height[:, None] + 0.4 * (jitter[:, 3:4] - 0.5) + crane
    eye_y = torch.where(aim.nearness == 1, usual, aim.y + (usual - AIM) * aim.nearness)
    yaw = orbit + pan + 0.05 * (jitter[:, 4:5] - 0.5)
    pitch = torch.atan2(aim.y - eye_y, aim.distance.expand_as(eye_y)) + tilt
    aside = aim.nearness * truck + _beside(scenes, times)
    sa, ca = torch.sin(orbit), torch.cos(orbit)
    eye = torch.stack(
        [
            aim.x + (aside * ca - distance * sa),
            eye_y + aim.nearness * pedestal,
            aim.z + (-aside * sa - distance * ca),
        ],
        dim=-1,
    )
    right, up, forward = _axes(yaw, pitch, roll)
    tan_half = TAN_HALF * torch.exp(-zoom)
    return CameraPath(eye=eye, right=right, up=up, forward=forward, tan_half=tan_half)


def _axes(yaw: Tensor, pitch: Tensor, roll: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Right, up and forward of a camera that turned about each axis."""
    sy, cy, sp, cp = torch.sin(yaw), torch.cos(yaw), torch.sin(pitch), torch.cos(pitch)
    right = torch.stack([cy, torch.zeros_like(yaw), -sy], dim=-1)
    up = torch.stack([-sy * sp, cp, -cy * sp], dim=-1)
    forward = torch.stack([sy * cp, sp, cy * cp], dim=-1)
    sr, cr = torch.sin(roll)[..., None], torch.cos(roll)[..., None]
    return cr * right - sr * up, cr * up + sr * right, forward


def _aim(scenes: Scenes, times: Tensor) -> _Aim:
    """The scene's middle; in a closer shot the first subject, at a distance from its height."""
    share = np.array([s.share or 0.0 for s in SHOTS])[scenes.shot][:, None]
    usual = np.array([s.distance for s in SHOTS])[scenes.shot][:, None]
    metres = np.array([s.metres for s in SIZES])[scenes.size[:, :1]]
    tall = metres * np.array([k.height for k in KINDS])[scenes.kind[:, :1]]
    long = metres * np.array([k.length for k in KINDS])[scenes.kind[:, :1]]
    close = share > 0
    # What is longer than tall must fit as well.
    extent = np.maximum(tall, long / _FRAME_ASPECT)
    near = np.where(close, extent / (2 * TAN_HALF * np.where(close, share, 1.0)), usual)
    jitter = scenes.subject_jitter[:, :1] - 0.5
    columns = {
        "distance": near,
        "nearness": near / DISTANCE,
        "x": np.where(close, 0.5 * jitter[..., 1], 0.0),
        "y": np.where(close, 0.5 * tall, AIM),
        "z": np.where(close, 0.5 * jitter[..., 2], 0.0),
    }
    return _Aim(
        **{
            name: on_device(column.astype(np.float32), times.device)
            for name, column in columns.items()
        }
    )


def _beside(scenes: Scenes, times: Tensor) -> Tensor:
    """How far a following camera has gone along with the first subject."""
    follows = np.array([c.follows for c in CAMERAS], dtype=np.float32)[scenes.camera]
    if not follows.any():
        return torch.zeros_like(times)
    x = track(scenes, times).position[:, :, 0, 0]
    return _FOLLOWED * on_device(follows, times.device)[:, None] * x


_UNITS = [math.pi / 180 if name.endswith("_deg") else 1.0 for name in CAMERA_COORDINATES]
_MOVES = [
    [
        math.radians(getattr(move, name)) if name.endswith("_deg") else getattr(move, name)
        for name in CAMERA_COORDINATES
    ]
    for move in CAMERAS
]
