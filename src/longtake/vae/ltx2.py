"""The decoder of the LTX-2 VAE, laid out for speed: the weights of `diffusers`, none of its passes.

Channels lie last all the way, borders are copied into the padded frames and nothing else is moved,
and biases wait (`vae.channels_last`). The decoder looks both ways in time, so a film, or a tile of
it, is decoded whole.

Source: LTX-2 (arXiv 2601.03233), as diffusers 0.42 has it, layer by layer.
"""

from typing import Any

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor

from longtake.kernels import ops
from longtake.kernels.planned import card_bytes
from longtake.vae.channels_last import Stream, Values, convolve

EPS = 1e-8
"""Floor inside the norms; the published value."""


def fits(decoder: Any) -> bool:  # noqa: ANN401 - a class of the library
    """Whether a decoder has nothing that `decode` does not know.

    The published one looks both ways, adds no noise, and does not ask for a noise level.
    """
    blocks = [decoder.mid_block, *decoder.up_blocks]
    layers = [layer for block in blocks for layer in block.resnets]
    plain = all(
        layer.per_channel_scale1 is None
        and layer.per_channel_scale2 is None
        and layer.scale_shift_table is None
        and layer.conv_shortcut is None
        for layer in layers
    )
    straight = all(block.conv_in is None for block in decoder.up_blocks)
    return plain and straight and not decoder.is_causal and decoder.time_embedder is None


def decode(
    decoder: Any,  # noqa: ANN401
    latents: Float[Tensor, "1 c t h w"],
) -> Float[Tensor, "1 3 frames height width"]:
    """All frames of latents.

    Args:
        decoder: An `LTX2VideoDecoder3d` that `fits`.
        latents: Of a film or a tile.
    """
    x = _conv(decoder.conv_in, latents[0].permute(1, 2, 3, 0).contiguous())
    for layer in decoder.mid_block.resnets:
        x = _residual(layer, x)
    for block in decoder.up_blocks:
        for upsampler in block.upsamplers or ():
            x = _upsample(upsampler, x)
        for layer in block.resnets:
            x = _residual(layer, x)
    y = _conv(decoder.conv_out, _activated(x)).settled()
    p, q = decoder.patch_size, decoder.patch_size_t
    # The published order: a patch's columns are counted before its rows.
    return rearrange(y, "t h w (c i k j) -> 1 c (t i) (h j) (w k)", i=q, j=p, k=p)


def _residual(layer: Any, x: Stream) -> Stream:  # noqa: ANN401
    y = _conv(layer.conv2, _activated(_conv(layer.conv1, _activated(x))))
    return Stream(x.values + y.values, x.bias + y.bias)


def _activated(x: Stream) -> Values:
    return ops.rms_silu(x.values, None, EPS, x.bias)


def _upsample(upsampler: Any, x: Stream) -> Stream:  # noqa: ANN401
    """A convolution to more channels, of which frames, rows and columns are made."""
    i, j, k = upsampler.stride
    values = x.settled()
    y = _unfold(_conv(upsampler.conv, values).settled(), (i, j, k))
    if upsampler.residual:
        copies = i * j * k // upsampler.upscale_factor
        y += _unfold(values, (i, j, k)).repeat(1, 1, 1, copies)
    return Stream(y, y.new_zeros(y.shape[-1]))


def _unfold(x: Values, stride: tuple[int, int, int]) -> Values:
    i, j, k = stride
    y = rearrange(x, "t h w (c i j k) -> (t i) (h j) (w k) c", i=i, j=j, k=k)
    # Frame 0 stands alone.
    return y[i - 1 :]


def _conv(layer: Any, x: Values) -> Stream:  # noqa: ANN401
    """A convolution of frames with their borders copied outwards as the layer wants it."""
    conv = layer.conv
    side, mode = conv.kernel_size[1] // 2, conv.padding_mode
    around = side if mode == "reflect" else 0
    padded = _padded(x, layer.kernel_size[0] // 2, around)
    return convolve(padded, conv.weight, conv.bias, (0, side - around, side - around))


def _padded(x: Values, frames: int, side: int) -> Values:
    """The first and last frame once more, and a mirrored border (1 or 0 cells) around."""
    t, h, w, c = x.shape
    out = x.new_empty(t + 2 * frames, h + 2 * side, w + 2 * side, c)
    inner = out[frames : frames + t]
    inner[:, side : side + h, side : side + w] = x
    if side:
        inner[:, 0, side : side + w] = x[:, 1]
        inner[:, -1, side : side + w] = x[:, -2]
        inner[:, :, 0] = inner[:, :, 2]
        inner[:, :, -1] = inner[:, :, -3]
    if frames:
        out[:frames] = inner[:1]
        out[frames + t :] = inner[-1:]
    return out


def fast(vae: Any, z: Float[Tensor, "b c t h w"]) -> bool:  # noqa: ANN401
    """Whether to decode so: in bfloat16 on a card, one film at a time."""
    on_card = card_bytes(z.device) > 0
    return on_card and z.dtype == torch.bfloat16 and len(z) == 1 and fits(vae.decoder)
