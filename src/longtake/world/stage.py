"""Where a scene plays: grounds, lights, camera moves, shots and set dressing, all as data.

The tables only grow at their ends, so that a number means the same at every level.
"""

from dataclasses import dataclass

from longtake.world.bodies import Primitive, Vector

Wave = tuple[float, float, float]
"""Turns per metre along x and z, and amplitude, of one sine of a ground's pattern."""
_NO_WAVE: Wave = (0.0, 0.0, 0.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Ground:
    """A floor: two colours mixed by a smooth pattern, and painted lines."""

    name: str
    low: Vector
    high: Vector
    waves: tuple[Wave, Wave, Wave] = (_NO_WAVE, _NO_WAVE, _NO_WAVE)
    warp: float = 0.0
    """Turns by which a slow wave along x bends the pattern."""
    checker: float = 0.0
    """Side of a checkerboard's field in metres; 0 for none."""
    lines: float = 0.0
    """Metres between dashed lines; 0 for none."""
    blades: tuple[Wave, Wave, Wave] = (_NO_WAVE, _NO_WAVE, _NO_WAVE)
    """Fine pattern, as shares of the brightness, that shows and sways in the wind."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Light:
    """A time of day."""

    name: str
    elevation_deg: float
    sun: Vector
    ambient: Vector
    ground_tint: Vector
    """Factor on the ground's colours; a dark ground lets subjects keep theirs at night."""
    horizon: Vector
    zenith: Vector
    hill_far: Vector
    hill_near: Vector
    disc: Vector
    disc_elevation_deg: float
    """Height at which sun or moon is drawn; lower than the light, so that shadows stay short."""
    disc_radius: float
    """Radius of the disc in radians."""
    front_chance: float
    """How often the light stands in front of the camera."""
    haze: float = 0.022
    """How fast things fade into the horizon's colour, per metre."""
    rain: float = 0.0
    """How much of what is behind them falling streaks hide."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CameraMove:
    """A camera move: how far each coordinate travels within a clip."""

    name: str
    pan_deg: float = 0.0
    """Turn to the right."""
    truck: float = 0.0
    """Metres sideways to the right."""
    dolly: float = 0.0
    """Metres of distance gained."""
    orbit_deg: float = 0.0
    """Angle round the scene; either way."""
    crane: float = 0.0
    """Metres upward, with the aim kept."""
    height: float = 2.0
    """Eye height half-way."""
    tilt_deg: float = 0.0
    """Turn upward."""
    roll_deg: float = 0.0
    """Turn about the line of sight, clockwise as the camera sees it."""
    pedestal: float = 0.0
    """Metres upward, looking the same way."""
    zoom: float = 0.0
    """Natural logarithm of the factor on the focal length."""
    follows: float = 0.0
    """Share of the first subject's way sideways that the camera goes along."""

    @property
    def keeps_sides(self) -> bool:
        """Whether the sides of the frame stay where they are, or come closer."""
        return not (self.pan_deg or self.truck or self.orbit_deg or self.follows)


@dataclass(frozen=True, slots=True, kw_only=True)
class Shot:
    """How large the first subject stands in the frame."""

    name: str
    share: float | None = None
    """Its height over the frame's; None for a distance that does not depend on it."""
    distance: float = 9.0
    """Metres to the scene's middle where there is no share."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Prop:
    """A neutral thing that is never a subject."""

    primitive: Primitive
    half: Vector
    rgb: Vector


GROUNDS = (
    Ground(
        name="grass",
        low=(0.36, 0.47, 0.20),
        high=(0.46, 0.57, 0.27),
        waves=((0.55, 0.42, 0.24), (0.38, -0.50, 0.24), (0.15, 0.09, 0.2)),
        warp=0.12,
        blades=((6.1, 1.1, 0.13), (-4.3, 1.9, 0.12), (11.3, -2.7, 0.12)),
    ),
    Ground(
        name="sand",
        low=(0.74, 0.61, 0.40),
        high=(0.86, 0.74, 0.52),
        waves=((0.12, 0.95, 0.36), (0.10, -0.06, 0.22), _NO_WAVE),
        warp=0.35,
    ),
    Ground(
        name="snow",
        low=(0.82, 0.87, 0.93),
        high=(0.97, 0.98, 1.0),
        waves=((0.16, 0.26, 0.32), (0.33, -0.14, 0.2), _NO_WAVE),
        warp=0.3,
    ),
    Ground(
        name="asphalt",
        low=(0.31, 0.31, 0.33),
        high=(0.38, 0.38, 0.40),
        waves=((0.5, 0.3, 0.25), (0.3, -0.45, 0.25), _NO_WAVE),
        lines=4.6,
    ),
    Ground(name="checkerboard", low=(0.48, 0.48, 0.51), high=(0.84, 0.84, 0.83), checker=1.4),
    Ground(
        name="water",
        low=(0.17, 0.36, 0.43),
        high=(0.36, 0.56, 0.60),
        waves=((0.12, 1.10, 0.30), (0.22, 0.65, 0.24), (0.05, 0.09, 0.16)),
        warp=0.22,
    ),
)

LIGHTS = (
    Light(
        name="day",
        elevation_deg=48.0,
        sun=(0.60, 0.57, 0.51),
        ambient=(0.46, 0.47, 0.50),
        ground_tint=(1.0, 1.0, 1.0),
        horizon=(0.83, 0.90, 0.96),
        zenith=(0.30, 0.56, 0.90),
        hill_far=(0.62, 0.72, 0.83),
        hill_near=(0.47, 0.60, 0.63),
        disc=(1.0, 0.98, 0.88),
        disc_elevation_deg=40.0,
        disc_radius=0.045,
        front_chance=0.0,
    ),
    Light(
        name="sunset",
        elevation_deg=24.0,
        sun=(0.60, 0.44, 0.28),
        ambient=(0.60, 0.56, 0.57),
        ground_tint=(1.0, 0.94, 0.90),
        horizon=(1.0, 0.66, 0.38),
        zenith=(0.42, 0.30, 0.52),
        hill_far=(0.72, 0.43, 0.40),
        hill_near=(0.46, 0.28, 0.36),
        disc=(1.0, 0.90, 0.62),
        disc_elevation_deg=8.0,
        disc_radius=0.055,
        front_chance=0.5,
    ),
    Light(
        name="night",
        elevation_deg=42.0,
        sun=(0.34, 0.34, 0.38),
        ambient=(0.50, 0.48, 0.54),
        ground_tint=(0.57, 0.64, 0.84),
        horizon=(0.24, 0.29, 0.46),
        zenith=(0.03, 0.05, 0.15),
        hill_far=(0.12, 0.14, 0.27),
        hill_near=(0.04, 0.05, 0.11),
        disc=(0.92, 0.94, 1.0),
        disc_elevation_deg=9.0,
        disc_radius=0.04,
        front_chance=0.6,
    ),
    Light(
        name="fog",
        elevation_deg=60.0,
        sun=(0.20, 0.20, 0.20),
        ambient=(0.70, 0.71, 0.72),
        ground_tint=(0.94, 0.96, 0.98),
        horizon=(0.76, 0.78, 0.80),
        zenith=(0.72, 0.75, 0.78),
        hill_far=(0.755, 0.775, 0.795),
        hill_near=(0.74, 0.76, 0.78),
        disc=(0.76, 0.78, 0.80),
        disc_elevation_deg=60.0,
        disc_radius=0.01,
        front_chance=0.0,
        haze=0.085,
    ),
    Light(
        name="rain",
        elevation_deg=55.0,
        sun=(0.16, 0.17, 0.18),
        ambient=(0.50, 0.53, 0.58),
        ground_tint=(0.72, 0.76, 0.82),
        horizon=(0.50, 0.54, 0.59),
        zenith=(0.33, 0.37, 0.43),
        hill_far=(0.43, 0.47, 0.52),
        hill_near=(0.35, 0.40, 0.44),
        disc=(0.50, 0.54, 0.59),
        disc_elevation_deg=55.0,
        disc_radius=0.01,
        front_chance=0.0,
        haze=0.035,
        rain=0.7,
    ),
)

CAMERAS = (
    CameraMove(name="static"),
    CameraMove(name="pan_left", pan_deg=-30.0),
    CameraMove(name="pan_right", pan_deg=30.0),
    CameraMove(name="dolly_in", dolly=-5.6),
    CameraMove(name="dolly_out", dolly=5.6),
    CameraMove(name="truck_left", truck=-5.4),
    CameraMove(name="truck_right", truck=5.4),
    CameraMove(name="orbit", orbit_deg=52.0),
    CameraMove(name="crane_up", crane=4.0, height=3.0),
    CameraMove(name="crane_down", crane=-4.0, height=3.0),
    CameraMove(name="tilt_up", tilt_deg=17.0),
    CameraMove(name="tilt_down", tilt_deg=-17.0),
    CameraMove(name="roll_left", roll_deg=-36.0),
    CameraMove(name="roll_right", roll_deg=36.0),
    CameraMove(name="pedestal_up", pedestal=2.4),
    CameraMove(name="pedestal_down", pedestal=-2.4),
    CameraMove(name="zoom_in", zoom=0.85),
    CameraMove(name="zoom_out", zoom=-0.85),
    CameraMove(name="follow", follows=1.0),
)

SHOTS = (
    Shot(name="wide"),
    Shot(name="very_wide", distance=19.0),
    Shot(name="medium", share=0.5),
    Shot(name="close", share=0.85),
)
"""The first is the one that goes without saying."""

PROPS = (
    Prop(primitive="sphere", half=(0.62, 0.40, 0.50), rgb=(0.52, 0.50, 0.47)),
    Prop(primitive="cylinder", half=(0.09, 0.75, 0.09), rgb=(0.46, 0.38, 0.31)),
    Prop(primitive="cube", half=(0.85, 0.30, 0.22), rgb=(0.58, 0.56, 0.53)),
    Prop(primitive="sphere", half=(0.40, 0.52, 0.42), rgb=(0.45, 0.42, 0.40)),
)

PROP_PLACES = (
    (-2.7, -3.4, 0.6),
    (2.8, -3.2, 0.6),
    (-5.0, 4.4, 1.0),
    (4.8, 4.8, 1.0),
    (-3.8, 8.4, 1.4),
    (3.9, 8.0, 1.4),
    (-9.0, 17.0, 2.2),
    (8.6, 16.0, 2.2),
)
"""x and z in metres, and scale, of each prop, at four depths: what a camera move parts."""
