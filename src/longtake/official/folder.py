"""A public model's folder: what it says it is, checked before any weights are read."""

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from longtake.checkpoints import read_json
from longtake.checkpoints.public_config import CAUSAL, check_class, read_transformer_config
from longtake.config import SamplerName, TransformerConfig
from longtake.errors import ModelError, SettingError, WeightsError
from longtake.presets import PUBLIC_FILE
from longtake.storage import output_errors

PARTS = ("transformer", "vae", "text_encoder", "tokenizer", "scheduler")
PIPELINES = (
    "SanaVideoPipeline",
    "SanaImageToVideoPipeline",
    "SanaVideoCausalPipeline",
    "LongSanaVideoPipeline",
)
VaeName = Literal["AutoencoderKLWan", "AutoencoderKLLTX2Video"]
_SCHEDULERS = ("DPMSolverMultistepScheduler", "FlowMatchEulerDiscreteScheduler")
_DPM = {
    "algorithm_type": "dpmsolver++",
    "prediction_type": "flow_prediction",
    "use_flow_sigmas": True,
    "solver_order": 2,
    "solver_type": "midpoint",
    "final_sigmas_type": "zero",
}
"""What the one published solver has; other values are other solvers."""
_ENCODERS = ("Gemma2Model", "Gemma2ForCausalLM")


@dataclass(frozen=True, slots=True, kw_only=True)
class Vae:
    """What a public VAE is, by its config."""

    name: VaeName
    """Its class in diffusers."""
    channels: int
    """Latent channels."""
    temporal_stride: int
    """Frames of a latent frame; frame 0 stands alone."""
    spatial_stride: int
    """Pixels of a latent cell along height and along width."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PublicModel:
    """A public model's folder whose parts fit each other."""

    folder: Path
    """Where it lies."""
    transformer: TransformerConfig
    """Shape of the denoiser."""
    vae: Vae
    """The VAE."""
    sampler: SamplerName
    """The solver it was published with."""
    flow_shift: float
    """The shift it was published with."""
    causal: bool = False
    """LongSANA: it goes on chunk by chunk, in four steps each and without guidance."""

    @property
    def cell(self) -> tuple[int, int]:
        """Pixels along height and width that one token covers: what divides a frame."""
        _, rows, columns = self.transformer.patch
        return rows * self.vae.spatial_stride, columns * self.vae.spatial_stride

    def latent_frames(self, frames: int) -> int:
        """Latent frames that hold this many frames."""
        return -(-(frames - 1) // self.vae.temporal_stride) + 1


def copy_parts(source: Path, out: Path) -> None:
    """Copy all but the transformer, so that a folder with one becomes a whole model.

    Args:
        source: A public model.
        out: A folder with a transformer for it.

    Raises:
        OutputError: it cannot be written.
        WeightsError: the parts do not fit the transformer.
    """
    with output_errors(out):
        for part in PARTS:
            if part != "transformer" and (source / part).is_dir():
                shutil.copytree(source / part, out / part)
        shutil.copyfile(source / PUBLIC_FILE, out / PUBLIC_FILE)
    read_model(out)


def read_model(folder: Path) -> PublicModel:
    """Read what a folder says of itself; no weights are opened.

    Raises:
        ModelError: no public model, or a part is missing.
        WeightsError: an unknown class, or parts that do not fit each other.
        SettingError: an unknown key.
    """
    index = folder / PUBLIC_FILE
    if not index.is_file():
        msg = f"{folder} is no public model: it has no {PUBLIC_FILE}; name the folder that has one"
        raise ModelError(msg)
    check_class(read_json(index), PIPELINES, str(index))
    missing = [part for part in PARTS if not (folder / part).is_dir()]
    if missing:
        msg = (
            f"{folder} lacks the folder {missing[0]}; get it again, with all of {', '.join(PARTS)}"
        )
        raise ModelError(msg)
    path = folder / "transformer" / "config.json"
    content = read_json(path)
    transformer = read_transformer_config(content, str(path))
    if transformer.guidance_embedding:
        msg = f"{path} has guidance_embeds, which no published model and no pipeline uses"
        raise WeightsError(msg)
    vae = _read_vae(folder / "vae" / "config.json")
    if vae.channels != transformer.latent_channels:
        msg = (
            f"{folder}: the transformer reads {transformer.latent_channels} latent channels and "
            f"the VAE {vae.name} makes {vae.channels}; they belong to different models"
        )
        raise WeightsError(msg)
    check_text_encoder(folder, transformer.text_width)
    sampler, shift = _read_scheduler(folder / "scheduler" / "scheduler_config.json")
    return PublicModel(
        folder=folder,
        transformer=transformer,
        vae=vae,
        sampler=sampler,
        flow_shift=shift,
        causal=content["_class_name"] == CAUSAL,
    )


def check_text_encoder(folder: Path, width: int) -> None:
    """Refuse a text encoder that is no Gemma-2 of the width the transformer reads.

    Raises:
        WeightsError: another class or width, or a config that wants code of its own.
    """
    path = folder / "text_encoder" / "config.json"
    data = read_json(path)
    for file in (path, folder / "tokenizer" / "tokenizer_config.json"):
        if "auto_map" in read_json(file):
            msg = f"{file} names code to import (auto_map); nothing a model brings is run"
            raise WeightsError(msg)
    classes = data.get("architectures") or list(_ENCODERS[:1])
    if data.get("model_type") != "gemma2" or not set(classes) <= set(_ENCODERS):
        msg = f"{path} is {data.get('model_type')!r} ({classes[0]!s}); known here: Gemma-2"
        raise WeightsError(msg)
    if data.get("hidden_size") != width:
        msg = f"{path}: hidden_size is {data.get('hidden_size')}, the transformer reads {width}"
        raise WeightsError(msg)


def _read_vae(path: Path) -> Vae:
    data = read_json(path)
    match check_class(data, ("AutoencoderKLWan", "AutoencoderKLLTX2Video"), str(path)):
        case "AutoencoderKLWan":
            if data.get("is_residual") or data.get("patch_size"):
                msg = f"{path} is a Wan 2.2 VAE; the public models have the one of Wan 2.1"
                raise WeightsError(msg)
            return Vae(
                name="AutoencoderKLWan",
                channels=_count(data, "z_dim", 16, path),
                temporal_stride=_count(data, "scale_factor_temporal", 4, path),
                spatial_stride=_count(data, "scale_factor_spatial", 8, path),
            )
        case _:
            return Vae(
                name="AutoencoderKLLTX2Video",
                channels=_count(data, "latent_channels", 128, path),
                temporal_stride=_count(data, "temporal_compression_ratio", None, path),
                spatial_stride=_count(data, "spatial_compression_ratio", None, path),
            )


def _read_scheduler(path: Path) -> tuple[SamplerName, float]:
    data = read_json(path)
    name = check_class(data, _SCHEDULERS, str(path))
    if name == "FlowMatchEulerDiscreteScheduler":
        return "euler", _shift(data, "shift", path)
    for key, wanted in _DPM.items():
        if data.get(key, wanted) != wanted:
            msg = f"{path}: {key} is {data[key]!r}; the published solver has {wanted!r}"
            raise WeightsError(msg)
    return "dpm", _shift(data, "flow_shift", path)


def _shift(data: Mapping[str, Any], key: str, path: Path) -> float:
    value = data.get(key, 1.0)
    if not isinstance(value, int | float) or not 0.1 <= value <= 100:
        msg = f"{path}: {key} must be 0.1 to 100, got {value!r}"
        raise SettingError(msg)
    return float(value)


def _count(data: Mapping[str, Any], key: str, default: int | None, path: Path) -> int:
    value = data.get(key, default)
    if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= 4096:
        msg = f"{path}: {key} must be a count, got {value!r}; get it again"
        raise SettingError(msg)
    return value
