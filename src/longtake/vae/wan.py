"""The decoder of the Wan VAE, laid out for speed: the weights of `diffusers`, none of its passes.

Channels lie last all the way. A convolution keeps the two frames before, pads space by itself,
and leaves its bias to whoever reads next (`vae.channels_last`). Time is causal, so any cut of the
latent frames gives the same picture; more at once fill the card better.

Source: Wan (arXiv 2503.20314), section 4.2; layer by layer as diffusers 0.42 has it.
"""

from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float
from torch import Tensor

from longtake.kernels import ops
from longtake.vae.channels_last import Stream, Values, convolve, pointwise

LATENT_FRAMES = 2
"""Latent frames decoded at once after the first, which stands alone."""
EPS = 1e-24
"""The published norm has a floor of 1e-12 on the length of a row, which is its square's root."""

Caches = dict[int, Float[Tensor, "2 _h _w _c"]]
"""The last two frames that each convolution over time has read."""


def decode(
    decoder: Any,  # noqa: ANN401 - a class of the library
    chunks: Iterator[Float[Tensor, "1 c t h w"]],
    latent_frames: int = LATENT_FRAMES,
) -> Iterator[Float[Tensor, "1 3 frames height width"]]:
    """Frames of latents, those of a few latent frames at a time.

    Args:
        decoder: A `WanDecoder3d` of Wan 2.1.
        chunks: Latents after the VAE's own first convolution, cut in time anywhere.
        latent_frames: How many at once.
    """
    caches: Caches = {}
    for chunk in chunks:
        z = chunk[0].permute(1, 2, 3, 0).contiguous()
        parts = z.split(latent_frames) if caches else (z[:1], *z[1:].split(latent_frames))
        for part in parts:
            if len(part):
                yield rearrange(_decode(decoder, part, caches), "t h w c -> 1 c t h w")


def _decode(decoder: Any, z: Values, caches: Caches) -> Values:  # noqa: ANN401
    first = not caches
    x = _causal(decoder.conv_in, z, caches)
    middle = decoder.mid_block
    x = _residual(middle.resnets[0], x, caches)
    for attention, block in zip(middle.attentions, middle.resnets[1:], strict=True):
        x = _residual(block, _attend(attention, x), caches)
    for stage in decoder.up_blocks:
        for block in stage.resnets:
            x = _residual(block, x, caches)
        if stage.upsamplers is not None:
            x = _upsample(stage.upsamplers[0], x, caches, first=first)
    return _causal(decoder.conv_out, _activated(decoder.norm_out, x), caches).settled()


def _causal(conv: Any, x: Values, caches: Caches) -> Stream:  # noqa: ANN401
    """A convolution over time that sees the two frames before, zeros at the start."""
    past = caches.get(id(conv))
    past = x.new_zeros(2, *x.shape[1:]) if past is None else past
    padded = torch.cat([past, x])
    # A copy: a view would keep all of the padded frames.
    caches[id(conv)] = padded[-2:].clone()
    side = conv.kernel_size[1] // 2
    return convolve(padded, conv.weight, conv.bias, (0, side, side))


def _residual(block: Any, x: Stream, caches: Caches) -> Stream:  # noqa: ANN401
    y = _causal(block.conv1, _activated(block.norm1, x), caches)
    y = _causal(block.conv2, _activated(block.norm2, y), caches)
    shortcut = block.conv_shortcut
    if not isinstance(shortcut, torch.nn.Identity):
        x = pointwise(x, shortcut.weight, shortcut.bias)
    return Stream(x.values + y.values, x.bias + y.bias)


def _activated(norm: Any, x: Stream) -> Values:  # noqa: ANN401
    return ops.rms_silu(x.values, norm.gamma.flatten(), EPS, x.bias)


def _attend(block: Any, x: Stream) -> Stream:  # noqa: ANN401
    """Each frame's cells look at each other, in one head."""
    settled = x.settled()
    normed = ops.rms_norm(settled, block.norm.gamma.flatten(), EPS)
    qkv = F.linear(normed, block.to_qkv.weight.flatten(1), block.to_qkv.bias)
    q, k, v = rearrange(qkv, "t h w (three c) -> three t 1 (h w) c", three=3)
    y = F.scaled_dot_product_attention(q, k, v)
    y = F.linear(y[:, 0].view_as(settled), block.proj.weight.flatten(1))
    return Stream(settled + y, block.proj.bias)


def _upsample(block: Any, x: Stream, caches: Caches, *, first: bool) -> Stream:  # noqa: ANN401
    """Twice the rows and columns; twice the frames too where the block says so.

    The first latent frame stays one frame, and the convolution over time begins after it.
    """
    values = x.settled()
    if block.mode == "upsample3d" and not first:
        doubled = _causal(block.time_conv, values, caches).settled()
        values = rearrange(doubled, "t h w (two c) -> (t two) h w c", two=2)
    t, h, w, c = values.shape
    large = values[:, :, None, :, None].expand(t, h, 2, w, 2, c).reshape(t, 2 * h, 2 * w, c)
    conv = block.resample[1]
    weight = conv.weight.contiguous(memory_format=torch.channels_last)
    y = F.conv2d(large.permute(0, 3, 1, 2), weight, padding=1)
    return Stream(y.permute(0, 2, 3, 1), conv.bias)
