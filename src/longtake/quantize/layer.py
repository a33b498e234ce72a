"""A linear layer that holds its weights in few bits."""

from collections.abc import Callable
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from longtake.kernels.reference.low_bits import taps_of
from longtake.quantize.codec import Format, Packed, decode, encode, stored_shape
from longtake.quantize.product import product_fp8, product_nvfp4, taps_product_fp8

Way = Literal["unpack", "multiply", "emulate"]
"""`unpack`: weights become the type of the input, one layer at a time: less memory, not faster.
`multiply`: the input is rounded to the format as well, and the card multiplies in it. `emulate`:
the numbers of that on any device, slowly."""


class QuantizedLinear(nn.Module):
    """y = x W^T + b with W in fp8 or nvfp4.

    Codes and scales are parameters that learn nothing, so that they move, wait on the host and
    are saved as all weights are; a change of type leaves them alone.
    """

    def __init__(self, rows: int, columns: int, how: Format, bias: nn.Parameter | None) -> None:
        """Make an empty layer; `of` fills one from weights."""
        super().__init__()
        self.in_features, self.out_features, self.how = columns, rows, how
        self.way: Way = "unpack"
        codes, scales = stored_shape(rows, columns, how)
        scale_type = torch.float32 if how == "fp8" else torch.uint8
        self.codes = _still(torch.empty(codes, dtype=torch.uint8))
        self.scales = _still(torch.empty(scales, dtype=scale_type))
        self.tensor_scale = _still(torch.empty(1)) if how == "nvfp4" else None
        self.bias = bias

    @classmethod
    def of(
        cls, weight: Float[Tensor, "rows columns"], bias: nn.Parameter | None, how: Format
    ) -> "QuantizedLinear":
        """The layer that comes nearest to these weights."""
        with torch.device("meta"):
            layer = cls(len(weight), weight.shape[1], how, bias)
        packed = encode(weight.detach(), how, fit=True)
        layer.codes, layer.scales = _still(packed.codes), _still(packed.scales)
        if packed.tensor_scale is not None:
            layer.tensor_scale = _still(packed.tensor_scale)
        return layer

    @property
    def packed(self) -> Packed:
        """The weights as they are stored."""
        return Packed(self.codes, self.scales, self.tensor_scale)

    def weight_as(self, dtype: torch.dtype) -> Float[Tensor, "rows columns"]:
        """The weights as numbers."""
        return decode(self.packed, self.in_features, dtype)

    def forward(self, x: Float[Tensor, "*batch columns"]) -> Float[Tensor, "*batch rows"]:
        """Multiply, by the way that was found to work here."""
        if self.way != "multiply":
            if self.way == "emulate":
                rounded = encode(x.flatten(0, -2), self.how)
                x = decode(rounded, self.in_features, x.dtype).view_as(x)
            return F.linear(x, self.weight_as(x.dtype), self.bias)
        # The kernels read rows; after a convolution they may lie as columns.
        rows = x.flatten(0, -2).contiguous()
        if self.how == "fp8":
            y = product_fp8(rows, self.packed, self.bias)
        else:
            y = product_nvfp4(rows, self.packed)
            y = y if self.bias is None else y + self.bias
        return y.to(x.dtype).unflatten(0, x.shape[:-1])

    def over_time(
        self,
        x: Float[Tensor, "b t s d"],
        past: Float[Tensor, "b s d"] | None,
        following: Float[Tensor, "b s d"] | None,
    ) -> Float[Tensor, "b t s rows"]:
        """What a convolution over time makes, its three taps one behind the other in W."""
        if self.way == "multiply" and self.how == "fp8":
            y = taps_product_fp8(x, past, following, self.packed)
            return y.to(x.dtype).unflatten(0, x.shape[:-1])
        return self(taps_of(x, past, following))

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> "QuantizedLinear":
        def moved(tensor: Tensor) -> Tensor:
            after = fn(tensor)
            same = tensor is self.bias or after.dtype == tensor.dtype
            return after if same else tensor.to(after.device)

        return super()._apply(moved, recurse)


def _still(tensor: Tensor) -> nn.Parameter:
    return nn.Parameter(tensor, requires_grad=False)
