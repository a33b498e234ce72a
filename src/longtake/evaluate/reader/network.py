"""The small network: whole frames to cells of subjects, and each subject's pictures to the rest."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float, UInt8
from torch import Tensor, nn

from longtake.evaluate.reader.finder import SCENE_NAMES, Finder, Moment
from longtake.evaluate.reader.parser import Placed
from longtake.evaluate.scope import COLOURS, KINDS, MATERIALS, MOTIONS, SIZES
from longtake.world.scene import SLOTS

SIDE = 40
"""Pixels of a picture of a subject, along both sides."""
MARGIN = 1.35
"""How much wider than the subject its picture is."""
NUM_FEATURES = 15
MOST_FRAMES = 21
TICK_S = 0.25
"""Seconds of a step of the answers about time."""
MOMENTS = ("start_s", "change_s")
"""Answers that are a moment of the film: a step is a frame that the reader looks at."""
_BEHIND = -20.0
"""Logit of a moment behind the end of a short film."""
_CHANGE = 32.0
"""Bytes of brightness that count as one."""
NEXT = tuple(m for m in MOTIONS if m.stays and m.size_from == 1.0)
"""Motions that can take over from another."""
NAMES = {
    "kind": tuple(entry.name for entry in KINDS),
    "size": tuple(entry.name for entry in SIZES),
    "material": tuple(entry.name for entry in MATERIALS),
    "motion": tuple(entry.name for entry in MOTIONS),
    "then": ("", *(entry.name for entry in NEXT)),
    "slot": SLOTS,
    "start_s": tuple(str(TICK_S * n) for n in range(18)),
    "change_s": tuple(str(TICK_S * n) for n in range(18)),
}
"""What each answer about a subject stands for; no second motion is ``, and changes at 0."""
HEADS = {name: len(values) for name, values in NAMES.items()}
"""What is told of a subject, and how many answers there are."""
ALL_NAMES = {**NAMES, **SCENE_NAMES, "colour": tuple(entry.name for entry in COLOURS)}
"""What a network must know to be one of this world."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Views:
    """What the network is shown of subjects."""

    pictures: UInt8[Tensor, "b frames side side 4"]
    """Red, green, blue, and where the subject is."""
    ways: Float[Tensor, "b frames features"]


class SubjectReader(nn.Module):
    """Convolutions over each picture and its change, then over time; an answer for each head.

    Moments are asked of every frame, all else of the whole film.
    """

    def __init__(self, width: int = 128) -> None:
        """Build the network with fresh weights."""
        super().__init__()
        self.near = nn.Sequential(_down(5, 24), _down(24, 48), _same(48))
        self.turn = nn.Conv3d(48, 48, (3, 1, 1), padding=(1, 0, 0))
        self.far = nn.Sequential(_down(48, 64), _same(64), nn.Conv2d(64, 32, 1), nn.Flatten(1))
        self.embed = nn.Linear(32 * (SIDE // 8) ** 2, 96)
        self.way = nn.Linear(NUM_FEATURES, 64)
        self.join = nn.Conv1d(96 + 64, width, 1)
        self.when = nn.Parameter(0.1 * torch.randn(MOST_FRAMES, width))
        self.time = nn.ModuleList(Moment(width, apart) for apart in (1, 1, 2, 1))
        self.heads = nn.ModuleDict(
            {
                name: nn.Linear(width, 1) if name in MOMENTS else nn.Linear(2 * width, count)
                for name, count in HEADS.items()
            }
        )

    def forward(self, views: Views) -> dict[str, Float[Tensor, "b _"]]:
        """Logits of each head."""
        return self.answers(*self.look(views))

    def look(self, views: Views) -> tuple[Tensor, Float[Tensor, "b features2"]]:
        """What is seen in each frame, and in all; `reader-FD` is measured on the latter."""
        b, frames = views.ways.shape[:2]
        pixels = rearrange(views.pictures, "b f h w c -> b f c h w").float() / 127.5 - 1
        pixels = torch.cat([pixels, brightening(views.pictures)], dim=2)
        x = self.near(rearrange(pixels, "b f c h w -> (b f) c h w"))
        along = rearrange(x, "(b f) d h w -> b d f h w", b=b)
        x = x + rearrange(F.silu(self.turn(along)), "b d f h w -> (b f) d h w")
        looks = rearrange(self.embed(self.far(x)), "(b f) d -> b f d", b=b)
        x = torch.cat([looks, self.way(views.ways)], dim=-1)
        x = self.join(rearrange(x, "b f d -> b d f"))
        x = x + self.when[:frames].T
        for moment in self.time:
            x = moment(x)
        seen = views.ways[:, None, :, 0]
        mean = (x * seen).sum(-1) / seen.sum(-1).clamp(min=1)
        return x, torch.cat([mean, x.amax(-1)], dim=1)

    def answers(self, x: Tensor, features: Tensor) -> dict[str, Float[Tensor, "b _"]]:
        """Logits of each head from what was seen."""
        each = rearrange(x, "b d f -> b f d")
        return {
            name: _moment_logits(head(each)[..., 0], HEADS[name])
            if name in MOMENTS
            else head(features)
            for name, head in self.heads.items()
        }


def _moment_logits(logits: Float[Tensor, "b frames"], count: int) -> Float[Tensor, "b count"]:
    """One of each step of the answer; what lies behind the film's end is unlikely."""
    return F.pad(logits[:, :count], (0, max(count - logits.shape[1], 0)), value=_BEHIND)


def brightening(
    pictures: UInt8[Tensor, "b frames side side 4"],
) -> Float[Tensor, "b frames 1 side side"]:
    """How much brighter each place on a subject is than a frame before.

    What turns on the spot hardly differs from what stands, but for this.
    """
    grey = pictures[..., :3].float().mean(dim=-1)
    on = pictures[..., 3] > 127
    change = (grey[:, 1:] - grey[:, :-1]) * (on[:, 1:] & on[:, :-1])
    return (F.pad(change, (0, 0, 0, 0, 1, 0)) / _CHANGE).clamp(-3, 3)[:, :, None]


class ReaderNetwork(nn.Module):
    """Both parts, as they ship."""

    def __init__(self) -> None:
        """Build the network with fresh weights."""
        super().__init__()
        self.finder = Finder()
        self.subject = SubjectReader()


def _down(before: int, after: int) -> nn.Sequential:
    """Half as many rows and columns."""
    return nn.Sequential(
        nn.Conv2d(before, after, 3, stride=2, padding=1), nn.GroupNorm(8, after), nn.SiLU()
    )


def _same(width: int) -> nn.Sequential:
    """As many rows and columns."""
    return nn.Sequential(nn.Conv2d(width, width, 3, padding=1), nn.GroupNorm(8, width), nn.SiLU())


def views_of(frames: UInt8[Tensor, "frames height width 3"], subjects: Sequence[Placed]) -> Views:
    """Pictures and ways of subjects of one film; at least one subject."""
    return Views(
        pictures=torch.stack([_pictures(frames, subject) for subject in subjects]),
        ways=torch.stack([_way(subject, subjects) for subject in subjects]),
    )


def _pictures(
    frames: UInt8[Tensor, "frames height width 3"], subject: Placed
) -> UInt8[Tensor, "frames side side 4"]:
    """A square about the subject, scaled to one size."""
    _, height, width, _ = frames.shape
    left, top, right, bottom = subject.track.box.unbind(-1)
    tall, wide = (bottom - top) * height, (right - left) * width
    # One scale for the whole film would lose a subject that recedes; the way tells the size.
    half = MARGIN / 2 * torch.maximum(tall, wide).clamp(min=8)
    steps = (torch.arange(SIDE, device=frames.device) + 0.5) / SIDE * 2 - 1
    x = ((left + right) / 2)[:, None] * 2 - 1 + steps * (2 * half / width)[:, None]
    y = ((top + bottom) / 2)[:, None] * 2 - 1 + steps * (2 * half / height)[:, None]
    grid = torch.stack(torch.broadcast_tensors(x[:, None, :], y[:, :, None]), dim=-1)
    planes = rearrange(frames, "f h w c -> f c h w").float()
    cut = F.grid_sample(planes, grid, align_corners=False, padding_mode="zeros")
    mask = 255 * rearrange(subject.track.mask, "f h w -> f 1 h w").float()
    cut = torch.cat([cut, F.grid_sample(mask, grid, align_corners=False)], dim=1)
    return rearrange(cut.round().to(torch.uint8), "f c h w -> f h w c")


def _way(subject: Placed, subjects: Sequence[Placed]) -> Float[Tensor, "frames features"]:
    """Where it is and how large it seems, frame by frame, in numbers of about one."""
    track = subject.track
    left, top, right, bottom = track.box.unbind(-1)
    others = [other for other in subjects if other is not subject]
    other = others[0] if len(others) == 1 else subject
    time = torch.arange(len(track.seen), device=left.device) / (MOST_FRAMES - 1)
    return torch.stack(
        [
            track.seen.float(),
            subject.whole.float(),
            (left + right) - 1,
            bottom * 2 - 1,
            ((bottom - top).clamp(min=1e-3)).log() + 2,
            ((right - left).clamp(min=1e-3)).log() + 2.5,
            (subject.x / 3).clamp(-3, 3),
            (subject.z / 5).clamp(-3, 3),
            subject.tall.clamp(min=1e-2).log().clamp(-2, 3),
            subject.wide.clamp(min=1e-2).log().clamp(-2, 3),
            time,
            torch.full_like(time, float(len(others) == 1)),
            ((other.x - subject.x) / 3).clamp(-3, 3),
            ((other.z - subject.z) / 5).clamp(-3, 3),
            other.track.seen.float(),
        ],
        dim=-1,
    )
