"""Prompt embeddings kept on disk, so that a prompt is encoded once and the encoder stays away."""

import hashlib
import json
from pathlib import Path

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from longtake.checkpoints import load_state, save_state
from longtake.errors import OutputError, WeightsError

Embedding = tuple[Float[Tensor, "1 m e"], Bool[Tensor, "1 m"]]


class EmbeddingCache:
    """Embeddings by a hash of all that decides them."""

    def __init__(self, folder: Path | None) -> None:
        """Keep them in a folder, or nowhere."""
        self.folder = folder

    def get(self, key: str) -> Embedding | None:
        """What was kept under this key; a damaged file counts as none."""
        if self.folder is None or not self._path(key).is_file():
            return None
        try:
            tensors, _ = load_state(self._path(key))
            return tensors["text"], tensors["mask"].bool()
        except (WeightsError, KeyError):
            return None

    def put(self, key: str, embedding: Embedding) -> None:
        """Keep an embedding; a full disk or a foreign folder only means it is not kept."""
        if self.folder is None:
            return
        text, mask = embedding
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            save_state(self._path(key), {"text": text, "mask": mask.to(torch.uint8)}, {})
        except (OutputError, OSError):
            return

    def _path(self, key: str) -> Path:
        assert self.folder is not None
        return self.folder / f"{key}.safetensors"


def embedding_key(folder: Path, prompt: str, instruction: str, dtype: torch.dtype) -> str:
    """Hash of prompt, instruction, arithmetic and encoder.

    The encoder counts by its small files and by name, size and time of the large ones: reading
    five gigabytes to save a second of encoding would be no saving.
    """
    total = hashlib.sha256(json.dumps([prompt, instruction, str(dtype)]).encode())
    for part in ("text_encoder", "tokenizer"):
        for file in sorted((folder / part).iterdir()):
            status = file.stat()
            total.update(f"|{part}/{file.name}|{status.st_size}|".encode())
            if file.suffix == ".json":
                total.update(file.read_bytes())
            else:
                total.update(str(status.st_mtime_ns).encode())
    return total.hexdigest()
