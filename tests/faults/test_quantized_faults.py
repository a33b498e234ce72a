"""Weights in few bits that are not what they say are refused by name: row 53 of the fault matrix.

Each fault is written with fresh checksums, as a careless tool would.
"""

import json
import shutil
from collections.abc import Callable
from functools import cache

import pytest
import torch
from safetensors.torch import load_file

from longtake.checkpoints import save_tensors
from longtake.cli.main import run
from longtake.config import (
    AutoencoderConfig,
    ModelConfig,
    SampleConfig,
    TextConfig,
    TransformerConfig,
    to_dict,
)
from longtake.errors import LongtakeError, WeightsError
from longtake.pipeline import build, load
from longtake.pipeline.quantized import packed_types
from longtake.presets import MODEL_FILE, PARTS
from longtake.quantize import QUANTIZED_FILE

pytestmark = pytest.mark.faults
QKV = "blocks.0.self_attention.qkv"


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A function from a format, a depth and a seed to a model in full and in it, each made once."""
    place = tmp_path_factory.mktemp("models")

    @cache
    def make(how, depth, seed):
        denoiser = TransformerConfig(
            latent_channels=8, width=48, depth=depth, heads=2, text_width=24, segment=2
        )
        config = ModelConfig(
            autoencoder=AutoencoderConfig(
                latent_channels=8, widths=(16, 24, 32), encoder_blocks=(1, 1, 1),
                decoder_blocks=(1, 1, 1),
            ),
            transformer=denoiser,
            text=TextConfig(width=24, depth=1, heads=2, max_tokens=12),
            words=("a", "ball", "red"),
            max_frames=33,
        )  # fmt: skip
        source, out = (place / f"{kind}_{how}_{depth}_{seed}" for kind in ("full", "few"))
        source.mkdir()
        torch.manual_seed(seed)
        for name, part in zip(PARTS, build(config), strict=True):
            save_tensors(source / f"{name}.safetensors", part.state_dict())
        (source / MODEL_FILE).write_text(json.dumps(to_dict(config)))
        assert run(["quantize", str(source), "--precision", how, "-o", str(out), "--quiet"]) == 0
        return source, out

    return make


@pytest.fixture
def few(made, tmp_path):
    """A function from a format to a folder of a model stored in it, to be spoilt."""

    def copy(how, depth=1, seed=0):
        return shutil.copytree(made(how, depth, seed)[1], tmp_path / f"{how}_{depth}_{seed}")

    return copy


def change(folder, harm: Callable[[dict[str, torch.Tensor]], None]):
    path = folder / "transformer.safetensors"
    types = packed_types(load(str(folder), device="cpu").transformer)
    tensors = load_file(path)
    harm(tensors)
    save_tensors(path, tensors, packed=types)


def describe(folder, **changes):
    path = folder / QUANTIZED_FILE
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def refused(folder, *fragments):
    with pytest.raises(LongtakeError) as caught:
        load(str(folder), device="cpu")
    message = str(caught.value)
    assert "\n" not in message
    for fragment in fragments:
        assert fragment in message, message


@pytest.mark.parametrize("how", ["fp8", "nvfp4"])
def test_a_model_in_few_bits_is_smaller_and_makes_what_its_source_makes_in_that_format(made, how):
    source, folder = made(how, 1, 0)
    pipe, plain = load(str(folder), device="cpu"), load(str(source), device="cpu", precision=how)
    assert pipe.precision == how
    assert pipe.notes == plain.notes
    assert "not faster" in pipe.notes[0]
    small = SampleConfig(width=64, height=64, frames=5, steps=2)
    films = [each.generate("a red ball", settings=small).frames for each in (pipe, plain)]
    assert torch.equal(*films)
    sizes = [(f / "transformer.safetensors").stat().st_size for f in (folder, source)]
    assert sizes[0] < {"fp8": 0.5, "nvfp4": 0.45}[how] * sizes[1]


@pytest.mark.parametrize(
    ("how", "scale", "told"),
    [("fp8", 0.0, "a scale of zero"), ("fp8", -1.0, "negative"), ("nvfp4", 0, "a scale of zero"),
     ("nvfp4", 0x7F, "a scale that is no number"), ("nvfp4", 0x81, "negative")],
)  # fmt: skip
def test_an_impossible_scale_is_refused(few, how, scale, told):
    folder = few(how)

    def harm(tensors):
        tensors[f"{QKV}.scales"].view(-1)[5] = scale

    change(folder, harm)
    refused(folder, QKV, told)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 0.0])
def test_an_impossible_scale_of_a_tensor_is_refused(few, value):
    folder = few("nvfp4")
    types = packed_types(load(str(folder), device="cpu").transformer)
    path = folder / "transformer.safetensors"
    tensors = load_file(path)
    tensors[f"{QKV}.tensor_scale"].fill_(value)
    if value == 0:
        save_tensors(path, tensors, packed=types)
        refused(folder, QKV, "a scale of zero")
        return
    with pytest.raises(WeightsError, match="finite"):
        save_tensors(path, tensors, packed=types)
    rewrite(path, f"{QKV}.tensor_scale", torch.tensor([value]))
    refused(folder, "tensor_scale", "finite")


def rewrite(path, name, tensor):
    """Put bytes into a file behind our back, and drop its list of checksums."""
    raw = bytearray(path.read_bytes())
    length = int.from_bytes(raw[:8], "little")
    start, end = json.loads(raw[8 : 8 + length])[name]["data_offsets"]
    raw[8 + length + start : 8 + length + end] = tensor.numpy().tobytes()
    path.write_bytes(raw)
    path.with_name(path.name + ".index.json").unlink()


def test_a_weight_that_is_no_number_is_refused(few):
    folder = few("fp8")
    change(folder, lambda t: t[f"{QKV}.codes"].view(-1)[3].fill_(0xFF))
    refused(folder, QKV, "a weight that is no number")


@pytest.mark.parametrize("harm", ["nibbles", "scales", "rows", "one"])
def test_another_order_of_bits_or_scales_is_refused(few, harm):
    folder = few("nvfp4")

    def swap(tensors):
        codes, scales = tensors[f"{QKV}.codes"], tensors[f"{QKV}.scales"]
        match harm:
            case "nibbles":
                codes.copy_(codes << 4 | codes >> 4)
            case "scales":
                scales.copy_(scales.T.reshape(scales.shape).clone())
            case "rows":
                codes.copy_(codes.roll(1, 0))
            case _:
                codes[7, 3] ^= 0x20

    change(folder, swap)
    refused(folder, QKV, "not those that were written")


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"version": 2}, "has version '2', known is 1"),
        ({"version": None}, "has version 'None'"),
        ({"format": "int4"}, "names the format 'int4'"),
        ({"format": "fp8"}, "blocks of 16"),
        ({"block": 32}, "blocks of 32; nvfp4 has 16"),
        ({"model": "0" * 64}, "of another model"),
        ({"layers": []}, "names no layers"),
        ({"layers": [{"name": "head", "check": [0.0] * 16}]}, "no layer 'head'"),
        ({"layers": [{"name": QKV, "check": [0.0]}]}, "no layer"),
        ({"layers": 3}, "damaged"),
        ({"more": 1}, "unknown setting 'more'"),
    ],
)
def test_a_description_that_does_not_fit_is_refused(few, changes, told):
    folder = few("nvfp4")
    describe(folder, **changes)
    refused(folder, QUANTIZED_FILE, told)


def test_weights_of_another_model_of_the_same_shapes_are_refused(few):
    one, other = few("nvfp4", seed=1), few("nvfp4", seed=2)
    for name in ("transformer.safetensors", "transformer.safetensors.index.json"):
        (one / name).write_bytes((other / name).read_bytes())
    refused(one, "of another model")


def test_weights_of_a_model_of_other_shapes_are_refused(few):
    one, other = few("fp8"), few("fp8", depth=2)
    (one / QUANTIZED_FILE).write_bytes((other / QUANTIZED_FILE).read_bytes())
    refused(one, "of another model")


def test_without_its_description_it_is_refused(few):
    folder = few("fp8")
    (folder / QUANTIZED_FILE).unlink()
    refused(folder, "missing")


def test_another_precision_than_the_stored_one_is_refused_with_the_fix(few, capsys):
    folder = few("fp8")
    film = folder / "film.mp4"
    assert (
        run(
            [
                "generate",
                "a red ball",
                "--model",
                str(folder),
                "--precision",
                "bf16",
                "-o",
                str(film),
            ]
        )
        == 2
    )
    assert "are stored in fp8, got --precision bf16; leave it out" in capsys.readouterr().err
    assert run(["quantize", str(folder), "--precision", "nvfp4", "-o", str(folder / "x")]) == 2
    assert "are in fp8 already" in capsys.readouterr().err
    assert not (folder / "x").exists()
