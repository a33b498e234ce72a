"""Tiles against the whole, on a decoder whose answer is known."""

from itertools import pairwise

import pytest
import torch
import torch.nn.functional as F
from einops import repeat

from longtake.vae.tiling import Tiling, decode_tiled, spans

STRIDES = (8, 4)


def upsample(latents):
    """Each latent as one frame or eight, each cell as 4 x 4 pixels, smoothed over 3 x 3 cells."""
    smooth = F.avg_pool3d(latents[:, :3], (1, 3, 3), 1, (0, 1, 1), count_include_pad=True)
    pixels = repeat(smooth, "b c t h w -> b c (t n) (h q) (w r)", n=8, q=4, r=4)
    return pixels[:, :, 7:]


@pytest.mark.parametrize("length", [1, 5, 20, 21, 33, 40, 100])
def test_spans_cover_everything_and_share_at_least_what_was_asked(length):
    found = spans(length, 20, 8)
    assert found[0][0] == 0
    assert found[-1][1] == length
    assert all(end - start <= 20 for start, end in found)
    assert all(a[1] - b[0] >= 8 for a, b in pairwise(found))


@pytest.mark.parametrize("size", [(3, 6, 6), (11, 22, 40), (25, 7, 33), (1, 30, 5)])
def test_tiles_of_a_local_decoder_are_the_whole(size):
    latents = torch.randn(1, 4, *size)
    tiling = Tiling(cells=12, overlap=4, frames=6, frame_overlap=2)
    parts = list(decode_tiled(upsample, latents, STRIDES, tiling))
    whole = upsample(latents)
    assert torch.allclose(torch.cat(parts, dim=2), whole, atol=1e-5)


def test_frames_come_as_they_are_finished_in_the_memory_of_a_tile():
    seen = []

    def decode(latents):
        seen.append(latents.shape[2:])
        return upsample(latents)

    tiling = Tiling(cells=12, overlap=4, frames=6, frame_overlap=2)
    film = decode_tiled(decode, torch.randn(1, 4, 50, 6, 6), STRIDES, tiling)
    assert next(film).shape[2] < 8 * 6
    assert len(seen) == 1
    rest = list(film)
    assert max(frames for frames, _, _ in seen) == 6
    assert sum(part.shape[2] for part in rest) + 8 * 4 <= 8 * 49 + 1


def test_a_tile_that_holds_all_is_decoded_as_it_is():
    latents = torch.randn(1, 4, 3, 5, 5)
    (only,) = decode_tiled(upsample, latents, STRIDES, Tiling())
    assert torch.equal(only, upsample(latents))
