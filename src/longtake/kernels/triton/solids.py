"""Where a ray meets each primitive, for Triton programs; the maths is in `reference.solids`."""

import triton
import triton.language as tl

from longtake.kernels.reference import solids

FAR, EPSILON = tl.constexpr(solids.FAR), tl.constexpr(solids.EPSILON)
HOLE = tl.constexpr(solids.RING_HOLE**2)


@triton.jit
def _inverse(value):
    tiny = tl.where(value < 0, -1e-6, 1e-6)
    return 1.0 / tl.where(tl.abs(value) < 1e-6, tiny, value)


@triton.jit
def _hit_sphere(ox, oy, oz, dx, dy, dz):
    a = dx * dx + dy * dy + dz * dz
    b = ox * dx + oy * dy + oz * dz
    c = ox * ox + oy * oy + oz * oz - 1
    inside = b * b - a * c
    t = (-b - tl.sqrt(tl.maximum(inside, 0.0))) / a
    t = tl.where((inside > 0) & (t > EPSILON), t, FAR)
    s = tl.minimum(t, 1e4)
    return t, ox + s * dx, oy + s * dy, oz + s * dz


@triton.jit
def _slab(o, d):
    inverse = _inverse(d)
    one = (-1 - o) * inverse
    two = (1 - o) * inverse
    return tl.minimum(one, two), tl.maximum(one, two)


@triton.jit
def _against(d):
    return tl.where(d > 0, -1.0, 1.0)


@triton.jit
def _hit_cube(ox, oy, oz, dx, dy, dz):
    lx, hx = _slab(ox, dx)
    ly, hy = _slab(oy, dy)
    lz, hz = _slab(oz, dz)
    low = tl.maximum(tl.maximum(lx, ly), lz)
    high = tl.minimum(tl.minimum(hx, hy), hz)
    t = tl.where((high > low) & (low > EPSILON), low, FAR)
    nx = tl.where(lx == low, _against(dx), 0.0)
    ny = tl.where(ly == low, _against(dy), 0.0)
    nz = tl.where(lz == low, _against(dz), 0.0)
    return t, nx, ny, nz


@triton.jit
def _tube(ox, oz, dx, dz, square):
    a = tl.maximum(dx * dx + dz * dz, 1e-9)
    b = ox * dx + oz * dz
    inside = b * b - a * (ox * ox + oz * oz - square)
    root = tl.sqrt(tl.maximum(inside, 0.0))
    missed = inside <= 0
    return tl.where(missed, FAR, (-b - root) / a), tl.where(missed, -FAR, (-b + root) / a)


@triton.jit
def _hit_cylinder(ox, oy, oz, dx, dy, dz):
    side, out = _tube(ox, oz, dx, dz, 1.0)
    enter, leave = _slab(oy, dy)
    low = tl.maximum(side, enter)
    high = tl.minimum(out, leave)
    t = tl.where((high > low) & (low > EPSILON), low, FAR)
    cap = enter > side
    s = tl.minimum(t, 1e4)
    nx = tl.where(cap, 0.0, ox + s * dx)
    ny = tl.where(cap, _against(dy), 0.0)
    nz = tl.where(cap, 0.0, oz + s * dz)
    return t, nx, ny, nz


@triton.jit
def _hit_cone(ox, oy, oz, dx, dy, dz):
    rest = 1 - oy
    a = dx * dx + dz * dz - 0.25 * dy * dy
    a = tl.where(tl.abs(a) < 1e-6, 1e-6, a)
    b = ox * dx + oz * dz + 0.25 * rest * dy
    inside = b * b - a * (ox * ox + oz * oz - 0.25 * rest * rest)
    root = tl.sqrt(tl.maximum(inside, 0.0))
    one = (-b - root) / a
    two = (-b + root) / a
    one = tl.where((inside > 0) & (one > EPSILON) & (tl.abs(oy + one * dy) < 1), one, FAR)
    two = tl.where((inside > 0) & (two > EPSILON) & (tl.abs(oy + two * dy) < 1), two, FAR)
    side = tl.minimum(one, two)
    base = (-1 - oy) * _inverse(dy)
    x = ox + base * dx
    z = oz + base * dz
    base = tl.where((base > EPSILON) & (x * x + z * z < 1), base, FAR)
    t = tl.minimum(side, base)
    s = tl.minimum(t, 1e4)
    flat = base < side
    nx = tl.where(flat, 0.0, ox + s * dx)
    ny = tl.where(flat, -1.0, 0.25 * (1 - oy - s * dy))
    nz = tl.where(flat, 0.0, oz + s * dz)
    return t, nx, ny, nz


@triton.jit
def _clip(low, high, nx, ny, nz, away, slope, fx, fy, fz):
    """Cut an interval by one face of a solid; keep the normal of the last face entered."""
    t = away * _inverse(slope)
    enters = (slope < 0) & (t > low)
    low = tl.where(enters, t, low)
    high = tl.where((slope >= 0) & (t < high), t, high)
    return low, high, tl.where(enters, fx, nx), tl.where(enters, fy, ny), tl.where(enters, fz, nz)


@triton.jit
def _hit_pyramid(ox, oy, oz, dx, dy, dz):
    lo = ox * 0.0 - FAR
    hi = ox * 0.0 + FAR
    nx = ox * 0.0
    ny = ox * 0.0
    nz = ox * 0.0
    lo, hi, nx, ny, nz = _clip(lo, hi, nx, ny, nz, 1 - oy - 2 * ox, dy + 2 * dx, 2.0, 1.0, 0.0)
    lo, hi, nx, ny, nz = _clip(lo, hi, nx, ny, nz, 1 - oy + 2 * ox, dy - 2 * dx, -2.0, 1.0, 0.0)
    lo, hi, nx, ny, nz = _clip(lo, hi, nx, ny, nz, 1 - oy - 2 * oz, dy + 2 * dz, 0.0, 1.0, 2.0)
    lo, hi, nx, ny, nz = _clip(lo, hi, nx, ny, nz, 1 - oy + 2 * oz, dy - 2 * dz, 0.0, 1.0, -2.0)
    lo, hi, nx, ny, nz = _clip(lo, hi, nx, ny, nz, 1 + oy, -dy, 0.0, -1.0, 0.0)
    return tl.where((hi > lo) & (lo > EPSILON), lo, FAR), nx, ny, nz


@triton.jit
def _hit_ring(ox, oy, oz, dx, dy, dz):
    side, out = _tube(ox, oy, dx, dy, 1.0)
    enter, leave = _slab(oz, dz)
    low = tl.maximum(side, enter)
    high = tl.minimum(out, leave)
    hole, wall = _tube(ox, oy, dx, dy, HOLE)
    through = (low > hole) & (low < wall)
    first = tl.where(through, wall, low)
    t = tl.where((high > low) & (first < high) & (first > EPSILON), first, FAR)
    s = tl.minimum(t, 1e4)
    flat = (enter > side) & (low == first)
    turn = tl.where(through, -1.0, 1.0)
    nx = tl.where(flat, 0.0, turn * (ox + s * dx))
    ny = tl.where(flat, 0.0, turn * (oy + s * dy))
    nz = tl.where(flat, _against(dz), 0.0)
    return t, nx, ny, nz


@triton.jit
def hit(kind, ox, oy, oz, dx, dy, dz):  # noqa: ANN201 - values on the device have no Python type
    """Distance to the first surface and its unscaled normal; the branch is the program's."""
    t = ox * 0.0 + FAR
    nx = ox * 0.0
    ny = ox * 0.0 + 1.0
    nz = ox * 0.0
    if kind == 0:
        t, nx, ny, nz = _hit_sphere(ox, oy, oz, dx, dy, dz)
    elif kind == 1:
        t, nx, ny, nz = _hit_cube(ox, oy, oz, dx, dy, dz)
    elif kind == 2:
        t, nx, ny, nz = _hit_cylinder(ox, oy, oz, dx, dy, dz)
    elif kind == 3:
        t, nx, ny, nz = _hit_cone(ox, oy, oz, dx, dy, dz)
    elif kind == 4:
        t, nx, ny, nz = _hit_pyramid(ox, oy, oz, dx, dy, dz)
    elif kind == 5:
        t, nx, ny, nz = _hit_ring(ox, oy, oz, dx, dy, dz)
    return t, nx, ny, nz
