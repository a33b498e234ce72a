"""Pictures from anywhere as the first frame of a film."""

from pathlib import Path

import numpy as np
import torch
from jaxtyping import UInt8
from torch import Tensor

from longtake.media.image import read_image


def read_picture(
    path: Path, width: int, height: int
) -> tuple[UInt8[Tensor, "height width 3"], list[str]]:
    """A picture as a frame of this size, and what had to be done to it; see `read_image`.

    Raises:
        MediaError: no picture, damaged, of another format, too small or too large.
    """
    image, notes = read_image(path, width, height)
    return torch.from_numpy(np.array(image)), notes
