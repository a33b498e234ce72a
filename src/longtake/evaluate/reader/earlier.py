"""The part that sees single subjects, in the form of the weights of 2026-11-27.

`load_reader` takes it for a folder whose `reader.json` names no form. Goes when weights of the form
of `network` ship.
"""

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from longtake.evaluate.reader.finder import Moment
from longtake.evaluate.reader.network import (
    HEADS,
    MOST_FRAMES,
    NUM_FEATURES,
    SIDE,
    OfSubjects,
    Views,
    down,
    same,
)


class EarlierSubjectReader(OfSubjects):
    """Convolutions over each picture, then over time; one answer for each of `HEADS`."""

    def __init__(self, width: int = 128) -> None:
        """Build the network with fresh weights."""
        super().__init__()
        self.picture = nn.Sequential(
            down(4, 24), down(24, 48), same(48), down(48, 64), same(64), nn.Flatten(1)
        )
        self.embed = nn.Linear(64 * (SIDE // 8) ** 2, 96)
        self.way = nn.Linear(NUM_FEATURES, 64)
        self.join = nn.Conv1d(96 + 64, width, 1)
        self.when = nn.Parameter(0.1 * torch.randn(MOST_FRAMES, width))
        self.time = nn.ModuleList(Moment(width) for _ in range(3))
        self.heads = nn.ModuleDict(
            {name: nn.Linear(2 * width, count) for name, count in HEADS.items()}
        )

    def look(self, views: Views) -> tuple[Tensor, Float[Tensor, "b features2"]]:
        """What is seen in each frame, and in all."""
        b, frames = views.ways.shape[:2]
        pixels = rearrange(views.pictures, "b f h w c -> (b f) c h w").float() / 127.5 - 1
        looks = rearrange(self.embed(self.picture(pixels)), "(b f) d -> b f d", b=b)
        x = torch.cat([looks, self.way(views.ways)], dim=-1)
        x = self.join(rearrange(x, "b f d -> b d f"))
        x = x + self.when[:frames].T
        for moment in self.time:
            x = moment(x)
        seen = views.ways[:, None, :, 0]
        mean = (x * seen).sum(-1) / seen.sum(-1).clamp(min=1)
        return x, torch.cat([mean, x.amax(-1)], dim=1)

    def answers(
        self,
        x: Tensor,  # noqa: ARG002 - asked of all frames at once
        features: Tensor,
    ) -> dict[str, Float[Tensor, "b _"]]:
        """Logits of each head from what was seen."""
        return {name: head(features) for name, head in self.heads.items()}
