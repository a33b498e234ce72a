from dataclasses import replace

import pytest
import torch

from longtake.config import SampleConfig
from longtake.errors import CannotHere, ModelError, PromptError, SettingError
from longtake.pipeline import Border, Frames, Notice, Pipeline, Progress, build, load

SETTINGS = SampleConfig(width=96, height=64, frames=17, steps=3, seed=7)


@pytest.fixture
def pipeline(tiny):
    parts = build(tiny)
    torch.nn.init.normal_(parts[1].head.weight, std=0.1)
    for part in parts:
        part.eval().requires_grad_(False)
    return Pipeline(name="tiny", model_hash="0", config=tiny, parts=parts)


def film(pipeline, prompt="a red ball bounces", **changes):
    return pipeline.generate(prompt, settings=replace(SETTINGS, **changes)).frames


def test_progress_comes_first_then_frames_in_order_and_all_of_them(pipeline):
    events = list(pipeline.stream("a red ball", SETTINGS))
    stages = [event.stage for event in events if isinstance(event, Progress)]
    assert stages == sorted(stages, key=["text", "denoise", "decode"].index)
    denoise = [e.step for e in events if isinstance(e, Progress) and e.stage == "denoise"]
    assert denoise == [1, 2, 3]
    first = next(i for i, event in enumerate(events) if isinstance(event, Frames))
    assert not any(isinstance(event, Frames) for event in events[:first])
    assert sum(len(event.pixels) for event in events if isinstance(event, Frames)) == 17


@pytest.mark.parametrize("frames", [1, 2, 4, 5, 6, 17, 33])
def test_a_film_has_exactly_the_frames_asked_for(pipeline, frames):
    pixels = film(pipeline, frames=frames)
    assert pixels.shape == (frames, 64, 96, 3)
    assert pixels.dtype == torch.uint8


def test_the_same_seed_gives_the_same_bytes_and_another_seed_another_film(pipeline):
    assert torch.equal(film(pipeline), film(pipeline))
    assert not torch.equal(film(pipeline), film(pipeline, seed=8))


def test_the_prompt_changes_the_film(pipeline):
    assert not torch.equal(film(pipeline), film(pipeline, prompt="a green sphere"))


def test_without_guidance_half_the_work_gives_the_conditional_film(pipeline):
    guided, plain = film(pipeline, guidance=2.0), film(pipeline, guidance=1.0)
    assert not torch.equal(guided, plain)
    almost = film(pipeline, guidance=1.0 + 1e-7)
    assert (almost.int() - plain.int()).abs().max() <= 1


def test_words_the_model_does_not_know_are_named_once(pipeline):
    events = list(pipeline.stream("a lawyer reads to a lawyer", SETTINGS))
    notices = [event.text for event in events if isinstance(event, Notice)]
    assert notices == ["the model does not know: lawyer, reads, to"]


@pytest.mark.parametrize("prompt", ["", "   ", "\n\t"])
def test_an_empty_prompt_is_refused_with_an_example(pipeline, prompt):
    with pytest.raises(PromptError, match="the prompt is empty"):
        next(pipeline.stream(prompt, SETTINGS))


def test_an_oversized_prompt_is_refused(pipeline):
    with pytest.raises(PromptError, match="4,000,000 characters; the most is 10,000"):
        next(pipeline.stream("a" * 4_000_000, SETTINGS))


def test_a_film_longer_than_the_model_makes_is_refused_with_the_longest(pipeline):
    with pytest.raises(SettingError, match=r"up to 2 seconds \(33 frames\), got 34"):
        next(pipeline.stream("a red ball", replace(SETTINGS, frames=34)))


def test_seconds_and_seed_override_the_settings(pipeline):
    made = pipeline.generate("a red ball", seconds=0.5, seed=3, settings=SETTINGS)
    assert (made.settings.frames, made.settings.seed) == (9, 3)
    assert len(made.frames) == 9


def test_an_unknown_model_is_refused_with_the_nearest_name():
    with pytest.raises(ModelError, match="did you mean 'previz'"):
        load("previs")


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a CUDA device")
def test_asking_for_a_missing_cuda_device_says_what_to_do():
    with pytest.raises(CannotHere, match="--device cpu"):
        load("previz", device="cuda")


def test_the_callers_own_gradients_go_on_between_events_and_frames_are_ordinary(pipeline):
    weight = torch.ones(3, requires_grad=True)
    for event in pipeline.stream("a red ball", SETTINGS):
        assert torch.is_grad_enabled()
        assert not torch.is_inference_mode_enabled()
        (weight * 2).sum().backward()
        if isinstance(event, Frames):
            event.pixels.add_(1)
    assert weight.grad is not None


@pytest.fixture
def chunked(tiny):
    torch.manual_seed(0)
    config = replace(tiny, chunk=2, max_frames=200)
    parts = build(config)
    torch.nn.init.normal_(parts[1].head.weight, std=0.1)
    for part in parts:
        part.eval().requires_grad_(False)
    return Pipeline(name="tiny", model_hash="0", config=config, parts=parts)


def test_a_model_that_goes_on_by_chunks_gives_out_each_as_it_is_finished(chunked):
    events = list(chunked.stream("a red ball", replace(SETTINGS, frames=30)))
    kinds = [type(event).__name__ for event in events if not isinstance(event, Notice)]
    chunk = ["Progress"] * 3 + ["Frames", "Border"]
    assert kinds == ["Progress"] * 2 + chunk * 4
    last = [event for event in events if isinstance(event, Progress)][-1]
    assert (last.stage, last.step, last.total) == ("denoise", 12, 12)
    assert [e.snapshot.chunk for e in events if isinstance(e, Border)] == [1, 2, 3, 4]


@pytest.mark.parametrize("frames", [1, 9, 10, 25, 60])
def test_a_shorter_film_by_chunks_is_the_beginning_of_a_longer_one(chunked, frames):
    short, long = film(chunked, frames=frames), film(chunked, frames=60)
    assert torch.equal(short, long[:frames])


def test_a_film_gone_on_with_from_any_border_is_the_undisturbed_one(chunked):
    settings = replace(SETTINGS, frames=30)
    whole = chunked.generate("a red ball", settings=settings).frames
    events = list(chunked.stream("a red ball", settings))
    for border in [event.snapshot for event in events if isinstance(event, Border)][:-1]:
        rest = [
            event.pixels
            for event in chunked.stream("a red ball", settings, start=border)
            if isinstance(event, Frames)
        ]
        made = torch.cat(rest)
        assert torch.equal(made, whole[-len(made) :])
        assert len(made) == 30 - (1 + 8 * border.chunk)


def test_a_pipeline_says_who_it_is(chunked):
    identity = chunked.identity
    assert (identity.model_hash, identity.precision, identity.device) == ("0", "fp32", "cpu")
