"""The part of the network that sees whole frames: where subjects are, and what is all around."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from einops import rearrange, repeat
from jaxtyping import Float, Int64, UInt8
from torch import Tensor, nn

from longtake.evaluate.reader.background import NUM_FIT
from longtake.evaluate.scope import CAMERAS, COLOURS, GROUNDS, LIGHTS, SHOTS

NOBODY = len(COLOURS)
"""Class of a cell without a subject."""
SCENE_HEADS = {
    "light": len(LIGHTS),
    "ground": len(GROUNDS),
    "camera": len(CAMERAS),
    "shot": len(SHOTS),
}
"""What is told of a scene, and how many answers there are."""
SCENE_NAMES = {
    "light": tuple(entry.name for entry in LIGHTS),
    "ground": tuple(entry.name for entry in GROUNDS),
    "camera": tuple(entry.name for entry in CAMERAS),
    "shot": tuple(entry.name for entry in SHOTS),
}
_GRID = (4, 7)
"""Cells of a frame that keep apart what is seen where."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """What is seen in whole frames."""

    cells: Float[Tensor, "b frames classes height2 width2"]
    """Logits of each colour of a subject, then of nobody, for cells of two by two pixels."""
    scene: Float[Tensor, "b features"]
    """What the answers about the scene are made from."""

    def colours(self) -> Int64[Tensor, "b frames height2 width2"]:
        """Number of a subject's colour at each cell, or -1."""
        best = self.cells.argmax(dim=2)
        return torch.where(best == NOBODY, -1, best)

    def sure(self) -> Float[Tensor, "b frames height2 width2"]:
        """Probability of what `colours` says, less that of nobody."""
        share = self.cells.float().softmax(dim=2)
        return share.amax(dim=2) - share[:, :, NOBODY]


class Finder(nn.Module):
    """Convolutions down to eight rows, over time there, and up again to cells of two pixels."""

    def __init__(self, widths: tuple[int, ...] = (24, 40, 64, 96), scene: int = 64) -> None:
        """Build the network with fresh weights."""
        super().__init__()
        fine, middle, coarse, deep = widths
        self.down = nn.ModuleList(
            [
                _down(3, fine),
                nn.Sequential(_down(fine, middle), _same(middle)),
                nn.Sequential(_down(middle, coarse), _same(coarse)),
                nn.Sequential(_down(coarse, deep), _same(deep)),
            ]
        )
        self.over_time = nn.Conv3d(deep, deep, (3, 1, 1), padding=(1, 0, 0))
        self.narrow = nn.ModuleList(
            [nn.Conv2d(deep, coarse, 1), nn.Conv2d(coarse, middle, 1), nn.Conv2d(middle, fine, 1)]
        )
        self.up = nn.ModuleList([_same(coarse), _same(middle), _same(fine)])
        self.cells = nn.Conv2d(fine, len(COLOURS) + 1, 1)
        self.thin = nn.Conv2d(deep, 12, 1)
        self.frame = nn.Linear(12 * _GRID[0] * _GRID[1], scene)
        self.moments = nn.ModuleList(Moment(scene) for _ in range(2))
        self.fit = nn.Sequential(nn.Linear(NUM_FIT, 48), nn.SiLU())
        self.heads = nn.ModuleDict(
            {name: nn.Linear(2 * scene + 48, count) for name, count in SCENE_HEADS.items()}
        )

    def forward(self, frames: UInt8[Tensor, "b frames height width 3"]) -> Found:
        """Look at clips."""
        b = len(frames)
        x = rearrange(frames, "b f h w c -> (b f) c h w").float() / 127.5 - 1
        stages = []
        for down in self.down:
            x = down(x)
            stages.append(x)
        along = rearrange(x, "(b f) d h w -> b d f h w", b=b)
        x = x + rearrange(F.silu(self.over_time(along)), "b d f h w -> (b f) d h w")
        scene = self._scene(x, b)
        for narrow, up, stage in zip(self.narrow, self.up, reversed(stages[:-1]), strict=True):
            wide = F.interpolate(narrow(x), size=stage.shape[2:], mode="nearest")
            x = up(wide + stage)
        return Found(cells=rearrange(self.cells(x), "(b f) c h w -> b f c h w", b=b), scene=scene)

    def _scene(self, x: Float[Tensor, "bf d h w"], b: int) -> Float[Tensor, "b features"]:
        coarse = F.adaptive_avg_pool2d(F.silu(self.thin(x)), _GRID).flatten(1)
        y = rearrange(F.silu(self.frame(coarse)), "(b f) d -> b d f", b=b)
        for moment in self.moments:
            y = moment(y)
        return torch.cat([y.mean(dim=-1), y.amax(dim=-1)], dim=1)

    def tell(
        self, found: Found, fit: Float[Tensor, "b fit"] | None
    ) -> dict[str, Float[Tensor, "b _"]]:
        """Logits of each answer about the scene.

        Args:
            found: What was seen.
            fit: How well each camera move explains the background; None to tell without it.
        """
        if fit is None:
            rules = repeat(torch.zeros_like(found.scene[:1, :48]), "1 d -> b d", b=len(found.scene))
        else:
            rules = self.fit(fit)
        joined = torch.cat([found.scene, rules.to(found.scene.dtype)], dim=1)
        return {name: head(joined) for name, head in self.heads.items()}


class Moment(nn.Module):
    """A residual convolution over time."""

    def __init__(self, width: int, apart: int = 1) -> None:
        """Build it with fresh weights; it looks at every `apart`-th frame."""
        super().__init__()
        self.norm = nn.GroupNorm(8, width)
        self.first = nn.Conv1d(width, width, 5, padding=2 * apart, dilation=apart)
        self.second = nn.Conv1d(width, width, 1)

    def forward(self, x: Float[Tensor, "b d frames"]) -> Float[Tensor, "b d frames"]:
        """Add what the neighbours in time say."""
        return x + self.second(F.silu(self.first(self.norm(x))))


def _down(before: int, after: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(before, after, 3, stride=2, padding=1), nn.GroupNorm(8, after), nn.SiLU()
    )


def _same(width: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(width, width, 3, padding=1), nn.GroupNorm(8, width), nn.SiLU())
