"""A model between two that were trained from the same one, weight by weight.

Wortsman et al., Model soups (arXiv 2203.05482): networks that were tuned apart from a common start
can be averaged, and what each is good at is mostly kept.

python -m longtake.recipes.average FIRST SECOND --share 0.5 --out FOLDER
"""

import argparse
from pathlib import Path

import torch
from torch import nn

from longtake.checkpoints import read_json
from longtake.config import ModelConfig, from_dict
from longtake.errors import LongtakeError, OutputError, SettingError
from longtake.presets import MODEL_FILE, find
from longtake.recipes.folder import weights_path
from longtake.recipes.weights import export_model, fill, fill_text, parts_from
from longtake.storage import output_errors

CPU = torch.device("cpu")


@torch.no_grad()
def average(first: str, second: str, share: float, out: Path) -> None:
    """Write (1 - share) first + share second: of the denoiser and the text encoder.

    Args:
        first: A model, by name or folder.
        second: Another of the same shapes; its words, its autoencoder and its settings are kept,
            and what the first knows no word for comes from it alone.
        share: Of the second, 0 to 1.
        out: Folder of the new model.

    Raises:
        SettingError: a share beyond that range.
        ModelError: no such model.
        OutputError: the folder holds a model already, or cannot be written.
        WeightsError: models of different shapes.
    """
    if not 0 <= share <= 1:
        msg = f"share must be 0 to 1, got {share}"
        raise SettingError(msg)
    if (out / MODEL_FILE).exists():
        msg = f"{out} holds a model already; delete it, or choose another with --out"
        raise OutputError(msg)
    before, after = (find(name).folder for name in (first, second))
    config = from_dict(ModelConfig, read_json(after / MODEL_FILE))
    parts, others = (parts_from(after, config, CPU) for _ in range(2))
    text, transformer, _ = others
    fill_text(text, before, config.words)
    fill(transformer, weights_path(before, "transformer"))
    for part, other in zip(parts[:2], others[:2], strict=True):
        _blend(part, other, share)
    with output_errors(out):
        out.mkdir(parents=True, exist_ok=True)
    export_model(out, parts, config)


def _blend(part: nn.Module, other: nn.Module, share: float) -> None:
    for weight, before in zip(part.parameters(), other.parameters(), strict=True):
        weight.copy_((1 - share) * before + share * weight)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="longtake.recipes.average")
    parser.add_argument("first")
    parser.add_argument("second")
    parser.add_argument("--share", type=float, default=0.5, help="of the second")
    parser.add_argument("--out", type=Path, required=True)
    asked = parser.parse_args()
    try:
        average(asked.first, asked.second, asked.share, asked.out)
    except LongtakeError as error:
        parser.exit(error.exit_code, f"error: {error}\n")
