"""Whether a format works on this device, by numbers: seconds, and before a film is made."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache

import torch
from torch import nn

from longtake.quantize import reference
from longtake.quantize.codec import BLOCK, Format, Packed, decode, encode
from longtake.quantize.layer import QuantizedLinear
from longtake.quantize.layout import check_sums, fault_of
from longtake.quantize.product import has_units

ROUNDING: dict[Format, float] = {"fp8": 0.04, "nvfp4": 0.14}
"""Most relative error of a matrix of normal numbers; e4m3 has 0.026, nvfp4 0.095, fitted 0.082."""
ROWS, COLUMNS, TOKENS = 256, 320, 384
"""Of the product tried: whole steps of every kernel, and not square."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """One thing tried."""

    what: str
    """In a few words."""
    fine: bool
    """Whether it is as it should be."""
    told: str
    """What came out."""


def trials(how: Format, device: torch.device) -> Iterator[Trial]:
    """Codec, faults and product of a format on a device."""
    yield _codec(how, device)
    yield from (_caught(how, name, harm) for name, harm in _harms(how).items())
    if has_units(how, device):
        yield _multiplied(how, device)
    else:
        yield Trial(
            what="product",
            fine=True,
            told=f"{_name(device)} has no units for {how}: weights are unpacked, which is tried",
        )
    yield _unpacked(how, device)


@cache
def multiplies(how: Format, device: torch.device) -> bool:
    """True if the device multiplies in a format and was right when it was tried just now."""
    return has_units(how, device) and _multiplied(how, device).fine


def _codec(how: Format, device: torch.device) -> Trial:
    """Bit for bit against the codec written number by number, with odd sizes and extremes."""
    matrix = _normal(5, 3 * BLOCK + 5)
    matrix[0] *= 1e-30
    matrix[1] *= 1e5
    matrix[2] = 0
    packed = encode(matrix.to(device), how, fit=True)
    rows = matrix.tolist()
    if how == "fp8":
        codes, scales = reference.encode_fp8(rows)
        values = reference.decode_fp8(codes, scales)
        same = packed.scales.tolist() == scales
    else:
        codes, bits, whole = reference.encode_nvfp4(rows, fit=True)
        values = reference.decode_nvfp4(codes, bits, whole, matrix.shape[1])
        assert packed.tensor_scale is not None
        same = packed.scales.tolist() == bits and packed.tensor_scale.item() == whole
    same &= packed.codes.tolist() == codes
    same &= decode(packed, matrix.shape[1], torch.float32).tolist() == values
    told = "the bits of the reference" if same else "other bits than the reference"
    return Trial(what="codec", fine=same, told=told)


def _harms(how: Format) -> dict[str, Callable[[Packed], Packed]]:
    """Ways in which low-bit files are silently wrong elsewhere."""
    harms: dict[str, Callable[[Packed], Packed]] = {
        "scale of zero": lambda p: p._replace(scales=_with(p.scales, 0)),
        "scale that is no number": lambda p: p._replace(
            scales=_with(p.scales, float("nan") if how == "fp8" else 0x7F)
        ),
        "scales in another order": lambda p: p._replace(scales=p.scales.flip(0)),
    }
    if how == "nvfp4":
        harms["swapped nibbles"] = lambda p: p._replace(codes=p.codes << 4 | p.codes >> 4)
    return harms


def _caught(how: Format, name: str, harm: Callable[[Packed], Packed]) -> Trial:
    packed = encode(_normal(ROWS, COLUMNS), how)
    harmed = harm(packed)
    before, after = (check_sums(p, COLUMNS) for p in (packed, harmed))
    caught = fault_of(harmed) is not None or not torch.allclose(before, after, rtol=1e-6)
    return Trial(what=name, fine=caught, told="caught" if caught else "not caught")


def _multiplied(how: Format, device: torch.device) -> Trial:
    """The library's product against that of the same rounded numbers in float64."""
    layer, x = _layer(how, device)
    layer.way = "multiply"
    try:
        y = layer(x)
    except RuntimeError as error:
        # What a card or a build of torch lacks shows as one.
        told = f"{_name(device)}: {str(error).splitlines()[0][:120]}; weights are unpacked instead"
        return Trial(what="product", fine=False, told=told)
    rounded = decode(encode(x, how), COLUMNS, torch.float32).double()
    exact = rounded @ layer.weight_as(torch.float32).double().T
    return _judged("product", y, exact, most=0.01)


def _unpacked(how: Format, device: torch.device) -> Trial:
    layer, x = _layer(how, device)
    exact = x.double() @ layer.weight_as(torch.float32).double().T
    return _judged("unpacked product", layer(x), exact, most=0.01)


def _judged(what: str, y: torch.Tensor, exact: torch.Tensor, most: float) -> Trial:
    error = ((y.double() - exact).norm() / exact.norm()).item()
    # Written so that NaN fails.
    return Trial(what=what, fine=error <= most, told=f"relative error {error:.1e}, most {most:g}")


def _layer(how: Format, device: torch.device) -> tuple[QuantizedLinear, torch.Tensor]:
    linear = nn.Linear(COLUMNS, ROWS, bias=False)
    linear.weight.data = _normal(ROWS, COLUMNS)
    layer = QuantizedLinear.of(linear.weight, None, how).to(device)
    # Rows far apart in size: a scale in the wrong place shows.
    x = _normal(TOKENS, COLUMNS) * torch.logspace(-2, 2, TOKENS)[:, None]
    return layer, x.to(device, torch.bfloat16)


def _normal(*shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(8))


def _with(scales: torch.Tensor, value: float) -> torch.Tensor:
    changed = scales.clone()
    changed.view(-1)[-1] = value
    return changed


def _name(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else "this CPU"
