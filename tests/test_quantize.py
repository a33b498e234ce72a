"""Formats are bit for bit those of the codec written number by number; layers hold them right."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from longtake.config import TransformerConfig
from longtake.errors import CannotHere
from longtake.kernels import ops
from longtake.model import Transformer
from longtake.quantize import (
    QuantizedLinear,
    choose_way,
    guard,
    low_layers,
    quantize,
    quantized_layers,
    reference,
    swapped,
    trials,
)
from longtake.quantize.codec import E2M1, decode, encode
from longtake.quantize.product import tiled

FORMATS = ("fp8", "nvfp4")
WAYS = (("fp8", False), ("nvfp4", False), ("nvfp4", True))
"""Format, and whether its scales are fitted."""
SMALL = TransformerConfig(latent_channels=4, width=24, depth=2, heads=2, text_width=8)
NUMBERS = st.floats(-(2.0**100), 2.0**100, width=32)


@st.composite
def matrices(draw):
    columns = draw(st.integers(1, 37))
    rows = draw(
        st.lists(st.lists(NUMBERS, min_size=columns, max_size=columns), min_size=1, max_size=3)
    )
    return torch.tensor(rows, dtype=torch.float32)


def same(how, matrix, fit=False):
    """Codes, scales and values of the fast codec are those of the slow one."""
    packed, rows = encode(matrix, how, fit=fit), matrix.tolist()
    if how == "fp8":
        codes, scales = reference.encode_fp8(rows)
        values = reference.decode_fp8(codes, scales)
        assert packed.scales.tolist() == scales
    else:
        codes, bits, whole = reference.encode_nvfp4(rows, fit=fit)
        values = reference.decode_nvfp4(codes, bits, whole, matrix.shape[1])
        assert packed.scales.tolist() == bits
        assert packed.tensor_scale.item() == whole
    assert packed.codes.tolist() == codes
    assert decode(packed, matrix.shape[1], torch.float32).tolist() == values


@pytest.mark.parametrize(("how", "fit"), WAYS)
@settings(max_examples=60, deadline=None)
@given(matrix=matrices())
def test_the_codec_is_the_reference_bit_for_bit(how, fit, matrix):
    same(how, matrix, fit)


@pytest.mark.parametrize(("how", "fit"), WAYS)
@pytest.mark.parametrize("value", [0.0, -0.0, 1e-45, 1e-38, 448.0, 1e30, -(2.0**-126)])
def test_extremes_are_the_references_too(how, fit, value):
    same(how, torch.full((2, 17), value), fit)


def test_fitted_scales_of_many_sizes_are_the_references():
    same("nvfp4", torch.randn(6, 64) * torch.logspace(-6, 6, 6)[:, None], fit=True)


def test_fitting_scales_takes_an_eighth_off_the_error_and_never_adds_to_a_block():
    matrix = torch.randn(64, 512)
    plain, fitted = (
        (decode(encode(matrix, "nvfp4", fit=fit), 512, torch.float32) - matrix)
        .unflatten(1, (-1, 16)).square().sum(2)
        for fit in (False, True)
    )  # fmt: skip
    assert (fitted <= plain * (1 + 1e-4)).all()
    assert fitted.sum().sqrt() < 0.88 * plain.sum().sqrt()


def test_weights_are_fitted_and_what_they_multiply_is_not():
    weight, x = torch.randn(24, 48), torch.randn(5, 48)
    layer = QuantizedLinear.of(weight, None, "nvfp4")
    assert torch.equal(layer.codes, encode(weight, "nvfp4", fit=True).codes)
    layer.way = "emulate"
    plain = decode(encode(x, "nvfp4"), 48, torch.float32)
    assert torch.equal(layer(x), nn.functional.linear(plain, layer.weight_as(torch.float32)))


@pytest.mark.parametrize("value", [0.25, 0.75, 1.25, 1.75, 2.5, 3.5, 5.0])
def test_halves_go_to_the_even_code_and_their_neighbours_to_the_nearest(value):
    # A block whose largest is 6 and whose scale is therefore one.
    row = torch.full((1, 16), value)
    row[0, 0] = 6 * 448.0
    blocks = torch.cat(
        [row * torch.tensor([1.0] + [0.0] * 15), torch.tensor([[6.0] + [value] * 15])], 1
    )
    same("nvfp4", blocks)
    for near in (math.nextafter(value, 0), math.nextafter(value, 9)):
        same("nvfp4", torch.where(blocks == value, near, blocks))


@pytest.mark.parametrize("how", FORMATS)
@pytest.mark.parametrize("fit", [False, True])
def test_what_a_format_can_say_comes_back_unchanged(how, fit):
    if how == "nvfp4":
        matrix = torch.tensor([E2M1 + tuple(-v for v in E2M1)]) * 448
    else:
        matrix = torch.tensor([[448.0, -0.5, 2.0**-9, 13.0, 0.0]])
    packed = encode(matrix, how, fit=fit)
    assert torch.equal(decode(packed, matrix.shape[1], torch.float32), matrix)


@pytest.mark.parametrize("how", FORMATS)
def test_no_scale_is_zero_even_of_zeros(how):
    packed = encode(torch.zeros(3, 40), how)
    assert packed.scales.count_nonzero() == packed.scales.numel()
    assert torch.equal(decode(packed, 40, torch.float32), torch.zeros(3, 40))


def test_a_large_matrix_is_packed_and_unpacked_in_parts_to_the_same_numbers(monkeypatch):
    matrix = torch.randn(50, 33)
    packed = encode(matrix, "nvfp4", fit=True)
    whole = decode(packed, 33, torch.bfloat16)
    monkeypatch.setattr("longtake.quantize.codec.AT_ONCE", 100)
    parts = encode(matrix, "nvfp4", fit=True)
    assert all(torch.equal(a, b) for a, b in zip(parts, packed, strict=True))
    assert torch.equal(decode(packed, 33, torch.bfloat16), whole)


def test_scales_are_tiled_as_the_matrix_units_read_them():
    scales = torch.arange(200 * 6, dtype=torch.int32).remainder(251).to(torch.uint8).view(200, 6)
    flat = tiled(scales)
    assert len(flat) == 256 * 8
    for row, column in ((0, 0), (31, 3), (32, 0), (127, 5), (128, 4), (199, 5)):
        tile = row // 128 * 2 + column // 4
        place = tile * 512 + 16 * (row % 32) + 4 * (row % 128 // 32) + column % 4
        assert flat[place] == scales[row, column]


@pytest.mark.parametrize("how", FORMATS)
def test_a_layer_multiplies_with_what_it_holds(how):
    linear, x = nn.Linear(40, 24), torch.randn(2, 3, 40)
    layer = QuantizedLinear.of(linear.weight, linear.bias, how)
    expected = nn.functional.linear(x, layer.weight_as(torch.float32), linear.bias)
    assert torch.equal(layer(x), expected)
    layer.way = "emulate"
    assert (layer(x) - expected).norm() < 0.2 * expected.norm()


@pytest.mark.parametrize("how", FORMATS)
def test_a_change_of_type_leaves_codes_and_scales_alone(how):
    linear = nn.Linear(40, 24)
    layer = QuantizedLinear.of(linear.weight, linear.bias, how)
    before = layer.weight_as(torch.float32)
    layer.to(torch.bfloat16)
    assert layer.bias.dtype == torch.bfloat16
    assert torch.equal(layer.weight_as(torch.float32), before)


def test_the_product_in_fp8_is_that_of_the_rounded_numbers():
    layer = QuantizedLinear.of(torch.randn(32, 48), None, "fp8")
    x = torch.randn(20, 48, dtype=torch.bfloat16)
    layer.way = "emulate"
    emulated = layer(x).float()
    layer.way = "multiply"
    assert (layer(x).float() - emulated).norm() < 0.01 * emulated.norm()


def small():
    model = Transformer(SMALL).eval().requires_grad_(False)
    for name, weight in model.named_parameters():
        weight.normal_(std=0.2).add_(float("norm" in name))
    inputs = (
        torch.randn(1, 4, 3, 4, 4), torch.rand(1, 3),
        torch.randn(1, 5, 8), torch.ones(1, 5, dtype=torch.bool),
    )  # fmt: skip
    return model, inputs


@pytest.mark.parametrize("how", FORMATS)
@torch.no_grad()
def test_a_denoiser_in_few_bits_is_near_the_one_in_full(how):
    model, inputs = small()
    exact = model(*inputs)
    names = low_layers(model, how)
    assert len(names) == (16 if how == "fp8" else 14)
    with swapped(model, how, names, "unpack"):
        assert set(quantized_layers(model)) == set(names)
        off = (model(*inputs) - exact).norm() / exact.norm()
        assert 0 < off < {"fp8": 0.2, "nvfp4": 0.8}[how]
    assert torch.equal(model(*inputs), exact)


@torch.no_grad()
def test_a_chunk_after_another_goes_through_the_same_low_bit_layers():
    model, inputs = small()
    quantize(model, "fp8", low_layers(model, "fp8"))
    whole, _ = model.advance(*inputs, (3,))
    assert torch.allclose(whole, model(*inputs), atol=1e-4)


@pytest.mark.parametrize("how", FORMATS)
def test_the_self_test_passes_here(how):
    assert all(trial.fine for trial in trials(how, torch.device("cpu")))


def test_the_self_test_finds_a_layer_that_reads_its_scales_in_another_order(monkeypatch):
    def other(packed, columns, dtype):
        return decode(packed._replace(scales=packed.scales.flip(0)), columns, dtype)

    whole = QuantizedLinear.weight_as
    monkeypatch.setattr("longtake.quantize.layer.decode", other)
    monkeypatch.setattr(
        QuantizedLinear, "weight_as",
        lambda layer, dtype: decode(layer.packed, layer.in_features, dtype)
        if dtype == torch.float32 else whole(layer, dtype),
    )  # fmt: skip
    found = {trial.what: trial.fine for trial in trials("fp8", torch.device("cpu"))}
    assert not found["unpacked product"]


@torch.no_grad()
def test_numbers_out_of_range_are_named_with_their_layer():
    model, inputs = small()
    guard(model.blocks, model.head, "fp16")
    model(*inputs)
    model.blocks[1].feed_forward.down.weight[0, 0] = math.inf
    with pytest.raises(CannotHere, match="range of fp16 in layer 1 of 2.*bf16 or fp32"):
        model(*inputs)
    model.blocks[1].feed_forward.down.weight[0, 0] = 0
    model(*inputs)


@torch.no_grad()
def test_sums_over_many_tokens_stay_in_range_in_fp16():
    tokens, shape = 32_760, (1, 1, 32_760, 16)
    angles = torch.zeros(tokens, 8)
    q, k, v = (torch.full(shape, 8.0, dtype=torch.float16) for _ in range(3))
    # Summed in fp16 this is beyond 65,504 by far.
    assert (k.float().sum() > 65_504) and not k.sum(2).isfinite().all()
    y = ops.linear_attention(q, k, v, angles.cos(), angles.sin())
    assert torch.allclose(y.float(), torch.full(shape, 8.0), rtol=1e-3)


def test_choosing_a_way_reaches_every_layer():
    model, _ = small()
    quantize(model, "fp8", low_layers(model, "fp8", keep=("feed_forward.up",)))
    choose_way(model, "emulate")
    layers = quantized_layers(model)
    assert {layer.way for layer in layers.values()} == {"emulate"}
    assert not any(name.endswith("feed_forward.up") for name in layers)
