"""The folder of a run: checked before, resumable meanwhile, a model and its curves afterwards."""

from pathlib import Path
from typing import Literal

from longtake.checkpoints import load_state
from longtake.checkpoints.index import index_path
from longtake.errors import OutputError, SettingError
from longtake.presets import MODEL_FILE
from longtake.storage import check_writable
from longtake.train.loop import state_path

STAGES = ("autoencoder", "transformer", "causal", "few_steps", "matching", "decoder")
"""Stages in the order they run in."""
Which = Literal["all", "autoencoder", "transformer", "causal", "few_steps", "matching", "decoder"]
"""Stages of one run; all are those that begin from nothing, which is the first two."""


def weights_path(folder: Path, part: str) -> Path:
    """Where the weights of a network lie."""
    return folder / f"{part}.safetensors"


def has_weights(folder: Path, part: str) -> bool:
    """Whether a folder has the weights of a network, in one file or in shards."""
    path = weights_path(folder, part)
    return path.exists() or index_path(path).exists()


def check_folder(
    folder: Path, stage: Which, start: Path | None, teacher: Path | None = None
) -> None:
    """Prove that a run can write its folder and has what it starts from; nothing is made yet.

    Raises:
        OutputError: a finished model is in it, or it cannot be written.
        SettingError: weights to go on from are missing.
    """
    if (folder / MODEL_FILE).exists():
        msg = f"{folder} holds a finished model already; delete it, or choose another with --out"
        raise OutputError(msg)
    if start is not None and not has_weights(start, "autoencoder"):
        msg = f"--start wants a folder with an autoencoder.safetensors, got {start}"
        raise SettingError(msg)
    if stage == "transformer" and not has_weights(start or folder, "autoencoder"):
        msg = (
            f"the transformer needs an autoencoder and {folder} has none; run --stage autoencoder "
            "first, or name a folder that has one with --start"
        )
        raise SettingError(msg)
    if stage in STAGES[2:] and not (start and (start / MODEL_FILE).is_file()):
        msg = (
            f"the {stage} stage goes on from a trained model; name its folder, with "
            f"{MODEL_FILE} and all weights, with --start"
        )
        raise SettingError(msg)
    if (stage == "matching") != (teacher is not None):
        msg = "the matching stage wants --teacher, the model that few_steps went on from"
        raise SettingError(msg if teacher is None else f"{msg}; no other stage has one")
    if teacher is not None and not (teacher / MODEL_FILE).is_file():
        msg = f"--teacher wants a folder with a trained model, got {teacher}"
        raise SettingError(msg)
    above = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    check_writable(above / MODEL_FILE)


def resume_point(folder: Path) -> str | None:
    """Where a run that was stopped goes on, in words; None if it begins anew."""
    for stage in reversed(STAGES):
        path = state_path(folder, stage)
        if path.exists():
            _, settings = load_state(path)
            return f"step {settings['step']} of {settings['steps']} of the {stage}"
    return None


def drop_states(folder: Path) -> None:
    """Remove what only an unfinished run needs."""
    for stage in STAGES:
        state_path(folder, stage).unlink(missing_ok=True)
