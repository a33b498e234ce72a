"""Where a public model comes from, what may be done with it, and whether all of it is here."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from longtake.checkpoints.hub import Fetching, fetch
from longtake.checkpoints.index import index_path, read_index
from longtake.errors import LongtakeError, ModelError
from longtake.official.folder import PublicModel, read_model
from longtake.official.transformer import WEIGHTS
from longtake.presets import hub_id

FILES = {
    "transformer": WEIGHTS,
    "vae": WEIGHTS,
    "text_encoder": "model.safetensors",
}
"""The weights of each part, whole or as what their shards are named after."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Licences:
    """Terms of a public model's parts; each has its own."""

    weights: str = "NVIDIA Open Model License"
    """Of the denoiser."""
    text_encoder: str = "Gemma Terms of Use"
    """Of the text encoder."""
    vae: str
    """Of the VAE."""

    def __str__(self) -> str:
        """All of them in one line."""
        return (
            f"weights: {self.weights}; text encoder: {self.text_encoder}; VAE: {self.vae}; "
            "the model's own pages have the last word"
        )


def licences_of(model: PublicModel) -> Licences:
    """Under which terms a public model's parts were published."""
    wan = model.vae.name == "AutoencoderKLWan"
    return Licences(vae="Apache-2.0" if wan else "LTX-2 Community License (Lightricks)")


def locate(name: str, tell: Callable[[Fetching], None]) -> Path:
    """The folder of a public model given as a folder or a name on the hub.

    Args:
        name: A folder, or `owner/name` with `@revision` or without.
        tell: Hears what is about to be fetched, before the first byte.

    Raises:
        ModelError: neither.
        CannotHere: not here and no way to fetch it.
    """
    if Path(name).is_dir():
        return Path(name)
    found = hub_id(name)
    if found is None:
        msg = f"no folder {name!r}, and no name of the form OWNER/NAME@REVISION"
        raise ModelError(msg)
    return fetch(found.repository, found.revision, complete=is_complete, tell=tell)


def is_complete(folder: Path) -> bool:
    """True if a folder holds every file of a public model."""
    try:
        read_model(folder)
        return all(path.is_file() for path in weight_files(folder))
    except LongtakeError:
        return False


def weight_files(folder: Path) -> list[Path]:
    """Every file of weights that a public model's folder should hold.

    Raises:
        WeightsError: a damaged index.
    """
    files: list[Path] = []
    for part, name in FILES.items():
        path = folder / part / name
        index = index_path(path)
        names = read_index(index).files if index.is_file() else (name,)
        files += [path.with_name(each) for each in names]
    return files


def fingerprint(folder: Path) -> str:
    """A hash of every config and of the front and size of every file of weights.

    It tells models apart in a moment; `longtake doctor --model` reads every byte.

    Raises:
        ModelError: a file is missing.
    """
    total = hashlib.sha256()
    files = sorted([*folder.glob("*/*.json"), *weight_files(folder)])
    for path in files:
        if not path.is_file():
            msg = f"{path} is missing; get the model again"
            raise ModelError(msg)
        with path.open("rb") as file:
            front = file.read(4 * 2**20)
        total.update(f"{path.relative_to(folder)}|{path.stat().st_size}|".encode() + front)
    return total.hexdigest()
