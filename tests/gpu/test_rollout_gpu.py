"""A take on a CUDA card goes on from a stored state to the same bytes."""

from dataclasses import replace

import pytest
import torch

from longtake.config import Cue, SampleConfig
from longtake.model import Recorded
from longtake.pipeline import Border, Frames, Pipeline, build
from longtake.rollout.numerics import numerics_hash
from longtake.rollout.snapshot import load_snapshot, save_snapshot

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA card"),
]

DEVICE = torch.device("cuda")
SETTINGS = SampleConfig(width=448, height=256, frames=61, steps=3)
CUES = (Cue(at_s=2.0, text="a blue ball"),)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_take_goes_on_from_a_stored_state_to_the_same_bytes(tiny, tmp_path, dtype):
    config = replace(tiny, chunk=5)
    parts = build(config)
    torch.nn.init.normal_(parts[1].head.weight, std=0.1)
    for part in parts:
        part.to(DEVICE, dtype).eval().requires_grad_(False)
    pipe = Pipeline(name="tiny", model_hash="0" * 64, config=config, parts=parts)
    events = list(pipe.stream("a red ball", SETTINGS, cues=CUES))
    whole = torch.cat([event.pixels for event in events if isinstance(event, Frames)])
    first = next(event.snapshot for event in events if isinstance(event, Border))
    save_snapshot(tmp_path / "state.safetensors", first, pipe.identity)
    start = load_snapshot(tmp_path / "state.safetensors", pipe.identity)
    rest = pipe.stream("a red ball", SETTINGS, cues=CUES, start=start)
    made = torch.cat([event.pixels for event in rest if isinstance(event, Frames)])
    assert torch.equal(made, whole[21:])
    border = pipe.remember(whole[:41], "a red ball", SETTINGS)
    assert border.state.layers[0].frame.device.type == DEVICE.type


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_fingerprint_of_the_arithmetic_is_the_same_each_time(dtype):
    assert len({numerics_hash(DEVICE, dtype) for _ in range(3)}) == 1


@torch.no_grad()
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_passes_recorded_on_the_card_give_the_same_bytes(tiny, dtype):
    model = build(replace(tiny, chunk=5))[1].to(DEVICE, dtype).requires_grad_(False)
    torch.nn.init.normal_(model.head.weight, std=0.1)
    text = torch.randn(1, 24, tiny.transformer.text_width, device=DEVICE)
    reading = model.read(text, torch.ones(1, 24, dtype=torch.bool, device=DEVICE))

    def rolled(go_on):
        torch.manual_seed(3)
        made, state = [], None
        for _ in range(4):
            for level in (0.9, 0.4, 0.0):
                latents = torch.randn(1, tiny.transformer.latent_channels, 5, 16, 28).to(DEVICE)
                sigma = torch.full((1, 5), level, device=DEVICE)
                velocity, after = go_on(latents, sigma, reading, state)
                made.append(velocity)
            state = after
        return made

    passes = Recorded(model)
    wanted = rolled(lambda x, sigma, reading, state: model.go_on(x, sigma, reading, (5,), state))
    assert all(torch.equal(a, b) for a, b in zip(rolled(passes.go_on), wanted, strict=True))
    assert passes.recorded
