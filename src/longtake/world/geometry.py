"""From scenes and times to the tables the ray caster reads."""

import math
from dataclasses import dataclass

import numpy as np
import torch
from einops import einsum, rearrange, repeat
from jaxtyping import Bool, Float, Int32
from torch import Tensor

from longtake.kernels.reference import raycast as columns
from longtake.world.bodies import PRIMITIVES, Part
from longtake.world.camera import CameraPath, move_camera
from longtake.world.cast import COLOURS, KINDS, MATERIALS, Kind
from longtake.world.choreography import Tracks, on_device, table, track
from longtake.world.scene import Scenes
from longtake.world.stage import GROUNDS, LIGHTS, PROP_PLACES, PROPS
from longtake.world.weather import weather_rows

_FEW_PARTS = 7
"""Parts of the first level's largest kind: batches without larger ones have smaller tables."""
_MOST_PARTS = max(len(kind.parts) for kind in KINDS)
_STRIDE = 1.15
"""Metres of a walking cycle per metre of size."""
_AXES = "xyz"
_UPRIGHT = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0)
_LAID = (1.0, 0.0, 0.0, 0.0, 0.0, -1.0, 0.0, 1.0, 0.0)
_BLANK = (
    columns.NO_PART, 0, 0, 0, 1, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2, 0, *_UPRIGHT, 0, 0,
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Geometry:
    """A batch of clips as flat tables, one row per frame; see `kernels.reference.raycast`."""

    frame: Float[Tensor, "f params"]
    parts: Float[Tensor, "f parts part_params"]
    groups: Float[Tensor, "f groups group_params"]
    spans: Int32[Tensor, "groups 2"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Solids:
    """Placed parts of all groups: subjects first, then props."""

    centre: Float[Tensor, "b frames parts 3"]
    turn: Float[Tensor, "b frames parts 3 3"]
    """Columns are the primitive's axes in the world."""
    half: Float[Tensor, "b frames parts 3"]
    primitive: Float[Tensor, "b parts"]
    rgb: Float[Tensor, "b parts 3"]
    tone: Float[Tensor, "b parts"]
    surface: Float[Tensor, "b parts 3"]
    """Shine, stripes and dots."""


def build(scenes: Scenes, times: Float[Tensor, "b frames"]) -> Geometry:
    """Lay out every frame of every clip."""
    camera, tracks = move_camera(scenes, times), track(scenes, times)
    light = light_direction(scenes, times)
    solids = place(scenes, tracks)
    return Geometry(
        frame=torch.cat(
            [_frame_rows(scenes, camera, light), weather_rows(scenes, camera, times)], dim=1
        ),
        parts=_part_rows(solids),
        groups=_group_rows(scenes, tracks, camera, light),
        spans=spans_of(scenes, times.device),
    )


def parts_per_subject(scenes: Scenes) -> int:
    """Rows that each subject has in the tables; one of two numbers, so that kernels compile twice.

    A kernel is compiled for each size of its tables.
    """
    most = max(len(KINDS[kind].parts) for kind in np.unique(scenes.kind))
    return _FEW_PARTS if most <= _FEW_PARTS else _MOST_PARTS


def spans_of(scenes: Scenes, device: torch.device) -> Int32[Tensor, "groups 2"]:
    """First part and one past the last of each group."""
    each, count = parts_per_subject(scenes), scenes.kind.shape[1]
    subjects = [[i * each, (i + 1) * each] for i in range(count)]
    first = count * each
    props = [[first + i, first + i + 1] for i in range(len(PROP_PLACES))]
    return torch.tensor(subjects + props, dtype=torch.int32, device=device)


def _kind_rows(kind: Kind) -> list[tuple[float, ...]]:
    rows: list[tuple[float, ...]] = []
    for part in kind.parts:
        own = part.paint.rgb is None
        rgb = (0.0, 0.0, 0.0) if part.paint.rgb is None else part.paint.rgb
        joint = part.joint
        rows.append(
            (
                PRIMITIVES.index(part.primitive), *part.centre, *part.half, *joint.pivot,
                joint.swing, joint.phase, float(joint.rolls), float(part.lies),
                *rgb, float(_AXES.index(joint.axis)), joint.beats, *_set(part),
                part.paint.shade if own else 0.0, part.paint.tone,
            )
        )  # fmt: skip
    return rows


def _set(part: Part) -> tuple[float, ...]:
    """How a part is set into its kind, as the rows of a rotation."""
    if part.lies:
        return _LAID
    if not part.tilt_deg:
        return _UPRIGHT
    c, s = math.cos(math.radians(part.tilt_deg)), math.sin(math.radians(part.tilt_deg))
    return (c, -s, 0.0, s, c, 0.0, 0.0, 0.0, 1.0)


def _all_kind_rows() -> list[list[tuple[float, ...]]]:
    rows = [_kind_rows(kind) for kind in KINDS]
    blank = tuple(float(value) for value in _BLANK)
    return [own + [blank] * (_MOST_PARTS - len(own)) for own in rows]


_KIND_ROWS = _all_kind_rows()


def place(scenes: Scenes, tracks: Tracks) -> Solids:
    """Put the parts of subjects and props where they stand."""
    subjects, props = _place_subjects(scenes, tracks), _place_props(scenes, tracks)

    def both(name: str, dim: int) -> Tensor:
        return torch.cat([getattr(subjects, name), getattr(props, name)], dim=dim)

    return Solids(
        centre=both("centre", 2),
        turn=both("turn", 2),
        half=both("half", 2),
        primitive=both("primitive", 1),
        rgb=both("rgb", 1),
        tone=both("tone", 1),
        surface=both("surface", 1),
    )


def _place_subjects(scenes: Scenes, tracks: Tracks) -> Solids:
    device = tracks.path.device
    each = parts_per_subject(scenes)
    rows = table(_KIND_ROWS, tracks.path)[:, :each][on_device(scenes.kind, device)]
    primitive, centre, half, pivot, moves, fixed, joint, set_in, looks = rows.split(
        [1, 3, 3, 3, 4, 3, 2, 9, 2], dim=-1
    )
    lies, (shade, tone) = moves[..., 3], looks.unbind(-1)
    there = (
        torch.arange(primitive.shape[1], device=device)
        < on_device(scenes.num_subjects, device)[:, None]
    )
    primitive = torch.where(there[:, :, None], primitive[..., 0], columns.NO_PART)
    turn = _joints(tracks, moves, joint, half[..., 1])
    heading = _about_y(tracks.heading)[..., None, :, :]
    arm = einsum(turn, (centre - pivot)[:, None], "b f s p i j, b f s p j -> b f s p i")
    offset = einsum(
        heading[..., 0, :, :], pivot[:, None] + arm, "b f s i j, b f s p j -> b f s p i"
    )
    set_in = rearrange(set_in, "b s p (i j) -> b s p i j", j=3)
    half = torch.where(lies[..., None] > 0, half[..., [0, 2, 1]], half)
    colours = table([c.rgb for c in COLOURS], turn)[on_device(scenes.colour, device)]
    # What has a colour of its own, as a wheel has, keeps its own surface too.
    material = table([[m.shine, m.stripes, m.dots] for m in MATERIALS], turn)
    material = material[on_device(scenes.material, device)][:, :, None]
    size = tracks.scale[..., None, None]
    return Solids(
        centre=rearrange(tracks.position[..., None, :] + size * offset, "b f s p i -> b f (s p) i"),
        turn=rearrange(heading @ turn @ set_in[:, None], "b f s p i j -> b f (s p) i j"),
        half=rearrange(half[:, None] * size, "b f s p i -> b f (s p) i"),
        primitive=rearrange(primitive, "b s p -> b (s p)"),
        rgb=rearrange(fixed + shade[..., None] * colours[:, :, None], "b s p c -> b (s p) c"),
        tone=rearrange(tone, "b s p -> b (s p)"),
        surface=rearrange(material * (shade > 0)[..., None], "b s p c -> b (s p) c"),
    )


def _joints(
    tracks: Tracks,
    moves: Float[Tensor, "b subjects parts 4"],
    joint: Float[Tensor, "b subjects parts 2"],
    tall: Float[Tensor, "b subjects parts"],
) -> Float[Tensor, "b frames subjects parts 3 3"]:
    """How each part is turned about its joint."""
    swing, phase, rolls, _ = (column[:, None] for column in moves.unbind(-1))
    axis, beats = (column[:, None] for column in joint.unbind(-1))
    path = tracks.path[..., None] / tracks.scale[..., None]
    going = tracks.travels[:, None, :, None]
    stride = torch.sin(2 * math.pi * (path / _STRIDE + phase))
    angle = going * swing * stride - rolls * path / tall[:, None]
    if not (axis != _AXES.index("z")).any():
        return _about_z(angle)
    beat = swing * torch.sin(2 * math.pi * (tracks.time_s[:, :, None, None] * beats + phase))
    angle = torch.where(beats > 0, beat, angle)
    turn = torch.where((axis == 0)[..., None, None], _about_x(angle), _about_z(angle))
    return torch.where((axis == 1)[..., None, None], _about_y(angle), turn)


def _place_props(scenes: Scenes, tracks: Tracks) -> Solids:
    device = tracks.path.device
    frames = tracks.path.shape[1]
    number = on_device(scenes.prop, device)
    jitter = on_device(scenes.prop_jitter, device)
    places = table(PROP_PLACES, tracks.path)
    scale = places[:, 2] * (0.75 + 0.5 * jitter[..., 2])
    half = table([p.half for p in PROPS], tracks.path)[number] * scale[..., None]
    # Nearer props stray less, so that they never stand in a subject's way.
    stray = places[:, 2] - 0.4
    centre = torch.stack(
        [
            places[:, 0] + stray * 1.4 * (jitter[..., 0] - 0.5),
            0.9 * half[..., 1],
            places[:, 1] + stray * 1.6 * (jitter[..., 1] - 0.5),
        ],
        dim=-1,
    )
    kinds = table([PRIMITIVES.index(p.primitive) for p in PROPS], tracks.path)
    grey = 0.9 + 0.25 * (jitter[..., 3:] - 0.5)
    turn = _about_y(1.2 * (jitter[..., 3] - 0.5))
    return Solids(
        centre=repeat(centre, "b p i -> b f p i", f=frames),
        turn=repeat(turn, "b p i j -> b f p i j", f=frames),
        half=repeat(half, "b p i -> b f p i", f=frames),
        primitive=kinds[number],
        rgb=table([p.rgb for p in PROPS], tracks.path)[number] * grey,
        tone=torch.zeros_like(scale),
        surface=torch.zeros_like(half),
    )


def _about_y(angle: Float[Tensor, "*n"]) -> Float[Tensor, "*n 3 3"]:
    """Rotation that turns +x toward +z."""
    c, s, zero, one = _sines(angle)
    return _matrix(c, zero, -s, zero, one, zero, s, zero, c)


def _about_x(angle: Float[Tensor, "*n"]) -> Float[Tensor, "*n 3 3"]:
    """Rotation that turns +y toward +z."""
    c, s, zero, one = _sines(angle)
    return _matrix(one, zero, zero, zero, c, -s, zero, s, c)


def _about_z(angle: Float[Tensor, "*n"]) -> Float[Tensor, "*n 3 3"]:
    """Rotation that turns +x toward +y."""
    c, s, zero, one = _sines(angle)
    return _matrix(c, -s, zero, s, c, zero, zero, zero, one)


def _sines(angle: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    return torch.cos(angle), torch.sin(angle), torch.zeros_like(angle), torch.ones_like(angle)


def _matrix(*entries: Tensor) -> Float[Tensor, "*n 3 3"]:
    return rearrange(torch.stack(entries, dim=-1), "... (i j) -> ... i j", j=3)


def light_direction(scenes: Scenes, times: Float[Tensor, "b frames"]) -> Float[Tensor, "b 2 3"]:
    """Unit vectors to the light and to the drawn sun or moon; same compass point."""
    jitter = on_device(scenes.scene_jitter, times.device)
    rows = table(
        [
            [math.radians(x.elevation_deg), math.radians(x.disc_elevation_deg), x.front_chance]
            for x in LIGHTS
        ],
        times,
    )[on_device(scenes.light, times.device)]
    in_front = jitter[:, 5] < rows[:, 2]
    side = torch.where(jitter[:, 6] < 0.5, -1.0, 1.0)
    # Azimuth from straight ahead: in front it is in the picture, else beside or behind the camera.
    azimuth = side * torch.where(in_front, 0.12 + 0.30 * jitter[:, 7], 1.9 + 0.9 * jitter[:, 7])
    elevation = rows[:, :2]
    flat = torch.cos(elevation)
    sine, cosine = torch.sin(azimuth)[:, None], torch.cos(azimuth)[:, None]
    return torch.stack([flat * sine, torch.sin(elevation), flat * cosine], dim=-1)


def _frame_rows(
    scenes: Scenes, camera: CameraPath, light: Float[Tensor, "b 2 3"]
) -> Float[Tensor, "f params"]:
    eye = camera.eye
    frames, device = eye.shape[1], eye.device
    lights = table(
        [
            [*x.sun, *x.ambient, *x.horizon, *x.zenith, *x.hill_far, *x.hill_near, *x.disc]
            for x in LIGHTS
        ],
        eye,
    )[on_device(scenes.light, device)]
    radius = table([[x.disc_radius] for x in LIGHTS], eye)[on_device(scenes.light, device)]
    jitter = on_device(scenes.scene_jitter, device)
    bearing = 2 * math.pi * jitter[:, 8:9]
    hills = torch.cat([torch.cos(bearing), torch.sin(bearing), 1.0 + 0.7 * jitter[:, 9:10]], dim=1)
    ground = table(
        [[*g.low, *g.high, *_waves(g.waves), g.warp, g.checker, g.lines] for g in GROUNDS],
        eye,
    )[on_device(scenes.ground, device)]
    tint = table([[*x.ground_tint, *x.ground_tint] for x in LIGHTS], eye)
    ground[:, :6] *= tint[on_device(scenes.light, device)]
    # A phase per wave from one number keeps the grounds of two scenes from being the same.
    phases = columns.WAVES - columns.LOW + 2 + 4 * torch.arange(3, device=device)
    ground[:, phases] = jitter[:, 10:11] * table([1.0, 7.0, 13.0], eye)
    haze = table([[x.haze] for x in LIGHTS], eye)[on_device(scenes.light, device)]
    still = torch.cat(
        [light[:, 0], lights[:, :18], hills, light[:, 1], lights[:, 18:], radius, ground, haze],
        dim=1,
    )
    moving = torch.cat(
        [camera.eye, camera.right, camera.up, camera.forward, camera.tan_half[..., None]], dim=-1
    )
    rows = torch.cat([moving, repeat(still, "b c -> b f c", f=frames)], dim=-1)
    assert rows.shape[-1] == columns.BLADES, rows.shape
    return rearrange(rows, "b f c -> (b f) c").contiguous()


def _waves(waves: tuple[tuple[float, float, float], ...]) -> list[float]:
    return [value for kx, kz, height in waves for value in (kx, kz, 0.0, height)]


def _part_rows(solids: Solids) -> Float[Tensor, "f parts part_params"]:
    inverse = rearrange(solids.turn, "b f p i j -> b f p j i") / solids.half[..., None]
    shift = -einsum(inverse, solids.centre, "b f p i j, b f p j -> b f p i")
    affine = rearrange(torch.cat([inverse, shift[..., None]], dim=-1), "b f p i j -> b f p (i j)")
    looks = torch.cat(
        [solids.primitive[..., None], solids.rgb, solids.tone[..., None], solids.surface], dim=-1
    )
    rows = torch.cat([affine, repeat(looks, "b p c -> b f p c", f=affine.shape[1])], dim=-1)
    return rearrange(rows, "b f p c -> (b f) p c").contiguous()


def _kind_bounds() -> list[tuple[float, float]]:
    """Radius about the upright axis and height that hold a kind however its joints turn."""
    bounds = []
    for kind in KINDS:
        reaches = [_part_bounds(part) for part in kind.parts]
        swing = max(abs(p.joint.swing) * 2 * p.half[1] for p in kind.parts)
        bounds.append((max(*(r for r, _ in reaches), swing), max(h for _, h in reaches)))
    return bounds


def _part_bounds(part: Part) -> tuple[float, float]:
    x, y, z = part.half
    if part.tilt_deg:
        x, y = math.hypot(x, y), math.hypot(x, y)
    if part.joint.beats:
        # Turned about its pivot it stays within a ball.
        away = math.dist(part.centre, part.joint.pivot) + math.hypot(x, y, z)
        return math.hypot(part.joint.pivot[0], part.joint.pivot[2]) + away, (
            part.joint.pivot[1] + (y if part.joint.axis == "y" else away)
        )
    height = part.centre[1] + y
    if part.primitive in ("cube", "pyramid"):
        return math.hypot(abs(part.centre[0]) + x, abs(part.centre[2]) + z), height
    return math.hypot(part.centre[0], part.centre[2]) + max(x, z), height


_KIND_BOUNDS = _kind_bounds()


def _group_rows(
    scenes: Scenes, tracks: Tracks, camera: CameraPath, light: Float[Tensor, "b 2 3"]
) -> Float[Tensor, "f groups group_params"]:
    """Rectangles of each group and of its shadow, from the corners of an upright box."""
    device, frames = tracks.path.device, tracks.path.shape[1]
    bounds = table(_KIND_BOUNDS, tracks.path)[on_device(scenes.kind, device)]
    bounds = bounds[:, None] * tracks.scale[..., None]
    props = _place_props(scenes, tracks)
    count = bounds.shape[2]
    wide = torch.cat([bounds[..., 0], props.half[..., [0, 2]].norm(dim=-1)], dim=2)
    tall = torch.cat([bounds[..., 1] / 2, props.half[..., 1]], dim=2)
    foot = tracks.position + tall[:, :, :count, None] * table([0, 1, 0], wide)
    middle = torch.cat([foot, props.centre], dim=2)
    spread = torch.stack([wide, tall, wide], dim=-1)[..., None, :]
    signs = table([[x, y, z] for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)], wide)
    corners = middle[..., None, :] + spread * signs
    above = corners[..., 1:2].clamp(min=0)
    ray = light[:, 0, None, None, None, :]
    cast = corners * table([1, 0, 1], wide) - above * ray / ray[..., 1:2] * table([1, 0, 1], wide)
    body, shadow = _rectangle(camera, corners), _rectangle(camera, cast)
    rows = torch.cat([body, shadow], dim=-1)
    there = (
        torch.arange(rows.shape[2], device=device) < on_device(scenes.num_subjects, device)[:, None]
    )
    there[:, count:] = True
    nowhere = table([1, -1, 1, -1, 1, -1, 1, -1], wide)
    rows = torch.where(repeat(there, "b g -> b f g 1", f=frames), rows, nowhere)
    return rearrange(rows, "b f g c -> (b f) g c").contiguous()


def _rectangle(
    camera: CameraPath, points: Float[Tensor, "b f groups corners 3"]
) -> Float[Tensor, "b f groups 4"]:
    """Left, right, bottom and top on the view plane; everything, if a point is behind it."""
    u, v, behind = project(camera, points)
    box = torch.stack([u.amin(-1), u.amax(-1), v.amin(-1), v.amax(-1)], dim=-1)
    everything = table([-1e3, 1e3, -1e3, 1e3], box)
    return torch.where(behind.any(-1)[..., None], everything, box)


def project(
    camera: CameraPath, points: Float[Tensor, "b f groups points 3"]
) -> tuple[
    Float[Tensor, "b f groups points"],
    Float[Tensor, "b f groups points"],
    Bool[Tensor, "b f groups points"],
]:
    """Where points fall on the view plane at distance 1, and which are not before the camera."""
    basis = torch.stack([camera.right, camera.up, camera.forward], dim=-2)
    seen = einsum(basis, points - camera.eye[:, :, None, None], "b f i j, b f g n j -> b f g n i")
    depth = seen[..., 2].clamp(min=0.2)
    return seen[..., 0] / depth, seen[..., 1] / depth, seen[..., 2] < 0.2
