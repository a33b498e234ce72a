"""Encode and decode, whole or in chunks with carried caches."""

from collections.abc import Iterator
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from longtake.config import AutoencoderConfig
from longtake.kernels import ops
from longtake.vae.layers import Cache, Down, Grid, Residual, Resized, SpatialConv, Up

Frames = Float[Tensor, "b frames height width 3"]
Latents = Float[Tensor, "b c t h w"]
LOG_VARIANCE_FLOOR = -12.0


@dataclass(slots=True)
class StreamCache:
    """What a coder remembers between chunks: two frames a residual block, however long the film."""

    blocks: list[Float[Tensor, "_ 2 _ _ _"] | None] = field(default_factory=list)
    """One entry a block, each of its own resolution."""

    @property
    def first(self) -> bool:
        """True before the first chunk."""
        return not self.blocks


class Coder(nn.Module):
    """Residual stages with a change of resolution between them."""

    def __init__(self, stages: list[nn.ModuleList], resamplers: list[Down] | list[Up]) -> None:
        """Join ready stages; there is one resampler fewer than stages."""
        super().__init__()
        self.stages = nn.ModuleList(stages)
        self.resamplers = nn.ModuleList(resamplers)

    def forward(self, x: Grid, cache: StreamCache) -> Resized:
        """Run a chunk and leave the cache ready for the next."""
        first = cache.first
        old = iter([None] * 64 if first else cache.blocks)
        new: list[Cache] = []
        for index, stage in enumerate(self.stages):
            for block in stage.children():
                x, kept = block(x, next(old))
                new.append(kept)
            if index < len(self.resamplers):
                x = self.resamplers[index](x, first=first)
        cache.blocks = new
        return x


class Autoencoder(nn.Module):
    """A causal video autoencoder: frame 0 alone, then groups of four; 32 x 32 pixels a cell.

    A later frame never changes an earlier latent, so films are encoded and decoded in chunks of
    any length with the same result as in one pass, in memory that does not grow.

    Source: DC-AE (arXiv 2410.10733) for the resampling; causal layout as in SANA-Video's VAEs.
    """

    latent_mean: Tensor
    latent_std: Tensor

    def __init__(self, config: AutoencoderConfig) -> None:
        """Build the network with fresh weights."""
        super().__init__()
        self.config = config
        fine, middle, coarse = config.widths
        pixels = 3 * config.patch**2
        self.pixels_in = nn.Linear(pixels, fine)
        self.encoder = Coder(
            [_stage(w, n) for w, n in zip(config.widths, config.encoder_blocks, strict=True)],
            [Down(fine, middle), Down(middle, coarse)],
        )
        self.encoder_norm = nn.Parameter(torch.ones(coarse))
        self.latents_out = nn.Linear(coarse, 2 * config.latent_channels)
        self.latents_in = nn.Linear(config.latent_channels, coarse)
        self.decoder = Coder(
            [_stage(w, n) for w, n in zip(config.widths, config.decoder_blocks, strict=True)][::-1],
            [Up(coarse, middle), Up(middle, fine)],
        )
        self.decoder_norm = nn.Parameter(torch.ones(fine))
        self.pixels_out = SpatialConv(fine, pixels)
        self.register_buffer("latent_mean", torch.zeros(config.latent_channels))
        self.register_buffer("latent_std", torch.ones(config.latent_channels))
        with torch.no_grad():
            self.latents_out.weight[config.latent_channels :].zero_()
            self.latents_out.bias[config.latent_channels :].fill_(-4.0)
            self.pixels_out.conv.weight.mul_(0.2)

    def moments(self, frames: Frames, cache: StreamCache) -> tuple[Latents, Latents]:
        """Mean and log variance of the raw latents of a chunk of frames in [-1, 1]."""
        p = self.config.patch
        x = rearrange(frames, "b t (h p) (w q) c -> b t h w (c p q)", p=p, q=p)
        x = self.encoder(self.pixels_in(x.to(self.pixels_in.weight.dtype)), cache)
        x = self.latents_out(ops.rms_norm(x, self.encoder_norm, 1e-5)).float()
        mean, log_variance = rearrange(x, "b t h w c -> b c t h w").chunk(2, dim=1)
        return mean, log_variance.clamp(LOG_VARIANCE_FLOOR, 4.0)

    def reconstruct(self, raw: Latents, cache: StreamCache) -> Frames:
        """Frames, about in [-1, 1], of a chunk of raw latents."""
        p = self.config.patch
        x = rearrange(raw, "b c t h w -> b t h w c").to(self.latents_in.weight.dtype)
        x = self.decoder(self.latents_in(x), cache)
        x = self.pixels_out(F.silu(ops.rms_norm(x, self.decoder_norm, 1e-5)))
        return rearrange(x, "b t h w (c p q) -> b t (h p) (w q) c", p=p, q=p).float()

    def encode(self, frames: Frames, cache: StreamCache | None = None) -> Latents:
        """Unit-variance latents of frames in [-1, 1].

        Args:
            frames: 1 + 4 n frames from the start of a film, or 4 n more with the cache carried.
            cache: Carried from chunk to chunk; None for a whole film.
        """
        mean, _ = self.moments(frames, StreamCache() if cache is None else cache)
        return (mean - self._per_channel(self.latent_mean)) / self._per_channel(self.latent_std)

    def decode(self, latents: Latents, cache: StreamCache | None = None) -> Frames:
        """Frames in [-1, 1] of unit-variance latents; one frame for the first, four for others.

        Args:
            latents: From the start of a film, or the next ones with the cache carried.
            cache: Carried from chunk to chunk; None for a whole film.
        """
        raw = latents * self._per_channel(self.latent_std) + self._per_channel(self.latent_mean)
        return self.reconstruct(raw, StreamCache() if cache is None else cache).clamp(-1, 1)

    def decode_stream(self, latents: Latents, chunk: int) -> Iterator[Frames]:
        """Decode a few latent frames at a time, in constant memory."""
        cache = StreamCache()
        for part in latents.split(chunk, dim=2):
            yield self.decode(part, cache)

    def _per_channel(self, values: Float[Tensor, " c"]) -> Float[Tensor, "c 1 1 1"]:
        return values.float()[:, None, None, None]


def _stage(channels: int, blocks: int) -> nn.ModuleList:
    return nn.ModuleList(Residual(channels) for _ in range(blocks))
