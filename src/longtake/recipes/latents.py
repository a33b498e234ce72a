"""A clip becomes what fine-tuning reads: latents and the embeddings of its captions."""

from dataclasses import asdict

import torch
from jaxtyping import Float, UInt8
from safetensors.torch import save
from torch import Tensor

from longtake.config import Grain
from longtake.data.shards import ShardWriter
from longtake.pipeline import Pipeline
from longtake.rollout.pixels import to_bytes
from longtake.text.tokenizer import PAD
from longtake.train.data import to_signed
from longtake.vae.grain import measure_grain

GRAIN_FRAMES = 3
"""Latent frames of a clip by which its grain is measured."""


def add_latents(
    writer: ShardWriter,
    key: str,
    pipe: Pipeline,
    frames: UInt8[Tensor, "frames height width 3"],
    captions: list[str],
    *,
    source: str,
) -> None:
    """Encode a clip and add it to shards of latents.

    Args:
        writer: Of the shards.
        key: The clip's own name.
        pipe: The model whose autoencoder and text encoder are used.
        frames: As many as the autoencoder packs whole.
        captions: Each says what the clip shows.
        source: Where it is from; clips of one source are held out together.
    """
    latents = encode_frames(pipe, frames)
    grain = grain_of(pipe, frames, latents)
    text, mask = encode_captions(pipe, captions)
    encoded = {"latents": latents, "text": text, "mask": mask}
    tensors = {name: part.cpu().contiguous() for name, part in encoded.items()}
    told = {
        "source": source,
        "shape": list(latents.shape),
        "captions": captions,
        "width": frames.shape[2],
        "height": frames.shape[1],
        "frames": len(frames),
        "grain": asdict(grain),
    }
    writer.add(key, {"safetensors": save(tensors)}, told)


@torch.no_grad()
def encode_frames(
    pipe: Pipeline, frames: UInt8[Tensor, "frames height width 3"]
) -> Float[Tensor, "c t h w"]:
    """Latents of a clip, in bf16."""
    dtype = pipe.autoencoder.latent_mean.dtype
    signed = to_signed(frames[None].to(pipe.device)).to(dtype)
    return pipe.autoencoder.encode(signed)[0].to(torch.bfloat16)


@torch.no_grad()
def grain_of(
    pipe: Pipeline,
    frames: UInt8[Tensor, "frames height width 3"],
    latents: Float[Tensor, "c t h w"],
) -> Grain:
    """Grain that a clip loses on its way through the autoencoder, by its beginning."""
    few = latents[None, :, :GRAIN_FRAMES].to(pipe.autoencoder.latent_mean)
    kept = to_bytes(pipe.autoencoder.decode(few)[0])
    return measure_grain(frames[: len(kept)].to(kept.device), kept)


@torch.no_grad()
def encode_captions(
    pipe: Pipeline, captions: list[str]
) -> tuple[Float[Tensor, "wordings m e"], Tensor]:
    """Embeddings of each wording and their masks, padded to the longest prompt."""
    length = pipe.tokenizer.max_tokens
    rows = []
    for caption in captions:
        tokens = pipe.tokenizer.read(caption).tokens
        rows.append(tokens + (PAD,) * (length - len(tokens)))
    text, mask = pipe.text(torch.tensor(rows, device=pipe.device))
    return text.to(torch.bfloat16), mask
