"""Arithmetic by name, as the device at hand really has it."""

import torch

from longtake.errors import CannotHere
from longtake.pipeline import Precision

_DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
FIRST_WITH_BF16 = (8, 0)
"""Compute capability from which a CUDA device has bf16."""


def dtype_for(asked: Precision, device: torch.device) -> torch.dtype:
    """The arithmetic asked for; `auto` takes bf16 where the device has it.

    Raises:
        CannotHere: a device that has not got it.
    """
    has_bf16 = device.type != "cuda" or torch.cuda.get_device_capability(device) >= FIRST_WITH_BF16
    if asked == "auto":
        if device.type == "cuda":
            return torch.bfloat16 if has_bf16 else torch.float16
        return torch.bfloat16 if torch.cpu._is_avx512_bf16_supported() else torch.float32
    if asked == "bf16" and not has_bf16:
        msg = f"{torch.cuda.get_device_name(device)} has no bf16; use --precision fp16 or fp32"
        raise CannotHere(msg)
    return _DTYPES[asked]


def name_of(dtype: torch.dtype) -> str:
    """The arithmetic's name."""
    return next(name for name, known in _DTYPES.items() if known == dtype)
