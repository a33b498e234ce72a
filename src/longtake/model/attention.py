"""Self-attention in three modes and cross-attention to the text."""

from typing import NamedTuple

import torch
from einops import rearrange
from jaxtyping import Bool, Float
from torch import Tensor, nn

from longtake.config import TransformerConfig
from longtake.kernels import ops
from longtake.model.embeddings import Rotary
from longtake.model.share import Share

Heads = Float[Tensor, "b heads n k"]
MASKED = -1e4
"""Score of a text token that is not there; the published value."""


class LayerText(NamedTuple):
    """What one layer reads of a prompt; the same in every step, so it is made once."""

    key: Float[Tensor, "b heads m k"]
    value: Float[Tensor, "b heads m k"]
    scores: Float[Tensor, "b 1 1 m"] | None
    """Added to each token's score, low where there is none; None if all of them are real."""


class Words(NamedTuple):
    """A prompt's tokens at the model's width, which each layer reads for itself."""

    tokens: Float[Tensor, "b m d"]
    mask: Bool[Tensor, "b m"]


class SelfAttention(nn.Module):
    """Video tokens look at each other.

    RMSNorm of queries and keys runs over the full width, before the split into heads; the
    attention modes are the operations of the same names in `kernels/reference/attention.py`.

    Source: SANA-Video (arXiv 2509.24695), section 3.2; `block` follows docs/article.md.
    """

    def __init__(self, config: TransformerConfig) -> None:
        """Make the projections; `block` adds one gate a head."""
        super().__init__()
        width = config.width
        self.heads, self.mode, self.eps = config.heads, config.attention, config.attention_eps
        self.qkv = nn.Linear(width, 3 * width, bias=config.qkv_bias)
        self.norm_q = _norm_weight(config, width)
        self.norm_k = _norm_weight(config, width)
        self.out = nn.Linear(width, width)
        if self.mode == "block":
            self.gate = nn.Parameter(torch.zeros(self.heads))

    def forward(
        self,
        x: Float[Tensor, "b n d"],
        rotary: Rotary,
        segments: tuple[int, ...],
        share: Share | None = None,
    ) -> Float[Tensor, "b n d"]:
        """Mix all tokens; segments are token counts that only `block` looks at."""
        if self.mode == "linear":
            return self.advance(x, rotary, (x.shape[1],), None, share)[0]
        q, k, v = ops.packed_heads(self.qkv(x), self.norm_q, self.norm_k, self.heads)
        match self.mode:
            case _ if share is not None:
                msg = f"attention mode {self.mode} is not shared between devices"
                raise AssertionError(msg)
            case "softmax":
                y = ops.softmax_attention(q, k, v, rotary.cos, rotary.sin)
            case "block":
                gate = torch.sigmoid(self.gate)
                y = ops.block_attention(q, k, v, rotary.cos, rotary.sin, gate, segments)
            case _:
                msg = f"unknown attention mode {self.mode}"
                raise AssertionError(msg)
        return self.out(rearrange(y, "b heads n k -> b n (heads k)"))

    def advance(
        self,
        x: Float[Tensor, "b n d"],
        rotary: Rotary,
        chunks: tuple[int, ...],
        past: ops.Memory | None,
        share: Share | None = None,
    ) -> tuple[Float[Tensor, "b n d"], ops.Memory]:
        """Mix each chunk's tokens with those of its own and earlier chunks, counted in tokens."""
        qkv, norms = self.qkv(x), (self.norm_q, self.norm_k)
        match self.mode:
            case "linear" if share is not None:
                assert len(chunks) == 1, "devices share one chunk at a time"
                q, k, v = ops.packed_heads(qkv, *norms, self.heads)
                memory = share.total(ops.remember(k, v, *rotary))
                memory = memory if past is None else past + memory
                y = ops.recall(q, *rotary, memory, self.eps).to(v.dtype)
                y = rearrange(y, "b heads n k -> b n (heads k)")
            case "linear":
                y, memory = ops.packed_linear_attention(
                    qkv, *norms, rotary, self.heads, chunks, past, self.eps
                )
            case "block" if share is None:
                gate = torch.sigmoid(self.gate)
                q, k, v = ops.packed_heads(qkv, *norms, self.heads)
                y, memory = ops.causal_block_attention(q, k, v, *rotary, gate, chunks, past)
                y = rearrange(y, "b heads n k -> b n (heads k)")
            case _:
                msg = f"attention mode {self.mode} has no state of constant size, or none to share"
                raise AssertionError(msg)
        return self.out(y), memory


class CrossAttention(nn.Module):
    """Video tokens look at the text, with softmax; padding is masked out.

    A sample without any text token to see looks at all of them evenly, as the masked score is
    low and not infinite.
    """

    def __init__(self, config: TransformerConfig) -> None:
        """Make the projections; the text already has the model's width."""
        super().__init__()
        width, inner = config.width, config.cross_width or config.width
        self.heads, self.eps = config.cross_heads or config.heads, config.cross_norm_eps
        self.q = nn.Linear(width, inner)
        self.kv = nn.Linear(width, 2 * inner)
        self.norm_q = _norm_weight(config, inner)
        self.norm_k = _norm_weight(config, inner)
        self.out = nn.Linear(inner, width)

    def forward(self, x: Float[Tensor, "b n d"], text: LayerText) -> Float[Tensor, "b n d"]:
        """Read from the text."""
        q = self._heads(_normed(self.q(x), self.norm_q, self.eps))
        y = ops.text_attention(q, text.key, text.value, text.scores)
        return self.out(rearrange(y, "b heads n k -> b n (heads k)"))

    def read(self, text: Float[Tensor, "b m d"], mask: Bool[Tensor, "b m"]) -> LayerText:
        """Keys and values of a prompt, where mask is true."""
        k, v = self.kv(text).chunk(2, dim=-1)
        k, v = self._heads(_normed(k, self.norm_k, self.eps)), self._heads(v)
        scores = torch.zeros_like(mask, dtype=k.dtype).masked_fill(~mask, MASKED)
        return LayerText(k, v, scores[:, None, None, :])

    def _heads(self, x: Float[Tensor, "b n c"]) -> Heads:
        return rearrange(x, "b n (heads k) -> b heads n k", heads=self.heads)


def _norm_weight(config: TransformerConfig, channels: int) -> nn.Parameter | None:
    return nn.Parameter(torch.ones(channels)) if config.qk_norm else None


def _normed(
    x: Float[Tensor, "b n c"], weight: Float[Tensor, " c"] | None, eps: float
) -> Float[Tensor, "b n c"]:
    return x if weight is None else ops.rms_norm(x, weight, eps)
