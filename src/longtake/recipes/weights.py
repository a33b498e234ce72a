"""Weights of a stage: from a folder to go on from, and to the folder of the run."""

import json
import logging
from pathlib import Path

import torch
from torch import nn

from longtake.checkpoints import load_tensors, save_tensors
from longtake.config import ModelConfig, to_dict
from longtake.pipeline import Parts, build
from longtake.presets import MODEL_FILE, PARTS
from longtake.recipes.folder import weights_path
from longtake.storage import atomic_write, output_errors
from longtake.text import TextEncoder

logger = logging.getLogger("longtake.train")


def export(module: nn.Module, path: Path) -> None:
    """Write weights in bf16, as they ship."""
    save_tensors(path, {k: v.detach().to(torch.bfloat16) for k, v in module.state_dict().items()})


def fill(module: nn.Module, path: Path) -> None:
    """Load weights of exactly this module's names and shapes."""
    expected = {name: tuple(value.shape) for name, value in module.state_dict().items()}
    module.load_state_dict(load_tensors(path, expected))


def export_model(folder: Path, parts: Parts, config: ModelConfig) -> None:
    """Write all networks, and then the file that makes them a finished model."""
    for name, part in zip(PARTS, parts, strict=True):
        export(part, weights_path(folder, name))
    with atomic_write(folder / MODEL_FILE) as temp, output_errors(folder / MODEL_FILE):
        temp.write_text(json.dumps(to_dict(config), indent=1) + "\n", "utf-8")


def parts_from(start: Path, shapes: ModelConfig, device: torch.device) -> Parts:
    """The networks with the weights of a model, new words aside; the autoencoder stays fixed."""
    text, transformer, autoencoder = parts = build(shapes)
    fill_text(text, start, shapes.words)
    fill(transformer, weights_path(start, "transformer"))
    fill(autoencoder, weights_path(start, "autoencoder"))
    autoencoder.eval().requires_grad_(False)
    for part in parts:
        part.to(device)
    return parts


def fill_text(text: TextEncoder, folder: Path, words: tuple[str, ...]) -> None:
    """Load a text encoder of other words or a shorter prompt; what is new keeps fresh rows.

    Args:
        text: Encoder to fill.
        folder: Weights to go on from.
        words: Words of the encoder, in order.
    """
    path, shapes = weights_path(folder, "text"), folder / MODEL_FILE
    before = json.loads(shapes.read_text("utf-8")) if shapes.is_file() else {}
    known = tuple(before.get("words", words))
    places = before.get("text", {}).get("max_tokens", len(text.positions))
    special = text.tokens.num_embeddings - len(words)
    own = {name: value.clone() for name, value in text.state_dict().items()}
    expected = {name: tuple(value.shape) for name, value in own.items()}
    expected["tokens.weight"] = (special + len(known), text.config.width)
    expected["positions"] = (places, text.config.width)
    loaded = load_tensors(path, expected)
    rows = {word: special + i for i, word in enumerate(known)}
    shared = [(special + i, rows[word]) for i, word in enumerate(words) if word in rows]
    to, origin = zip(*[(i, i) for i in range(special)], *shared, strict=True)
    own["tokens.weight"][list(to)] = loaded.pop("tokens.weight")[list(origin)].to(own["positions"])
    few = min(places, len(own["positions"]))
    own["positions"][:few] = loaded.pop("positions")[:few].to(own["positions"])
    text.load_state_dict(own | loaded)
    logger.info("%d of %d words start fresh", len(words) - len(shared), len(words))
