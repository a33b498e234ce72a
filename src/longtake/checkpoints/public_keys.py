"""Key maps between our transformer and public checkpoints, both ways, name by name."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from longtake.config import TransformerConfig

Layout = Literal["diffusers", "original"]
"""`diffusers`: folders with a config.json. `original`: the .pth of the authors, LongSANA too."""

# Ours, diffusers, original. Several names are rows one after the other.
_OUTSIDE = (
    ("embed", "patch_embedding", "x_embedder.proj"),
    ("noise_level.hidden", "time_embed.emb.timestep_embedder.linear_1", "t_embedder.mlp.0"),
    ("noise_level.out", "time_embed.emb.timestep_embedder.linear_2", "t_embedder.mlp.2"),
    ("noise_level.modulation", "time_embed.linear", "t_block.1"),
    ("noise_level.guidance_hidden", "time_embed.guidance_embedder.linear_1", "g_embedder.mlp.0"),
    ("noise_level.guidance_out", "time_embed.guidance_embedder.linear_2", "g_embedder.mlp.2"),
    ("text_in", "caption_projection.linear_1", "y_embedder.y_proj.fc1"),
    ("text_out", "caption_projection.linear_2", "y_embedder.y_proj.fc2"),
    ("text_norm", "caption_norm.weight", "attention_y_norm.weight"),
    ("head_table", "scale_shift_table", "final_layer.scale_shift_table"),
    ("head", "proj_out", "final_layer.linear"),
)
_LAYER = (
    ("table", "scale_shift_table", "scale_shift_table"),
    ("self_attention.qkv", "attn1.to_q attn1.to_k attn1.to_v", "attn.qkv"),
    ("self_attention.norm_q", "attn1.norm_q.weight", "attn.q_norm.weight"),
    ("self_attention.norm_k", "attn1.norm_k.weight", "attn.k_norm.weight"),
    ("self_attention.out", "attn1.to_out.0", "attn.proj"),
    ("cross_attention.q", "attn2.to_q", "cross_attn.q_linear"),
    ("cross_attention.kv", "attn2.to_k attn2.to_v", "cross_attn.kv_linear"),
    ("cross_attention.norm_q", "attn2.norm_q.weight", "cross_attn.q_norm.weight"),
    ("cross_attention.norm_k", "attn2.norm_k.weight", "cross_attn.k_norm.weight"),
    ("cross_attention.out", "attn2.to_out.0", "cross_attn.proj"),
    ("ffn_norm_weight", "norm2.weight", "norm2.weight"),
    ("ffn_norm_bias", "norm2.bias", "norm2.bias"),
    ("feed_forward.up", "ff.conv_inverted", "mlp.inverted_conv.conv"),
    ("feed_forward.depthwise", "ff.conv_depth", "mlp.depth_conv.conv"),
    ("feed_forward.down", "ff.conv_point", "mlp.point_conv.conv"),
    ("feed_forward.temporal", "ff.conv_temp", "mlp.t_conv"),
)
_LAYERS = {"diffusers": "transformer_blocks", "original": "blocks"}
_COLUMN = {"diffusers": 1, "original": 2}
_ONES = {
    "feed_forward.up.weight": 2,
    "feed_forward.down.weight": 2,
    "feed_forward.temporal.weight": 1,
}
"""Convolution axes of size 1 that a public file has and we do not."""
_IN_LAYER = re.compile(r"blocks\.(\d+)\.(.+)")


@dataclass(frozen=True, slots=True)
class Stored:
    """How a public checkpoint holds one of our tensors."""

    names: tuple[str, ...]
    """Its names there; the rows of several follow each other in ours."""
    shape: tuple[int, ...]
    """Shape of each."""
    own: tuple[int, ...]
    """Our shape of them together."""


KeyMap = Mapping[str, Stored]
"""Every tensor of ours and where it lies."""


def key_map(
    config: TransformerConfig, shapes: Mapping[str, tuple[int, ...]], layout: Layout
) -> KeyMap:
    """Where a public checkpoint has each tensor of a transformer.

    Args:
        config: Shape of the transformer.
        shapes: Its own names and shapes.
        layout: Which public names.
    """
    return {name: _stored(config, name, shape, layout) for name, shape in shapes.items()}


def public_shapes(keys: KeyMap) -> dict[str, tuple[int, ...]]:
    """Every tensor of the public checkpoint and its shape."""
    return {name: stored.shape for stored in keys.values() for name in stored.names}


def from_public(keys: KeyMap, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Our tensors from those of a public checkpoint, which are all there and fit."""
    return {ours: joined(stored, (tensors[name] for name in stored.names))
            for ours, stored in keys.items()}  # fmt: skip


def to_public(keys: KeyMap, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The public checkpoint's tensors from ours."""
    public: dict[str, Tensor] = {}
    for ours, stored in keys.items():
        parts = tensors[ours].chunk(len(stored.names))
        public |= {
            name: part.reshape(stored.shape) for name, part in zip(stored.names, parts, strict=True)
        }
    return public


def joined(stored: Stored, parts: Iterable[Tensor]) -> Tensor:
    """One of our tensors from its parts in order."""
    rows = list(parts)
    return (rows[0] if len(rows) == 1 else torch.cat(rows)).reshape(stored.own)


def _stored(config: TransformerConfig, name: str, shape: tuple[int, ...], layout: Layout) -> Stored:
    found = _IN_LAYER.fullmatch(name)
    inner, prefix = (found[2], f"{_LAYERS[layout]}.{found[1]}.") if found else (name, "")
    names = _public_names(inner, _LAYER if found else _OUTSIDE, layout)
    if config.guidance_embedding:
        names = tuple(n.replace("time_embed.emb.", "time_embed.") for n in names)
    tail = shape[1:] + (1,) * _ONES.get(inner, 0)
    if name == "embed.weight":
        tail = (config.latent_channels, *config.patch)
    return Stored(tuple(prefix + n for n in names), (shape[0] // len(names), *tail), shape)


def _public_names(
    inner: str, table: tuple[tuple[str, str, str], ...], layout: Layout
) -> tuple[str, ...]:
    for row in table:
        names = row[_COLUMN[layout]].split()
        if inner == row[0]:
            return tuple(names)
        if inner in {f"{row[0]}.weight", f"{row[0]}.bias"}:
            return tuple(n + inner.removeprefix(row[0]) for n in names)
    msg = f"no public name for {inner}"
    raise AssertionError(msg)
