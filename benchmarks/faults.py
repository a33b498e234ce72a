"""Faults of known size, put into films, that a measure has to find."""

import statistics
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float, UInt8
from torch import Tensor

from longtake.evaluate.drift import SHORTEST_S, Measure, curves, luma_of

Film = UInt8[Tensor, "frames height width 3"]
_TILE, _STILLS = 8, 5


def drifted(film: Film, measure: Measure, size: float) -> Film:
    """A film in which one measure creeps evenly.

    Args:
        film: The film.
        measure: What creeps.
        size: By the end: levels for luma and motion, for the others the share that is lost.
    """
    values = film.float()
    ramp = torch.linspace(0, size, len(film), device=film.device)[:, None, None, None]
    grey = luma_of(values)[..., None]
    match measure:
        case "luma":
            changed = values + ramp
        case "saturation":
            changed = values + ramp * (grey - values)
        case "contrast":
            changed = values + ramp * (grey.mean(dim=(1, 2, 3), keepdim=True) - values)
        case "sharpness":
            changed = values + ramp * (_blurred(values) - values)
        case "motion":
            # Neighbours and neighbouring frames go opposite ways, so that nothing else changes.
            sides = (torch.arange(n, device=film.device) for n in film.shape[:3])
            frame, row, column = torch.meshgrid(*sides, indexing="ij")
            signs = 1 - 2 * ((frame + row // _TILE + column // _TILE) % 2)
            changed = values + ramp / 2 * signs[..., None]
    return _bytes(changed)


def known_slope(film: Film, measure: Measure, size: float, fps: float) -> float:
    """What `drifted` does a second to frames of the film that stand still."""
    length = (len(film) - 1) / fps
    if measure == "motion":
        return size * fps / length
    gains = []
    for number in torch.linspace(0, len(film) - 1, _STILLS).long().tolist():
        ends = drifted(film[[number] * (int(SHORTEST_S * fps) + 1)], measure, size)
        values = curves([ends], fps).values(measure)
        gains.append(float(values[-1] - values[0]))
    return statistics.mean(gains) / length


def flickering(film: Film, levels: float) -> Film:
    """Every other frame is brighter by some levels, the others darker."""
    signs = 1.0 - 2.0 * (torch.arange(len(film), device=film.device) % 2)
    return _bytes(film.float() + levels * signs[:, None, None, None])


def with_seams(film: Film, borders: Sequence[int], levels: float) -> Film:
    """Every other piece is brighter by some levels."""
    frames = torch.arange(len(film))
    number = torch.searchsorted(torch.tensor(list(borders)), frames, right=True)
    return _bytes(film.float() + levels * (number % 2)[:, None, None, None].to(film.device))


def frozen(film: Film, frame: int) -> Film:
    """Nothing moves any more from a frame on."""
    held = film[frame : frame + 1].expand(len(film) - frame, -1, -1, -1)
    return torch.cat([film[:frame], held])


def looping(film: Film, frames: int) -> Film:
    """The first frames again and again."""
    return film[torch.arange(len(film)) % frames]


def _blurred(values: Float[Tensor, "f h w 3"]) -> Float[Tensor, "f h w 3"]:
    planes = F.pad(rearrange(values, "f h w c -> f c h w"), (1, 1, 1, 1), mode="replicate")
    return rearrange(F.avg_pool2d(planes, 3, stride=1), "f c h w -> f h w c")


def _bytes(values: Float[Tensor, "f h w 3"]) -> Film:
    return values.round().clamp(0, 255).to(torch.uint8)
