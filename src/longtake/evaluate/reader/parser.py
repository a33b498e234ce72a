"""The fixed parser: light, ground, subjects by colour, camera, and tracks on the ground."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from einops import einsum, rearrange
from jaxtyping import Bool, Float, Int64, UInt8
from torch import Tensor

from longtake.evaluate.reader.background import (
    CAP,
    CameraReading,
    camera_errors,
    camera_reading,
    paths,
)
from longtake.evaluate.reader.colours import (
    EXPLAINED,
    NEUTRAL,
    SKY,
    Table,
    plain_ground,
    tables,
    to_lab,
)
from longtake.evaluate.reader.films import RATE, Looked, to_height
from longtake.evaluate.reader.segments import Track, find_tracks, vivid_map
from longtake.evaluate.scope import COLOURS, GROUNDS, LIGHTS, VIVID
from longtake.world.camera import CameraPath

LIMIT_PIXELS = 0.05
"""Share of pixels without a colour of the world from which a film cannot be explained."""
LIMIT_CAMERA = 0.45
"""Share of the cap that a move may leave unexplained."""
SKY_ABOVE = 0.6
"""Least share of sky at the top of the frame that shows most, subjects counted as sky."""
UPRIGHT = 0.05
"""Least share by which a film looks more like sky over ground than like ground over sky."""
_TOP, _BOTTOM = 0.15, 0.75
_LOW = 0.65
"""Below this share of the height there is ground in every shot of the world."""
_CAMERA_EVERY = RATE // 2
_CAMERA_HEIGHT = 64
"""Rows of the pictures that camera moves are told from."""
_FARTHEST = 45.0


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
    tracks: tuple[Track, ...]
    colours: tuple[str, ...]
    """Of each track, the colour by paint alone."""
    unexplained: float
    """Share of pixels that have no colour of the world under this light."""
    in_place: bool
    """Whether sky is above and ground below."""

    @property
    def explained(self) -> bool:
        """Whether this is a film of the world at all."""
        matches = min(self.camera.errors) <= LIMIT_CAMERA * CAP
        return self.in_place and self.unexplained <= LIMIT_PIXELS and matches


def parse(
    film: Looked,
    colours: Int64[Tensor, "frames height width"] | None = None,
    sure: Float[Tensor, "frames height width"] | None = None,
) -> Parsed:
    """Read a film by fixed rules.

    Args:
        film: What is read.
        colours: Number of a subject's colour at each cell, or -1; None to go by vivid colours.
        sure: Probability of those colours, less that of nobody; None to believe all.
    """
    frames = film.frames
    light, table = read_light(frames)
    label, distance = table.look_up(frames)
    known = distance < EXPLAINED
    coloured = (label < len(COLOURS)) & known
    if colours is None:
        coloured &= label < VIVID
        colours = vivid_map(torch.where(coloured, label, -1))
    tracks = find_tracks(colours, sure)
    camera = camera_reading(background_errors(film, colours).tolist())
    background = ~_grown(_spread(colours >= 0, frames.shape[1:3]))
    return Parsed(
        light=LIGHTS[light].name,
        ground=GROUNDS[read_ground(frames, background, light)].name,
        camera=camera,
        tracks=tracks,
        colours=tuple(_main_colour(track, table.nearest_colour(frames)) for track in tracks),
        unexplained=round(float((~known).float().mean()), 4),
        in_place=_in_place(label, table.like_sky(frames)),
    )


def background_errors(
    film: Looked, colours: Int64[Tensor, "frames height width"]
) -> Float[Tensor, " candidates"]:
    """What each camera move leaves unexplained of what is behind the subjects."""
    every = slice(None, None, _CAMERA_EVERY)
    small = to_height(film.frames[every], _CAMERA_HEIGHT)
    size = (small.shape[1], small.shape[2])
    background = ~_grown(_spread(colours[every] >= 0, size))
    return camera_errors(small.float() / 255, background, film.times_s[every])


def place_all(tracks: tuple[Track, ...], number: int, film: Looked) -> tuple[Placed, ...]:
    """Put tracks on the ground, seen by a candidate of the camera table."""
    path = _one(paths(tuple(film.times_s.tolist())), number, film.frames.device)
    aspect = film.frames.shape[2] / film.frames.shape[1]
    return tuple(_place(track, path, aspect) for track in tracks)


def _one(path: CameraPath, number: int, device: torch.device) -> CameraPath:
    """The path of one candidate, in a batch of one."""
    row = slice(number, number + 1)
    return CameraPath(
        eye=path.eye[row].to(device),
        right=path.right[row].to(device),
        up=path.up[row].to(device),
        forward=path.forward[row].to(device),
        tan_half=path.tan_half[row].to(device),
    )


def _spread(
    mask: Bool[Tensor, "frames _ _"], size: tuple[int, int] | torch.Size
) -> Bool[Tensor, "frames height width"]:
    """A mask of cells as one of pixels."""
    return F.interpolate(mask[:, None].float(), size=tuple(size), mode="nearest")[:, 0] > 0


def _main_colour(track: Track, colour: Int64[Tensor, "frames height width"]) -> str:
    """The colour that most of a subject's pixels are nearest to, by paint alone."""
    inside = colour[_spread(track.mask, colour.shape[1:3])]
    return COLOURS[int(torch.bincount(inside, minlength=len(COLOURS)).argmax())].name


def _in_place(
    label: Int64[Tensor, "frames height width"], like_sky: Bool[Tensor, "frames height width"]
) -> bool:
    rows = label.shape[1]
    top, bottom = label[:, : int(_TOP * rows)], label[:, int(_BOTTOM * rows) :]
    upright = _share_of_sky(top) + _share_of_ground(bottom)
    upside_down = _share_of_sky(bottom) + _share_of_ground(top)
    # A camera that looks down shows no sky, but none does so all the time.
    heaven = like_sky[:, : int(_TOP * rows)] | (top < len(COLOURS))
    above = heaven.float().mean(dim=(1, 2)).amax()
    # Snow at sunset has colours of the sky, so that only the two ways up can be compared.
    return float(above) >= SKY_ABOVE and upright > upside_down + UPRIGHT


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


def _place(track: Track, path: CameraPath, aspect: float) -> Placed:
    left, top, right, bottom = track.box.unbind(-1)
    [eye], [tan_half] = path.eye, path.tan_half
    u = ((left + right) - 1) * tan_half * aspect
    v = (1 - 2 * bottom) * tan_half
    axes = torch.stack([path.right[0], path.up[0], path.forward[0]], dim=1)
    rays = einsum(torch.stack([u, v, torch.ones_like(u)], dim=-1), axes, "f i, f i j -> f j")
    reach = (eye[:, 1] / (-rays[:, 1]).clamp(min=1e-3)).clamp(max=_FARTHEST)
    foot = eye + rays * rearrange(reach, "f -> f 1")
    inside = (left > 0.01) & (right < 0.99) & (top > 0.01) & (bottom < 0.99)
    return Placed(
        track=track,
        x=foot[:, 0],
        z=foot[:, 2],
        tall=(bottom - top) * 2 * tan_half * reach,
        wide=(right - left) * 2 * tan_half * aspect * reach,
        whole=track.seen & inside,
    )
