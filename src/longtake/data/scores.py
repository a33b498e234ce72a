"""What can be measured of a clip without any trained network; pure functions.

Luma is BT.709 of full-range RGB, 0 to 255.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, UInt8

Luma = Float[np.ndarray, "frames height width"]
_BLUR = np.array([3571, 16004, 26386, 16004, 3571], np.float32) / 65_536
"""VMAF's low-pass filter before its motion measure."""
_FROZEN = 0.255
"""Mean absolute difference of luma below which two frames are the same; -60 dB, as in ffmpeg."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scores:
    """Measures of one clip."""

    motion: float
    """Mean absolute luma difference of consecutive low-passed frames; VMAF's motion."""
    spatial: float
    """Spatial information SI: detail, at the most detailed frame."""
    temporal: float
    """Temporal information TI: change, at the moment of most change."""
    sharpness: float
    """Mean variance of the Laplacian of luma; low is blurred."""
    saturation: float
    """Mean HSV saturation, 0 to 255."""
    frozen: float
    """Share of frames that repeat the one before, 0 to 1."""
    brightness: float
    """Mean luma."""


def luma_of(frames: UInt8[np.ndarray, "frames height width 3"]) -> Luma:
    """BT.709 luma."""
    return frames @ np.array([0.2126, 0.7152, 0.0722], np.float32)


def scores_of(frames: UInt8[np.ndarray, "frames height width 3"]) -> Scores:
    """All measures of a clip of two frames or more."""
    luma = luma_of(frames)
    return Scores(
        motion=motion(luma),
        spatial=spatial_information(luma),
        temporal=temporal_information(luma),
        sharpness=sharpness(luma),
        saturation=saturation(frames),
        frozen=frozen(luma),
        brightness=float(luma.mean()),
    )


def motion(luma: Luma) -> float:
    """Mean absolute difference of consecutive frames after a 5 x 5 low-pass.

    Source: Netflix, VMAF, the `motion` feature.
    """
    soft = _filtered(_filtered(luma, 1), 2)
    return float(np.abs(np.diff(soft, axis=0)).mean())


def spatial_information(luma: Luma) -> float:
    """Largest over time of the deviation over space of the Sobel magnitude.

    Source: ITU-T P.910, 7.7.
    """
    rows = luma[:, 2:] - luma[:, :-2]
    columns = luma[:, :, 2:] - luma[:, :, :-2]
    down = rows[:, :, :-2] + 2 * rows[:, :, 1:-1] + rows[:, :, 2:]
    across = columns[:, :-2] + 2 * columns[:, 1:-1] + columns[:, 2:]
    return float(np.sqrt(down**2 + across**2).std(axis=(1, 2)).max())


def temporal_information(luma: Luma) -> float:
    """Largest over time of the deviation over space of the difference of two frames.

    Source: ITU-T P.910, 7.8.
    """
    return float(np.diff(luma, axis=0).std(axis=(1, 2)).max())


def sharpness(luma: Luma) -> float:
    """Mean over time of the variance of the Laplacian."""
    inner = luma[:, 1:-1, 1:-1]
    around = luma[:, :-2, 1:-1] + luma[:, 2:, 1:-1] + luma[:, 1:-1, :-2] + luma[:, 1:-1, 2:]
    return float((around - 4 * inner).var(axis=(1, 2)).mean())


def saturation(frames: UInt8[np.ndarray, "frames height width 3"]) -> float:
    """Mean of (max - min) / max over the colours of each pixel, times 255; black counts as 0."""
    most = frames.max(axis=-1).astype(np.float32)
    least = frames.min(axis=-1)
    return float(255 * ((most - least) / np.maximum(most, 1)).mean())


def frozen(luma: Luma) -> float:
    """Share of frames after the first that repeat the one before."""
    return float((np.abs(np.diff(luma, axis=0)).mean(axis=(1, 2)) < _FROZEN).mean())


def _filtered(luma: Luma, axis: int) -> Luma:
    """The low-pass along one axis, edges mirrored."""
    width = [(0, 0)] * 3
    width[axis] = (2, 2)
    padded = np.pad(luma, width, mode="reflect")
    size = luma.shape[axis]
    parts = (np.take(padded, range(k, k + size), axis) * _BLUR[k] for k in range(5))
    return sum(parts, np.zeros_like(luma))
