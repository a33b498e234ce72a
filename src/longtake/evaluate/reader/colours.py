"""What each pixel can be: every colour of the world under each light, compared in Lab.

A paint is seen between full shade and full sun, near and far in the haze. These samples, for all
paints of the tables, give a table from coarse RGB to the nearest paint and its distance.
"""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache

import torch
from jaxtyping import Bool, Float, Int64, UInt8
from torch import Tensor

from longtake.evaluate.scope import COLOURS, GROUNDS, KINDS, LIGHTS, PROPS
from longtake.world.cast import Vector
from longtake.world.stage import Ground, Light

BITS = 5
"""Bits of each channel that the table looks at."""
EXPLAINED = 16.0
"""Largest Lab distance at which a pixel still counts as one of the world's colours."""

_WHITE = (0.9505, 1.0, 1.089)
_TO_XYZ = (
    (0.4124, 0.3576, 0.1805),
    (0.2126, 0.7152, 0.0722),
    (0.0193, 0.1192, 0.9505),
)
_SUNLIT = (0.0, 0.25, 0.5, 0.75, 1.0)
_UPWARD = (-0.6, 0.2, 0.9)
_SOLID_METRES = (5.0, 9.0, 14.0)
_GROUND_METRES = (3.0, 6.0, 10.0, 16.0, 30.0, 60.0, 120.0)
_MIXES = (0.0, 0.25, 0.5, 0.75, 1.0)
_SHADES = (1.0, 0.85, 0.7, 0.55, 0.4, 0.25)
"""How much darker a subject's own colour can be painted, in stripes and under roofs."""
_BRIGHT = (1.0, 0.85)
"""Shades that most of a subject has; darker ones would make white gray and orange brown."""
_ROWS = 2048
"""Bins compared at once."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """Nearest paint of each coarse RGB under one light."""

    label: Int64[Tensor, " bins"]
    """Number of a subject's colour; then one number for each ground, then sky, then neutral."""
    distance: Float[Tensor, " bins"]
    """Distance to it in Lab."""
    colour: Int64[Tensor, " bins"]
    """Nearest of the subjects' colours alone, little shaded."""
    sky: Float[Tensor, " bins"]
    """Distance to the nearest colour of the sky, in rain also that of roads."""

    def look_up(
        self, frames: UInt8[Tensor, "*shape 3"]
    ) -> tuple[Int64[Tensor, "*shape"], Float[Tensor, "*shape"]]:
        """Label and distance of every pixel."""
        index = _bin(frames)
        return self.label.to(frames.device)[index], self.distance.to(frames.device)[index]

    def nearest_colour(self, frames: UInt8[Tensor, "*shape 3"]) -> Int64[Tensor, "*shape"]:
        """The subjects' colour that every pixel is nearest to."""
        return self.colour.to(frames.device)[_bin(frames)]

    def like_sky(self, frames: UInt8[Tensor, "*shape 3"]) -> Bool[Tensor, "*shape"]:
        """Whether every pixel can be sky, whatever it is nearest to."""
        return self.sky.to(frames.device)[_bin(frames)] < EXPLAINED / 2


def _bin(frames: UInt8[Tensor, "*shape 3"]) -> Int64[Tensor, "*shape"]:
    red, green, blue = (frames.long() >> (8 - BITS)).unbind(-1)
    return (red << 2 * BITS) + (green << BITS) + blue


def ground_label(number: int) -> int:
    """Label of a ground."""
    return len(COLOURS) + number


SKY = len(COLOURS) + len(GROUNDS)
NEUTRAL = SKY + 1
"""Props and the parts of subjects that have a colour of their own."""


def to_lab(rgb: Float[Tensor, "*n 3"]) -> Float[Tensor, "*n 3"]:
    """CIE Lab of sRGB in [0, 1], white point D65."""
    linear = torch.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    xyz = linear @ rgb.new_tensor(_TO_XYZ).T / rgb.new_tensor(_WHITE)
    root = torch.where(xyz > 0.008856, xyz.clamp(min=1e-9) ** (1 / 3), 7.787 * xyz + 16 / 116)
    x, y, z = root.unbind(-1)
    return torch.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], dim=-1)


@cache
def tables() -> tuple[Table, ...]:
    """One table for each light, in the order of `LIGHTS`."""
    levels = (torch.arange(2**BITS).float() + 0.5) / 2**BITS
    bins = to_lab(torch.cartesian_prod(levels, levels, levels))
    return tuple(_table(light, bins) for light in LIGHTS)


def _table(light: Light, bins: Float[Tensor, "bins 3"]) -> Table:
    samples, labels = zip(*_samples(light), strict=True)
    paints, number = to_lab(torch.tensor(samples).clamp(0, 1)), torch.tensor(labels)
    distance, nearest = _nearest(bins, paints)
    bright, colours = zip(*_colours(light, _BRIGHT), strict=True)
    _, bare = _nearest(bins, to_lab(torch.tensor(bright).clamp(0, 1)))
    sky, _ = _nearest(bins, paints[number == SKY])
    return Table(
        label=number[nearest], distance=distance, colour=torch.tensor(colours)[bare], sky=sky
    )


def _nearest(
    bins: Float[Tensor, "bins 3"], paints: Float[Tensor, "paints 3"]
) -> tuple[Float[Tensor, " bins"], Int64[Tensor, " bins"]]:
    found = [torch.cdist(some, paints).min(dim=1) for some in bins.split(_ROWS)]
    distance, nearest = (torch.cat(column) for column in zip(*found, strict=True))
    return distance, nearest


def _samples(light: Light) -> Iterator[tuple[Vector, int]]:
    """Everything that can be seen under a light."""
    yield from _colours(light, _SHADES)
    for rgb in _fixed_paints():
        yield from _lit(rgb, light, NEUTRAL)
    for number in range(len(GROUNDS)):
        yield from _grounds(number, light)
    yield from _skies(light)


def _colours(light: Light, shades: tuple[float, ...]) -> Iterator[tuple[Vector, int]]:
    for number, colour in enumerate(COLOURS):
        for shade in shades:
            yield from _lit(_scaled(colour.rgb, shade), light, number)


def _fixed_paints() -> tuple[Vector, ...]:
    paints = {part.paint.rgb for kind in KINDS for part in kind.parts if part.paint.rgb}
    return (*sorted(paints), *(prop.rgb for prop in PROPS))


def _lit(rgb: Vector, light: Light, label: int) -> Iterator[tuple[Vector, int]]:
    for sun, up, metres in itertools.product(_SUNLIT, _UPWARD, _SOLID_METRES):
        glow = [
            a * (0.95 + 0.2 * up) + s * sun for a, s in zip(light.ambient, light.sun, strict=True)
        ]
        lit = _times(rgb, (glow[0], glow[1], glow[2]))
        yield _hazed(lit, light, 0.5 * light.haze * metres), label


def _grounds(number: int, light: Light) -> Iterator[tuple[Vector, int]]:
    ground = GROUNDS[number]
    painted = (0.0, 0.45) if ground.lines else (0.0,)
    facing = 0.3 + 0.7 * float(torch.tensor(light.elevation_deg).deg2rad().sin())
    for mix, line, lit, metres in itertools.product(_MIXES, painted, (0.0, 1.0), _GROUND_METRES):
        rgb = _times(_mixed(ground.low, ground.high, mix), light.ground_tint)
        rgb = (rgb[0] + line, rgb[1] + line, rgb[2] + line)
        shine = [a + s * facing * lit for a, s in zip(light.ambient, light.sun, strict=True)]
        lit_rgb = _times(rgb, (shine[0], shine[1], shine[2]))
        yield _hazed(lit_rgb, light, light.haze * metres), ground_label(number)


def _skies(light: Light) -> Iterator[tuple[Vector, int]]:
    for mix in (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0):
        sky = _mixed(light.horizon, light.zenith, mix)
        for glow in (0.0, 0.1, 0.2, 0.3):
            r, g, b = light.sun
            yield (sky[0] + r * glow, sky[1] + g * glow, sky[2] + b * glow), SKY
        for hill, part in itertools.product((light.hill_far, light.hill_near), (0.25, 0.5, 0.75)):
            yield _mixed(hill, sky, part), SKY
        yield _mixed(light.disc, sky, 0.5), SKY
    yield light.disc, SKY
    for part in _MIXES:
        yield _mixed(light.hill_near, light.hill_far, part), SKY


def _hazed(rgb: Vector, light: Light, depth: float) -> Vector:
    return _mixed(light.horizon, rgb, float(torch.exp(torch.tensor(-depth))))


def _mixed(low: Vector, high: Vector, mix: float) -> Vector:
    r, g, b = (a + (c - a) * mix for a, c in zip(low, high, strict=True))
    return r, g, b


def _times(rgb: Vector, other: Vector) -> Vector:
    r, g, b = (a * c for a, c in zip(rgb, other, strict=True))
    return r, g, b


def _scaled(rgb: Vector, by: float) -> Vector:
    return _times(rgb, (by, by, by))


@cache
def plain_ground(light: int) -> Float[Tensor, "grounds tones 3"]:
    """Lab of each ground's darkest and brightest tone nearby, in the light."""
    sky = LIGHTS[light]
    facing = 0.3 + 0.7 * float(torch.tensor(sky.elevation_deg).deg2rad().sin())
    shine = [a + s * facing for a, s in zip(sky.ambient, sky.sun, strict=True)]
    tones = [
        [
            _hazed(
                _times(_times(rgb, sky.ground_tint), (shine[0], shine[1], shine[2])),
                sky,
                sky.haze * _NEARBY,
            )
            for rgb in _tones(ground)
        ]
        for ground in GROUNDS
    ]
    return to_lab(torch.tensor(tones).clamp(0, 1))


_NEARBY = 6.0
"""Metres from the camera to the ground in the lowest rows."""


def _tones(ground: Ground) -> tuple[Vector, Vector]:
    """A checkerboard shows its two colours bare; waves mostly what lies between."""
    edge = 0.0 if ground.checker else 0.25
    return _mixed(ground.low, ground.high, edge), _mixed(ground.low, ground.high, 1 - edge)
