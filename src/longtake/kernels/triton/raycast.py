"""Ray caster of the previz world as one Triton kernel; the maths is in `reference.raycast`.

One program films one tile of pixels of one frame. A group of solids is visited only if its
rectangle meets the tile, and a tile that sees only sky or only ground skips the other. Branches
are on values that the whole program shares, so no lane ever waits for another.
"""

# Values on the device have no Python type.

import torch
import triton
import triton.language as tl
from jaxtyping import Float, Int32, UInt8
from torch import Tensor

from longtake.kernels.reference import raycast as columns
from longtake.kernels.reference import solids
from longtake.kernels.triton.solids import hit

TILE_HEIGHT, TILE_WIDTH, NUM_WARPS = 16, 16, 4

EYE, RIGHT, UP = (tl.constexpr(at) for at in (columns.EYE, columns.RIGHT, columns.UP))
FORWARD, TAN_HALF = tl.constexpr(columns.FORWARD), tl.constexpr(columns.TAN_HALF)
LIGHT, SUN = tl.constexpr(columns.LIGHT), tl.constexpr(columns.SUN)
AMBIENT, HORIZON = tl.constexpr(columns.AMBIENT), tl.constexpr(columns.HORIZON)
ZENITH, HILL_FAR = tl.constexpr(columns.ZENITH), tl.constexpr(columns.HILL_FAR)
HILL_NEAR, HILL_SHAPE = tl.constexpr(columns.HILL_NEAR), tl.constexpr(columns.HILL_SHAPE)
DISC, DISC_RGB = tl.constexpr(columns.DISC), tl.constexpr(columns.DISC_RGB)
DISC_SIZE, LOW = tl.constexpr(columns.DISC_SIZE), tl.constexpr(columns.LOW)
HIGH, WAVES = tl.constexpr(columns.HIGH), tl.constexpr(columns.WAVES)
WARP, CHECKER = tl.constexpr(columns.WARP), tl.constexpr(columns.CHECKER)
LINES, NUM_FRAME = tl.constexpr(columns.LINES), tl.constexpr(columns.NUM_FRAME)
PRIMITIVE, RGB = tl.constexpr(columns.PRIMITIVE), tl.constexpr(columns.RGB)
TONE, NUM_PART = tl.constexpr(columns.TONE), tl.constexpr(columns.NUM_PART)
SHINE, STRIPES = tl.constexpr(columns.SHINE), tl.constexpr(columns.STRIPES)
BODY, SHADOW = tl.constexpr(columns.BODY), tl.constexpr(columns.SHADOW)
NUM_GROUP = tl.constexpr(columns.NUM_GROUP)
FAR = tl.constexpr(solids.FAR)
HAZE, BLUR = tl.constexpr(columns.HAZE), tl.constexpr(columns.BLUR)
DOTS, BLADES = tl.constexpr(columns.DOTS), tl.constexpr(columns.BLADES)
WIND, GUST = tl.constexpr(columns.WIND), tl.constexpr(columns.GUST)
RAIN, FALL = tl.constexpr(columns.RAIN), tl.constexpr(columns.FALL)
GAP, LAYERS = tl.constexpr(columns.STREAK_GAP), tl.constexpr(columns.STREAK_LAYERS)
CELL, DROP = tl.constexpr(columns.STREAK_CELL), tl.constexpr(columns.STREAK_FALL)
THIN, SLANT = tl.constexpr(columns.STREAK_HALF), tl.constexpr(columns.STREAK_SLANT)


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
    assert frame.shape[1] == columns.NUM_FRAME, frame.shape
    assert parts.shape[2] == columns.NUM_PART, parts.shape
    assert groups.shape[2] == columns.NUM_GROUP, groups.shape
    assert groups.shape[1] <= 31, groups.shape  # a bit each in an int32
    out = torch.empty(len(frame), height, width, 3, dtype=torch.uint8, device=frame.device)
    offsets = torch.tensor(columns.OFFSETS[samples], device=frame.device)
    tiles = triton.cdiv(width, TILE_WIDTH) * triton.cdiv(height, TILE_HEIGHT)
    _film[(tiles * len(frame),)](
        frame.contiguous(), parts.contiguous(), groups.contiguous(), spans, offsets, out,
        height, width, NUM_PARTS=parts.shape[1], NUM_GROUPS=groups.shape[1],  # pyrefly: ignore
        SAMPLES=samples, TH=TILE_HEIGHT, TW=TILE_WIDTH, num_warps=NUM_WARPS,  # pyrefly: ignore
    )  # fmt: skip
    return out


@triton.jit
def _clamp(value, low, high):
    return tl.minimum(tl.maximum(value, low), high)


@triton.jit
def _wave(turns):
    turns = turns - tl.floor(turns + 0.5)
    arc = turns * (8 - 16 * tl.abs(turns))
    return arc + 0.225 * arc * (tl.abs(arc) - 1)


@triton.jit
def _mix(one, two, share):
    return one + (two - one) * share


@triton.jit
def _load3(p):
    return tl.load(p), tl.load(p + 1), tl.load(p + 2)


@triton.jit
def _turn(p, x, y, z):
    """Rotate and scale world vectors into a part's space."""
    return (
        tl.load(p) * x + tl.load(p + 1) * y + tl.load(p + 2) * z,
        tl.load(p + 4) * x + tl.load(p + 5) * y + tl.load(p + 6) * z,
        tl.load(p + 8) * x + tl.load(p + 9) * y + tl.load(p + 10) * z,
    )


@triton.jit
def _meets(p, left, right, bottom, top):
    """Whether a group's rectangle meets the tile's."""
    return (
        (tl.load(p) <= right)
        & (tl.load(p + 1) >= left)
        & (tl.load(p + 2) <= top)
        & (tl.load(p + 3) >= bottom)
    )


@triton.jit
def _sky(p, dx, dy, dz, pixel):
    ax, ay, az = _load3(p + DISC)
    angle = tl.sqrt(tl.maximum(2 - 2 * (dx * ax + dy * ay + dz * az), 0.0))
    rise = tl.sqrt(tl.minimum(_clamp(dy, 0.0, 1.0) * 2.2, 1.0))
    glow = 0.35 * tl.exp(-6.0 * angle)
    disc = _clamp((tl.load(p + DISC_SIZE) - angle) / pixel * 0.5 + 0.5, 0.0, 1.0)
    flat = 1.0 / tl.sqrt(tl.maximum(dx * dx + dz * dz, 1e-8))
    cosine, sine, scale = _load3(p + HILL_SHAPE)
    s1 = (dx * cosine + dz * sine) * flat
    c1 = (dz * cosine - dx * sine) * flat
    s2 = 2 * s1 * c1
    c2 = 1 - 2 * s1 * s1
    s3 = s1 * c2 + c1 * s2
    c3 = c1 * c2 - s1 * s2
    s4 = 2 * s2 * c2
    c4 = 1 - 2 * s2 * s2
    s5 = s4 * c1 + c4 * s1
    s8 = 2 * s4 * c4
    c8 = 1 - 2 * s4 * s4
    s11 = s8 * c3 + c8 * s3
    ridge = (0.075 + 0.025 * s3 + 0.028 * s8) * scale
    far = _clamp((ridge - dy) / pixel + 0.5, 0.0, 1.0)
    ridge = (0.036 + 0.016 * s5 + 0.018 * s11) * scale
    near = _clamp((ridge - dy) / pixel + 0.5, 0.0, 1.0)
    r = _sky_channel(p, rise, glow, disc, far, near)
    g = _sky_channel(p + 1, rise, glow, disc, far, near)
    b = _sky_channel(p + 2, rise, glow, disc, far, near)
    return r, g, b


@triton.jit
def _sky_channel(p, rise, glow, disc, far, near):
    value = _mix(tl.load(p + HORIZON), tl.load(p + ZENITH), rise) + tl.load(p + SUN) * glow
    value = _mix(value, tl.load(p + DISC_RGB), disc)
    return _mix(_mix(value, tl.load(p + HILL_FAR), far), tl.load(p + HILL_NEAR), near)


@triton.jit
def _ground_wave(p, x, z, ahead, aside, along, across, bend):
    kx, kz, phase = _load3(p)
    turns = tl.abs(kx * ahead + kz * aside) * along + tl.abs(kx * aside - kz * ahead) * across
    fade = tl.exp(turns * turns * (0.0 - BLUR))
    return tl.load(p + 3) * fade * _wave(kx * x + kz * z + phase + bend)


@triton.jit
def _ground(p, x, z, dx, dy, dz, reach, lit, pixel):
    flat = 1.0 / tl.sqrt(tl.maximum(dx * dx + dz * dz, 1e-8))
    ahead = dx * flat
    aside = dz * flat
    across = reach * pixel
    along = across / tl.abs(tl.minimum(dy, -1e-4))
    bend = tl.load(p + WARP) * _wave(0.09 * x + tl.load(p + WAVES + 2))
    mix = x * 0.0 + 0.5
    for i in tl.static_range(3):
        mix += _ground_wave(p + WAVES + 4 * i, x, z, ahead, aside, along, across, bend)
    pitch = tl.load(p + CHECKER)
    if pitch > 0:
        footprint = along / pitch
        sharp = tl.minimum(1.0 / tl.maximum(footprint, 0.02), 8.0)
        fields = _wave(0.5 * x / pitch) * _wave(0.5 * z / pitch)
        mix += (
            0.5
            * _clamp(fields * sharp, -1.0, 1.0)
            * tl.exp(footprint * footprint * (0.0 - 0.1 * BLUR))
        )
    mix = _clamp(mix, 0.0, 1.0)
    paint = x * 0.0
    gap = tl.load(p + LINES)
    if gap > 0:
        off = tl.abs(z / gap - tl.floor(z / gap) - 0.5) * gap
        blur = along + 0.02
        cover = _clamp((0.09 - off) / blur + 0.5, 0.0, 1.0) * tl.minimum(0.18 / blur, 1.0)
        paint = 0.45 * cover * _clamp(_wave(0.3 * x) / (across + 0.02) * 0.5 + 0.5, 0.0, 1.0)
    tone = x * 0.0 + 1.0
    wind = tl.load(p + WIND)
    if wind > 0:
        gust = tl.load(p + GUST)
        sway = 0.7 * _wave(0.13 * x + 0.09 * z - gust) + 0.3 * _wave(0.6 * x - 0.4 * z - 3 * gust)
        tone += 0.05 * wind * sway
        bend += 0.4 * wind * sway + 0.5 * _wave(0.83 * x + 0.57 * z)
        for i in tl.static_range(3):
            tone += _ground_wave(p + BLADES + 4 * i, x, z, ahead, aside, along, across, bend)
    shine = (0.3 + 0.7 * tl.load(p + LIGHT + 1)) * lit
    clear = tl.exp(reach * (0.0 - tl.load(p + HAZE)))
    r = _ground_channel(p, mix, paint, tone, shine, clear)
    g = _ground_channel(p + 1, mix, paint, tone, shine, clear)
    b = _ground_channel(p + 2, mix, paint, tone, shine, clear)
    return r, g, b


@triton.jit
def _ground_channel(p, mix, paint, tone, shine, clear):
    haze = tl.load(p + HORIZON)
    colour = (_mix(tl.load(p + LOW), tl.load(p + HIGH), mix) + paint) * tone
    return _mix(haze, colour * (tl.load(p + AMBIENT) + tl.load(p + SUN) * shine), clear)


@triton.jit
def _dots(x, y, z):
    scale = 1.5 / tl.maximum(tl.maximum(tl.maximum(tl.abs(x), tl.abs(y)), tl.abs(z)), 1e-3)
    waves = _wave(scale * x + 0.25) + _wave(scale * y + 0.25) + _wave(scale * z + 0.25)
    return _clamp(4 * waves + 1.9, 0.0, 1.0)


@triton.jit
def _shade(p, part, t, ox, oy, oz, dx, dy, dz, nx, ny, nz, rx, ry, rz):
    """Colour of a solid where a ray meets it."""
    s = tl.minimum(t, 1e4)
    x = tl.load(part) * nx + tl.load(part + 4) * ny + tl.load(part + 8) * nz
    y = tl.load(part + 1) * nx + tl.load(part + 5) * ny + tl.load(part + 9) * nz
    z = tl.load(part + 2) * nx + tl.load(part + 6) * ny + tl.load(part + 10) * nz
    unit = 1.0 / tl.sqrt(tl.maximum(x * x + y * y + z * z, 1e-12))
    lx, ly, lz = _load3(p + LIGHT)
    facing = tl.maximum((x * lx + y * ly + z * lz) * unit * 0.7 + 0.3, 0.0)
    quarter = _clamp((ox + s * dx) * (oz + s * dz) * 3 + 0.5, 0.0, 1.0)
    tone = 1 - tl.load(part + TONE) * (1 - quarter)
    stripes = tl.load(part + STRIPES)
    if stripes > 0:
        tone = tone * (1 - stripes * _clamp(_wave(1.5 * (oy + s * dy)) * 5 + 0.5, 0.0, 1.0))
    dots = tl.load(part + DOTS)
    if dots > 0:
        tone = tone * (1 - dots * _dots(ox + s * dx, oy + s * dy, oz + s * dz))
    shine = tl.load(part + SHINE)
    glint = t * 0.0
    if shine > 0:
        away = 2 * (rx * x + ry * y + rz * z) * unit * unit
        glint = (rx - away * x) * lx + (ry - away * y) * ly + (rz - away * z) * lz
        glint = tl.maximum(glint, 0.0)
        glint = glint * glint
        glint = glint * glint
        glint = glint * glint
        glint = shine * glint * glint
    above = 0.95 + 0.2 * y * unit
    clear = tl.exp(s * (0.0 - 0.5 * tl.load(p + HAZE)))
    r = _shade_channel(p, part, tone, above, facing, glint, clear)
    g = _shade_channel(p + 1, part + 1, tone, above, facing, glint, clear)
    b = _shade_channel(p + 2, part + 2, tone, above, facing, glint, clear)
    return r, g, b


@triton.jit
def _shade_channel(p, part, tone, above, facing, glint, clear):
    light = tl.load(p + AMBIENT) * above + tl.load(p + SUN) * facing
    return _mix(
        tl.load(p + HORIZON), tl.load(part + RGB) * tone * light + glint * tl.load(p + SUN), clear
    )


@triton.jit
def _rain(p, beside, before, aside, ahead, dy, nearest, pixel):
    """Streaks in the planes that a ray goes through by its part `ahead`."""
    eye = tl.load(p + EYE + 1)
    fall = tl.load(p + FALL)
    sense = tl.where(ahead < 0, -1.0, 1.0)
    steep = tl.maximum(tl.abs(ahead), 0.05)
    place = before * sense / GAP
    total = nearest * 0.0
    for layer in tl.static_range(LAYERS):
        number = tl.floor(place) + (1 + layer)
        off = number - place
        shown = tl.minimum(off, 1.0) * tl.minimum(off * -1.0 + LAYERS, 1.0)
        reach = off * GAP / steep
        y = eye + reach * dy
        turns = (beside + reach * aside + SLANT * y) / CELL
        column = tl.floor(turns)
        lot = column * (0.1031 * column + 0.618) + 0.377 * number * sense
        lot = lot - tl.floor(lot)
        drop = (y + fall) / DROP + lot
        count = tl.floor(drop)
        middle = 0.618 * count + 3.1 * lot
        middle = 0.2 + 0.6 * (middle - tl.floor(middle))
        blur = tl.maximum(0.8 * reach * pixel, THIN)
        half = tl.minimum(blur, 0.2 * CELL)
        width = tl.maximum(1 - tl.abs(turns - column - middle) * CELL / half, 0.0)
        length = tl.maximum(1 - tl.abs(drop - count - 0.5) / 0.22, 0.0)
        streak = shown * width * length * tl.sqrt(1.0 / blur * THIN)
        total += tl.where(reach < nearest, streak, 0.0)
    return total


@triton.jit
def _film(
    frame, parts, groups, spans, offsets, out, height, width,
    NUM_PARTS: tl.constexpr, NUM_GROUPS: tl.constexpr, SAMPLES: tl.constexpr,
    TH: tl.constexpr, TW: tl.constexpr,
):  # fmt: skip
    across = (width + TW - 1) // TW
    tiles = across * ((height + TH - 1) // TH)
    f = tl.program_id(0) // tiles
    tile = tl.program_id(0) % tiles
    top_row = (tile // across) * TH
    left_column = (tile % across) * TW
    at = tl.arange(0, TH * TW)
    row = top_row + at // TW  # [TH TW]
    column = left_column + at % TW  # [TH TW]
    p = frame + f * NUM_FRAME
    first = parts + f * (NUM_PARTS * NUM_PART)
    boxes = groups + f * (NUM_GROUPS * NUM_GROUP)

    half = tl.load(p + TAN_HALF)
    pixel = 2 * half / height
    # The tile on the view plane, for the rectangles.
    left = (left_column - width * 0.5) * pixel
    right = left + TW * pixel
    top = (height * 0.5 - top_row) * pixel
    bottom = top - TH * pixel
    ex, ey, ez = _load3(p + EYE)
    rx, ry, rz = _load3(p + RIGHT)
    ux, uy, uz = _load3(p + UP)
    fx, fy, fz = _load3(p + FORWARD)
    lx, ly, lz = _load3(p + LIGHT)
    rain_z = tl.load(p + RAIN)
    rain_x = tl.load(p + RAIN + 1)
    # A rolled camera sees lower on one side than on the other.
    low_side = tl.minimum(left * ry, right * ry)
    high_side = tl.maximum(left * ry, right * ry)
    some_ground = fy + bottom * uy + low_side < 0
    some_sky = fy + top * uy + high_side > -1e-3

    # One bit per group, so that the tests are done once for all rays of a pixel.
    bodies = 0
    shadows = 0
    for group in range(NUM_GROUPS):
        box = boxes + group * NUM_GROUP
        bodies |= _meets(box + BODY, left, right, bottom, top).to(tl.int32) << group
        shadows |= _meets(box + SHADOW, left, right, bottom, top).to(tl.int32) << group

    red = at * 0.0
    green = at * 0.0
    blue = at * 0.0
    for sample in range(SAMPLES):
        u = ((column + 0.5 + tl.load(offsets + 2 * sample)) - width * 0.5) * pixel
        v = (height * 0.5 - (row + 0.5 + tl.load(offsets + 2 * sample + 1))) * pixel
        dx = fx + u * rx + v * ux
        dy = fy + u * ry + v * uy
        dz = fz + u * rz + v * uz
        unit = 1.0 / tl.sqrt(dx * dx + dy * dy + dz * dz)
        dx = dx * unit
        dy = dy * unit
        dz = dz * unit
        r = at * 0.0
        g = at * 0.0
        b = at * 0.0
        nearest = at * 0.0 + FAR
        if some_sky:
            r, g, b = _sky(p, dx, dy, dz, pixel)
        if some_ground:
            down = dy < -1e-4
            nearest = tl.where(down, -ey / tl.minimum(dy, -1e-4), FAR)
            reach = tl.minimum(nearest, 400.0)
            gx = ex + reach * dx
            gz = ez + reach * dz
            lit = at * 0.0 + 1.0
            for group in range(NUM_GROUPS):
                if (shadows >> group) & 1 == 1:
                    for i in range(tl.load(spans + 2 * group), tl.load(spans + 2 * group + 1)):
                        part = first + i * NUM_PART
                        ox, oy, oz = _turn(part, gx, 0.0, gz)
                        qx, qy, qz = _turn(part, lx, ly, lz)
                        zero = at * 0.0
                        t, nx, ny, nz = hit(
                            tl.load(part + PRIMITIVE).to(tl.int32),
                            ox + tl.load(part + 3), oy + tl.load(part + 7), oz + tl.load(part + 11),
                            zero + qx, zero + qy, zero + qz,
                        )  # fmt: skip
                        lit = tl.where(t < FAR / 2, 0.0, lit)
            gr, gg, gb = _ground(p, gx, gz, dx, dy, dz, nearest, lit, pixel)
            r = tl.where(down, gr, r)
            g = tl.where(down, gg, g)
            b = tl.where(down, gb, b)
        for group in range(NUM_GROUPS):
            if (bodies >> group) & 1 == 1:
                for i in range(tl.load(spans + 2 * group), tl.load(spans + 2 * group + 1)):
                    part = first + i * NUM_PART
                    ox, oy, oz = _turn(part, ex, ey, ez)
                    qx, qy, qz = _turn(part, dx, dy, dz)
                    zero = at * 0.0
                    ox = zero + ox + tl.load(part + 3)
                    oy = zero + oy + tl.load(part + 7)
                    oz = zero + oz + tl.load(part + 11)
                    t, nx, ny, nz = hit(
                        tl.load(part + PRIMITIVE).to(tl.int32), ox, oy, oz, qx, qy, qz
                    )
                    sr, sg, sb = _shade(p, part, t, ox, oy, oz, qx, qy, qz, nx, ny, nz, dx, dy, dz)
                    closer = t < nearest
                    r = tl.where(closer, sr, r)
                    g = tl.where(closer, sg, g)
                    b = tl.where(closer, sb, b)
                    nearest = tl.where(closer, t, nearest)
        if rain_z + rain_x > 0:
            wet = at * 0.0
            if rain_z > 0:
                wet += rain_z * _rain(p, ex, ez, dx, dz, dy, nearest, pixel)
            if rain_x > 0:
                wet += rain_x * _rain(p, ez, ex, dz, dx, dy, nearest, pixel)
            wet = tl.minimum(wet, 0.8)
            r = _mix(r, 0.5 + 0.5 * tl.load(p + HORIZON), wet)
            g = _mix(g, 0.5 + 0.5 * tl.load(p + HORIZON + 1), wet)
            b = _mix(b, 0.5 + 0.5 * tl.load(p + HORIZON + 2), wet)
        red += _clamp(r, 0.0, 1.0)
        green += _clamp(g, 0.0, 1.0)
        blue += _clamp(b, 0.0, 1.0)
    scale: tl.constexpr = 255.0 / SAMPLES
    inside = (row < height) & (column < width)
    place = out + ((f.to(tl.int64) * height + row) * width + column) * 3
    tl.store(place, (red * scale + 0.5).to(tl.uint8), mask=inside)
    tl.store(place + 1, (green * scale + 0.5).to(tl.uint8), mask=inside)
    tl.store(place + 2, (blue * scale + 0.5).to(tl.uint8), mask=inside)
