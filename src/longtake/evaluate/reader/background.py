"""Which camera move explains how the background changes, by undoing each move the world knows.

The ground is a plane, and sky and hills are endlessly far, so a move is undone exactly: every
pixel of a later frame is looked up where an earlier frame would have shown the same place. Near
and far ground shift differently, which parts a truck from a pan and a dolly from a zoom.
"""

import math
from dataclasses import dataclass, replace
from functools import cache, lru_cache

import numpy as np
import torch
import torch.nn.functional as F
from einops import einsum, rearrange
from jaxtyping import Bool, Float
from torch import Tensor

from longtake.evaluate.scope import CAMERAS, KINDS, MOTIONS, SHOTS
from longtake.world import Scenes, sample_scenes
from longtake.world.camera import CameraPath, move_camera
from longtake.world.scene import NEVER
from longtake.world.stage import CameraMove, Shot

STEP_S = 0.5
"""Seconds between the frames that are compared; and a sixth of that would be lost in noise."""
FARTHEST = 400.0
"""Metres at which the ground counts as endlessly far."""
CAP = 0.12
"""Largest difference of a pixel that counts; what the plane cannot explain weighs no more."""
VIEWS = (
    ("wide", "figure"),
    ("very_wide", "figure"),
    ("medium", "figure"),
    ("medium", "car"),
    ("close", "figure"),
    ("close", "car"),
)
"""Shots, and whom a closer one is framed on: how high the camera stands over the ground, as seen
from its distance, depends on whether the subject is tall or long."""
NUM_FIT = len(SHOTS) * len(CAMERAS) + 1
_CHANGES = (NEVER, 2.0, 3.0)
"""When the one whom a camera follows can cease to go."""
_AT_ONCE = 8
"""Candidates compared at once on a CPU."""
_CLEAR, _FAR = 0.02, 4.0
"""Difference of errors that tells two moves apart beyond doubt; how many of them count."""
_DOUBT = 6.0
"""What that difference takes from the network's logit of a move."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CameraReading:
    """The camera move that explains a film best."""

    camera: str
    number: int
    """Row in the table of candidates."""
    all_errors: tuple[float, ...]
    """Mean difference of each candidate once undone."""

    @property
    def errors(self) -> tuple[float, ...]:
        """The least difference that each move of `CAMERAS` leaves; the smallest wins."""
        table = self._table()
        return tuple(min(row[camera] for row in table) for camera in range(len(CAMERAS)))

    def best_of(self, camera: int | None = None, shot: int | None = None) -> int:
        """The candidate that fits best among those of a move and a shot."""
        rows = candidates()
        fitting = [
            n
            for n, (one, other) in enumerate(zip(rows.cameras, rows.shots, strict=True))
            if camera in (None, one) and shot in (None, other)
        ]
        return min(fitting or range(len(self.all_errors)), key=lambda n: self.all_errors[n])

    def fit(self) -> tuple[float, ...]:
        """How much worse than the best each move in each shot is, and the best itself."""
        best = min(self.all_errors)
        worse = [min((error - best) / _CLEAR, _FAR) for row in self._table() for error in row]
        return (*worse, best / CAP)

    def doubts(self) -> tuple[float, ...]:
        """How much less likely than the best each move of `CAMERAS` is, as a logarithm."""
        errors = self.errors
        return tuple(_DOUBT * (error - min(errors)) / _CLEAR for error in errors)

    def _table(self) -> list[list[float]]:
        """The least error of each move, for each shot."""
        table = [[math.inf] * len(CAMERAS) for _ in SHOTS]
        rows = candidates()
        for camera, shot, error in zip(rows.cameras, rows.shots, self.all_errors, strict=True):
            table[shot][camera] = min(table[shot][camera], error)
        return table


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidates:
    """Every camera move without jitter, in every shot that it suits."""

    scenes: Scenes
    cameras: tuple[int, ...]
    shots: tuple[int, ...]


@cache
def candidates() -> Candidates:
    """The table of candidates; an orbit goes either way, and so does who is followed."""
    rows = [
        (view, number, *variant)
        for view, (shot, _) in enumerate(VIEWS)
        for number, move in enumerate(CAMERAS)
        for variant in _variants(move, framed=_shot(shot).share is not None)
    ]
    view, number, jitter, motion, change = (np.array(column) for column in zip(*rows, strict=True))
    scenes = sample_scenes(len(rows), np.random.default_rng(0))
    still = np.full_like(scenes.scene_jitter, 0.5)
    still[:, 0] = jitter
    kinds = [entry.name for entry in KINDS]
    shots = [entry.name for entry in SHOTS]
    both = scenes.kind.shape[1]

    def each(column: np.ndarray) -> np.ndarray:
        return np.repeat(column[:, None], both, axis=1)

    shot = np.array([shots.index(shot) for shot, _ in VIEWS])[view]
    scenes = replace(
        scenes,
        num_subjects=np.ones(len(rows), dtype=np.int64),
        kind=each(np.array([kinds.index(kind) for _, kind in VIEWS])[view]),
        size=np.ones_like(scenes.size),
        motion=each(motion),
        slot=np.ones_like(scenes.slot),
        row=np.ones_like(scenes.row),
        subject_jitter=np.full_like(scenes.subject_jitter, 0.5),
        camera=number,
        scene_jitter=still,
        shot=shot,
        change_s=each(change.astype(np.float32)),
    )
    return Candidates(scenes=scenes, cameras=tuple(number.tolist()), shots=tuple(shot.tolist()))


def _variants(move: CameraMove, *, framed: bool) -> list[tuple[float, int, float]]:
    """Sense of an orbit, motion of the followed and its end, of each way to make a move."""
    names = [motion.name for motion in MOTIONS]
    if move.follows:
        ways = [names.index("left_to_right"), names.index("right_to_left")]
        return [] if framed else [(0.5, way, end) for way in ways for end in _CHANGES]
    if move.truck and framed:
        return []
    senses = (0.0, 0.5) if move.orbit_deg else (0.5,)
    return [(sense, 0, NEVER) for sense in senses]


def _shot(name: str) -> Shot:
    return next(shot for shot in SHOTS if shot.name == name)


@lru_cache(maxsize=4)
def paths(times_s: tuple[float, ...]) -> CameraPath:
    """The path of each candidate."""
    scenes = candidates().scenes
    return move_camera(scenes, torch.tensor(times_s).expand(len(scenes), -1))


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
    return camera_reading(camera_errors(frames, background, times_s).tolist())


def camera_reading(errors: list[float]) -> CameraReading:
    """The move of the candidate with the least error."""
    best = int(np.argmin(errors))
    return CameraReading(
        camera=CAMERAS[candidates().cameras[best]].name,
        number=best,
        all_errors=tuple(round(error, 5) for error in errors),
    )


def camera_errors(
    frames: Float[Tensor, "frames height width 3"],
    background: Bool[Tensor, "frames height width"],
    times_s: Float[Tensor, " frames"],
) -> Float[Tensor, " candidates"]:
    """Difference that each candidate leaves once undone; arguments as of `read_camera`."""
    height, width = frames.shape[1:3]
    grids = _grids(tuple(times_s.tolist()), height, width, frames.device)
    picture = rearrange(frames, "f h w c -> f c h w")
    many = len(grids) if frames.device.type == "cuda" else _AT_ONCE
    return torch.cat([_errors(picture, background, some) for some in grids.split(many)])


def _errors(
    picture: Float[Tensor, "frames 3 height width"],
    background: Bool[Tensor, "frames height width"],
    grids: Float[Tensor, "some pairs height width 2"],
) -> Float[Tensor, " some"]:
    """Mean capped difference of each frame to the one before, moved as candidates move."""
    some = len(grids)
    mask = background[:-1, None].to(picture.dtype)
    before = torch.cat([picture[:-1], mask], dim=1).repeat(some, 1, 1, 1)
    moved = F.grid_sample(
        before, grids.flatten(0, 1), align_corners=False, padding_mode="border"
    ).unflatten(0, (some, -1))
    later = background[1:]
    seen = (grids.abs() < 1).all(dim=-1) & later & (moved[:, :, 3] > 0.9)
    difference = (moved[:, :, :3] - picture[1:]).abs().mean(dim=2).clamp(max=CAP)
    # What leaves the picture cannot be compared; it counts as half unexplained.
    unseen = later & ~seen
    total = (difference * seen).sum(dim=(1, 2, 3)) + 0.25 * CAP * unseen.sum(dim=(1, 2, 3))
    return total / later.sum().clamp(min=1)


@lru_cache(maxsize=2)
def _grids(
    times_s: tuple[float, ...], height: int, width: int, device: torch.device
) -> Float[Tensor, "candidates pairs height width 2"]:
    """Where the frame before shows what each pixel of a frame shows, by every candidate."""
    path = paths(times_s)
    return torch.stack(
        [
            _earlier(_pose(path, n, slice(1, None)), _pose(path, n, slice(None, -1)), height, width)
            for n in range(len(candidates().scenes))
        ]
    ).to(device)


@dataclass(frozen=True, slots=True)
class _Pose:
    """Cameras of some frames."""

    eye: Float[Tensor, "pairs 3"]
    axes: Float[Tensor, "pairs 3 3"]
    """Rows right, up and forward."""
    tan_half: Float[Tensor, " pairs"]


def _pose(path: CameraPath, n: int, at: slice) -> _Pose:
    axes = torch.stack([path.right[n, at], path.up[n, at], path.forward[n, at]], dim=1)
    return _Pose(path.eye[n, at], axes, path.tan_half[n, at])


def _earlier(
    now: _Pose, before: _Pose, height: int, width: int
) -> Float[Tensor, "pairs height width 2"]:
    """Where the earlier frame shows what each pixel of the later one shows, in [-1, 1]."""
    u = ((torch.arange(width) + 0.5) / width * 2 - 1) * width / height
    v = 1 - (torch.arange(height) + 0.5) / height * 2
    plane = torch.stack([u.expand(height, width), v[:, None].expand(height, width)], dim=-1)
    plane = plane * rearrange(now.tan_half, "p -> p 1 1 1")
    rays = torch.cat([plane, torch.ones_like(plane[..., :1])], dim=-1)
    world = einsum(rays, now.axes, "p h w i, p i j -> p h w j")
    reach = now.eye[:, 1, None, None] / (-world[..., 1]).clamp(min=1e-6)
    ground = (world[..., 1] < 0) & (reach < FARTHEST)
    shift = rearrange(now.eye - before.eye, "p j -> p 1 1 j")
    # Endlessly far things do not shift with the eye.
    place = torch.where(ground[..., None], shift + world * reach[..., None], world)
    seen = einsum(before.axes, place, "p i j, p h w j -> p h w i")
    wide = rearrange(before.tan_half, "p -> p 1 1") * seen[..., 2].clamp(min=1e-3)
    return torch.stack([seen[..., 0] / wide * height / width, -seen[..., 1] / wide], dim=-1)
