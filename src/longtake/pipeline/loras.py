"""LoRAs over a model: all of them read and checked before a weight changes."""

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from longtake.checkpoints import LoraFile, read_lora
from longtake.config import MOST_LORAS, Grain, LoraUse
from longtake.errors import SettingError, WeightsError
from longtake.model import Transformer
from longtake.model.lora import Factors, fold, shapes
from longtake.vae.grain import sum_of_grains


def lay(
    model: Transformer, loras: Sequence[LoraUse], base: str
) -> tuple[tuple[LoraUse, ...], Grain]:
    """Fold LoRAs into a model's weights, in order; returns them with their checksums, and grain.

    Args:
        model: Its weights change in place, or not at all if one LoRA is refused.
        loras: Files and strengths.
        base: Content hash of the model.

    Raises:
        WeightsError: damaged, of another model, or not the file that the checksum tells.
        SettingError: too many.
    """
    read, used = checked(loras, base, model)
    for use, lora in zip(used, read, strict=True):
        changes = {name: Factors(*pair) for name, pair in lora.factors.items()}
        fold(model, changes, use.strength * lora.head.scale)
    grains = ((use.strength, lora.head.grain) for use, lora in zip(used, read, strict=True))
    return used, sum_of_grains(grains)


def checked(
    loras: Sequence[LoraUse], base: str, model: Transformer
) -> tuple[list[LoraFile], tuple[LoraUse, ...]]:
    """LoRAs that fit a model, whose weights are not looked at, and the same with checksums.

    Raises:
        WeightsError: damaged, of another model, or not the file that the checksum tells.
        SettingError: too many.
    """
    if len(loras) > MOST_LORAS:
        msg = f"at most {MOST_LORAS} LoRAs lie over a model, got {len(loras)}; merge some of them"
        raise SettingError(msg)
    read = [_read(use, base, model) for use in loras]
    pairs = zip(loras, read, strict=True)
    return read, tuple(replace(use, sha256=lora.sha256) for use, lora in pairs)


def refuse_loras(loras: Sequence[LoraUse], model: str) -> None:
    """Refuse LoRAs over weights in few bits.

    Raises:
        SettingError: there are some.
    """
    if loras:
        msg = (
            f"LoRAs lie over weights in full, and those of {model} are stored in few bits; "
            "give the model it was made from, with --precision"
        )
        raise SettingError(msg)


def hash_with(base: str, loras: Sequence[LoraUse]) -> str:
    """The model hash of a model with LoRAs over it; without any, the model's own."""
    if not loras:
        return base
    lines = [base, *(f"{use.sha256} {use.strength!r}" for use in loras)]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def _read(use: LoraUse, base: str, model: Transformer) -> LoraFile:
    path = Path(use.file)
    if not path.exists():
        msg = f"there is no LoRA {path}; name where it lies now with --lora"
        raise WeightsError(msg)
    lora = read_lora(path, base, shapes(model))
    if use.sha256 not in ("", lora.sha256):
        msg = f"{path} is another LoRA than the one of that name before; get that one again"
        raise WeightsError(msg)
    return lora
