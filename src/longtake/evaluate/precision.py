"""What each format of the weights costs: layer by layer, pass by pass, clip by clip."""

import copy
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from longtake.model import Transformer
from longtake.quantize import Format, all_layers, low_layers, quantized_layers, swapped
from longtake.quantize.codec import decode, encode
from longtake.quantize.swap import matrix_of

Rounding = Literal["bf16", "fp16", "fp8", "nvfp4"]
ROUNDINGS: tuple[Rounding, ...] = ("bf16", "fp16", "fp8", "nvfp4")
FEW: tuple[Format, ...] = ("fp8", "nvfp4")
DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}
ROWS = 1024
"""Most tokens of a layer's input that its own error is told from."""
Inputs = tuple[Any, ...]
"""What a pass of the denoiser was given."""
Make = Callable[[], Tensor]
"""Makes the clip with the denoiser as it is now; frames in [0, 255], or latents."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerCost:
    """One layer that can go into few bits."""

    name: str
    """In the denoiser."""
    parameters: int
    """Its weights."""
    output: dict[Rounding, float]
    """Relative error of its output with weights and input rounded."""
    velocity: dict[Format, float]
    """Relative error of the denoiser's output when this layer alone is in few bits."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WholeCost:
    """The denoiser with all layers in a format that go into it."""

    rounding: Rounding
    """The format."""
    rounded: Literal["weights", "weights and inputs"]
    """What is rounded; with inputs it is what a card with the units computes."""
    velocity: float
    """Relative error of the denoiser's output, over all passes."""
    clips_db: tuple[float, ...] | None
    """PSNR of each clip against that of fp32, in dB; None if none was made."""


@dataclass(frozen=True, slots=True)
class Step:
    """How far the measuring is."""

    done: int
    total: int


def passes_of(denoiser: nn.Module, make: Make, most: int) -> tuple[Tensor, list[Inputs]]:
    """A clip, and what the denoiser was given in passes spread evenly over its making."""
    given: list[Inputs] = []
    hook = denoiser.register_forward_pre_hook(lambda _, args: given.append(args))
    try:
        clip = make()
    finally:
        hook.remove()
    every = max(len(given) // most, 1)
    return clip, given[every // 2 :: every][:most]


def layer_costs(denoiser: Transformer, passes: Sequence[Inputs]) -> Iterator[Step | LayerCost]:
    """Every layer alone, in fp32 otherwise; the denoiser is in fp32 and left as it was."""
    names = all_layers(denoiser)
    exact = [denoiser(*given) for given in passes]
    seen = _inputs_of(denoiser, names, passes[len(passes) // 2])
    for number, name in enumerate(names):
        matrix = matrix_of(denoiser.get_submodule(name))
        yield LayerCost(
            name=name,
            parameters=matrix.numel(),
            output={how: _output_error(seen[name], matrix, how) for how in ROUNDINGS},
            velocity={how: _alone(denoiser, how, name, passes, exact) for how in FEW},
        )
        yield Step(number + 1, len(names))


def whole_costs(
    denoiser: Transformer, passes: Sequence[Inputs], clips: Sequence[tuple[Make, Tensor]]
) -> Iterator[WholeCost]:
    """All layers at once; the clips are made anew in each format of few bits."""
    exact = [denoiser(*given) for given in passes]
    for name, dtype in DTYPES.items():
        lower = copy.deepcopy(denoiser).to(dtype)
        yield WholeCost(
            rounding="bf16" if name == "bf16" else "fp16",
            rounded="weights and inputs",
            velocity=_error([lower(*given) for given in passes], exact),
            clips_db=None,
        )
    for how in FEW:
        names = low_layers(denoiser, how)
        for rounded in ("weights", "weights and inputs"):
            way = "unpack" if rounded == "weights" else "emulate"
            with swapped(denoiser, how, names, way):
                yield WholeCost(
                    rounding=how,
                    rounded=rounded,
                    velocity=_error([denoiser(*given) for given in passes], exact),
                    clips_db=tuple(_psnr(make(), clip) for make, clip in clips),
                )


def stay_high(costs: Sequence[LayerCost], how: Format, most: float) -> tuple[str, ...]:
    """The fewest layers to keep out of a format so that the error stays below a bound.

    Errors of single layers are taken to add up in squares, as independent ones do.
    """
    falling = sorted(costs, key=lambda cost: -cost.velocity[how])
    left = sum(cost.velocity[how] ** 2 for cost in costs)
    kept: list[str] = []
    for cost in falling:
        if left <= most**2:
            break
        left -= cost.velocity[how] ** 2
        kept.append(cost.name)
    return tuple(kept)


def _alone(
    denoiser: Transformer,
    how: Format,
    name: str,
    passes: Sequence[Inputs],
    exact: Sequence[Tensor],
) -> float:
    with swapped(denoiser, how, [name], "emulate"):
        return _error([denoiser(*given) for given in passes], exact)


def _inputs_of(
    denoiser: Transformer, names: Sequence[str], given: Inputs
) -> dict[str, Float[Tensor, "n columns"]]:
    """Some rows of what each layer multiplies in a pass."""
    seen: dict[str, Tensor] = {}
    with swapped(denoiser, "fp8", names, "unpack"), _watching(denoiser, seen):
        denoiser(*given)
    return seen


@contextmanager
def _watching(denoiser: Transformer, seen: dict[str, Tensor]) -> Iterator[None]:
    # In few bits every layer is a module whose input is that of its matrix, the taps as well.

    def keep(name: str) -> Callable[..., None]:
        def hook(_module: nn.Module, args: tuple[Tensor, ...]) -> None:
            rows = args[0].flatten(0, -2)
            seen[name] = rows[:: max(len(rows) // ROWS, 1)][:ROWS].float()

        return hook

    layers = quantized_layers(denoiser).items()
    hooks = [layer.register_forward_pre_hook(keep(name)) for name, layer in layers]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def _output_error(
    x: Float[Tensor, "n columns"], matrix: Float[Tensor, "rows columns"], how: Rounding
) -> float:
    return _error([_rounded(x, how) @ _rounded(matrix, how, fit=True).T], [x @ matrix.T])


def _rounded(
    values: Float[Tensor, "a b"], how: Rounding, *, fit: bool = False
) -> Float[Tensor, "a b"]:
    if how in ("fp8", "nvfp4"):
        return decode(encode(values, how, fit=fit), values.shape[1], torch.float32)
    return values.to(DTYPES[how]).float()


def _error(found: Sequence[Tensor], exact: Sequence[Tensor]) -> float:
    """Root of the summed squares of what differs, over that of what should be."""
    off = sum(
        (a.double() - b.double()).square().sum().item() for a, b in zip(found, exact, strict=True)
    )
    whole = sum(b.double().square().sum().item() for b in exact)
    return math.sqrt(off / whole) if whole else math.sqrt(off)


def _psnr(found: Tensor, exact: Tensor) -> float:
    """In dB; latents take their own largest size for white."""
    white = 255.0 if exact.dtype == torch.uint8 else exact.abs().max().item()
    off = (found.double() - exact.double()).square().mean().item()
    return math.inf if off == 0 else 10 * math.log10(white**2 / off)
