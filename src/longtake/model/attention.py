"""Self-attention in three modes and cross-attention to the text."""

import torch
import torch.nn.functional as F
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
        q, k, v = self._project(x)
        match self.mode:
            case "linear" if share is not None:
                memory = share.total(ops.remember(k, v, *rotary))
                y = ops.recall(q, *rotary, memory, self.eps).to(v.dtype)
            case "linear":
                y = ops.linear_attention(q, k, v, rotary.cos, rotary.sin, self.eps)
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
        q, k, v = self._project(x)
        match self.mode:
            case "linear" if share is not None:
                assert len(chunks) == 1, "devices share one chunk at a time"
                memory = share.total(ops.remember(k, v, *rotary))
                memory = memory if past is None else past + memory
                y = ops.recall(q, *rotary, memory, self.eps).to(v.dtype)
            case "linear":
                y, memory = ops.causal_linear_attention(q, k, v, *rotary, chunks, past, self.eps)
            case "block" if share is None:
                gate = torch.sigmoid(self.gate)
                y, memory = ops.causal_block_attention(q, k, v, *rotary, gate, chunks, past)
            case _:
                msg = f"attention mode {self.mode} has no state of constant size, or none to share"
                raise AssertionError(msg)
        return self.out(rearrange(y, "b heads n k -> b n (heads k)")), memory

    def _project(self, x: Float[Tensor, "b n d"]) -> tuple[Heads, Heads, Heads]:
        q, k, v = self.qkv(x).chunk(3, dim=-1)
        q, k = _normed(q, self.norm_q, 1e-5), _normed(k, self.norm_k, 1e-5)
        q, k, v = (
            rearrange(y, "b n (heads k) -> b heads n k", heads=self.heads) for y in (q, k, v)
        )
        return q, k, v


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

    def forward(
        self,
        x: Float[Tensor, "b n d"],
        text: Float[Tensor, "b m d"],
        mask: Bool[Tensor, "b m"],
    ) -> Float[Tensor, "b n d"]:
        """Read from the text tokens where mask is true."""
        k, v = self.kv(text).chunk(2, dim=-1)
        q, k = _normed(self.q(x), self.norm_q, self.eps), _normed(k, self.norm_k, self.eps)
        q, k, v = (
            rearrange(y, "b n (heads k) -> b heads n k", heads=self.heads) for y in (q, k, v)
        )
        scores = torch.zeros_like(mask, dtype=q.dtype).masked_fill(~mask, MASKED)
        y = F.scaled_dot_product_attention(q, k, v, attn_mask=scores[:, None, None, :])
        return self.out(rearrange(y, "b heads n k -> b n (heads k)"))


def _norm_weight(config: TransformerConfig, channels: int) -> nn.Parameter | None:
    return nn.Parameter(torch.ones(channels)) if config.qk_norm else None


def _normed(
    x: Float[Tensor, "b n c"], weight: Float[Tensor, " c"] | None, eps: float
) -> Float[Tensor, "b n c"]:
    return x if weight is None else ops.rms_norm(x, weight, eps)
