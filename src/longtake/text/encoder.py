"""A small bidirectional text encoder, trained together with the denoiser."""

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from longtake.config import TextConfig
from longtake.kernels import ops
from longtake.text.tokenizer import PAD


class TextLayer(nn.Module):
    """Pre-norm self-attention and feed-forward."""

    def __init__(self, width: int, heads: int) -> None:
        """Make the projections."""
        super().__init__()
        self.heads = heads
        self.norm_attention = nn.Parameter(torch.ones(width))
        self.norm_feed_forward = nn.Parameter(torch.ones(width))
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)
        self.up = nn.Linear(width, 3 * width)
        self.down = nn.Linear(3 * width, width)

    def forward(
        self, x: Float[Tensor, "b m e"], mask: Bool[Tensor, "b m"]
    ) -> Float[Tensor, "b m e"]:
        """Mix the words; padding is not seen."""
        y = self.qkv(ops.rms_norm(x, self.norm_attention, 1e-5))
        q, k, v = rearrange(y, "b m (qkv heads k) -> qkv b heads m k", qkv=3, heads=self.heads)
        y = F.scaled_dot_product_attention(q, k, v, attn_mask=mask[:, None, None, :])
        x = x + self.out(rearrange(y, "b heads m k -> b m (heads k)"))
        return x + self.down(F.gelu(self.up(ops.rms_norm(x, self.norm_feed_forward, 1e-5))))


class TextEncoder(nn.Module):
    """Token numbers to embeddings."""

    def __init__(self, config: TextConfig, vocabulary_size: int) -> None:
        """Build the network with fresh weights."""
        super().__init__()
        self.config = config
        self.tokens = nn.Embedding(vocabulary_size, config.width)
        self.positions = nn.Parameter(torch.randn(config.max_tokens, config.width) * 0.02)
        nn.init.normal_(self.tokens.weight, std=0.5)
        self.layers = nn.ModuleList(
            TextLayer(config.width, config.heads) for _ in range(config.depth)
        )
        self.norm = nn.Parameter(torch.ones(config.width))

    def forward(
        self, tokens: Int[Tensor, "b m"]
    ) -> tuple[Float[Tensor, "b m e"], Bool[Tensor, "b m"]]:
        """Embeddings, and a mask that is true where a token is not padding."""
        mask = tokens != PAD
        x = self.tokens(tokens) + self.positions[: tokens.shape[1]]
        for layer in self.layers:
            x = layer(x, mask)
        return ops.rms_norm(x, self.norm, 1e-5), mask
