"""Streaming around public VAEs, handed in ready: their layers are not rewritten here."""

from collections.abc import Iterator, Sequence
from itertools import chain
from typing import Any, Protocol, runtime_checkable

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from longtake.kernels.planned import card_bytes
from longtake.vae import ltx2, wan
from longtake.vae.tiling import Tiling, decode_tiled

Frames = Float[Tensor, "b frames height width 3"]
Latents = Float[Tensor, "b c t h w"]


@runtime_checkable
class PublicVae(Protocol):
    """What is used of a VAE of `diffusers`."""

    def encode(self, x: Tensor) -> Any:  # noqa: ANN401 - its answer is a class of the library
        """Pixels to a distribution of latents."""
        ...

    def decode(self, z: Tensor) -> Any:  # noqa: ANN401
        """Latents to pixels."""
        ...

    def named_children(self) -> Iterator[tuple[str, nn.Module]]:
        """Its parts."""
        ...


class PublicAutoencoder:
    """Latents of unit variance to frames and back, through a public VAE.

    decode: z * std + mean per channel, then the VAE. encode: its posterior's mode, reversed.
    """

    def __init__(
        self,
        vae: PublicVae,
        mean: Sequence[float] | Tensor,
        std: Sequence[float] | Tensor,
        strides: tuple[int, int],
        *,
        tiling: Tiling | None = None,
    ) -> None:
        """Wrap a ready VAE.

        Args:
            vae: In its place and type.
            mean: Of each latent channel.
            std: Of each latent channel.
            strides: Frames of a latent frame, pixels of a latent cell.
            tiling: How to save memory: what a VAE without a cache decodes is cut so; None decodes
                it whole.
        """
        self.vae, self.tiling = vae, tiling
        self.temporal_stride, self.spatial_stride = strides
        self.mean, self.std = (
            torch.as_tensor(values).float()[:, None, None, None] for values in (mean, std)
        )

    @torch.no_grad()
    def encode(self, frames: Frames, dtype: torch.dtype, device: torch.device) -> Latents:
        """Latents of frames in [-1, 1]."""
        pixels = rearrange(frames, "b t h w c -> b c t h w").to(device, dtype)
        mode = self.vae.encode(pixels).latent_dist.mode()
        mean, std = self.mean.to(mode), self.std.to(mode)
        return (mode - mean) / std

    @torch.no_grad()
    def decode_stream(
        self, latents: Latents, dtype: torch.dtype, device: torch.device
    ) -> Iterator[Frames]:
        """Frames in [-1, 1], a few at a time and in order."""
        yield from self.decode_chunks(iter((latents,)), dtype, device)

    @torch.no_grad()
    def decode_chunks(
        self, chunks: Iterator[Latents], dtype: torch.dtype, device: torch.device
    ) -> Iterator[Frames]:
        """Frames of latents that come chunk by chunk, each as soon as the VAE can make it."""
        for pixels in self._parts(self._raw(chunk, dtype, device) for chunk in chunks):
            yield rearrange(pixels.clamp(-1, 1), "b c t h w -> b t h w c").float()

    def _raw(self, latents: Latents, dtype: torch.dtype, device: torch.device) -> Latents:
        z = latents.to(device, dtype)
        return z * self.std.to(z) + self.mean.to(z)

    def _parts(
        self, chunks: Iterator[Latents]
    ) -> Iterator[Float[Tensor, "b 3 frames height width"]]:
        z = torch.cat(list(chunks), dim=2)
        strides = (self.temporal_stride, self.spatial_stride)
        if self.tiling is None:
            yield self._decode(z)
            return
        yield from decode_tiled(self._decode, z, strides, self.tiling)

    def _decode(self, z: Latents) -> Float[Tensor, "b 3 frames height width"]:
        """All at once; in bfloat16 on a card as `vae.ltx2` lays it out, where that fits."""
        vae: Any = self.vae
        return ltx2.decode(vae.decoder, z) if ltx2.fast(vae, z) else vae.decode(z).sample


class StreamingWan(PublicAutoencoder):
    """The Wan VAE, latent frame by latent frame on its own caches: the same as at once.

    It reaches for private names of `diffusers`, which is pinned for it; a test compares. In
    bfloat16 on a card the decoder is run as `vae.wan` lays it out, which differs by rounding.
    """

    vae: Any

    def _parts(
        self, chunks: Iterator[Latents]
    ) -> Iterator[Float[Tensor, "b 3 frames height width"]]:
        vae, first = self.vae, True
        z = next(chunks)
        chunks = chain((z,), chunks)
        if card_bytes(z.device) and z.dtype == torch.bfloat16 and len(z) == 1:
            # With memory short, one at a time: a fortieth slower, in seven tenths of the memory.
            at_once = wan.LATENT_FRAMES if self.tiling is None else 1
            yield from wan.decode(vae.decoder, map(vae.post_quant_conv, chunks), at_once)
            return
        vae.clear_cache()
        for chunk in chunks:
            for part in vae.post_quant_conv(chunk).split(1, dim=2):
                yield vae.decoder(part, feat_cache=vae._feat_map, feat_idx=[0], first_chunk=first)
                first = False
        vae.clear_cache()
