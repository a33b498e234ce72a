"""Configs of public checkpoints: read strictly, nothing in them chooses code."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from longtake.config import TransformerConfig, from_dict
from longtake.errors import WeightsError

CAUSAL = "SanaVideoCausalTransformer3DModel"
"""Transformer class of LongSANA."""
CLASSES = ("SanaVideoTransformer3DModel", CAUSAL)
"""Transformer classes whose weights are ours by another name."""
_NOTES = ("_class_name", "_diffusers_version", "_name_or_path")
BINS_480, BINS_720 = 30, 22
"""What `sample_size` says for the two tables of sizes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PublicTransformer:
    """A `transformer/config.json`, key by key; what a file leaves out has these values."""

    in_channels: int = 16
    """Latent channels."""
    out_channels: int | None = 16
    """Channels returned; None: as many as read."""
    num_attention_heads: int = 20
    """Heads of the self-attention."""
    attention_head_dim: int = 112
    """Channels of one of them."""
    num_layers: int = 20
    """Layers."""
    num_cross_attention_heads: int | None = 20
    """Heads of the cross-attention."""
    cross_attention_head_dim: int | None = 112
    """Channels of one of them."""
    cross_attention_dim: int | None = 2240
    """Channels of the text inside; the width."""
    caption_channels: int = 2304
    """Channels of the text encoder."""
    mlp_ratio: float = 2.5
    """Hidden width of the Mix-FFN over the width; 3.0 in the published models."""
    dropout: float = 0.0
    """Of training; not looked at."""
    attention_bias: bool = False
    """Biases of the self-attention's queries, keys and values."""
    sample_size: int = 30
    """30 for the 480p sizes, 22 for 720p."""
    patch_size: tuple[int, ...] = (1, 2, 2)
    """Latent frames, rows and columns of a token."""
    norm_elementwise_affine: bool = False
    """The norm before the Mix-FFN has weight and bias."""
    norm_eps: float = 1e-6
    """Floor inside the layers' norms."""
    interpolation_scale: int | None = None
    """Not looked at."""
    guidance_embeds: bool = False
    """Reads the guidance scale."""
    guidance_embeds_scale: float = 0.1
    """Not looked at."""
    qk_norm: str | None = "rms_norm_across_heads"
    """Norm of queries and keys, or None."""
    rope_max_seq_len: int = 1024
    """Longest axis in tokens that the reference allows; not looked at."""


def read_transformer_config(data: Mapping[str, Any], where: str) -> TransformerConfig:
    """Our settings from a public `transformer/config.json`.

    Args:
        data: The file's content.
        where: The file, for messages.

    Raises:
        WeightsError: another class, or a variant that no weights were published for.
        SettingError: an unknown or mistyped key.
    """
    check_class(data, CLASSES, where)
    public = from_dict(PublicTransformer, {k: v for k, v in data.items() if k not in _NOTES})
    if public.qk_norm not in {None, "rms_norm_across_heads"}:
        msg = f"{where}: qk_norm is {public.qk_norm!r}; known are rms_norm_across_heads and null"
        raise WeightsError(msg)
    width = public.num_attention_heads * public.attention_head_dim
    if public.cross_attention_dim != width:
        msg = (
            f"{where}: cross_attention_dim must be the width {width}, "
            f"got {public.cross_attention_dim}"
        )
        raise WeightsError(msg)
    cross_heads = public.num_cross_attention_heads or public.num_attention_heads
    cross_size = public.cross_attention_head_dim or public.attention_head_dim
    return TransformerConfig(
        latent_channels=public.in_channels,
        out_channels=public.out_channels or 0,
        width=width,
        depth=public.num_layers,
        heads=public.num_attention_heads,
        ffn_ratio=public.mlp_ratio,
        text_width=public.caption_channels,
        rope_theta=10_000.0,
        patch=public.patch_size,
        cross_heads=cross_heads,
        cross_width=cross_heads * cross_size,
        qk_norm=public.qk_norm is not None,
        qkv_bias=public.attention_bias,
        ffn_norm_affine=public.norm_elementwise_affine,
        norm_eps=public.norm_eps,
        cross_norm_eps=1e-5,
        attention_eps=1e-15,
        guidance_embedding=public.guidance_embeds,
    )


def write_transformer_config(config: TransformerConfig) -> dict[str, Any]:
    """The public `transformer/config.json` of our settings, for diffusers' own loader.

    Raises:
        WeightsError: a model that the public class cannot express.
    """
    if config.attention != "linear" or config.rope_theta != 10_000.0:
        msg = (
            "the public class has linear attention and rope_theta 10000, "
            f"got {config.attention} and {config.rope_theta:g}"
        )
        raise WeightsError(msg)
    cross_heads = config.cross_heads or config.heads
    public = PublicTransformer(
        in_channels=config.latent_channels,
        out_channels=config.out_channels or config.latent_channels,
        num_attention_heads=config.heads,
        attention_head_dim=config.width // config.heads,
        num_layers=config.depth,
        num_cross_attention_heads=cross_heads,
        cross_attention_head_dim=(config.cross_width or config.width) // cross_heads,
        cross_attention_dim=config.width,
        caption_channels=config.text_width,
        mlp_ratio=config.ffn_ratio,
        attention_bias=config.qkv_bias,
        sample_size=BINS_480 if config.patch[1] == 2 else BINS_720,
        patch_size=config.patch,
        norm_elementwise_affine=config.ffn_norm_affine,
        norm_eps=config.norm_eps,
        guidance_embeds=config.guidance_embedding,
        qk_norm="rms_norm_across_heads" if config.qk_norm else None,
    )
    return {"_class_name": CLASSES[0], **asdict(public)}


def check_class(data: Mapping[str, Any], known: tuple[str, ...], where: str) -> str:
    """The class a config names, if it is one of those known; no name is ever imported.

    Raises:
        WeightsError: another class.
    """
    name = data.get("_class_name")
    if name not in known:
        msg = f"{where} names the class {str(name)[:80]!r}; known here: {', '.join(known)}"
        raise WeightsError(msg)
    return name
