"""Clips to latents and text embeddings, once; training then needs no autoencoder and no reader."""

import json
import logging
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Float, UInt8
from safetensors.torch import save
from torch import Tensor

from longtake.config import TEMPORAL_STRIDE
from longtake.data.shards import Drop, Sample, Shards, ShardWriter, read_shards
from longtake.errors import LongtakeError, MediaError, SettingError
from longtake.media.video import read_video
from longtake.pipeline import Pipeline
from longtake.text.tokenizer import PAD
from longtake.train.data import to_signed

logger = logging.getLogger("longtake.train")


@dataclass(frozen=True, slots=True)
class Done:
    """A clip has been gone through."""

    number: int
    total: int


def precompute(clips: Shards, out: Path, pipe: Pipeline) -> Iterator[Done]:
    """Encode every clip; a run that was killed goes on after its last whole shard.

    Args:
        clips: What `longtake data prepare` left.
        out: Folder of the latents.
        pipe: The model whose autoencoder and text encoder are used.

    Raises:
        MediaError: the shards are no clips.
        OutputError: the folder holds latents of another model or other clips.
    """
    if clips.kind != "clips":
        msg = f"{clips.folder} holds {clips.kind} and not clips; name what data prepare made"
        raise MediaError(msg)
    settings = {"model": pipe.model_hash, "precision": pipe.precision, "clips": clips.digest}
    with ShardWriter(out, "latents", settings) as writer:
        for number, sample in enumerate(clips.samples, start=1):
            if sample.key not in writer.sources:
                _one(clips, sample, pipe, writer)
                writer.finish(sample.key)
            yield Done(number, len(clips.samples))


def latents_for(data: Path, out: Path, pipe: Pipeline) -> Iterator[Done | Shards]:
    """The latents of a folder, which are there already or are made in `out`; they come last.

    Raises:
        SettingError: latents of another model.
    """
    shards = read_shards(data)
    if shards.kind == "clips":
        yield from precompute(shards, out, pipe)
        shards = read_shards(out)
    if shards.settings.get("model") != pipe.model_hash:
        msg = f"{data} holds latents of another model; make them anew with longtake precompute"
        raise SettingError(msg)
    yield shards


def _one(clips: Shards, sample: Sample, pipe: Pipeline, writer: ShardWriter) -> None:
    try:
        parts = clips.read(sample)
        frames = frames_in(parts["mp4"])
        captions = json.loads(parts["json"])["captions"]
    except (LongtakeError, KeyError, ValueError) as error:
        logger.warning("left out the clip %s: %s", sample.key, error)
        writer.drop(Drop(source=sample.key, reason="unreadable", detail=str(error)))
        return
    latents = encode_frames(pipe, frames)
    text, mask = encode_captions(pipe, captions)
    encoded = {"latents": latents, "text": text, "mask": mask}
    tensors = {name: part.cpu().contiguous() for name, part in encoded.items()}
    told = {
        "source": sample.told["source"],
        "shape": list(latents.shape),
        "captions": captions,
        "width": frames.shape[2],
        "height": frames.shape[1],
        "frames": len(frames),
    }
    writer.add(sample.key, {"safetensors": save(tensors)}, told)


def frames_in(raw: bytes) -> UInt8[Tensor, "frames height width 3"]:
    """Frames of an mp4 that lies in memory; as many as the autoencoder packs whole."""
    with tempfile.NamedTemporaryFile(prefix="longtake-", suffix=".mp4") as file:
        file.write(raw)
        file.flush()
        frames, _ = read_video(Path(file.name))
    whole = 1 + (len(frames) - 1) // TEMPORAL_STRIDE * TEMPORAL_STRIDE
    return frames[:whole]


@torch.no_grad()
def encode_frames(
    pipe: Pipeline, frames: UInt8[Tensor, "frames height width 3"]
) -> Float[Tensor, "c t h w"]:
    """Latents of a clip, in bf16."""
    dtype = pipe.autoencoder.latent_mean.dtype
    signed = to_signed(frames[None].to(pipe.device)).to(dtype)
    return pipe.autoencoder.encode(signed)[0].to(torch.bfloat16)


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
