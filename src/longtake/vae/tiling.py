"""Decoding in overlapping tiles, for a public VAE that looks both ways and has no cache."""

import itertools
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

Latents = Float[Tensor, "b c t h w"]
Pixels = Float[Tensor, "b 3 frames height width"]
Span = tuple[int, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Tiling:
    """Size of a tile and of the overlap with its neighbours, in latent cells and frames."""

    cells: int = 22
    """Rows and columns of a tile."""
    overlap: int = 10
    """Rows and columns two neighbours share; the outer quarters of it are not used. With random
    weights of the LTX-2 decoder's depth, 10 leave seams 48 dB below the picture, 6 leave 42."""
    frames: int = 25
    """Latent frames of a tile."""
    frame_overlap: int = 12
    """Latent frames two neighbours share; 5 leave seams at 26 dB."""


def spans(length: int, size: int, overlap: int) -> list[Span]:
    """Even cover of a length by spans of at most a size that overlap at least so much."""
    if length <= size:
        return [(0, length)]
    count = math.ceil((length - overlap) / (size - overlap))
    starts = [round(i * (length - size) / (count - 1)) for i in range(count)]
    return [(start, start + size) for start in starts]


def decode_tiled(
    decode: Callable[[Latents], Pixels],
    latents: Latents,
    strides: tuple[int, int],
    tiling: Tiling,
) -> Iterator[Pixels]:
    """Decode tile by tile and yield frames as they are finished, in memory of one tile of frames.

    Neighbours are blended linearly over the middle half of what they share; the outer quarters,
    where a tile lacks its surroundings, do not count.

    Args:
        decode: Latents to pixels; latent frame 0 gives one frame, each other `strides[0]`.
        latents: Of a whole film.
        strides: Frames of a latent frame, pixels of a latent cell.
        tiling: Sizes.
    """
    in_time = spans(latents.shape[2], tiling.frames, tiling.frame_overlap)
    step, held, held_from = strides[0], None, 0
    for index, (start, end) in enumerate(in_time):
        frames = _decode_tile(decode, latents[:, :, start:end], strides[1], tiling)
        first = step * start
        if held is not None:
            shared = held_from + held.shape[2] - first
            ramp = _ramp(shared).to(frames)[:, None, None]
            frames[:, :, :shared] = held.lerp(frames[:, :, :shared], ramp)
        last = index == len(in_time) - 1
        # Frames the next tile also has wait for it.
        ready = frames.shape[2] if last else step * in_time[index + 1][0] - first
        held, held_from = frames[:, :, ready:], first + ready
        yield frames[:, :, :ready]


def _decode_tile(
    decode: Callable[[Latents], Pixels], latents: Latents, stride: int, tiling: Tiling
) -> Pixels:
    rows, columns = (spans(n, tiling.cells, tiling.overlap) for n in latents.shape[3:])
    if len(rows) == len(columns) == 1:
        return decode(latents)
    out, total = torch.empty(0), torch.zeros(*(n * stride for n in latents.shape[3:]))
    for (top, bottom), (left, right) in itertools.product(rows, columns):
        tile = decode(latents[..., top:bottom, left:right])
        weight = _weights(rows, (top, bottom), stride)[:, None] * _weights(
            columns, (left, right), stride
        )
        if not out.numel():
            out = tile.new_zeros(*tile.shape[:3], *total.shape, dtype=torch.float32)
        area = (
            ...,
            slice(top * stride, bottom * stride),
            slice(left * stride, right * stride),
        )
        out[area] += tile * weight.to(tile.device)
        total[area] += weight
    return out / total.to(out.device)


def _weights(all_spans: list[Span], own: Span, stride: int) -> Float[Tensor, " pixels"]:
    """How much a tile counts along one axis: it rises and falls where neighbours overlap."""
    weight = torch.ones((own[1] - own[0]) * stride)
    place = all_spans.index(own)
    if place > 0:
        shared = (all_spans[place - 1][1] - own[0]) * stride
        weight[:shared] *= _ramp(shared)
    if place < len(all_spans) - 1:
        shared = (own[1] - all_spans[place + 1][0]) * stride
        weight[-shared:] *= _ramp(shared).flip(0)
    return weight


def _ramp(length: int) -> Float[Tensor, " length"]:
    """0 in the first quarter, 1 in the last, straight in between; symmetric."""
    places = (torch.arange(length) + 0.5) / length
    return ((places - 0.25) * 2).clamp(0, 1)
