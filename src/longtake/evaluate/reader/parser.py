"""The fixed parser: light, ground, subjects by colour, camera, and tracks on the ground."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from einops import einsum, rearrange
from jaxtyping import Bool, Float, Int64, UInt8
from torch import Tensor

from longtake.evaluate.reader.background import CAP, CameraReading, paths, read_camera
from longtake.evaluate.reader.colours import (
    EXPLAINED,
    NEUTRAL,
    SKY,
    Table,
    plain_ground,
    tables,
    to_lab,
)
from longtake.evaluate.reader.films import RATE, Looked
from longtake.evaluate.reader.segments import Track, find_tracks
from longtake.evaluate.scope import COLOURS, GROUNDS, LIGHTS
from longtake.world.choreography import TAN_HALF

LIMIT_PIXELS = 0.05
"""Share of pixels without a colour of the world from which a film cannot be explained."""
LIMIT_CAMERA = 0.45
"""Share of the cap that a move may leave unexplained."""
SKY_ABOVE = 0.4
"""Least share of sky at the top of the first frame, subjects counted as sky."""
_TOP, _BOTTOM = 0.15, 0.75
_LOW = 0.65
"""Below this share of the height there is ground in every shot of the world."""
_CAMERA_EVERY = RATE // 2
_FARTHEST = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Placed:
    """A track on the ground, with the camera's move undone; metres."""

    track: Track
    x: Float[Tensor, " frames"]
    """To the right of the scene's middle, where the track's lowest point would stand."""
    z: Float[Tensor, " frames"]
    """Away from the camera."""
    tall: Float[Tensor, " frames"]
    """Height of the coloured part, if it stands on the ground."""
    wide: Float[Tensor, " frames"]
    whole: Bool[Tensor, " frames"]
    """Where it is seen and the frame cuts nothing off."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Parsed:
    """What fixed rules tell of a film."""

    light: str
    ground: str
    camera: CameraReading
    subjects: tuple[Placed, ...]
    unexplained: float
    """Share of pixels that have no colour of the world under this light."""
    in_place: bool
    """Whether sky is above and ground below."""

    @property
    def explained(self) -> bool:
        """Whether this is a film of the world at all."""
        matches = min(self.camera.errors) <= LIMIT_CAMERA * CAP
        return self.in_place and self.unexplained <= LIMIT_PIXELS and matches


def parse(film: Looked) -> Parsed:
    """Read a film by fixed rules."""
    frames = film.frames
    light, table = read_light(frames)
    label, distance = table.look_up(frames)
    known = distance < EXPLAINED
    coloured = (label < len(COLOURS)) & known
    tracks = find_tracks(torch.where(coloured, label, -1))
    background = ~_grown(coloured)
    every = slice(None, None, _CAMERA_EVERY)
    camera = read_camera(frames[every].float() / 255, background[every], film.times_s[every])
    return Parsed(
        light=LIGHTS[light].name,
        ground=GROUNDS[read_ground(frames, background, light)].name,
        camera=camera,
        subjects=place_all(tracks, camera.number, film),
        in_place=_in_place(label),
        unexplained=round(float((~known).float().mean()), 4),
    )


def place_all(tracks: tuple[Track, ...], number: int, film: Looked) -> tuple[Placed, ...]:
    """Put tracks on the ground, seen by a candidate of the camera table."""
    path = paths(film.times_s)
    device = film.frames.device
    axes = torch.stack([path.right[number], path.up[number], path.forward[number]], dim=1)
    aspect = film.frames.shape[2] / film.frames.shape[1]
    return tuple(
        _place(track, path.eye[number].to(device), axes.to(device), aspect) for track in tracks
    )


def _in_place(label: Int64[Tensor, "frames height width"]) -> bool:
    rows = label.shape[1]
    top, bottom = label[0, : int(_TOP * rows)], label[:, int(_BOTTOM * rows) :]
    upright = _share_of_sky(top) + _share_of_ground(bottom)
    upside_down = _share_of_sky(bottom) + _share_of_ground(top)
    above = float(((top == SKY) | (top < len(COLOURS))).float().mean())
    # Snow at sunset has colours of the sky, so that only the two ways up can be compared.
    return above >= SKY_ABOVE and upright > upside_down


def _share_of_sky(label: Int64[Tensor, "*any"]) -> float:
    return float((label == SKY).float().mean())


def _share_of_ground(label: Int64[Tensor, "*any"]) -> float:
    """Grounds and what stands on them: subjects and set dressing."""
    return float(((label < SKY) | (label == NEUTRAL)).float().mean())


def read_light(frames: UInt8[Tensor, "frames height width 3"]) -> tuple[int, Table]:
    """The light under which the pixels come nearest to the world's colours."""
    every = frames[:: max(len(frames) // 5, 1)]
    means = [table.look_up(every)[1].clamp(max=2 * EXPLAINED).mean() for table in tables()]
    best = int(torch.stack(means).argmin())
    return best, tables()[best]


def read_ground(
    frames: UInt8[Tensor, "frames height width 3"],
    background: Bool[Tensor, "frames height width"],
    light: int,
) -> int:
    """The ground whose plain colour is nearest to the middle one of the lowest rows."""
    low = slice(int(_LOW * frames.shape[1]), None)
    pixels = frames[:, low][background[:, low]]
    if not len(pixels):
        pixels = frames[:, low].reshape(-1, 3)
    lab = to_lab(pixels[:: max(len(pixels) // 4000, 1)].float() / 255)
    plain = plain_ground(light).to(lab.device)
    # The middle of each ground's colours, and how far they spread about it.
    error = torch.cdist(lab, plain.flatten(0, 1)).view(len(lab), *plain.shape[:2])
    near = error.min(dim=2).values.clamp(max=2 * EXPLAINED).mean(dim=0)
    used = F.one_hot(error.argmin(dim=2).T, plain.shape[1]).float().mean(dim=1)
    lopsided = (used - 1 / plain.shape[1]).abs().sum(dim=1)
    return int((near + _SPREAD * lopsided).argmin())


_SPREAD = 3.0
"""Lab units that a ground loses if only one of its tones is seen."""


def _grown(mask: Bool[Tensor, "frames height width"]) -> Bool[Tensor, "frames height width"]:
    return F.max_pool2d(mask.float()[:, None], 5, 1, 2)[:, 0] > 0


def _place(
    track: Track, eye: Float[Tensor, "frames 3"], axes: Float[Tensor, "frames 3 3"], aspect: float
) -> Placed:
    left, top, right, bottom = track.box.unbind(-1)
    u = ((left + right) - 1) * TAN_HALF * aspect
    v = (1 - 2 * bottom) * TAN_HALF
    rays = einsum(torch.stack([u, v, torch.ones_like(u)], dim=-1), axes, "f i, f i j -> f j")
    reach = (eye[:, 1] / (-rays[:, 1]).clamp(min=1e-3)).clamp(max=_FARTHEST)
    foot = eye + rays * rearrange(reach, "f -> f 1")
    inside = (left > 0.01) & (right < 0.99) & (top > 0.01) & (bottom < 0.99)
    return Placed(
        track=track,
        x=foot[:, 0],
        z=foot[:, 2],
        tall=(bottom - top) * 2 * TAN_HALF * reach,
        wide=(right - left) * 2 * TAN_HALF * aspect * reach,
        whole=track.seen & inside,
    )
