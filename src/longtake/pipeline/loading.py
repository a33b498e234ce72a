"""A model's files become a pipeline."""

from collections.abc import Sequence
from typing import Literal

import torch
from torch import nn

from longtake.checkpoints import content_hash, load_tensors, read_json
from longtake.config import LoraUse, ModelConfig, from_dict
from longtake.errors import CannotHere, SettingError
from longtake.model import Transformer
from longtake.pipeline.loras import hash_with, lay
from longtake.pipeline.path import Parts, Pipeline
from longtake.presets import MODEL_FILE, PARTS, Preset, find
from longtake.text import TextEncoder, Tokenizer
from longtake.vae import Autoencoder

Device = Literal["auto", "cpu", "cuda"]
Precision = Literal["auto", "fp32", "bf16", "fp16"]


def load(
    name: str = "previz",
    *,
    device: Device = "auto",
    precision: Precision = "auto",
    loras: Sequence[LoraUse] = (),
) -> Pipeline:
    """Load a model by preset name or folder.

    Args:
        name: A preset, or a folder with a model.json.
        device: `auto` takes CUDA if there is one.
        precision: `auto` takes bf16 where the processor has it.
        loras: What is laid over the weights, in order; the model hash then tells of them too.

    Raises:
        ModelError: no such model.
        WeightsError: damaged or foreign weights.
        CannotHere: no CUDA device although one was asked for.
    """
    preset = find(name)
    target = device_of(device)
    dtype = _dtype(precision, target)
    config = from_dict(ModelConfig, read_json(preset.folder / MODEL_FILE))
    parts = build(config)
    for part_name, part in zip(PARTS, parts, strict=True):
        _fill(part, preset, part_name)
    base = content_hash(preset.folder)
    # Before the weights are rounded to the precision they run in.
    used = lay(parts[1], loras, base)
    for part in parts:
        part.to(target, dtype).eval().requires_grad_(False)
    return Pipeline(
        name=preset.name,
        model_hash=hash_with(base, used),
        config=config,
        parts=parts,
        loras=used,
    )


def build(config: ModelConfig) -> Parts:
    """The three networks with fresh weights."""
    vocabulary = Tokenizer(config.words, config.text.max_tokens).size
    return (
        TextEncoder(config.text, vocabulary),
        Transformer(config.transformer),
        Autoencoder(config.autoencoder),
    )


def device_of(asked: Device) -> torch.device:
    """The device asked for; `auto` takes CUDA if there is one.

    Raises:
        CannotHere: no CUDA device although one was asked for.
    """
    if asked == "cuda" and not torch.cuda.is_available():
        msg = "no CUDA device here; use --device cpu"
        raise CannotHere(msg)
    if asked == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    return torch.device(asked)


def _fill(part: nn.Module, preset: Preset, name: str) -> None:
    expected = {key: tuple(value.shape) for key, value in part.state_dict().items()}
    part.load_state_dict(load_tensors(preset.folder / f"{name}.safetensors", expected))


def _dtype(asked: Precision, device: torch.device) -> torch.dtype:
    if asked == "fp16":
        msg = "fp16 is for public models; this one runs in fp32 or bf16"
        raise SettingError(msg)
    if asked == "auto":
        fast = device.type == "cuda" or torch.cpu._is_avx512_bf16_supported()
        return torch.bfloat16 if fast else torch.float32
    return torch.bfloat16 if asked == "bf16" else torch.float32
