"""Clips to latents and text embeddings, once; training then needs no autoencoder and no reader."""

import json
import logging
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from jaxtyping import UInt8
from torch import Tensor

from longtake.config import TEMPORAL_STRIDE
from longtake.data.shards import Drop, Sample, Shards, ShardWriter, read_shards
from longtake.errors import LongtakeError, MediaError, SettingError
from longtake.media.video import read_video
from longtake.pipeline import Pipeline
from longtake.recipes.latents import add_latents

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
    add_latents(writer, sample.key, pipe, frames, captions, source=sample.told["source"])


def frames_in(raw: bytes) -> UInt8[Tensor, "frames height width 3"]:
    """Frames of an mp4 that lies in memory; as many as the autoencoder packs whole."""
    with tempfile.NamedTemporaryFile(prefix="longtake-", suffix=".mp4") as file:
        file.write(raw)
        file.flush()
        frames, _ = read_video(Path(file.name))
    whole = 1 + (len(frames) - 1) // TEMPORAL_STRIDE * TEMPORAL_STRIDE
    return frames[:whole]
