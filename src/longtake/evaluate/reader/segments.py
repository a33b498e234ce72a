"""Subjects as coloured pieces: components of each colour, joined over time into tracks."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from longtake.evaluate.scope import COLOURS

SMALLEST = 0.0007
"""Smallest share of the picture that counts as a piece of a subject."""
SEEN_IN = 0.2
"""Smallest share of the frames in which a subject must be seen to count as one."""
SECOND = 0.4
"""A second piece of a colour is a subject of its own if it is this large beside the first."""
_ROUNDS = 30
"""Six cells are joined in each; the largest subject is a hundred cells wide."""
_JOIN = 5
"""Cells over which pieces of one subject are joined; its glass or skin may lie between them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Track:
    """One subject of one colour through a film; places in shares of the frame, from top left."""

    colour: int
    seen: Bool[Tensor, " frames"]
    """Where a piece of it was found."""
    box: Float[Tensor, "frames 4"]
    """Left, top, right, bottom; held where it is not seen."""
    area: Float[Tensor, " frames"]
    """Share of the picture, 0 where it is not seen."""


def find_tracks(
    colours: Int64[Tensor, "frames height width"],
) -> tuple[Track, ...]:
    """The subjects of a film, largest first.

    Args:
        colours: Number of a subject's colour at each pixel, or -1.
    """
    tracks = []
    for colour in range(len(COLOURS)):
        mask = _opened(colours == colour)
        if mask.float().mean(dim=(1, 2)).amax() < SMALLEST:
            continue
        tracks += _tracks_of(mask, colour)
    return tuple(sorted(tracks, key=lambda track: -float(track.area.sum())))


def _opened(
    mask: Bool[Tensor, "frames height width"],
) -> Bool[Tensor, "frames height width"]:
    """Without what is at most two pixels thin: rims, where two colours blend into a third."""
    solid = -F.max_pool2d(-mask.float()[:, None], 3, 1, 1)
    return mask & (F.max_pool2d(solid, 3, 1, 1)[:, 0] > 0)


def _tracks_of(mask: Bool[Tensor, "frames height width"], colour: int) -> list[Track]:
    """The largest piece of each frame, and a second one if it is about as large throughout."""
    left, tracks, first = mask, [], 0.0
    for _ in range(4):
        piece = largest_piece(left)
        area = piece.float().mean(dim=(1, 2))
        seen = area >= SMALLEST
        share = float(seen.float().mean())
        total = float(area[seen].sum())
        if share < SEEN_IN or total < SECOND * first:
            break
        first = max(first, total)
        tracks.append(
            Track(colour=colour, seen=seen, box=_boxes(piece, seen), area=area * seen.float())
        )
        left = left & ~piece
    return tracks


def largest_piece(
    mask: Bool[Tensor, "frames height width"],
) -> Bool[Tensor, "frames height width"]:
    """Of each frame the component with most pixels, small gaps closed."""
    half = F.max_pool2d(mask.float()[:, None], 2, ceil_mode=True)
    wide = F.max_pool2d(half, _JOIN, 1, _JOIN // 2)[:, 0] > 0
    frames, height, width = wide.shape
    number = torch.arange(1, height * width + 1, device=mask.device, dtype=torch.float32)
    label = number.view(1, height, width) * wide
    for _ in range(_ROUNDS):
        spread = label
        for _ in range(6):
            spread = F.max_pool2d(spread[:, None], 3, 1, 1)[:, 0] * wide
        if torch.equal(spread, label):
            break
        label = spread
    fine = F.interpolate(label[:, None], scale_factor=2, mode="nearest")[:, 0]
    fine = fine[:, : mask.shape[1], : mask.shape[2]].long() * mask
    sizes = torch.zeros(frames, height * width + 1, device=mask.device)
    flat = rearrange(fine, "f h w -> f (h w)")
    sizes.scatter_add_(1, flat, torch.ones_like(flat, dtype=torch.float32))
    sizes[:, 0] = 0
    return mask & (fine == sizes.argmax(dim=1)[:, None, None])


def _boxes(
    piece: Bool[Tensor, "frames height width"], seen: Bool[Tensor, " frames"]
) -> Float[Tensor, "frames 4"]:
    _, height, width = piece.shape
    x = torch.arange(width, device=piece.device)
    y = torch.arange(height, device=piece.device)
    columns, rows = piece.any(dim=1), piece.any(dim=2)
    box = torch.stack(
        [
            torch.where(columns, x, width).amin(dim=1) / width,
            torch.where(rows, y, height).amin(dim=1) / height,
            (torch.where(columns, x, -1).amax(dim=1) + 1) / width,
            (torch.where(rows, y, -1).amax(dim=1) + 1) / height,
        ],
        dim=1,
    )
    # Frames without it take the box of the nearest frame that has it.
    at = torch.arange(len(seen), device=seen.device)
    gap = (at[:, None] - at[None]).abs() + (~seen).long()[None] * 10 * len(seen)
    return box[gap.argmin(dim=1)]
