"""Bytes counted without data are those that real tensors take."""

from dataclasses import replace

import pytest
import torch

from longtake.checkpoints.public_config import read_transformer_config
from longtake.config import TransformerConfig
from longtake.model import Transformer
from longtake.official.plan import peaks_of
from longtake.official.published import GEMMA, published
from longtake.official.settings import OfficialConfig
from longtake.planner import (
    Weights,
    forward_flops,
    forward_peak,
    forward_seconds,
    live_peak,
    room_of,
    weight_bytes,
)
from longtake.quantize import low_layers, quantize

SMALL = TransformerConfig(latent_channels=4, width=24, depth=3, heads=2, patch=(1, 2, 2))
FP32, BF16 = Weights(dtype=torch.float32), Weights(dtype=torch.bfloat16)
PUBLISHED = {"_class_name": "SanaVideoTransformer3DModel", "mlp_ratio": 3.0}


def test_what_is_held_counts_and_what_is_dropped_does_not():
    with live_peak() as peak:
        a = torch.zeros(1000)
        b = a + 1
        del a
        c = b + 1
        del b
        _ = c.view(10, 100).mT
    assert peak.bytes == 8000


def test_what_was_there_before_does_not_count():
    a = torch.zeros(1000)
    with live_peak() as peak:
        _ = a.view(10, 100) + 1
    assert peak.bytes == 4000


def test_a_forward_without_data_takes_what_a_real_one_does():
    model = Transformer(SMALL).requires_grad_(False)
    latents, text = torch.randn(1, 4, 3, 4, 6), torch.randn(1, 7, SMALL.text_width)
    sigma, mask = torch.rand(1, 3).double(), torch.ones(1, 7, dtype=torch.bool)
    with torch.no_grad(), live_peak() as real:
        # As films do: the prompt is read once and kept.
        model.predict(latents, sigma, model.read(text, mask))
    assert forward_peak(SMALL, (3, 4, 6), 7, FP32) == pytest.approx(real.bytes, rel=0.02)


def test_the_published_models_take_3_8_gib_and_2_more_at_480p():
    config = read_transformer_config(PUBLISHED, "config.json")
    whole, layer = weight_bytes(config, BF16)
    assert whole == 2 * 2_056_862_144
    assert layer == 2 * 100_533_440
    peak = forward_peak(config, (21, 60, 104), 300, BF16)
    assert 1.5 * 2**30 < peak < 2.5 * 2**30
    longer = forward_peak(config, (41, 60, 104), 300, BF16)
    assert longer == pytest.approx(peak * 41 / 21, rel=0.1)


def test_the_time_of_a_forward_grows_with_its_frames():
    short, long = (
        forward_seconds(SMALL, (t, 16, 16), 7, FP32, torch.device("cpu")) for t in (2, 8)
    )
    assert 0 < short < long


def test_the_operations_of_the_published_model_are_those_counted_by_others():
    config = read_transformer_config(PUBLISHED, "config.json")
    assert forward_flops(config, (21, 60, 104), 300) == pytest.approx(121.08e12, rel=0.01)


def test_few_bits_take_a_half_and_a_quarter_of_the_published_weights():
    config = read_transformer_config(PUBLISHED, "config.json")
    whole, _ = weight_bytes(config, BF16)
    fp8, _ = weight_bytes(config, Weights(dtype=torch.bfloat16, how="fp8"))
    nvfp4, _ = weight_bytes(config, Weights(dtype=torch.bfloat16, how="nvfp4"))
    assert fp8 / whole == pytest.approx(0.513, abs=0.005)
    assert nvfp4 / whole == pytest.approx(0.334, abs=0.005)


@pytest.mark.parametrize("how", ["fp8", "nvfp4"])
def test_a_forward_in_few_bits_takes_what_was_planned(how):
    weights = Weights(dtype=torch.float32, how=how)
    model = Transformer(SMALL).requires_grad_(False)
    quantize(model, how, low_layers(model, how))
    latents, text = torch.randn(1, 4, 3, 4, 6), torch.randn(1, 7, SMALL.text_width)
    sigma, mask = torch.rand(1, 3).double(), torch.ones(1, 7, dtype=torch.bool)
    with torch.no_grad(), live_peak() as real:
        model.predict(latents, sigma, model.read(text, mask))
    # The table of nvfp4's values is a fifteenth of what so small a model takes.
    assert forward_peak(SMALL, (3, 4, 6), 7, weights) == pytest.approx(real.bytes, rel=0.07)
    held = sum(weight.nbytes for weight in model.parameters())
    assert weight_bytes(SMALL, weights)[0] == held


H100 = 79 * 2**30


def test_a_forward_on_a_card_is_planned_as_it_was_measured_on_one():
    # benchmarks/results/precision_h100_2026-11-28.jsonl: 17, 81 and 161 frames at 480p.
    config = read_transformer_config(PUBLISHED, "config.json")
    peaks = {5: 4.394, 21: 5.659, 41: 6.31}
    # The kernels of fp16 are the same.
    for dtype in (torch.bfloat16, torch.float16):
        card = Weights(dtype=dtype, card_bytes=H100)
        held, _ = weight_bytes(config, card)
        for frames, gib in peaks.items():
            planned = held + forward_peak(config, (frames, 60, 104), 300, card)
            assert planned / 2**30 == pytest.approx(gib, rel=0.005)


def test_what_a_card_does_in_eight_bits_takes_less_than_its_references():
    # Products in eight bits want columns in sixteens.
    wide = replace(SMALL, width=32)

    def peak(card_bytes: int) -> int:
        weights = Weights(dtype=torch.bfloat16, how="fp8", way="multiply", card_bytes=card_bytes)
        return forward_peak(wide, (9, 16, 16), 7, weights) - room_of(weights)

    assert peak(H100) < peak(0) / 1.5


def test_a_whole_public_film_is_planned_within_five_percent_of_what_a_card_took():
    # benchmarks/results/card_2026-11-28.md, in GiB. LongSANA was decoded two latent frames at a
    # time then; one takes 1.48 GiB less (benchmarks/results/h200_2026-11-28.md).
    measured = {
        ("480p", 832, 480, 81): {"text": 5.653, "block": 5.256},
        ("720p", 1280, 704, 81): {"text": 5.252, "block": 5.256},
        ("longsana", 832, 480, 961): {"text": 9.366 - 1.48},
    }
    card = Weights(dtype=torch.bfloat16, card_bytes=H100)
    for (which, width, height, frames), peaks in measured.items():
        with published(which) as model:
            film = OfficialConfig(width=width, height=height, frames=frames)
            planned = peaks_of(model, film, card, GEMMA, *peaks)
        for way, gib in peaks.items():
            assert planned[way].most / 2**30 == pytest.approx(gib, rel=0.05)
