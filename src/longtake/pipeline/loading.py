"""A model's files become a pipeline."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

import torch
from torch import nn

from longtake.checkpoints import content_hash, load_tensors, read_json
from longtake.config import Grain, LoraUse, ModelConfig, from_dict
from longtake.errors import CannotHere, SettingError
from longtake.model import Transformer
from longtake.pipeline.loras import hash_with, lay, refuse_loras
from longtake.pipeline.path import Parts, Pipeline
from longtake.pipeline.precision import Arithmetic, Precision, arithmetic_for
from longtake.pipeline.quantized import fill_quantized, stored_format
from longtake.presets import MODEL_FILE, PARTS, Preset, find
from longtake.quantize import Format, choose_way, guard, low_layers, quantize
from longtake.rollout.heap import share_heap
from longtake.text import TextEncoder, Tokenizer
from longtake.vae import Autoencoder
from longtake.vae.grain import sum_of_grains

Device = Literal["auto", "cpu", "cuda"]


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
    share_heap()
    preset = find(name)
    target = device_of(device)
    arithmetic = arithmetic_of(precision, stored_format(preset.folder), name, target)
    config = from_dict(ModelConfig, read_json(preset.folder / MODEL_FILE))
    parts = build(config)
    text, denoiser, autoencoder = parts
    _fill(text, preset, PARTS[0])
    _fill(autoencoder, preset, PARTS[2])
    used, grain = _fill_denoiser(denoiser, preset, arithmetic, target, loras)
    for part in parts:
        part.to(target, arithmetic.dtype).eval().requires_grad_(False)
    ready(denoiser, arithmetic, target)
    note = arithmetic.note(target)
    return Pipeline(
        name=preset.name,
        model_hash=hash_with(content_hash(preset.folder), used),
        config=replace(config, grain=sum_of_grains([(1.0, config.grain), (1.0, grain)])),
        parts=parts,
        precision=arithmetic.name,
        notes=(note,) if note else (),
        loras=used,
    )


def arithmetic_of(
    asked: Precision, stored: Format | None, name: str, device: torch.device
) -> Arithmetic:
    """The arithmetic of a model whose weights may be stored in few bits.

    Args:
        asked: By the user.
        stored: Format of the model's files.
        name: Of the model, for messages.
        device: Where it runs.

    Raises:
        SettingError: another format than the one the weights are stored in.
        CannotHere: a device that has not got it.
    """
    if stored and asked not in ("auto", stored):
        msg = f"the weights of {name} are stored in {stored}, got --precision {asked}; leave it out"
        raise SettingError(msg)
    return arithmetic_for(stored or asked, device)


def ready(denoiser: Transformer, arithmetic: Arithmetic, device: torch.device) -> None:
    """Choose how low-bit layers multiply, and watch over arithmetic of a narrow range."""
    if arithmetic.how is not None:
        choose_way(denoiser, arithmetic.way(device))
    if arithmetic.how is not None or arithmetic.dtype == torch.float16:
        guard(denoiser.blocks, denoiser.head, arithmetic.name)


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


def _fill_denoiser(
    denoiser: Transformer,
    preset: Preset,
    arithmetic: Arithmetic,
    device: torch.device,
    loras: Sequence[LoraUse],
) -> tuple[tuple[LoraUse, ...], Grain]:
    """Fill the denoiser and lay LoRAs over it; returns them with checksums, and their grain."""
    _, name, _ = PARTS
    if stored_format(preset.folder):
        refuse_loras(loras, preset.name)
        weights = preset.folder / f"{name}.safetensors"
        config = preset.folder / MODEL_FILE
        fill_quantized(denoiser, weights, config, arithmetic.dtype, device)
        return (), Grain()
    _fill(denoiser, preset, name)
    # Before the weights are rounded to the precision they run in.
    laid = lay(denoiser, loras, content_hash(preset.folder))
    if arithmetic.how is not None:
        quantize(denoiser, arithmetic.how, low_layers(denoiser, arithmetic.how), device)
    return laid
