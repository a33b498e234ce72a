"""What spins, by the light and dark quarters of its paint, and what goes in a circle, by its way.

A ball or cylinder that spins keeps its outline; only its quarters pass by, twice a turn. Their
brightness, column by column, is then a wave of a known length, whatever the camera does; so is
each coordinate of a circle on the ground.
"""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from einops import einsum
from jaxtyping import Bool, Float, UInt8
from torch import Tensor

from longtake.evaluate.reader.films import RATE
from longtake.evaluate.reader.parser import Placed
from longtake.evaluate.scope import KINDS

SURE = ((0.45, 3.0), (0.3, 5.0))
"""Share of the change of brightness, and its size in bytes, from which something spins.

Faces that turn toward the sun and away, as a cube's do, leave the wave less of a larger change.
"""
NO_SHARE, NO_BYTES = 0.28, 5.0
"""Share of the change, and all of it in bytes, below which what shows its quarters stands."""
PAINTED = frozenset(kind.name for kind in KINDS if all(part.paint.tone for part in kind.parts))
"""Kinds whose every part shows its quarters, so that none of them turns unseen."""
_ROUND = (0.95, 0.85)
"""Shares of the ways across and in depth that a circle explains at least; depth is seen worse."""
_APART = 0.8
"""Sine of the angle by which the two waves differ at least."""
_RADII = (0.8, 2.0)
"""Metres of a circle's radius."""
_TURN_S, _CIRCLE_S = 2.6, 4.0
"""Seconds of a turn and of a circle in the world; a film of a model may be a little off."""
_PACES = (0.85, 1.0, 1.15)
_COLUMNS = 8
_FEWEST = 12
"""Frames from which a wave can be told from chance."""
_TREND = 3
"""Terms of the slow change that light and distance make."""
_RIDGE = 1e-6


@dataclass(frozen=True, slots=True, kw_only=True)
class Turning:
    """How much of a subject's change is a turn."""

    share: float
    """Share of what remains of the change of brightness once a slow trend is taken off."""
    strength: float
    """Its size in bytes."""

    @property
    def spins(self) -> bool:
        """Whether it certainly turns."""
        return any(self.share >= share and self.strength >= size for share, size in SURE)

    @property
    def rests(self) -> bool:
        """Whether it does not, if it is one of `PAINTED`."""
        # What turns at another pace changes too; so all of the change must be small.
        return self.share <= NO_SHARE and self.strength <= NO_BYTES * math.sqrt(self.share)


def circles(placed: Placed) -> bool:
    """Whether a subject certainly goes round a circle all the time."""
    good = placed.whole if int(placed.whole.sum()) >= _FEWEST else placed.track.seen
    if int(good.sum()) < _FEWEST:
        return False
    good = good.cpu()
    way = torch.stack([placed.x, placed.z], dim=1).cpu().double()[good]
    seconds = torch.arange(len(good), dtype=way.dtype)[good] / RATE
    return any(_goes_round(way, seconds, 2 * math.pi * pace / _CIRCLE_S) for pace in _PACES)


def _goes_round(
    way: Float[Tensor, "frames 2"], seconds: Float[Tensor, " frames"], speed: float
) -> bool:
    drift = torch.stack([torch.ones_like(seconds), seconds], dim=1)
    wave = torch.stack([(speed * seconds).cos(), (speed * seconds).sin()], dim=1)
    both = torch.cat([drift, wave], dim=1)
    fitted = _fitted(way, both)
    left = ((way - both @ fitted) ** 2).sum(dim=0)
    shares = 1 - left / ((way - drift @ _fitted(way, drift)) ** 2).sum(dim=0).clamp(min=_RIDGE)
    across, deep = fitted[2:].unbind(1)
    radii = (float(across.norm()), float(deep.norm()))
    # A quarter of the wave apart, as the two coordinates of a circle are.
    apart = abs(float(across[0] * deep[1] - across[1] * deep[0])) / max(math.prod(radii), _RIDGE)
    fits = float(shares[0]) >= _ROUND[0] and float(shares[1]) >= _ROUND[1]
    return fits and apart >= _APART and all(_RADII[0] <= r <= _RADII[1] for r in radii)


def turning(
    pictures: UInt8[Tensor, "b frames side side 4"], seen: Bool[Tensor, "b frames"]
) -> list[Turning | None]:
    """Of each subject; None where it is seen too seldom."""
    bright, there = _columns(pictures)
    good = (seen & there).cpu()
    rows = bright.cpu().double()
    return [
        _strongest(some, some_good) if int(some_good.sum()) >= _FEWEST else None
        for some, some_good in zip(rows, good, strict=True)
    ]


def _columns(
    pictures: UInt8[Tensor, "b frames side side 4"],
) -> tuple[Float[Tensor, "b frames columns"], Bool[Tensor, "b frames"]]:
    """Mean brightness of upright strips from a subject's left to its right, and where all show."""
    on = (pictures[..., 3] > 127).float()
    grey = pictures[..., :3].float().mean(dim=-1)
    side = on.shape[-1]
    x = torch.arange(side, device=on.device)
    columns = on.amax(dim=2) > 0
    left = torch.where(columns, x, side).amin(dim=-1, keepdim=True)
    right = torch.where(columns, x, -1).amax(dim=-1, keepdim=True) + 1
    at = ((x + 0.5 - left) / (right - left).clamp(min=1) * _COLUMNS).long().clamp(0, _COLUMNS - 1)
    strips = F.one_hot(at, _COLUMNS).float()
    count = einsum(on, strips, "b f h w, b f w c -> b f c")
    total = einsum(grey * on, strips, "b f h w, b f w c -> b f c")
    return total / count.clamp(min=1), (count > 0).all(dim=-1)


def _strongest(rows: Float[Tensor, "frames columns"], good: Bool[Tensor, " frames"]) -> Turning:
    """The turn that explains most, of the paces it may have."""
    seconds = torch.arange(len(rows), dtype=rows.dtype)[good] / RATE
    rows = rows[good]
    middle = seconds / seconds[-1].clamp(min=1) * 2 - 1
    trend = torch.stack([middle**power for power in range(_TREND)], dim=1)
    before = _rest(rows, trend)
    angles = [4 * math.pi * pace / _TURN_S * seconds for pace in _PACES]
    after = min(
        _rest(rows, torch.cat([trend, torch.stack([a.cos(), a.sin()], dim=1)], dim=1))
        for a in angles
    )
    gained = max(before - after, 0.0)
    return Turning(
        share=gained / max(before, _RIDGE), strength=math.sqrt(gained / max(rows.numel(), 1))
    )


def _rest(rows: Float[Tensor, "frames columns"], terms: Float[Tensor, "frames terms"]) -> float:
    """Squares that remain once the best sum of some terms is taken off."""
    return float(((rows - terms @ _fitted(rows, terms)) ** 2).sum())


def _fitted(
    rows: Float[Tensor, "frames columns"], terms: Float[Tensor, "frames terms"]
) -> Float[Tensor, "terms columns"]:
    """How much of each term is in each column."""
    square = terms.T @ terms + _RIDGE * torch.eye(terms.shape[1], dtype=terms.dtype)
    return torch.linalg.solve(square, terms.T @ rows)
