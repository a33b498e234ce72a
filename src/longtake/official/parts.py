"""The public VAE and text encoder, built by the libraries that have them, filled by us."""

import importlib
import inspect
import json
import logging
import sys
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from longtake.checkpoints import open_tensors, read_json
from longtake.errors import CannotHere, SettingError, WeightsError
from longtake.official.folder import PublicModel
from longtake.official.transformer import CONFIG, WEIGHTS
from longtake.text.gemma import Instruction, PublicEncoder, PublicTokenizer
from longtake.vae.public import PublicAutoencoder, StreamingWan
from longtake.vae.tiling import Tiling

if TYPE_CHECKING:
    from types import ModuleType

_NOTES = ("_class_name", "_diffusers_version", "_name_or_path")


def load_autoencoder(
    model: PublicModel, dtype: torch.dtype, device: torch.device, tiling: Tiling | None
) -> PublicAutoencoder:
    """The VAE of a public model, wrapped for streaming or tiles.

    Raises:
        CannotHere: diffusers is not installed.
        WeightsError: damaged weights, or not this VAE's.
        SettingError: an unknown key in the config.
    """
    vae = empty_vae(model)
    _fill(vae, model.folder / "vae" / WEIGHTS, dtype, device)
    return autoencoder_of(model, vae, tiling)


def empty_vae(model: PublicModel) -> Any:  # noqa: ANN401 - a class of the library
    """The VAE without memory for its weights.

    Raises:
        CannotHere: diffusers is not installed.
        SettingError: an unknown key in the config.
    """
    diffusers = library("diffusers")
    path = model.folder / "vae" / CONFIG
    wan = model.vae.name == "AutoencoderKLWan"
    cls = diffusers.AutoencoderKLWan if wan else diffusers.AutoencoderKLLTX2Video
    return _built(cls, read_json(path), path)


def autoencoder_of(
    model: PublicModel,
    vae: Any,  # noqa: ANN401
    tiling: Tiling | None,
) -> PublicAutoencoder:
    """A ready VAE, wrapped as its kind can be streamed."""
    strides = (model.vae.temporal_stride, model.vae.spatial_stride)
    return autoencoder_with(vae, strides, tiling)


def autoencoder_with(
    vae: Any,  # noqa: ANN401
    strides: tuple[int, int],
    tiling: Tiling | None,
) -> PublicAutoencoder:
    """A ready VAE of either class, wrapped.

    Args:
        vae: Wan's has a cache, LTX-2's has none.
        strides: Frames of a latent frame, pixels of a latent cell.
        tiling: How to save memory; None decodes fast.
    """
    if type(vae).__name__ == "AutoencoderKLWan":
        mean, std = vae.config.latents_mean, vae.config.latents_std
        return StreamingWan(vae, mean, std, strides, tiling=tiling)
    mean, std = vae.latents_mean, vae.latents_std
    return PublicAutoencoder(vae, mean, std, strides, tiling=tiling)


def load_text_encoder(
    folder: Path, dtype: torch.dtype, device: torch.device
) -> tuple[PublicTokenizer, PublicEncoder]:
    """Gemma-2 and its tokenizer from a public model's folder.

    Raises:
        CannotHere: transformers is not installed.
        WeightsError: damaged weights, or not this encoder's.
    """
    transformers = library("transformers")
    weights = folder / "text_encoder"
    config = transformers.Gemma2Config(**read_json(weights / CONFIG))
    with torch.device("meta"):
        shapes = {
            k: tuple(v.shape) for k, v in transformers.Gemma2Model(config).state_dict().items()
        }
    with open_tensors(weights / "model.safetensors", shapes) as read:
        for name in shapes:
            read(name)
    with quiet():
        # Not AutoModel: what runs is chosen here, not by the folder.
        encoder = transformers.Gemma2Model.from_pretrained(
            weights,
            dtype=dtype,
            attn_implementation="eager",
            local_files_only=True,
            use_safetensors=True,
        )
    tokenizer = _load_tokenizer(transformers, folder / "tokenizer")
    if len(tokenizer) > config.vocab_size:
        msg = (
            f"{folder}: the tokenizer has {len(tokenizer):,} tokens, the text encoder knows "
            f"{config.vocab_size:,}; they belong to different models"
        )
        raise WeightsError(msg)
    return tokenizer, encoder.to(device).eval().requires_grad_(False)


def _load_tokenizer(transformers: "ModuleType", folder: Path) -> Any:  # noqa: ANN401
    path = folder / "tokenizer.json"
    try:
        # Without this file the library makes an empty tokenizer and says nothing.
        if "vocab" not in json.loads(path.read_text("utf-8"))["model"]:
            msg = "it has no vocabulary"
            raise ValueError(msg)
        with quiet():
            return transformers.GemmaTokenizer.from_pretrained(folder, local_files_only=True)
    except OSError as error:
        msg = f"cannot read {path}: {error.strerror or error}; get it again"
        raise WeightsError(msg) from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        msg = f"{path} is damaged: {str(error)[:120]}; get it again"
        raise WeightsError(msg) from error


def instruction_text(wording: Instruction) -> str:
    """The instruction put before a prompt, as diffusers has it.

    Raises:
        CannotHere: diffusers is not installed.
    """
    if wording == "none":
        return ""
    diffusers = library("diffusers")
    with quiet():
        cls = diffusers.SanaVideoPipeline if wording == "video" else diffusers.SanaPipeline
    lines = inspect.signature(cls.__call__).parameters["complex_human_instruction"].default
    return "\n".join(lines)


@contextmanager
def quiet() -> Iterator[None]:
    """Keep the libraries' own progress bars and warnings off the terminal."""
    if "transformers" in sys.modules:
        library("transformers").utils.logging.disable_progress_bar()
    loggers = [logging.getLogger(name) for name in ("transformers", "diffusers")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def library(name: str) -> "ModuleType":
    """One of the libraries of the extra `official`; imported late, for they take seconds.

    Raises:
        CannotHere: it is not installed.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return importlib.import_module(name)
    except ImportError as error:
        msg = f"public models need {name}: pip install 'longtake[official]'"
        raise CannotHere(msg) from error


def _built(cls: Any, config: Mapping[str, Any], path: Path) -> Any:  # noqa: ANN401
    """An empty network of a class we chose, from settings that it knows."""
    known = inspect.signature(cls.__init__).parameters
    settings = {key: value for key, value in config.items() if key not in _NOTES}
    unknown = [key for key in settings if key not in known]
    if unknown:
        msg = f"{path}: unknown setting {unknown[0]!r} of {cls.__name__}; get it again"
        raise SettingError(msg)
    try:
        with torch.device("meta"):
            return cls(**settings).eval().requires_grad_(False)
    except (TypeError, ValueError, RuntimeError, IndexError, KeyError) as error:
        msg = f"{path} describes no possible {cls.__name__}: {str(error).splitlines()[0][:120]}"
        raise WeightsError(msg) from error


def _fill(module: nn.Module, path: Path, dtype: torch.dtype, device: torch.device) -> None:
    shapes = {name: tuple(value.shape) for name, value in module.state_dict().items()}
    with open_tensors(path, shapes) as read:
        for name in shapes:
            tensor = read(name).to(device, dtype, copy=True)
            module.load_state_dict({name: tensor}, strict=False, assign=True)
    empty = [name for name, value in module.named_buffers() if value.is_meta]
    assert not empty, f"{type(module).__name__} keeps {empty} outside its weights"
