"""Which camera move explains how the background changes, by undoing each move the world knows.

The ground is a plane, and sky and hills are endlessly far, so a move is undone exactly: every
pixel of a later frame is looked up where an earlier frame would have shown the same place. Near
and far ground shift differently, which parts a truck from a pan and a dolly from a zoom.
"""

from dataclasses import dataclass, replace

import numpy as np
import torch
import torch.nn.functional as F
from einops import einsum, rearrange
from jaxtyping import Bool, Float
from torch import Tensor

from longtake.evaluate.scope import CAMERAS
from longtake.world import Scenes, sample_scenes
from longtake.world.camera import CameraPath, move_camera
from longtake.world.choreography import TAN_HALF

STEP_S = 0.5
"""Seconds between the frames that are compared; and a sixth of that would be lost in noise."""
FARTHEST = 400.0
"""Metres at which the ground counts as endlessly far."""
CAP = 0.12
"""Largest difference of a pixel that counts; what the plane cannot explain weighs no more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CameraReading:
    """The camera move that explains a film best."""

    camera: str
    number: int
    """Row in the table of candidates."""
    errors: tuple[float, ...]
    """Mean difference of each move of `CAMERAS` once undone; the smallest wins."""


def candidates() -> Scenes:
    """Every camera move without jitter, twice: an orbit goes either way."""
    count = 2 * len(CAMERAS)
    scenes = sample_scenes(count, np.random.default_rng(0))
    jitter = np.full_like(scenes.scene_jitter, 0.5)
    jitter[: len(CAMERAS), 0] = 0.0
    return replace(
        scenes, camera=np.arange(count, dtype=np.int64) % len(CAMERAS), scene_jitter=jitter
    )


def paths(times_s: Float[Tensor, " frames"]) -> CameraPath:
    """The path of each candidate."""
    return move_camera(candidates(), times_s.expand(2 * len(CAMERAS), -1))


def read_camera(
    frames: Float[Tensor, "frames height width 3"],
    background: Bool[Tensor, "frames height width"],
    times_s: Float[Tensor, " frames"],
) -> CameraReading:
    """Find the move that leaves the least difference once undone.

    Args:
        frames: In [0, 1], `STEP_S` apart.
        background: What shows no subject.
        times_s: When each frame is shown, from the start of the take.
    """
    path = paths(times_s.cpu())
    picture = rearrange(frames, "f h w c -> f c h w")
    errors = torch.stack(
        [_error(picture, background, path, n) for n in range(2 * len(CAMERAS))]
    ).cpu()
    best = int(errors.argmin())
    either_way = errors.view(2, -1).amin(dim=0)
    return CameraReading(
        camera=CAMERAS[best % len(CAMERAS)].name,
        number=best,
        errors=tuple(round(error, 5) for error in either_way.tolist()),
    )


def _error(
    picture: Float[Tensor, "frames 3 height width"],
    background: Bool[Tensor, "frames height width"],
    path: CameraPath,
    n: int,
) -> Float[Tensor, ""]:
    """Mean capped difference of each frame to the one before, moved as candidate `n` moves."""
    height, width = picture.shape[2:]
    now, before = _pose(path, n, slice(1, None)), _pose(path, n, slice(None, -1))
    grid = _earlier(now, before, height, width).to(picture.device)
    mask = background[:-1, None].to(picture.dtype)
    moved = F.grid_sample(
        torch.cat([picture[:-1], mask], dim=1), grid, align_corners=False, padding_mode="border"
    )
    seen = (grid.abs() < 1).all(dim=-1) & background[1:] & (moved[:, 3] > 0.9)
    difference = (moved[:, :3] - picture[1:]).abs().mean(dim=1).clamp(max=CAP)
    # What leaves the picture cannot be compared; it counts as half unexplained.
    unseen = background[1:] & ~seen
    total = (difference * seen).sum() + 0.25 * CAP * unseen.sum()
    return total / background[1:].sum().clamp(min=1)


Pose = tuple[Float[Tensor, "pairs 3"], Float[Tensor, "pairs 3 3"]]


def _pose(path: CameraPath, n: int, at: slice) -> Pose:
    """Eye and the rows right, up and forward."""
    return path.eye[n, at], torch.stack(
        [path.right[n, at], path.up[n, at], path.forward[n, at]], dim=1
    )


def _earlier(
    now: Pose, before: Pose, height: int, width: int
) -> Float[Tensor, "pairs height width 2"]:
    """Where the earlier frame shows what each pixel of the later one shows, in [-1, 1]."""
    u = ((torch.arange(width) + 0.5) / width * 2 - 1) * TAN_HALF * width / height
    v = (1 - (torch.arange(height) + 0.5) / height * 2) * TAN_HALF
    rays = torch.stack(
        [u.expand(height, width), v[:, None].expand(height, width), torch.ones(height, width)], -1
    )
    world = einsum(rays, now[1], "h w i, p i j -> p h w j")
    reach = now[0][:, 1, None, None] / (-world[..., 1]).clamp(min=1e-6)
    ground = (world[..., 1] < 0) & (reach < FARTHEST)
    shift = rearrange(now[0] - before[0], "p j -> p 1 1 j")
    # Endlessly far things do not shift with the eye.
    place = torch.where(ground[..., None], shift + world * reach[..., None], world)
    seen = einsum(before[1], place, "p i j, p h w j -> p h w i")
    depth = seen[..., 2].clamp(min=1e-3)
    x = seen[..., 0] / depth / (TAN_HALF * width / height)
    y = -seen[..., 1] / depth / TAN_HALF
    return torch.stack([x, y], dim=-1)
