"""How a film changes over time: drift, flicker, seams, freezes and loops, from its frames alone.

Cuts and switches of light are jumps; drift is what creeps between them. A slope is the median of
the slopes between all pairs of moments of one shot, so that somebody who passes does not count.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import torch
from einops import rearrange
from jaxtyping import Bool, Float, Float32, Int64, UInt8
from torch import Tensor

from longtake.errors import MediaError
from longtake.evaluate.reader.films import to_height

Measure = Literal["luma", "saturation", "contrast", "sharpness", "motion"]
MEASURES: tuple[Measure, ...] = get_args(Measure)
SHORTEST_S = 2.0
"""Seconds below which a slope says nothing."""
STILL = 0.05
"""Change from frame to frame, in levels of 255, below which nothing moves."""
LUMA = (0.2126, 0.7152, 0.0722)
"""Weights of red, green and blue, as in BT.709."""
_ROWS, _FINE, _CELLS, _SMALLEST = 64, 256, 8, 16
_TICK_S, _MOST_TICKS = 0.5, 120
_CUT, _CUT_OVER = 8.0, 5.0
_NEAR = 3
_BLOCK_TICKS, _DRAWS = 8, 200
_LOOP_S, _LOOP = 3.0, 0.1


@dataclass(frozen=True, slots=True, kw_only=True)
class Curves:
    """What is measured of every frame."""

    fps: float
    luma: Float[np.ndarray, " frames"]
    """Mean, in levels of 255."""
    saturation: Float[np.ndarray, " frames"]
    """Mean distance between the strongest and the weakest of red, green and blue, in levels."""
    contrast: Float[np.ndarray, " frames"]
    """Standard deviation of the luma, in levels."""
    sharpness: Float[np.ndarray, " frames"]
    """Finest detail in percent of the contrast."""
    change: Float[np.ndarray, " frames"]
    """Mean change of a byte from the frame before, in levels; 0 for the first."""
    cells: Float32[np.ndarray, "frames cells"]
    """Luma of 8 rows of cells."""

    def __len__(self) -> int:
        """Number of frames."""
        return len(self.luma)

    def values(self, measure: Measure) -> Float[np.ndarray, " frames"]:
        """A curve by its name; motion is change in levels a second."""
        match measure:
            case "luma":
                return self.luma
            case "saturation":
                return self.saturation
            case "contrast":
                return self.contrast
            case "sharpness":
                return self.sharpness
            case "motion":
                return self.change * self.fps


@dataclass(frozen=True, slots=True, kw_only=True)
class Slope:
    """How fast something changes, and how sure that is."""

    per_s: float
    low: float
    """Lower end of the 95 % interval, pieces of the film drawn anew."""
    high: float
    total: float
    """Over the whole film."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Seam:
    """Change across borders beside the change next to them, in levels of 255."""

    borders: int
    across: float
    beside: float

    @property
    def ratio(self) -> float:
        """1 where nothing is seen of the borders."""
        return max(self.across, STILL) / max(self.beside, STILL)


@dataclass(frozen=True, slots=True, kw_only=True)
class Drift:
    """All that is told of a film."""

    seconds: float
    cuts_s: tuple[float, ...]
    """When the picture jumps: cuts, and switches of light."""
    slopes: dict[Measure, Slope]
    motion: float
    """Mean change in levels a second; its energy."""
    flicker: float
    """Levels by which the whole picture goes up and down from frame to frame."""
    seam: Seam | None
    """None where no borders were stated."""
    frozen_share: float
    """Share of the frames that are like the one before."""
    frozen_s: float
    """Longest time without any change."""
    frozen_from_s: float
    """When it begins."""
    loop_s: float | None
    """Seconds after which the film repeats itself, if it does."""


def curves(parts: Iterable[UInt8[Tensor, "_ _height _width 3"]], fps: float) -> Curves:
    """Measure frames as they come, in memory that hardly grows.

    Raises:
        MediaError: a film too short to have a slope, or too small to have details.
    """
    rows: list[Float[np.ndarray, "measures _"]] = []
    cells: list[Float32[np.ndarray, "_ cells"]] = []
    last: Tensor | None = None
    for part in parts:
        if min(part.shape[1:3]) < _SMALLEST:
            msg = f"drift needs frames of {_SMALLEST}x{_SMALLEST} or more, got {_size(part)}"
            raise MediaError(msg)
        measured, small = measure(part, last)
        last, grey = small[-1:], luma_of(small)
        rows.append(measured.double().cpu().numpy())
        planes = torch.nn.functional.adaptive_avg_pool2d(grey[:, None], (_CELLS, 2 * _CELLS))
        cells.append(rearrange(planes, "f 1 h w -> f (h w)").cpu().numpy())
    num = sum(row.shape[1] for row in rows)
    if num < SHORTEST_S * fps:
        msg = (
            f"drift is measured over {SHORTEST_S:g} seconds or more, got {num} frames "
            f"({num / fps:.2g} s); give a longer film"
        )
        raise MediaError(msg)
    luma, saturation, contrasts, sharpness, change = np.concatenate(rows, axis=1)
    return Curves(
        fps=fps, luma=luma, saturation=saturation, contrast=contrasts, sharpness=sharpness,
        change=change, cells=np.concatenate(cells),
    )  # fmt: skip


def measure(
    part: UInt8[Tensor, "frames height width 3"], last: Float[Tensor, "1 h w 3"] | None
) -> tuple[Float[Tensor, "5 frames"], Float[Tensor, "frames h w 3"]]:
    """Luma, saturation, contrast, sharpness and change of each frame, and the frames made small.

    Args:
        part: Frames that follow each other.
        last: The small frame before them; None at the start.
    """
    small = to_height(part, min(_ROWS, part.shape[1])).float()
    before = torch.cat([small[:1] if last is None else last, small[:-1]])
    fine = to_height(part, min(_FINE, part.shape[1])).float()
    grey = luma_of(small)
    contrast = grey.flatten(1).std(dim=1)
    measured = (
        grey.mean(dim=(1, 2)),
        (small.amax(-1) - small.amin(-1)).mean(dim=(1, 2)),
        contrast,
        100 * finest(luma_of(fine)) / contrast.clamp(min=1),
        (small - before).abs().mean(dim=(1, 2, 3)),
    )
    return torch.stack(measured), small


def _size(part: UInt8[Tensor, "_ height width 3"]) -> str:
    return f"{part.shape[2]}x{part.shape[1]}"


def luma_of(frames: Float[Tensor, "*any 3"]) -> Float[Tensor, "*any"]:
    """Brightness of every pixel, in the levels of its bytes."""
    return frames @ frames.new_tensor(LUMA)


def finest(grey: Float[Tensor, "f h w"]) -> Float[Tensor, " f"]:
    """Mean second difference along width and height, in levels."""
    across = (grey[:, :, 2:] - 2 * grey[:, :, 1:-1] + grey[:, :, :-2]).abs().mean(dim=(1, 2))
    down = (grey[:, 2:] - 2 * grey[:, 1:-1] + grey[:, :-2]).abs().mean(dim=(1, 2))
    return (across + down) / 2


def cuts_of(change: Float[np.ndarray, " frames"]) -> list[int]:
    """Frames with which another shot or light begins: far more change than just before and after.

    What moves fast goes on doing so; a jump stands alone.
    """
    found = []
    for frame in range(1, len(change)):
        near = np.r_[change[max(frame - _NEAR, 1) : frame], change[frame + 1 : frame + 1 + _NEAR]]
        beside = float(near.max()) if len(near) else 0.0
        if change[frame] > max(_CUT, _CUT_OVER * beside):
            found.append(frame)
    return found


def slope(measured: Curves, measure: Measure, cuts: Sequence[int] = (), *, seed: int = 0) -> Slope:
    """Median slope between all pairs of moments of one shot, with a bootstrap over pieces.

    Args:
        measured: The film.
        measure: What of it.
        cuts: Frames with which shots begin.
        seed: Of the bootstrap.

    Source: Theil 1950, Sen 1968; pieces of neighbouring moments drawn anew (Kuensch 1989).
    """
    times, values, shots = _ticks(measured, measure, cuts)
    with np.errstate(divide="ignore", invalid="ignore"):
        between = (values[:, None] - values) / (times[:, None] - times)
    alike = (shots[:, None] == shots) & ~np.eye(len(times), dtype=bool)
    between = np.where(alike, between, np.nan)
    length = len(measured) / measured.fps
    if np.isnan(between).all():
        return Slope(per_s=0.0, low=0.0, high=0.0, total=0.0)
    here = float(np.nanmedian(between))
    rng = np.random.default_rng(seed)
    pieces = np.array_split(np.arange(len(times)), -(-len(times) // _BLOCK_TICKS))
    draws = []
    for _ in range(_DRAWS):
        drawn = np.concatenate([pieces[n] for n in rng.integers(len(pieces), size=len(pieces))])
        found = between[np.ix_(drawn, drawn)]
        if not np.isnan(found).all():
            draws.append(float(np.nanmedian(found)))
    low, high = np.quantile(draws, [0.025, 0.975])
    return Slope(per_s=here, low=float(low), high=float(high), total=here * length)


def _ticks(
    measured: Curves, measure: Measure, cuts: Sequence[int]
) -> tuple[Float[np.ndarray, " n"], Float[np.ndarray, " n"], Int64[np.ndarray, " n"]]:
    """Moments of half a second or more: their times, mean values and shots."""
    frames = np.arange(len(measured))
    keep = steps(measured, cuts) if measure == "motion" else np.ones(len(measured), dtype=bool)
    shots = np.searchsorted(np.asarray(cuts, dtype=np.int64), frames, side="right")
    tick_s = max(_TICK_S, len(measured) / measured.fps / _MOST_TICKS)
    number = np.floor(frames / measured.fps / tick_s + 1e-9).astype(np.int64)
    values = measured.values(measure)
    rows = [
        (frames[mine].mean() / measured.fps, values[mine].mean(), shot)
        for shot, tick in np.unique(np.stack([shots, number], axis=1)[keep], axis=0)
        for mine in [keep & (shots == shot) & (number == tick)]
    ]
    times, means, of = (np.array(column) for column in zip(*rows, strict=True))
    return times.astype(float), means.astype(float), of.astype(np.int64)


def steps(measured: Curves, cuts: Sequence[int]) -> Bool[np.ndarray, " frames"]:
    """Frames that follow one of the same shot."""
    keep = np.ones(len(measured), dtype=bool)
    keep[[0, *cuts]] = False
    return keep


def flicker(measured: Curves, cuts: Sequence[int] = ()) -> float:
    """Levels by which most of the picture goes up and down between frames.

    A quarter of the second difference in time, its median over cells: what moves makes some of
    them darker as others become brighter, and light that rises evenly bends nothing.
    """
    bend = measured.cells[2:] - 2 * measured.cells[1:-1] + measured.cells[:-2]
    keep = steps(measured, cuts)
    keep = keep[1:-1] & keep[2:]
    return float(np.abs(np.median(bend, axis=1))[keep].mean() / 4) if keep.any() else 0.0


def seam(measured: Curves, borders: Sequence[int], cuts: Sequence[int] = ()) -> Seam | None:
    """Change across borders, and that of the steps next to them; None without borders.

    Of the steps before and those after, the side counts on which more changes: a motion that
    begins or ends at a border is no seam.

    Args:
        measured: The film.
        borders: Frames with which pieces begin.
        cuts: Frames with which shots begin; they do not count.
    """
    keep = steps(measured, cuts)
    keep_inside = keep.copy()
    keep_inside[[frame for frame in borders if frame < len(measured)]] = False
    across, beside = [], []
    for frame in borders:
        if not 0 < frame < len(measured) or not keep[frame]:
            continue
        sides = (range(frame - _NEAR, frame), range(frame + 1, frame + 1 + _NEAR))
        steps_of = [
            [measured.change[n] for n in side if 0 < n < len(measured) and keep_inside[n]]
            for side in sides
        ]
        if any(steps_of):
            across.append(measured.change[frame])
            beside.append(max(np.mean(side) for side in steps_of if side))
    if not across:
        return None
    return Seam(borders=len(across), across=float(np.mean(across)), beside=float(np.mean(beside)))


def longest_freeze(measured: Curves) -> tuple[float, float]:
    """The longest time without any change, and when it begins, in seconds."""
    best, begins, since = 0, 0, 1
    for frame in range(1, len(measured)):
        if measured.change[frame] >= STILL:
            since = frame + 1
        elif frame + 1 - since > best:
            best, begins = frame + 1 - since, since - 1
    return best / measured.fps, begins / measured.fps


def loop(measured: Curves) -> float | None:
    """Seconds after which the film repeats itself; None if it does not.

    The shortest shift at which the film differs from itself a tenth as much as at most others.
    What repeats sooner than in 3 seconds is a motion, such as bouncing; a still has no loop.
    """
    stride = max(round(measured.fps / 8), 1)
    cells = measured.cells[::stride]
    most = len(cells) // 2
    apart = np.array([np.abs(cells[lag:] - cells[:-lag]).mean() for lag in range(1, most + 1)])
    usual = float(np.median(apart)) if most else 0.0
    if usual < STILL:
        return None
    alike = np.flatnonzero(apart < _LOOP * usual)
    # The next frames are alike in any film; a loop comes back after it was elsewhere.
    away = np.flatnonzero(apart > usual / 2)
    alike = alike[alike > away[0]]
    seconds = float(alike[0] + 1) * stride / measured.fps if len(alike) else 0.0
    return seconds if seconds >= _LOOP_S else None


def drift_of(measured: Curves, borders: Sequence[int] = ()) -> Drift:
    """Everything at once.

    Args:
        measured: The film.
        borders: Frames with which pieces that were made apart begin.
    """
    cuts = cuts_of(measured.change)
    keep = steps(measured, cuts)
    frozen_s, since = longest_freeze(measured)
    return Drift(
        seconds=len(measured) / measured.fps,
        cuts_s=tuple(round(frame / measured.fps, 3) for frame in cuts),
        slopes={measure: slope(measured, measure, cuts) for measure in MEASURES},
        motion=float(measured.values("motion")[keep].mean()),
        flicker=flicker(measured, cuts),
        seam=seam(measured, borders, cuts),
        frozen_share=float((measured.change[1:] < STILL).mean()),
        frozen_s=frozen_s,
        frozen_from_s=since,
        loop_s=loop(measured),
    )


LIMITS: dict[Measure, tuple[float, float, float]] = {
    "luma": (35, 28, 28),
    "saturation": (55, 33, 33),
    "contrast": (40, 10, 10),
    "sharpness": (20, 15, 15),
    "motion": (70, 60, 60),
}
"""Most that true films of `LIMIT_S` seconds change over their whole length.

From 64 films each of 5 and 20 seconds; a minute takes over what holds for 20 seconds.
"""
LIMIT_S = (5, 20, 60)
FLICKER_LIMIT, SEAM_LIMIT = 0.5, 1.7


def limit_of(measure: Measure, seconds: float) -> float:
    """Most that a true film of some length changes over the whole; see `calibrate_drift.py`."""
    return float(np.interp(seconds, LIMIT_S, LIMITS[measure]))


def alarms(found: Drift) -> list[str]:
    """What is out of the range of true films, by name; empty if all is well."""
    told: list[str] = [
        name
        for name, one in found.slopes.items()
        if abs(one.total) > limit_of(name, found.seconds) and one.low * one.high > 0
    ]
    rest: tuple[tuple[str, Callable[[], bool]], ...] = (
        ("flicker", lambda: found.flicker > FLICKER_LIMIT),
        ("seam", lambda: found.seam is not None and found.seam.ratio > SEAM_LIMIT),
        ("loop", lambda: found.loop_s is not None),
    )
    return told + [name for name, holds in rest if holds()]
