"""Subjects as pieces of one colour each, joined over time into tracks."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from longtake.evaluate.scope import COLOURS, VIVID

SMALLEST = 0.0006
"""Smallest share of the picture that counts as a piece of a subject."""
SEEN_IN = 0.12
"""Smallest share of the frames in which a subject must be seen to count as one."""
SECOND = 0.4
"""A second piece of a colour is a subject of its own if it is this large beside the first ..."""
SECOND_IN = 0.5
"""... in this share of the frames that show the first."""
SCRAP = 0.15
"""Smaller pieces than this share of the largest are none of the subject."""
_MOST = 4
_ROUNDS = 16
"""Spreadings of eight cells each; the largest subject is a hundred cells wide."""
_REACH = 5
"""Cells across which pieces are one; a thin post may stand before them."""
_COVERED = 0.25
SURE = 0.36
"""How much likelier than nobody the cells of a subject that stands alone are at least ..."""
DOUBT = 0.35
"""... and what is added to it if all of them touch a surer one: a shaded side or a window of it."""
_TOUCH = 7
"""Cells of the square about a cell within which a neighbour touches it."""
_PART = 0.5
"""What touches a surer one with this share of its cells and is no subject is a part of that."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Track:
    """One subject of one colour through a film; places in shares of the frame, from top left."""

    colour: int
    mask: Bool[Tensor, "frames height width"]
    """The cells that show it."""
    seen: Bool[Tensor, " frames"]
    """Where enough of it was found."""
    box: Float[Tensor, "frames 4"]
    """Left, top, right, bottom; held where it is not seen."""
    area: Float[Tensor, " frames"]
    """Share of the picture, 0 where it is not seen."""


def vivid_map(
    label: Int64[Tensor, "frames height width"],
) -> Int64[Tensor, "frames height2 width2"]:
    """Cells of two by two pixels that show a colour of which nothing but subjects is.

    Args:
        label: Number of a vivid colour at each pixel, or -1.
    """
    planes = torch.stack([_opened(label == colour) for colour in range(VIVID)], dim=1)
    share, colour = F.avg_pool2d(planes.float(), 2, ceil_mode=True).max(dim=1)
    return torch.where(share >= _COVERED, colour, -1)


def find_tracks(
    colours: Int64[Tensor, "frames height width"],
    sure: Float[Tensor, "frames height width"] | None = None,
) -> tuple[Track, ...]:
    """The subjects of a film, largest first.

    Args:
        colours: Number of a subject's colour at each cell, or -1.
        sure: Probability of that, less that of nobody; None to believe all.
    """
    smallest = SMALLEST * colours[0].numel()
    numbers = range(len(COLOURS))
    most = torch.stack([(colours == c).sum(dim=(1, 2)).amax() for c in numbers]).tolist()
    shown = [colour for colour, cells in zip(numbers, most, strict=True) if cells >= smallest]
    tracks: list[Track] = []
    if shown:
        masks = torch.stack([colours == colour for colour in shown])
        # All colours at once: pieces are found in many small steps.
        pieces = torch.stack(ranked_pieces(masks.flatten(0, 1)), dim=1)
        for colour, some in zip(shown, pieces.unflatten(0, masks.shape[:2]), strict=True):
            tracks += _tracks_of(some, colour)
    if sure is not None:
        tracks = _believed(tracks, sure)
    return tuple(sorted(tracks, key=lambda track: -float(track.area.sum())))


def _believed(tracks: list[Track], sure: Float[Tensor, "frames height width"]) -> list[Track]:
    """Those that are subjects, with the parts that were taken for others."""
    weights = [float((track.mask * sure).sum()) for track in tracks]
    kept: list[Track] = []
    for weight, track in sorted(zip(weights, tracks, strict=True), key=lambda row: -row[0]):
        cells = int(track.mask.sum())
        touching = [float((track.mask & _around(one.mask)).sum()) / cells for one in kept]
        most = max(touching, default=0.0)
        if weight / cells >= SURE + DOUBT * most:
            kept.append(track)
        elif most >= _PART:
            host = touching.index(most)
            kept[host] = _track(kept[host].mask | track.mask, kept[host].colour)
    return kept


def _around(mask: Bool[Tensor, "frames height width"]) -> Bool[Tensor, "frames height width"]:
    return F.max_pool2d(mask.float()[:, None], _TOUCH, 1, _TOUCH // 2)[:, 0] > 0


def _opened(
    mask: Bool[Tensor, "frames height width"],
) -> Bool[Tensor, "frames height width"]:
    """Without what is at most two pixels thin: rims, where two colours blend into a third."""
    solid = -F.max_pool2d(-mask.float()[:, None], 3, 1, 1)
    return mask & (F.max_pool2d(solid, 3, 1, 1)[:, 0] > 0)


def _tracks_of(ranked: Bool[Tensor, "frames pieces height width"], colour: int) -> list[Track]:
    """All pieces as one subject, unless there are several large ones throughout."""
    cells = ranked.sum(dim=(2, 3))
    smallest = SMALLEST * ranked[0, 0].numel()
    first, shown = cells[:, :1], cells[:, 0] >= smallest
    large = (cells >= SECOND * first) & (cells >= smallest)
    share = large.float().sum(dim=0) / shown.float().sum().clamp(min=1)
    count = int((share >= SECOND_IN).sum())
    pieces = ranked.unbind(1)
    if count <= 1:
        kept = cells >= SCRAP * first
        pieces = [(ranked & kept[:, :, None, None]).any(dim=1)]
    tracks = [_track(piece, colour) for piece in pieces[: max(count, 1)]]
    return [track for track in tracks if float(track.seen.float().mean()) >= SEEN_IN]


def _track(mask: Bool[Tensor, "frames height width"], colour: int) -> Track:
    area = mask.float().mean(dim=(1, 2))
    seen = area >= SMALLEST
    return Track(
        colour=colour, mask=mask, seen=seen, box=_boxes(mask, seen), area=area * seen.float()
    )


def ranked_pieces(
    mask: Bool[Tensor, "frames height width"],
) -> list[Bool[Tensor, "frames height width"]]:
    """The largest components of each frame, by size; gaps of a cell are closed."""
    frames, height, width = mask.shape
    number = torch.arange(1, height * width + 1, device=mask.device, dtype=torch.float32)
    label = number.view(1, height, width) * mask
    for _ in range(_ROUNDS):
        spread = label
        for _ in range(8):
            spread = F.max_pool2d(spread[:, None], _REACH, 1, _REACH // 2)[:, 0] * mask
        if torch.equal(spread, label):
            break
        label = spread
    flat = rearrange(label.long(), "f h w -> f (h w)")
    sizes = torch.zeros(frames, height * width + 1, device=mask.device)
    sizes.scatter_add_(1, flat, torch.ones_like(flat, dtype=torch.float32))
    sizes[:, 0] = 0
    largest = sizes.topk(_MOST, dim=1)
    found = (largest.indices[:, :, None, None] == label.long()[:, None]) & mask[:, None]
    found &= (largest.values > 0)[:, :, None, None]
    return list(found.unbind(1))


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
