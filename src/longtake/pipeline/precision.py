"""Arithmetic by name, as the device at hand really has it."""

from dataclasses import dataclass
from typing import Literal, get_args

import torch

from longtake.errors import CannotHere
from longtake.quantize import Format, has_units, multiplies

Precision = Literal["auto", "fp32", "bf16", "fp16", "fp8", "nvfp4"]
FIRST_WITH_BF16 = (8, 0)
"""Compute capability from which a CUDA device has bf16."""
_DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass(frozen=True, slots=True, kw_only=True)
class Arithmetic:
    """What a model computes in."""

    dtype: torch.dtype
    """Of everything that is not in few bits."""
    how: Format | None = None
    """Format of the layers that are; None: there are none."""

    @property
    def name(self) -> str:
        """As a user types it."""
        return self.how or name_of(self.dtype)

    def way(self, device: torch.device) -> Literal["unpack", "multiply"]:
        """How low-bit layers multiply there: in the format if the device does, and does it right.

        The products of the library come in bf16, so that fp16 and fp32 unpack.
        """
        fits = self.how is not None and self.dtype == torch.bfloat16
        return "multiply" if fits and self.how and multiplies(self.how, device) else "unpack"

    def note(self, device: torch.device) -> str | None:
        """What the user should know of how the format is taken there, in one line."""
        if self.how is None or self.way(device) == "multiply":
            return None
        here = torch.cuda.get_device_name(device) if device.type == "cuda" else "this CPU"
        why = "failed its self-test" if has_units(self.how, device) else "has no units for it"
        return (
            f"{self.how}: {here} {why}, so only the weights are in {self.how} and are unpacked "
            "layer by layer: less memory, not faster"
        )


def arithmetic_for(asked: Precision, device: torch.device) -> Arithmetic:
    """The arithmetic asked for; `auto` takes bf16 where the device has it.

    fp8 and nvfp4 compute in what `auto` would for everything that is not in few bits.

    Raises:
        CannotHere: a device that has not got it.
    """
    match asked:
        case "auto":
            return Arithmetic(dtype=_usual(device))
        case "fp8" | "nvfp4":
            return Arithmetic(dtype=_usual(device), how=asked)
        case "bf16" if not _has_bf16(device):
            name = torch.cuda.get_device_name(device)
            msg = f"{name} has no bf16; use --precision fp16 or fp32"
            raise CannotHere(msg)
        case _:
            return Arithmetic(dtype=_DTYPES[asked])


def precision_named(told: str) -> Precision:
    """The arithmetic that a film says it was made in; bf16 if it says none that is known."""
    return next((known for known in get_args(Precision) if known == told), "bf16")


def low_format(precision: str) -> Format | None:
    """The format of weights in few bits, if an arithmetic has some."""
    return next((known for known in get_args(Format) if known == precision), None)


def name_of(dtype: torch.dtype) -> str:
    """The name of a type that weights are not packed in."""
    return next(name for name, known in _DTYPES.items() if known == dtype)


def _usual(device: torch.device) -> torch.dtype:
    if device.type == "cuda":
        return torch.bfloat16 if _has_bf16(device) else torch.float16
    return torch.bfloat16 if torch.cpu._is_avx512_bf16_supported() else torch.float32


def _has_bf16(device: torch.device) -> bool:
    return device.type != "cuda" or torch.cuda.get_device_capability(device) >= FIRST_WITH_BF16
