"""Patchify, blocks, unpatchify: noisy latents, sigma and text to velocity."""

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Bool, Float
from torch import Tensor, nn

from longtake.config import TransformerConfig
from longtake.kernels import ops
from longtake.model.attention import CrossAttention, LayerText, SelfAttention, Words
from longtake.model.embeddings import NoiseLevelEmbedding, Rotary, rotary_3d
from longtake.model.feed_forward import MixFeedForward
from longtake.model.share import Share
from longtake.model.state import LayerState, State


class Layout(NamedTuple):
    """Where the tokens of a pass stand and what they see; the same in every layer."""

    rotary: Rotary
    """Angles of each token."""
    height: int
    """Rows of the latent grid."""
    sight: tuple[int, ...]
    """Latent frames of each segment, or of each chunk if causal."""
    causal: bool
    """A chunk sees itself and earlier ones, and leaves a state; else all see all."""
    share: Share | None = None
    """This device's part, if others run the rest of the latent frames."""


class Reading(NamedTuple):
    """A prompt as the layers read it, or are to read it; the same at every noise level."""

    layers: tuple[LayerText | Words, ...]


class Block(nn.Module):
    """One layer: self-attention, text, Mix-FFN; the first and last shifted, scaled and gated.

    Cross-attention reads the raw stream, with no norm before it and no gate after it.

    Source: SANA-Video (arXiv 2509.24695), figure 2; adaLN-single: PixArt-alpha (arXiv 2310.00426).
    """

    def __init__(self, config: TransformerConfig) -> None:
        """Make the parts; the table is this layer's own offset to the shared modulation."""
        super().__init__()
        width = config.width
        self.table = nn.Parameter(torch.randn(6, width) / width**0.5)
        self.eps = config.norm_eps
        self.self_attention = SelfAttention(config)
        self.cross_attention = CrossAttention(config)
        self.feed_forward = MixFeedForward(width, int(width * config.ffn_ratio))
        affine = config.ffn_norm_affine
        self.ffn_norm_weight = nn.Parameter(torch.ones(width)) if affine else None
        self.ffn_norm_bias = nn.Parameter(torch.zeros(width)) if affine else None

    def forward(
        self,
        x: Float[Tensor, "b t s d"],
        modulation: Float[Tensor, "b t 6 d"],
        text: LayerText | Words,
        layout: Layout,
        past: LayerState | None = None,
    ) -> tuple[Float[Tensor, "b t s d"], LayerState | None]:
        """Update the tokens, s = height x width of them in each latent frame.

        Args:
            x: Tokens.
            modulation: Shared shifts, scales and gates of each latent frame.
            text: What this layer reads of the prompt, or has read before.
            layout: Where the tokens stand and what they see.
            past: What the chunks before left, if causal.
        """
        rotary, height, sight, causal, share = layout
        # In one copy, each of the six lies together as the kernels want it.
        table = rearrange((modulation + self.table).to(x.dtype), "b t six d -> six b t 1 d")
        shift_a, scale_a, gate_a, shift_f, scale_f, gate_f = table.contiguous().unbind(0)
        tokens = tuple(frames * x.shape[2] for frames in sight)
        memory, frame = past or (None, None)
        y = ops.modulated_norm(x, shift_a, scale_a, self.eps).flatten(1, 2)
        if causal:
            y, memory = self.self_attention.advance(y, rotary, tokens, memory, share)
        else:
            y = self.self_attention(y, rotary, tokens, share)
        x = ops.gated_residual(x, gate_a, y.view_as(x))
        known = text if isinstance(text, LayerText) else self.cross_attention.read(*text)
        y = self.cross_attention(x.flatten(1, 2), known).view_as(x)
        affine = self.ffn_norm_weight, self.ffn_norm_bias
        x, y = ops.residual_norm(x, y, shift_f, scale_f, self.eps, *affine)
        chunks = sight if causal else (x.shape[1],)
        y, mixed, frame = self.feed_forward(y, height, chunks, frame, share)
        # A copy, or the state would keep all frames of the chunk in memory.
        after = None if memory is None else LayerState(memory, frame.clone())
        return ops.gated_residual(x, gate_f, y, mixed), after

    def read(self, text: Float[Tensor, "b m d"], mask: Bool[Tensor, "b m"]) -> LayerText:
        """What this layer reads of text tokens of the model's width."""
        return self.cross_attention.read(text, mask)


class Transformer(nn.Module):
    """The linear diffusion transformer.

    Source: SANA-Video (arXiv 2509.24695), section 3.
    """

    def __init__(self, config: TransformerConfig) -> None:
        """Build the network with fresh weights; the head starts at zero velocity."""
        super().__init__()
        self.config = config
        width = config.width
        patch = math.prod(config.patch)
        self.embed = nn.Linear(patch * config.latent_channels, width)
        self.noise_level = NoiseLevelEmbedding(width, guidance=config.guidance_embedding)
        self.text_in = nn.Linear(config.text_width, width)
        self.text_out = nn.Linear(width, width)
        self.text_norm = nn.Parameter(torch.ones(width))
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.depth))
        self.head_table = nn.Parameter(torch.randn(2, width) / width**0.5)
        self.head = nn.Linear(width, patch * (config.out_channels or config.latent_channels))
        self.apply(_initialise)
        for layer in (self.noise_level.hidden, self.noise_level.out, self.noise_level.modulation):
            nn.init.normal_(layer.weight, std=0.02)
        nn.init.zeros_(self.head.weight)

    def forward(
        self,
        latents: Float[Tensor, "b c t h w"],
        sigma: Float[Tensor, "b t"],
        text: Float[Tensor, "b m e"],
        mask: Bool[Tensor, "b m"],
        guidance: Float[Tensor, " b"] | None = None,
        share: Share | None = None,
    ) -> Float[Tensor, "b out t h w"]:
        """Velocity (noise - clean) of noisy latents, each latent frame at its own sigma.

        Args:
            latents: Noisy latents; patches divide their sides.
            sigma: Noise level of each latent frame, in [0, 1]; patched frames share the first's.
            text: Embeddings from the text encoder.
            mask: True where a text token is real.
            guidance: Guidance scale of each sample, for a model with guidance embedding.
            share: What other devices add, if these are some of the latent frames only.
        """
        return self.predict(latents, sigma, self._unread(text, mask), guidance, share)

    def read(
        self, text: Float[Tensor, "b m e"], mask: Bool[Tensor, "b m"], *, trim: bool = False
    ) -> Reading:
        """A prompt's keys and values in every layer, for `predict` and `go_on`.

        Args:
            text: Embeddings from the text encoder.
            mask: True where a text token is real.
            trim: Leave out the tokens that are not, as the score of one is that low that it
                counts for nothing. For a single prompt; it waits for the device.
        """
        if trim and len(mask) == 1 and bool(mask.any()):
            text, mask = text[:, mask[0]], mask[:, mask[0]]
        words = self._words(text, mask)
        # A layer, or one that waits on the host (offload.Visiting) and has no other name for it.
        layers = tuple(block.read(*words) for block in self.blocks)  # pyrefly: ignore
        if trim and bool(mask.all()):
            layers = tuple(layer._replace(scores=None) for layer in layers)
        return Reading(layers)

    def predict(
        self,
        latents: Float[Tensor, "b c t h w"],
        sigma: Float[Tensor, "b t"],
        reading: Reading,
        guidance: Float[Tensor, " b"] | None = None,
        share: Share | None = None,
    ) -> Float[Tensor, "b out t h w"]:
        """`forward` with a prompt that was read before."""
        assert share is None or self.config.patch[0] == 1, "a pass is cut between latent frames"
        t, h, w = self._grid(latents)
        x = self._tokens(latents)
        embedding, modulation = self.noise_level(sigma[:, :: self.config.patch[0]], guidance)
        segments = segments_of(t, self.config.segment, 1)
        rotary = self._rotary((t, h, w), share.start if share else 0)
        layout = Layout(rotary, h, segments, causal=False, share=share)
        for block, text in zip(self.blocks, reading.layers, strict=True):
            x, _ = block(x, modulation, text, layout)
        return self._latents(self._velocity(x, embedding), (t, h, w))

    def advance(
        self,
        latents: Float[Tensor, "b c t h w"],
        sigma: Float[Tensor, "b t"],
        text: Float[Tensor, "b m e"],
        mask: Bool[Tensor, "b m"],
        chunks: tuple[int, ...],
        past: State | None = None,
        share: Share | None = None,
    ) -> tuple[Float[Tensor, "b c t h w"], State]:
        """Velocity of the next chunks of a take, each seeing itself and the chunks before it.

        One chunk without a past is `forward`, for `linear` attention. Chunk by chunk with the
        state carried is all of them at once. The state of a pass over clean latents (sigma 0)
        commits them; that of a pass over noisy ones is thrown away.

        Args:
            latents: Noisy latents that go on where the state ends.
            sigma: Noise level of each latent frame, in [0, 1].
            text: Embeddings from the text encoder.
            mask: True where a text token is real.
            chunks: Latent frames of each chunk, in order.
            past: What the chunks before left; None at the start of a take.
            share: What other devices add, if these are some latent frames of one chunk only. The
                state is whole where the chunk begins; elsewhere its frames are not.

        Source: SANA-Video (arXiv 2509.24695), section 3.3.
        """
        return self.go_on(latents, sigma, self._unread(text, mask), chunks, past, share)

    def go_on(
        self,
        latents: Float[Tensor, "b c t h w"],
        sigma: Float[Tensor, "b t"],
        reading: Reading,
        chunks: tuple[int, ...],
        past: State | None = None,
        share: Share | None = None,
    ) -> tuple[Float[Tensor, "b c t h w"], State]:
        """`advance` with a prompt that was read before."""
        start = past.latent_frames if past else 0
        rotary = self.angles(latents, start + (share.start if share else 0))
        before = past.layers if past else None
        velocity, layers = self.pass_over(latents, sigma, reading, chunks, before, rotary, share)
        return velocity, State(layers, start + (share.frames if share else latents.shape[2]))

    def pass_over(
        self,
        latents: Float[Tensor, "b c t h w"],
        sigma: Float[Tensor, "b t"],
        reading: Reading,
        chunks: tuple[int, ...],
        past: tuple[LayerState, ...] | None,
        rotary: Rotary,
        share: Share | None = None,
    ) -> tuple[Float[Tensor, "b c t h w"], tuple[LayerState, ...]]:
        """`go_on` where the position has become angles: tensors in, tensors out."""
        assert self.config.patch[0] == 1, "a state is cut between latent frames"
        grid = self._grid(latents)
        x = self._tokens(latents)
        embedding, modulation = self.noise_level(sigma)
        layout = Layout(rotary, grid[1], chunks, causal=True, share=share)
        layers: list[LayerState] = []
        for index, (block, text) in enumerate(zip(self.blocks, reading.layers, strict=True)):
            x, after = block(x, modulation, text, layout, past[index] if past else None)
            layers.append(after)
        return self._latents(self._velocity(x, embedding), grid), tuple(layers)

    def angles(self, latents: Float[Tensor, "b c t h w"], start: int) -> Rotary:
        """Angles of the tokens of latents whose first frame stands at `start` in its take."""
        return self._rotary(self._grid(latents), start)

    def _unread(self, text: Float[Tensor, "b m e"], mask: Bool[Tensor, "b m"]) -> Reading:
        """A prompt for one pass: weights that lie in parts are whole only while a layer runs."""
        return Reading((self._words(text, mask),) * len(self.blocks))

    def _words(self, text: Float[Tensor, "b m e"], mask: Bool[Tensor, "b m"]) -> Words:
        inner = self.text_in(text.to(self.embed.weight.dtype))
        tokens = self.text_out(F.gelu(inner, approximate="tanh"))
        return Words(ops.rms_norm(tokens, self.text_norm, 1e-5), mask)

    def _grid(self, latents: Float[Tensor, "b c t h w"]) -> tuple[int, int, int]:
        """Tokens along time, height and width."""
        sides, patch = tuple(latents.shape[2:]), self.config.patch
        assert not any(a % b for a, b in zip(sides, patch, strict=True)), f"{sides} into {patch}"
        t, h, w = (a // b for a, b in zip(sides, patch, strict=True))
        return t, h, w

    def _tokens(self, latents: Float[Tensor, "b c t h w"]) -> Float[Tensor, "b grid_t s d"]:
        p, q, r = self.config.patch
        tokens = rearrange(latents, "b c (t p) (h q) (w r) -> b t (h w) (c p q r)", p=p, q=q, r=r)
        return self.embed(tokens.to(self.embed.weight.dtype))

    def _latents(
        self, tokens: Float[Tensor, "b t s c"], grid: tuple[int, int, int]
    ) -> Float[Tensor, "b out frames height width"]:
        p, q, r = self.config.patch
        return rearrange(
            tokens,
            "b t (h w) (p q r c) -> b c (t p) (h q) (w r)",
            h=grid[1], w=grid[2], p=p, q=q, r=r,
        )  # fmt: skip

    def _rotary(self, grid: tuple[int, int, int], start: int) -> Rotary:
        size = self.config.width // self.config.heads
        return rotary_3d(grid, size, self.config.rope_theta, self.head_table.device, start=start)

    def _velocity(
        self, x: Float[Tensor, "b t s d"], embedding: Float[Tensor, "b t d"]
    ) -> Float[Tensor, "b t s c"]:
        table = (self.head_table + embedding[:, :, None]).to(x.dtype)[:, :, :, None]
        shift, scale = table.unbind(2)
        return self.head(ops.modulated_norm(x, shift, scale, 1e-6))


def segments_of(latent_frames: int, segment: int, tokens_per_frame: int) -> tuple[int, ...]:
    """Tokens of each segment on the fixed grid: 1 + segment latent frames, then segment each."""
    ends = [*range(1 + segment, latent_frames, segment), latent_frames]
    starts = [0, *ends[:-1]]
    return tuple((b - a) * tokens_per_frame for a, b in zip(starts, ends, strict=True))


def _initialise(module: nn.Module) -> None:
    if isinstance(module, nn.Linear):
        nn.init.xavier_uniform_(module.weight)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
