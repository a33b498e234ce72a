"""Weights in fp8 and nvfp4: the formats, the layers that hold them, and what proves them right."""

from longtake.quantize.codec import Format
from longtake.quantize.guard import guard
from longtake.quantize.layer import QuantizedLinear, Way
from longtake.quantize.layout import (
    QUANTIZED_FILE,
    Layout,
    check_filled,
    describe,
    read_layout,
)
from longtake.quantize.product import has_units
from longtake.quantize.selftest import multiplies, trials
from longtake.quantize.swap import (
    LOW,
    all_layers,
    choose_way,
    low_layers,
    prepare,
    quantize,
    quantized_layers,
    swapped,
)

__all__ = [
    "LOW",
    "QUANTIZED_FILE",
    "Format",
    "Layout",
    "QuantizedLinear",
    "Way",
    "all_layers",
    "check_filled",
    "choose_way",
    "describe",
    "guard",
    "has_units",
    "low_layers",
    "multiplies",
    "prepare",
    "quantize",
    "quantized_layers",
    "read_layout",
    "swapped",
    "trials",
]
