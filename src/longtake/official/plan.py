"""What a film will take on this machine, and the way of offloading that fits."""

import math
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import get_args

import torch
from torch import nn

from longtake.checkpoints import read_json
from longtake.checkpoints.header import read_header
from longtake.errors import CannotHere
from longtake.kernels.planned import card_bytes, planned_on
from longtake.official.folder import PublicModel
from longtake.official.longsana import LEVELS, chunks_of
from longtake.official.parts import autoencoder_of, empty_vae, quiet
from longtake.official.pipeline import ENCODER_PARTS, Offload, decode_dtype, streams
from longtake.official.settings import OfficialConfig
from longtake.official.source import weight_files
from longtake.parallel import ONE, Roles, part_of
from longtake.pipeline.precision import Arithmetic
from longtake.planner import (
    META,
    Weights,
    forward_peak,
    forward_seconds,
    host_rate,
    live_peak,
    room_of,
    traffic_of,
    weight_bytes,
)
from longtake.text.gemma import MAX_TOKENS
from longtake.vae.tiling import Tiling

TEXT_TOKENS = 700
"""Of instruction and prompt together, about."""
DECODE_FORWARDS = {"AutoencoderKLWan": (4.0, 4.0), "AutoencoderKLLTX2Video": (2.8, 4.5)}
"""Time of a decode in forwards of the denoiser at the same size, with memory and short of it, as
measured on an H200."""
HOST_WORK = 2 * 2**30
"""Bytes of the libraries and of buffers on the host."""
BYTES_PER_PIXEL = 0.02
"""Of an mp4, about."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Peaks:
    """Most memory of the device, stage by stage, in bytes."""

    text: int
    denoise: int
    decode: int

    @property
    def most(self) -> int:
        """The largest."""
        return max(self.text, self.denoise, self.decode)


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What a film will take."""

    offload: Offload
    """The first way that fits."""
    device_bytes: int
    """Most memory of the device."""
    host_bytes: int
    """Most memory of the host."""
    disk_bytes: int
    """Of the finished film, about."""
    seconds: float | None
    """Of making it, loading not counted; None if nothing was run to tell."""
    peaks: dict[str, Peaks]
    """Memory of the device for each way of offloading."""
    roles: str
    """What each of several devices does."""
    traffic_bytes: int
    """What a device hands to the others in one step of the sampler, at most."""


def predict(
    model: PublicModel,
    settings: OfficialConfig,
    arithmetic: Arithmetic,
    device: torch.device,
    *,
    offload: Offload | None = None,
    memory_bytes: int,
    calibrate: bool = True,
    roles: Roles = ONE,
) -> Plan:
    """What a film will take, with the way of offloading asked for or the first that fits.

    Args:
        model: The model.
        settings: The film.
        arithmetic: What it computes in.
        device: Where it runs.
        offload: A way; None picks.
        memory_bytes: What the device has free.
        calibrate: Run one layer for a moment to tell the time.
        roles: What each of several devices does; the first is told of, which has most to do.

    Raises:
        CannotHere: it does not fit, with the nearest size that does.
    """
    ways = (offload,) if offload else get_args(Offload)
    weights = Weights(
        dtype=arithmetic.dtype,
        how=arithmetic.how,
        way=arithmetic.way(device),
        card_bytes=card_bytes(device),
    )
    text = text_shape(model)
    peaks = peaks_of(model, settings, weights, text, *get_args(Offload), roles=roles)
    chosen = next((way for way in ways if peaks[way].most <= memory_bytes), None)
    if chosen is None:
        raise CannotHere(_nearest(model, settings, weights, text, ways[-1], memory_bytes))
    seconds = None
    if calibrate:
        seconds = _seconds(model, settings, weights, device, roles, chosen)
    # In full: they are put into few bits on the host.
    whole, _ = weight_bytes(model.transformer, Weights(dtype=arithmetic.dtype))
    return Plan(
        offload=chosen,
        device_bytes=peaks[chosen].most,
        host_bytes=max(text.values * arithmetic.dtype.itemsize, whole) + HOST_WORK,
        disk_bytes=round(settings.frames * settings.width * settings.height * BYTES_PER_PIXEL),
        seconds=seconds,
        peaks={str(way): each for way, each in peaks.items()},
        roles=str(roles),
        traffic_bytes=_traffic(model, settings, arithmetic.dtype, roles),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class TextShape:
    """What a text encoder's memory follows from."""

    values: int
    """Of its weights."""
    width: int
    """Channels of a token."""
    inner: int
    """Channels inside its feed-forward layers."""
    heads: int
    """Of its attention."""


def _seconds(
    model: PublicModel,
    settings: OfficialConfig,
    weights: Weights,
    device: torch.device,
    roles: Roles,
    offload: Offload,
) -> float:
    """Of making a film, loading and what is said between devices not counted."""
    own, whole = _grid(model, settings, roles), _grid(model, settings)
    one = forward_seconds(model.transformer, own, MAX_TOKENS, weights, device)
    # Of LongSANA every chunk goes through once more, to be committed.
    passes = len(LEVELS) + 1 if model.causal else settings.steps * (1 + (settings.guidance > 1))
    denoise = one * passes / roles.sides
    decode = one * whole[0] / own[0] * DECODE_FORWARDS[model.vae.name][offload != "none"]
    if offload != "none" and not streams(model, offload):
        # It waits on the host until its turn.
        vae, low = empty_vae(model), _decode_dtype(model, weights)
        decode += _decoder_bytes(vae, low) / host_rate(device)
    return max(denoise, decode) if roles.decodes else denoise + decode


def _traffic(model: PublicModel, settings: OfficialConfig, dtype: torch.dtype, roles: Roles) -> int:
    """Bytes a device hands on in one step: of the layers, and its pass of guidance."""
    config, grid = model.transformer, _grid(model, settings, roles)
    layer = traffic_of(config, grid[1:], dtype, shards=roles.shards, causal=model.causal)
    passes = 2 if settings.guidance > 1 and roles.sides == 1 else 1
    velocity = config.latent_channels * math.prod(grid) * 4 if roles.sides == 2 else 0
    return passes * config.depth * (layer.sums + layer.frames) + velocity


def peaks_of(
    model: PublicModel,
    settings: OfficialConfig,
    weights: Weights,
    text: TextShape,
    *ways: Offload,
    roles: Roles = ONE,
) -> dict[Offload, Peaks]:
    """Memory of the device in each stage, for each way of offloading."""
    dtype = weights.dtype
    whole, layer = weight_bytes(model.transformer, weights)
    rest = whole - model.transformer.depth * layer
    forward = forward_peak(model.transformer, _pass(model, settings, roles), MAX_TOKENS, weights)
    state = 2 * _state_bytes(model, settings, dtype) if model.causal else 0
    encoder = text.values * dtype.itemsize
    reading = encoder + _text_work(text, dtype) + room_of(weights)
    peaks: dict[Offload, Peaks] = {}
    for way in ways:
        decode = decode_bytes(model, settings, weights, tiled=way != "none")
        match way:
            case "none":
                stays, runs = encoder + whole, encoder + whole
            case "text":
                stays, runs = 0, whole
            case "block":
                stays, runs = rest, rest + 2 * layer
            case _:
                msg = f"unknown way of offloading {way}"
                raise AssertionError(msg)
        stays = 0 if roles.decodes else stays
        # Decoded between the chunks: the denoiser stays, and what it works in is free meanwhile.
        between = state + decode if streams(model, way) and not roles.decodes else 0
        work = max(forward + state, between)
        peaks[way] = Peaks(text=reading, denoise=runs + work, decode=stays + decode)
    return peaks


def text_shape(model: PublicModel) -> TextShape:
    """The text encoder of a folder, by its config and the headers of its weights."""
    config = read_json(model.folder / "text_encoder" / "config.json")
    width, inner, heads = (
        int(config.get(key) or 0)
        for key in ("hidden_size", "intermediate_size", "num_attention_heads")
    )
    files = [f for f in weight_files(model.folder) if f.parent.name == "text_encoder"]
    return TextShape(values=_values_in(files), width=width, inner=inner, heads=heads)


def _text_work(text: TextShape, dtype: torch.dtype) -> int:
    """Bytes the text encoder needs beside its weights: a layer's values and its scores, twice."""
    values = TEXT_TOKENS * (8 * text.width + 3 * text.inner) * dtype.itemsize
    return values + 2 * text.heads * TEXT_TOKENS**2 * 4


def _pass(model: PublicModel, settings: OfficialConfig, roles: Roles) -> tuple[int, int, int]:
    """What goes through a denoiser at once: its part of all, or of LongSANA's longest chunk."""
    own, height, width = _grid(model, settings, roles)
    if not model.causal:
        return own, height, width
    longest = max(chunks_of(model.latent_frames(settings.frames)))
    return len(part_of(longest, 0, roles.shards)), height, width


def _state_bytes(model: PublicModel, settings: OfficialConfig, dtype: torch.dtype) -> int:
    """Bytes of what LongSANA carries from chunk to chunk: sums in fp32, and a latent frame."""
    config = model.transformer
    _, height, width = _grid(model, settings)
    head = config.width // config.heads
    sums = 4 * config.heads * head * (head + 1)
    cells = height * width // math.prod(config.patch)
    return config.depth * (sums + cells * config.width * dtype.itemsize)


@lru_cache(maxsize=128)
def decode_bytes(
    model: PublicModel, settings: OfficialConfig, held: Weights, *, tiled: bool
) -> int:
    """Bytes of the decoder's weights and of its work."""
    vae, low = empty_vae(model), _decode_dtype(model, held)
    weights = _decoder_bytes(vae, low)
    with quiet():
        autoencoder = autoencoder_of(model, vae.to(low), Tiling() if tiled else None)
    channels, stride = model.vae.channels, model.vae.spatial_stride
    frames = model.latent_frames(settings.frames)
    # A cached decoder needs no more from its third latent frame on.
    frames = min(frames, 4) if model.vae.name == "AutoencoderKLWan" else frames
    sides = (settings.height // stride, settings.width // stride)
    latents = torch.empty(1, channels, frames, *sides, device=META)
    with planned_on(held.card_bytes), live_peak() as peak:
        for _ in autoencoder.decode_stream(latents, low, META):
            pass
    return weights + peak.bytes + room_of(held)


def _decode_dtype(model: PublicModel, held: Weights) -> torch.dtype:
    return decode_dtype(model, held.dtype, card=held.card_bytes > 0)


def _decoder_bytes(vae: nn.Module, dtype: torch.dtype) -> int:
    """Of the weights that decode."""
    parts = (part for name, part in vae.named_children() if name not in ENCODER_PARTS)
    return sum(w.numel() for part in parts for w in part.parameters()) * dtype.itemsize


def _grid(model: PublicModel, settings: OfficialConfig, roles: Roles = ONE) -> tuple[int, int, int]:
    """Latent frames of the device that has most of them, and the sides of one."""
    stride = model.vae.spatial_stride
    frames = len(part_of(model.latent_frames(settings.frames), 0, roles.shards))
    return frames, settings.height // stride, settings.width // stride


def _nearest(
    model: PublicModel,
    settings: OfficialConfig,
    weights: Weights,
    text: TextShape,
    offload: Offload,
    memory_bytes: int,
) -> str:
    """What to say when a film does not fit: the largest of its shape that does."""
    needed = peaks_of(model, settings, weights, text, offload)[offload].most
    told = (
        f"{settings.width}x{settings.height}x{settings.frames} needs "
        f"{needed / 2**30:.1f} GiB with --offload {offload}; {memory_bytes / 2**30:.1f} are free"
    )
    rows, columns = model.cell
    for eighths in range(7, 0, -1):
        scale = math.sqrt(eighths / 8)
        width = max(round(settings.width * scale / columns), 2) * columns
        height = max(round(settings.height * scale / rows), 2) * rows
        smaller = OfficialConfig(width=width, height=height, frames=settings.frames)
        if peaks_of(model, smaller, weights, text, offload)[offload].most <= memory_bytes:
            return f"{told}; --size {width}x{height} would fit"
    return f"{told}; not even an eighth of its size would fit"


def _values_in(files: list[Path]) -> int:
    return sum(
        math.prod(entry.shape) for file in files for entry in read_header(file).tensors.values()
    )
