"""A recorded pass gives what the pass itself gives, whatever changes between two replays."""

from dataclasses import replace

import pytest
import torch

from longtake.model import Recorded, State, Transformer, recorded

FRAMES = 2


@pytest.fixture
def model(tiny):
    torch.manual_seed(1)
    model = Transformer(tiny.transformer).requires_grad_(False)
    torch.nn.init.normal_(model.head.weight, std=0.1)
    return model


@pytest.fixture
def counted(monkeypatch):
    """A CPU that records: the work is done anew each time it is replayed."""
    times = {"recorded": 0, "replayed": 0}

    def record(work, _device):
        times["recorded"] += 1

        def replay():
            times["replayed"] += 1
            work()

        return replay

    monkeypatch.setattr(recorded, "record", record)
    monkeypatch.setattr(recorded, "recordable", lambda _device: True)
    return times


def prompt(model, seed):
    torch.manual_seed(seed)
    return model.read(torch.randn(1, 4, 24), torch.ones(1, 4, dtype=torch.bool))


def rolled(go_on, readings):
    """Two noisy passes and a committing one a chunk; all velocities, and the last state."""
    torch.manual_seed(3)
    made, state = [], None
    for reading in readings:
        for level in (0.9, 0.4, 0.0):
            latents = torch.randn(1, 8, FRAMES, 2, 3)
            sigma = torch.full((1, FRAMES), level)
            velocity, after = go_on(latents, sigma, reading, state)
            made.append(velocity)
        state = after
    return made, state


def tensors(state: State):
    return [part for layer in state.layers for part in (*layer.memory, layer.frame)]


@torch.no_grad()
def test_replayed_chunks_are_the_chunks_themselves_when_prompt_and_position_change(model, counted):
    first, second = prompt(model, 5), prompt(model, 6)
    readings = (first, first, second, second, first)

    def plain(latents, sigma, reading, state):
        return model.go_on(latents, sigma, reading, (FRAMES,), state)

    wanted, end = rolled(plain, readings)
    made, last = rolled(Recorded(model).go_on, readings)
    assert all(torch.equal(a, b) for a, b in zip(made, wanted, strict=True))
    assert all(torch.equal(a, b) for a, b in zip(tensors(last), tensors(end), strict=True))
    assert last.latent_frames == end.latent_frames == FRAMES * len(readings)
    # Three passes without a past and one of the new shape run as they are.
    assert counted == {"recorded": 1, "replayed": 3 * len(readings) - 4}


@torch.no_grad()
def test_a_state_that_was_given_out_is_not_written_to_by_later_passes(model, counted):
    reading, passes = prompt(model, 5), Recorded(model)
    _, state = rolled(passes.go_on, (reading, reading))
    kept = [part.clone() for part in tensors(state)]
    passes.go_on(torch.randn(1, 8, FRAMES, 2, 3), torch.zeros(1, FRAMES), reading, state)
    assert counted["replayed"] > 0
    assert all(torch.equal(a, b) for a, b in zip(tensors(state), kept, strict=True))


@torch.no_grad()
def test_a_chunk_of_another_length_is_recorded_anew(model, counted):
    reading, passes = prompt(model, 5), Recorded(model)
    _, state = rolled(passes.go_on, (reading, reading))
    for frames in (3, 3, 3):
        latents, sigma = torch.randn(1, 8, frames, 2, 3), torch.zeros(1, frames)
        made, _ = passes.go_on(latents, sigma, reading, state)
        wanted, _ = model.go_on(latents, sigma, reading, (frames,), state)
        assert torch.equal(made, wanted)
    assert counted["recorded"] == 2


@torch.no_grad()
@pytest.mark.parametrize("why", ["watched", "large", "elsewhere"])
def test_what_cannot_be_recorded_runs_as_it_is(model, counted, monkeypatch, why):
    match why:
        case "watched":
            model.head.register_forward_hook(lambda *_: None)
        case "large":
            monkeypatch.setattr(recorded, "LARGEST", 10)
        case _:
            monkeypatch.setattr(recorded, "recordable", lambda device: device.type == "cuda")
    reading = prompt(model, 5)
    rolled(Recorded(model).go_on, (reading, reading))
    assert counted == {"recorded": 0, "replayed": 0}


def test_a_pass_that_keeps_gradients_runs_as_it_is(tiny, counted):
    model = Transformer(replace(tiny.transformer))
    reading = prompt(model, 5)
    made, _ = rolled(Recorded(model).go_on, (reading, reading))
    assert counted["recorded"] == 0
    assert made[-1].requires_grad
