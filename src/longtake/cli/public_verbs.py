"""`longtake plan`, `doctor` and `convert`: their options; the work is imported when it is done."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from longtake.cli.options import (
    FilmOptions,
    PublicOptions,
    RunOptions,
    TellOptions,
    WholeNumber,
)


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class DoctorOptions:
    """What is looked at beside the machine."""

    model: str = "previz"
    """Model by name or folder. Of a public model every byte is read, and one step is taken on a
    clip: do these weights predict?"""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where that step is computed."""


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class ConvertOptions:
    """What becomes of the file."""

    out: Path
    """Folder to make; the denoiser goes into its folder transformer."""
    parts: Path | None = None
    """Public model whose other parts are copied beside it: VAE, text encoder, tokenizer,
    scheduler. Without it the folder holds the denoiser alone."""
    longsana: Annotated[bool, Parameter(negative="")] = False
    """The file holds LongSANA, which goes on chunk by chunk; its tensors have the same names."""
    head_size: WholeNumber = 112
    """Channels of an attention head, which the file does not say; 112 in every published model."""


_FILM, _MODEL, _PUBLIC, _TELL = FilmOptions(), RunOptions(), PublicOptions(), TellOptions()
_DOCTOR = DoctorOptions()


def plan(
    *,
    film: FilmOptions = _FILM,
    model: RunOptions = _MODEL,
    public: PublicOptions = _PUBLIC,
    how: TellOptions = _TELL,
) -> None:
    """Tell what a film will take: memory of GPU and host, disk, time, and what fits.

    Args:
        film: The film.
        model: The model.
        public: The public model.
        how: What is told.
    """
    from longtake.cli.plan import tell_plan

    tell_plan(film, model, public, how)


def doctor(*, options: DoctorOptions = _DOCTOR, how: TellOptions = _TELL) -> None:
    """Tell what this machine can do, and whether a model is whole and predicts.

    Args:
        options: What is looked at.
        how: What is told.
    """
    from longtake.cli.doctor import examine

    examine(options.model, options.device, how)


def convert(source: Path, /, *, to: ConvertOptions, how: TellOptions = _TELL) -> None:
    """Turn a .pth or .pt of SANA-Video or LongSANA into safetensors, once.

    The file is opened by a child process that allows nothing but weights in it and has little
    memory and time; afterwards only safetensors are read.

    Args:
        source: The .pth or .pt.
        to: Where it goes.
        how: What is told.
    """
    from longtake.cli.convert import make_folder

    make_folder(source, to, how)
