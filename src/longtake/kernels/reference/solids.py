"""Where a ray meets each primitive, in the primitive's own box [-1, 1]^3, in plain PyTorch."""

import torch
from einops import repeat
from jaxtyping import Float
from torch import Tensor

FAR = 1e9
"""Distance of what is never met."""
EPSILON = 1e-3
RING_HOLE = 0.58
"""Radius of a ring's hole."""

Plane = Float[Tensor, "f h w"]
Vectors = Float[Tensor, "3 f h w"]


def _inverse(value: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    tiny = torch.where(value < 0, -1e-6, 1e-6)
    return 1.0 / torch.where(value.abs() < 1e-6, tiny, value)


def hit(kind: int, o: Vectors, d: Vectors) -> tuple[Plane, Vectors]:
    """Distance to the first surface from outside, `FAR` for none, and its unscaled normal."""
    match kind:
        case 0:
            distance, normal = _hit_sphere(o, d)
        case 1:
            distance, normal = _hit_cube(o, d)
        case 2:
            distance, normal = _hit_cylinder(o, d)
        case 3:
            distance, normal = _hit_cone(o, d)
        case 4:
            distance, normal = _hit_pyramid(o, d)
        case 5:
            distance, normal = _hit_ring(o, d)
        case _:
            msg = f"no primitive has the number {kind}"
            raise AssertionError(msg)
    return distance, normal


def _hit_sphere(o: Vectors, d: Vectors) -> tuple[Plane, Vectors]:
    a, b, c = (d * d).sum(0), (o * d).sum(0), (o * o).sum(0) - 1
    inside = b * b - a * c
    t = (-b - inside.clamp(min=0).sqrt()) / a
    t = torch.where((inside > 0) & (t > EPSILON), t, FAR)
    return t, o + t.clamp(max=1e4) * d


def _slabs(
    o: Float[Tensor, "axes f h w"], d: Float[Tensor, "axes f h w"]
) -> tuple[Float[Tensor, "axes f h w"], Float[Tensor, "axes f h w"]]:
    inverse = _inverse(d)
    one, two = (-1 - o) * inverse, (1 - o) * inverse
    return torch.minimum(one, two), torch.maximum(one, two)


def _hit_cube(o: Vectors, d: Vectors) -> tuple[Plane, Vectors]:
    enter, leave = _slabs(o, d)
    low, high = enter.amax(0), leave.amin(0)
    t = torch.where((high > low) & (low > EPSILON), low, FAR)
    normal = torch.where(enter == low, torch.where(d > 0, -1.0, 1.0), 0.0)
    return t, normal


def _tube(ox: Plane, oz: Plane, dx: Plane, dz: Plane, square: float) -> tuple[Plane, Plane]:
    """Where a ray enters and leaves an endless cylinder; an empty interval if it misses."""
    a = (dx * dx + dz * dz).clamp(min=1e-9)
    b, c = ox * dx + oz * dz, ox * ox + oz * oz - square
    inside = b * b - a * c
    root = inside.clamp(min=0).sqrt()
    missed = inside <= 0
    return torch.where(missed, FAR, (-b - root) / a), torch.where(missed, -FAR, (-b + root) / a)


def _hit_cylinder(o: Vectors, d: Vectors) -> tuple[Plane, Vectors]:
    side, out = _tube(o[0], o[2], d[0], d[2], 1.0)
    enter, leave = _slabs(o[1:2], d[1:2])
    low, high = torch.maximum(side, enter[0]), torch.minimum(out, leave[0])
    t = torch.where((high > low) & (low > EPSILON), low, FAR)
    cap = (enter[0] > side)[None]
    p = o + t.clamp(max=1e4) * d
    zero = torch.zeros_like(t)
    lid = torch.stack([zero, torch.where(d[1] > 0, -1.0, 1.0), zero])
    return t, torch.where(cap, lid, torch.stack([p[0], zero, p[2]]))


def _hit_cone(o: Vectors, d: Vectors) -> tuple[Plane, Vectors]:
    rest = 1 - o[1]
    a = d[0] * d[0] + d[2] * d[2] - 0.25 * d[1] * d[1]
    a = torch.where(a.abs() < 1e-6, 1e-6, a)
    b = o[0] * d[0] + o[2] * d[2] + 0.25 * rest * d[1]
    c = o[0] * o[0] + o[2] * o[2] - 0.25 * rest * rest
    inside = b * b - a * c
    root = inside.clamp(min=0).sqrt()
    side = torch.full_like(a, FAR)
    for t in ((-b - root) / a, (-b + root) / a):
        ok = (inside > 0) & (t > EPSILON) & ((o[1] + t * d[1]).abs() < 1) & (t < side)
        side = torch.where(ok, t, side)
    base = (-1 - o[1]) * _inverse(d[1])
    x, z = o[0] + base * d[0], o[2] + base * d[2]
    base = torch.where((base > EPSILON) & (x * x + z * z < 1), base, FAR)
    t = torch.minimum(side, base)
    p = o + t.clamp(max=1e4) * d
    zero = torch.zeros_like(t)
    floor = torch.stack([zero, zero - 1, zero])
    return t, torch.where((base < side)[None], floor, torch.stack([p[0], 0.25 * (1 - p[1]), p[2]]))


def _hit_pyramid(o: Vectors, d: Vectors) -> tuple[Plane, Vectors]:
    low, high = torch.full_like(o[0], -FAR), torch.full_like(o[0], FAR)
    normal = torch.zeros_like(o)
    for face in (
        (2.0, 1.0, 0.0),
        (-2.0, 1.0, 0.0),
        (0.0, 1.0, 2.0),
        (0.0, 1.0, -2.0),
        (0.0, -1.0, 0.0),
    ):
        n = torch.tensor(face, device=o.device)
        slope = face[0] * d[0] + face[1] * d[1] + face[2] * d[2]
        t = (1 - face[0] * o[0] - face[1] * o[1] - face[2] * o[2]) * _inverse(slope)
        enters = (slope < 0) & (t > low)
        normal = torch.where(enters, repeat(n, "c -> c 1 1 1"), normal)
        low = torch.where(enters, t, low)
        high = torch.where((slope >= 0) & (t < high), t, high)
    return torch.where((high > low) & (low > EPSILON), low, FAR), normal


def _hit_ring(o: Vectors, d: Vectors) -> tuple[Plane, Vectors]:
    side, out = _tube(o[0], o[1], d[0], d[1], 1.0)
    enter, leave = _slabs(o[2:3], d[2:3])
    low, high = torch.maximum(side, enter[0]), torch.minimum(out, leave[0])
    hole, wall = _tube(o[0], o[1], d[0], d[1], RING_HOLE**2)
    through = (low > hole) & (low < wall)
    first = torch.where(through, wall, low)
    t = torch.where((high > low) & (first < high) & (first > EPSILON), first, FAR)
    p = o + t.clamp(max=1e4) * d
    zero = torch.zeros_like(t)
    face = torch.stack([zero, zero, torch.where(d[2] > 0, -1.0, 1.0)])
    around = torch.stack([p[0], p[1], zero])
    flat = (~through & (enter[0] > side))[None]
    return t, torch.where(flat, face, torch.where(through, -around, around))
