"""Values with their channels last, and biases that wait until something looks at them.

A convolution that adds its own bias does so in a pass of its own, an unvectorised one if channels
lie last. Left out, a bias is one vector for the whole picture: the next norm adds it while it reads
the values anyway, and a sum of two streams adds two vectors.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float
from torch import Tensor

# Underscores: a layer changes each of these, and a checker would hold them fixed.
Values = Float[Tensor, "_t _h _w _c"]
Weight = Float[Tensor, "_out _in _taps_t _taps_h _taps_w"]


class Stream(NamedTuple):
    """Values and a bias that still has to be added to each of their channels."""

    values: Values
    bias: Float[Tensor, " _c"]

    def settled(self) -> Values:
        """The values with the bias."""
        return self.values + self.bias


def convolve(
    x: Values, weight: Weight, bias: Float[Tensor, " _out"], padding: tuple[int, int, int]
) -> Stream:
    """A convolution over time, height and width, zeros around; its bias waits."""
    taps = weight.contiguous(memory_format=torch.channels_last_3d)
    # A view, in what torch calls channels_last_3d.
    y = F.conv3d(rearrange(x, "t h w c -> 1 c t h w"), taps, padding=padding)
    return Stream(y[0].permute(1, 2, 3, 0).contiguous(), bias)


def pointwise(x: Stream, weight: Weight, bias: Float[Tensor, " _out"]) -> Stream:
    """A convolution of single cells, which a waiting bias goes through as well."""
    matrix = weight.flatten(1)
    return Stream(F.linear(x.values, matrix), F.linear(x.bias, matrix, bias))
