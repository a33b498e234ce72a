"""Encoded clips from a folder, one file each, in an order that the seed decides."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool, Float
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from longtake.errors import SettingError, WeightsError

PARTS = ("latents", "text", "mask")
"""Tensors of a file: latents `c t h w`, text embeddings `m e`, and which of them are real `m`."""


@dataclass(frozen=True, slots=True)
class Clip:
    """A clip as the denoiser sees it."""

    latents: Float[Tensor, "1 c t h w"]
    text: Float[Tensor, "1 m e"]
    mask: Bool[Tensor, "1 m"]


class LatentFolder:
    """Clips of a folder, without end: every pass has all of them in an order of its own."""

    def __init__(self, folder: Path, seed: int) -> None:
        """List the files; none is opened.

        Raises:
            SettingError: no clips there.
        """
        self.files = sorted(folder.glob("*.safetensors"))
        self.seed = seed
        if not self.files:
            msg = f"--data wants a folder of .safetensors files with {', '.join(PARTS)}: {folder}"
            raise SettingError(msg)

    def clip(self, number: int, device: torch.device) -> Clip:
        """Clip of a number from 0 on; the number and the seed alone decide which.

        Raises:
            WeightsError: a file that is damaged or no clip.
        """
        epoch, place = divmod(number, len(self.files))
        order = np.random.default_rng([self.seed, epoch]).permutation(len(self.files))
        path = self.files[order[place]]
        try:
            tensors = load_file(path)
            latents, text, mask = (tensors[part][None].to(device) for part in PARTS)
        except (OSError, SafetensorError, KeyError) as error:
            msg = f"{path} is no clip: {error}; make it again or delete it"
            raise WeightsError(msg) from error
        return Clip(latents.float(), text.float(), mask.bool())
