"""Ray caster of the previz world in plain PyTorch: the contract of `kernels.triton.raycast`.

A frame is a row of `frame` (camera, light, sky, ground; the constants below name its columns), its
solids are rows of `parts`: world-to-local affine, primitive, colour, tone. Local space is the
primitive's: every primitive fills the box [-1, 1]^3. Since a ray is mapped by the affine without
normalising, the distance along it is the same in both spaces.

Parts are bundled in groups: `spans` gives each group's parts, `groups` its rectangle and its
shadow's rectangle on the view plane at distance 1 (left, right, bottom, top); rays outside are
never tested.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from einops import rearrange
from jaxtyping import Float, Int8, Int32, Int64, UInt8
from torch import Tensor

from longtake.kernels.reference.solids import FAR, Plane, Vectors, hit

# Columns of `frame`.
EYE, RIGHT, UP, FORWARD, TAN_HALF = 0, 3, 6, 9, 12
LIGHT, SUN, AMBIENT = 13, 16, 19
HORIZON, ZENITH, HILL_FAR, HILL_NEAR, HILL_SHAPE = 22, 25, 28, 31, 34
DISC, DISC_RGB, DISC_SIZE = 37, 40, 43
LOW, HIGH, WAVES, WARP, CHECKER, LINES = 44, 47, 50, 62, 63, 64
HAZE = 65
BLADES, WIND, GUST, RAIN, FALL = 66, 78, 79, 80, 82
NUM_FRAME = 83
# Columns of `parts`.
AFFINE, PRIMITIVE, RGB, TONE, SHINE, STRIPES, DOTS = 0, 12, 13, 16, 17, 18, 19
NUM_PART = 20
# Columns of `groups`.
BODY, SHADOW = 0, 4
NUM_GROUP = 8

NO_PART = -1
"""Primitive number of an unused row."""
BLUR = 22.0
"""How fast a pattern fades when its period nears two pixels."""
CHUNK_PIXELS = {"cpu": 400_000, "cuda": 8_000_000}
"""Pixels worked on at once; bounds memory, keeps a CPU's caches warm and a card busy."""
STREAK_GAP, STREAK_LAYERS = 1.7, 5
"""Metres between the upright planes that rain falls in, and how many are seen."""
STREAK_CELL, STREAK_FALL, STREAK_HALF, STREAK_SLANT = 0.22, 1.7, 0.007, 0.09
"""Metres: columns of rain, drop to drop, half a streak's width; and its lean."""
OFFSETS = {
    1: ((0.0, 0.0),),
    2: ((-0.25, -0.25), (0.25, 0.25)),
    4: ((-0.125, -0.375), (0.375, -0.125), (0.125, 0.375), (-0.375, 0.125)),
}
"""Places of a pixel's rays, by number of rays."""


def raycast(
    frame: Float[Tensor, "f params"],
    parts: Float[Tensor, "f parts part_params"],
    groups: Float[Tensor, "f groups group_params"],
    spans: Int32[Tensor, "groups 2"],
    height: int,
    width: int,
    samples: int = 2,
) -> UInt8[Tensor, "f height width 3"]:
    """Cast `samples` (1, 2 or 4) rays per pixel and average them."""
    chunk = max(1, CHUNK_PIXELS[frame.device.type] // (height * width))
    bounds = groups.cpu()
    out = torch.empty(len(frame), height, width, 3, dtype=torch.uint8, device=frame.device)
    for start in range(0, len(frame), chunk):
        here = slice(start, start + chunk)
        total = torch.zeros(3, *out[here].shape[:3], device=frame.device)
        for offset in OFFSETS[samples]:
            rays = view_rays(frame[here], height, width, offset)
            total += _colour(frame[here], parts[here], bounds[here], spans, rays).clamp(0, 1)
        picture = (total * (255.0 / samples) + 0.5).to(torch.uint8)
        out[here] = rearrange(picture, "c f h w -> f h w c")
    return out


def identify(
    frame: Float[Tensor, "f params"],
    parts: Float[Tensor, "f parts part_params"],
    groups: Float[Tensor, "f groups group_params"],
    spans: Int32[Tensor, "groups 2"],
    height: int,
    width: int,
) -> Int8[Tensor, "f height width"]:
    """Which group the ray through each pixel's centre meets first; -1 for ground and sky."""
    chunk = max(1, CHUNK_PIXELS[frame.device.type] // (height * width))
    bounds = groups.cpu()
    found = []
    for start in range(0, len(frame), chunk):
        here = slice(start, start + chunk)
        eye = _vector(frame[here], EYE)
        rays = view_rays(frame[here], height, width, (0.0, 0.0))
        nearest = _ground_distance(eye, rays)
        seen = torch.full_like(nearest, -1, dtype=torch.int8)
        for visit in _visits(frame[here], parts[here], bounds[here], spans, (height, width), BODY):
            origin, toward = _localise(visit.part, eye[:, visit.at], rays[visit.rays])
            distance, _ = hit(visit.kind, origin, toward)
            closer = distance < nearest[visit.pixels]
            before = seen[visit.pixels]
            seen[visit.pixels] = torch.where(closer, torch.full_like(before, visit.group), before)
            nearest[visit.pixels] = torch.where(closer, distance, nearest[visit.pixels])
        found.append(seen)
    return torch.cat(found)


def view_rays(
    frame: Float[Tensor, "f params"], height: int, width: int, offset: tuple[float, float]
) -> Vectors:
    """Unit directions of the rays through every pixel, moved by `offset` pixels."""
    columns = torch.arange(width, device=frame.device) + (0.5 + offset[0])
    rows = torch.arange(height, device=frame.device) + (0.5 + offset[1])
    half = frame[:, TAN_HALF, None, None]
    u = (2 * columns / width - 1) * (width / height) * half
    v = (1 - 2 * rows[:, None] / height) * half
    right, up, forward = (_vector(frame, at) for at in (RIGHT, UP, FORWARD))
    rays = forward + u * right + v * up
    return rays * torch.rsqrt((rays * rays).sum(0))


def _vector(frame: Float[Tensor, "f params"], at: int) -> Float[Tensor, "3 f 1 1"]:
    return rearrange(frame[:, at : at + 3], "f c -> c f 1 1")


def _ground_distance(eye: Float[Tensor, "3 f 1 1"], rays: Vectors) -> Plane:
    """Distance to the ground at height 0; `FAR` for rays that rise."""
    return torch.where(rays[1] < -1e-4, -eye[1] / rays[1].clamp(max=-1e-4), FAR)


def _colour(
    frame: Float[Tensor, "f params"],
    parts: Float[Tensor, "f parts part_params"],
    bounds: Float[Tensor, "f groups group_params"],
    spans: Int32[Tensor, "groups 2"],
    rays: Vectors,
) -> Vectors:
    """Colour seen along each ray."""
    eye, light = _vector(frame, EYE), _vector(frame, LIGHT)
    sun, ambient, haze = (_vector(frame, at) for at in (SUN, AMBIENT, HORIZON))
    size = (rays.shape[2], rays.shape[3])
    nearest = _ground_distance(eye, rays)
    feet = eye + nearest.clamp(max=400.0) * rays
    feet[1] = 0.0
    lit = torch.ones_like(nearest)
    for visit in _visits(frame, parts, bounds, spans, size, SHADOW):
        origin, toward = _localise(visit.part, feet[visit.rays], light[:, visit.at])
        met, _ = hit(visit.kind, origin, toward)
        lit[visit.pixels] = torch.where(met < FAR / 2, 0.0, lit[visit.pixels])
    pixel = 2 * frame[:, TAN_HALF, None, None] / rays.shape[2]
    colour = _sky(frame, rays, pixel)
    down = (nearest < FAR).any(dim=2).any(dim=0)
    low = slice(int(down.long().argmax()) if down.any() else len(down), None)
    earth = _ground(frame, rays[:, :, low], feet[:, :, low], nearest[:, low], lit[:, low], pixel)
    colour[:, :, low] = torch.where(nearest[:, low] < FAR, earth, colour[:, :, low])
    for visit in _visits(frame, parts, bounds, spans, size, BODY):
        at = visit.at
        origin, toward = _localise(visit.part, eye[:, at], rays[visit.rays])
        distance, normal = hit(visit.kind, origin, toward)
        closer = distance < nearest[visit.pixels]
        local = origin + distance.clamp(max=1e4) * toward
        lights = (light[:, at], sun[:, at], ambient[:, at])
        shade = _shade(visit.part, rays[visit.rays], local, normal, *lights)
        clear = torch.exp(-0.5 * frame[at, HAZE, None, None] * distance.clamp(max=1e4))
        shade = haze[:, at] + (shade - haze[:, at]) * clear
        colour[visit.rays] = torch.where(closer, shade, colour[visit.rays])
        nearest[visit.pixels] = torch.where(closer, distance, nearest[visit.pixels])
    wet = (frame[:, RAIN : RAIN + 2] > 0).any(dim=1)
    if wet.any():
        streaks = _rain(frame[wet], rays[:, wet], nearest[wet], pixel[wet])
        colour[:, wet] += (0.5 + 0.5 * haze[:, wet] - colour[:, wet]) * streaks
    return colour


@dataclass(frozen=True, slots=True)
class _Visit:
    """A solid and the rays that may meet it."""

    group: int
    kind: int
    part: Float[Tensor, "f part_params"]
    at: slice | Int64[Tensor, " f"]
    """Frames that show it."""
    rows: slice
    columns: slice

    @property
    def pixels(self) -> tuple[slice | Tensor, slice, slice]:
        """Index into [f, h, w]."""
        return self.at, self.rows, self.columns

    @property
    def rays(self) -> tuple[slice, slice | Tensor, slice, slice]:
        """Index into [3, f, h, w]."""
        return slice(None), self.at, self.rows, self.columns


def _visits(
    frame: Float[Tensor, "f params"],
    parts: Float[Tensor, "f parts part_params"],
    bounds: Float[Tensor, "f groups group_params"],
    spans: Int32[Tensor, "groups 2"],
    size: tuple[int, int],
    rectangle: int,
) -> Iterator[_Visit]:
    """Every solid with the rays that may meet it.

    Pixels are the union of the frames' rectangles, so the work stays small where neighbouring
    frames look alike.
    """
    height, width = size
    numbers = parts[:, :, PRIMITIVE].round().long().cpu()
    scale = height / (2 * frame[:, TAN_HALF].cpu())
    for group, (first, last) in enumerate(spans.tolist()):
        box = bounds[:, group, rectangle : rectangle + 4] * scale[:, None]
        left = (box[:, 0] + width / 2 - 1).clamp(0, width).floor().long()
        right = (box[:, 1] + width / 2 + 1).clamp(0, width).ceil().long()
        top = (height / 2 - box[:, 3] - 1).clamp(0, height).floor().long()
        bottom = (height / 2 - box[:, 2] + 1).clamp(0, height).ceil().long()
        shown = (right > left) & (bottom > top)
        for part in range(first, last):
            for kind in numbers[shown, part].unique().tolist():
                if kind == NO_PART:
                    continue
                which = (shown & (numbers[:, part] == kind)).nonzero()[:, 0]
                run = slice(int(which[0]), int(which[-1]) + 1)
                at = run if run.stop - run.start == len(which) else which.to(parts.device)
                yield _Visit(
                    group=group,
                    kind=kind,
                    part=parts[at, part],
                    at=at,
                    rows=slice(int(top[which].min()), int(bottom[which].max())),
                    columns=slice(int(left[which].min()), int(right[which].max())),
                )


def _localise(
    part: Float[Tensor, "f part_params"],
    origin: Float[Tensor, "3 f _ _"],
    toward: Float[Tensor, "3 f _ _"],
) -> tuple[Vectors, Vectors]:
    affine = rearrange(part[:, AFFINE : AFFINE + 12], "f (i j) -> f i j", j=4)
    turn, shift = affine[:, :, :3], rearrange(affine[:, :, 3], "f i -> i f 1 1")
    local = _apply(turn, origin) + shift
    start, course = torch.broadcast_tensors(local, _apply(turn, toward))
    return start, course


def _apply(
    turn: Float[Tensor, "f 3 3"], vectors: Float[Tensor, "3 f h w"]
) -> Float[Tensor, "3 f h w"]:
    columns = rearrange(turn, "f i j -> j i f 1 1")
    return columns[0] * vectors[0] + columns[1] * vectors[1] + columns[2] * vectors[2]


def _shade(
    part: Float[Tensor, "f part_params"],
    rays: Vectors,
    local: Vectors,
    normal: Vectors,
    light: Float[Tensor, "3 f 1 1"],
    sun: Float[Tensor, "3 f 1 1"],
    ambient: Float[Tensor, "3 f 1 1"],
) -> Vectors:
    """Half-Lambert sun plus sky light and the sun's reflection.

    Two tones by quarter turn about the local y axis, stripes across it.
    """
    turn = rearrange(part[:, AFFINE : AFFINE + 12], "f (i j) -> f i j", j=4)[:, :, :3]
    outward = _apply(turn.mT, normal)
    outward = outward * torch.rsqrt((outward * outward).sum(0).clamp(min=1e-12))
    facing = ((outward * light).sum(0) * 0.7 + 0.3).clamp(min=0)
    quarter = (local[0] * local[2] * 3 + 0.5).clamp(0, 1)
    tone = 1 - part[:, TONE, None, None] * (1 - quarter)
    rgb = rearrange(part[:, RGB : RGB + 3], "f c -> c f 1 1")
    if part[:, STRIPES].any():
        band = (wave(1.5 * local[1]) * 5 + 0.5).clamp(0, 1)
        tone = tone * (1 - part[:, STRIPES, None, None] * band)
    if part[:, DOTS].any():
        tone = tone * (1 - part[:, DOTS, None, None] * _dots(local))
    colour = rgb * tone * (ambient * (0.95 + 0.2 * outward[1]) + sun * facing)
    if part[:, SHINE].any():
        mirrored = rays - 2 * (rays * outward).sum(0) * outward
        glint = (mirrored * light).sum(0).clamp(min=0)
        for _ in range(4):
            glint = glint * glint
        colour = colour + part[:, SHINE, None, None] * glint * sun
    return colour


def _dots(local: Vectors) -> Plane:
    """Three by three round dots on each side of a cube that the surface is projected on."""
    # The side's own coordinate is 1, where its wave is lowest: the others alone matter.
    side = local / local.abs().amax(0).clamp(min=1e-3)
    waves = wave(1.5 * side + 0.25).sum(0)
    return (4 * waves + 1.9).clamp(0, 1)


def wave(turns: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """Sine of an angle given in turns, by two parabolas; off by at most 0.001."""
    turns = turns - torch.floor(turns + 0.5)
    arc = turns * (8 - 16 * turns.abs())
    return arc + 0.225 * arc * (arc.abs() - 1)


def _ground(
    frame: Float[Tensor, "f params"],
    rays: Vectors,
    feet: Vectors,
    reach: Plane,
    lit: Plane,
    pixel: Float[Tensor, "f 1 1"],
) -> Vectors:
    """Colour of the ground; each pattern fades where its period nears the pixel's footprint."""

    def column(at: int) -> Float[Tensor, "f 1 1"]:
        return frame[:, at, None, None]

    flat = torch.rsqrt((rays[0] ** 2 + rays[2] ** 2).clamp(min=1e-8))
    ahead, aside = rays[0] * flat, rays[2] * flat
    across = reach * pixel
    along = across / rays[1].clamp(max=-1e-4).abs()
    x, z = feet[0], feet[2]

    def pattern(at: int, bend: Plane) -> Plane:
        kx, kz = column(at), column(at + 1)
        turns = (kx * ahead + kz * aside).abs() * along + (kx * aside - kz * ahead).abs() * across
        fade = torch.exp(-BLUR * turns * turns)
        return column(at + 3) * fade * wave(kx * x + kz * z + column(at + 2) + bend)

    bend = column(WARP) * wave(0.09 * x + column(WAVES + 2))
    mix = torch.full_like(x, 0.5)
    for i in range(3):
        mix = mix + pattern(WAVES + 4 * i, bend)
    pitch = column(CHECKER)
    footprint = along / pitch.clamp(min=0.1)
    sharp = (1.0 / footprint.clamp(min=0.02)).clamp(max=8.0)
    fields = wave(0.5 * x / pitch.clamp(min=0.1)) * wave(0.5 * z / pitch.clamp(min=0.1))
    fields = (fields * sharp).clamp(-1, 1) * torch.exp(-BLUR * 0.1 * footprint * footprint)
    mix = mix + 0.5 * fields * (pitch > 0)
    colour = _vector(frame, LOW) + (_vector(frame, HIGH) - _vector(frame, LOW)) * mix.clamp(0, 1)
    colour = colour + 0.45 * _lines(x, z, along, across, column(LINES))
    if frame[:, WIND].any():
        gust = column(GUST)
        sway = 0.7 * wave(0.13 * x + 0.09 * z - gust) + 0.3 * wave(0.6 * x - 0.4 * z - 3 * gust)
        sway = column(WIND) * sway
        tone = 1 + 0.05 * sway
        lean = bend + 0.4 * sway + 0.5 * wave(0.83 * x + 0.57 * z)
        for i in range(3):
            tone = tone + (column(WIND) > 0) * pattern(BLADES + 4 * i, lean)
        colour = colour * tone
    light = _vector(frame, LIGHT)
    shine = _vector(frame, AMBIENT) + _vector(frame, SUN) * (0.3 + 0.7 * light[1]) * lit
    haze = _vector(frame, HORIZON)
    return haze + (colour * shine - haze) * torch.exp(-column(HAZE) * reach)


def _rain(
    frame: Float[Tensor, "f params"], rays: Vectors, nearest: Plane, pixel: Float[Tensor, "f 1 1"]
) -> Plane:
    """How much falling streaks hide of what is `nearest` metres away.

    They fall in upright planes that stand still in the world; each comes in faintly and fades
    before the camera goes through it, so that nothing pops.
    """
    eye, total = _vector(frame, EYE), torch.zeros_like(nearest)
    fall = frame[:, FALL, None, None]
    for across, through in ((0, 2), (2, 0)):
        strength = frame[:, RAIN + across // 2, None, None]
        if not strength.any():
            continue
        sense = torch.where(rays[through] < 0, -1.0, 1.0)
        steep = rays[through].abs().clamp(min=0.05)
        place = eye[through] * sense / STREAK_GAP
        for layer in range(STREAK_LAYERS):
            number = torch.floor(place) + (1 + layer)
            off = number - place
            shown = off.clamp(max=1.0) * (STREAK_LAYERS - off).clamp(max=1.0)
            reach = off * STREAK_GAP / steep
            y = eye[1] + reach * rays[1]
            turns = (eye[across] + reach * rays[across] + STREAK_SLANT * y) / STREAK_CELL
            column = torch.floor(turns)
            lot = column * (0.1031 * column + 0.618) + 0.377 * number * sense
            lot = lot - torch.floor(lot)
            drop = (y + fall) / STREAK_FALL + lot
            count = torch.floor(drop)
            aside = 0.618 * count + 3.1 * lot
            aside = 0.2 + 0.6 * (aside - torch.floor(aside))
            blur = (0.8 * reach * pixel).clamp(min=STREAK_HALF)
            # Within its column, so that nothing is cut off at the column's edge.
            half = blur.clamp(max=0.2 * STREAK_CELL)
            width = (1 - (turns - column - aside).abs() * STREAK_CELL / half).clamp(min=0)
            length = (1 - (drop - count - 0.5).abs() / 0.22).clamp(min=0)
            streak = strength * shown * width * length * torch.sqrt(STREAK_HALF / blur)
            total = total + torch.where(reach < nearest, streak, 0.0)
    return total.clamp(max=0.8)


def _lines(
    x: Plane, z: Plane, along: Plane, across: Plane, period: Float[Tensor, "f 1 1"]
) -> Plane:
    """How much of the pixel's footprint painted dashes cover."""
    half, gap = 0.09, period.clamp(min=0.1)
    off = (z / gap - torch.floor(z / gap) - 0.5).abs() * gap
    blur = along + 0.02
    cover = ((half - off) / blur + 0.5).clamp(0, 1) * (2 * half / blur).clamp(max=1.0)
    dash = (wave(0.3 * x) / (across + 0.02) * 0.5 + 0.5).clamp(0, 1)
    return cover * dash * (period > 0)


def _sky(frame: Float[Tensor, "f params"], rays: Vectors, pixel: Float[Tensor, "f 1 1"]) -> Vectors:
    """Gradient, sun or moon with a glow, and two ranges of hills as harmonics of the azimuth."""
    disc = _vector(frame, DISC)
    cosine = (rays * disc).sum(0)
    near = frame[:, DISC_SIZE, None, None]
    # Small angles: 1 - cos(a) is about a^2 / 2, so the root is the angle from the disc's middle.
    angle = torch.sqrt((2 - 2 * cosine).clamp(min=0))
    height = rays[1].clamp(0, 1)
    zenith, horizon = _vector(frame, ZENITH), _vector(frame, HORIZON)
    colour = horizon + (zenith - horizon) * (height * 2.2).clamp(max=1.0).sqrt()
    glow = 0.35 * torch.exp(-6.0 * angle)
    colour = colour + _vector(frame, SUN) * glow
    cover = ((near - angle) / pixel * 0.5 + 0.5).clamp(0, 1)
    colour = colour + (_vector(frame, DISC_RGB) - colour) * cover
    flat = torch.rsqrt((rays[0] ** 2 + rays[2] ** 2).clamp(min=1e-8))
    cosine0, sine0 = frame[:, HILL_SHAPE, None, None], frame[:, HILL_SHAPE + 1, None, None]
    s1 = (rays[0] * cosine0 + rays[2] * sine0) * flat
    c1 = (rays[2] * cosine0 - rays[0] * sine0) * flat
    s2, c2 = 2 * s1 * c1, 1 - 2 * s1 * s1
    s3, c3 = s1 * c2 + c1 * s2, c1 * c2 - s1 * s2
    s4, c4 = 2 * s2 * c2, 1 - 2 * s2 * s2
    s5 = s4 * c1 + c4 * s1
    s8, c8 = 2 * s4 * c4, 1 - 2 * s4 * s4
    s11 = s8 * c3 + c8 * s3
    scale = frame[:, HILL_SHAPE + 2, None, None]
    for at, ridge in (
        (HILL_FAR, 0.075 + 0.025 * s3 + 0.028 * s8),
        (HILL_NEAR, 0.036 + 0.016 * s5 + 0.018 * s11),
    ):
        cover = ((ridge * scale - rays[1]) / pixel + 0.5).clamp(0, 1)
        colour = colour + (_vector(frame, at) - colour) * cover
    return colour
