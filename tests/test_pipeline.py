from dataclasses import replace
from unittest.mock import ANY

import pytest
import torch

from longtake.config import Cue, SampleConfig, Sampling
from longtake.errors import CannotHere, ModelError, PromptError, SettingError
from longtake.pipeline import Border, Frames, Notice, Pipeline, Progress, build, load
from longtake.rollout.pixels import from_bytes, to_bytes

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


def test_a_film_without_settings_is_sampled_as_the_model_says(tiny):
    own = Sampling(steps=2, guidance=1.0, shift=4.0, sampler="euler")
    config = replace(tiny, sampling=own, max_frames=81)
    quick = Pipeline(name="quick", model_hash="", config=config, parts=build(config))
    assert quick.generate("a red ball", seconds=0.25).settings == replace(own.settings(), frames=5)


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
    assert len(identity.numerics) == 64


@pytest.mark.faults
def test_row_57_a_pipeline_is_the_same_one_on_any_number_of_threads(chunked):
    before = torch.get_num_threads()
    prints = set()
    try:
        for threads in (1, 2, 4):
            torch.set_num_threads(threads)
            prints.add(chunked.identity)
    finally:
        torch.set_num_threads(before)
    assert len(prints) == 1


def test_a_cue_changes_nothing_before_its_border_and_everything_after(chunked):
    settings = replace(SETTINGS, frames=33)
    plain = chunked.generate("a red ball", settings=settings).frames
    cues = (Cue(at_s=0.9, text="a green sphere bounces"),)
    changed = chunked.generate("a red ball", settings=settings, cues=cues).frames
    # Borders lie at frames 9, 17, 25; the first at or after 0.9 s is frame 17.
    assert torch.equal(plain[:17], changed[:17])
    assert not torch.equal(plain[17:], changed[17:])


@pytest.mark.parametrize("text", ["", "a green sphere"])
def test_another_seed_in_a_cue_changes_nothing_before_its_border_and_everything_after(
    chunked, text
):
    settings = replace(SETTINGS, frames=33)
    said = () if not text else (Cue(at_s=1.0, text=text),)
    plain = chunked.generate("a red ball", settings=settings, cues=said).frames
    again = (Cue(at_s=1.0, text=text, seed=99),)
    changed = chunked.generate("a red ball", settings=settings, cues=again).frames
    assert torch.equal(plain[:17], changed[:17])
    assert not torch.equal(plain[17:], changed[17:])
    own = (Cue(at_s=1.0, text=text, seed=settings.seed),)
    assert torch.equal(plain, chunked.generate("a red ball", settings=settings, cues=own).frames)


def test_a_cue_with_a_seed_that_is_none_is_refused():
    with pytest.raises(SettingError, match="seed must be 0"):
        Cue(at_s=1, text="x", seed=-1)


def test_a_film_with_cues_is_gone_on_with_to_the_same_bytes(chunked):
    settings = replace(SETTINGS, frames=33)
    cues = (Cue(at_s=0.5, text="blue"), Cue(at_s=1.0, text="green"))
    events = list(chunked.stream("a red ball", settings, cues=cues))
    whole = torch.cat([event.pixels for event in events if isinstance(event, Frames)])
    for border in [event.snapshot for event in events if isinstance(event, Border)][:-1]:
        rest = chunked.stream("a red ball", settings, cues=cues, start=border)
        made = torch.cat([event.pixels for event in rest if isinstance(event, Frames)])
        assert torch.equal(made, whole[-len(made) :])


def test_a_border_holds_the_frames_that_the_end_cuts_off(chunked):
    events = chunked.stream("a red ball", replace(SETTINGS, frames=20))
    last = [event for event in events if isinstance(event, Border)][-1]
    assert torch.equal(last.pixels, film(chunked, "a red ball", frames=25)[17:])


@pytest.mark.parametrize(
    ("cues", "complaint"),
    [
        ([(2.0, "blue")], "too late: the take ends at 1.0625 s and its last chunk begins at 0.5"),
        ([(0.6, "blue")], "comes too late"),
        ([(0.4, "blue"), (0.3, "green")], "order of their times, got 0.4 s before 0.3 s"),
    ],
)
def test_cues_out_of_order_or_beyond_the_end_are_refused(chunked, cues, complaint):
    given = [Cue(at_s=at, text=text) for at, text in cues]
    with pytest.raises(SettingError, match=complaint):
        next(chunked.stream("a red ball", SETTINGS, cues=given))


@pytest.mark.parametrize("at", [0, -1, float("nan"), float("inf")])
def test_a_cue_at_no_time_is_refused(at):
    with pytest.raises(SettingError, match="a time above 0"):
        Cue(at_s=at, text="blue")


def test_an_empty_cue_is_refused():
    with pytest.raises(SettingError, match="the prompt at 3 s is empty"):
        Cue(at_s=3, text=" ")


PICTURE = torch.randint(0, 256, (64, 96, 3), dtype=torch.uint8)


def test_a_picture_is_frame_0_as_the_autoencoder_gives_it_back(chunked):
    made = chunked.generate("a red ball", settings=SETTINGS, picture=PICTURE).frames
    coder = chunked.autoencoder
    round_trip = to_bytes(coder.decode(coder.encode(from_bytes(PICTURE)[None, None])))[0, 0]
    assert (made[0].int() - round_trip.int()).abs().max() <= 1
    assert not torch.equal(made[1:], film(chunked, "a red ball")[1:])


def test_a_film_from_a_picture_is_gone_on_with_to_the_same_bytes(chunked):
    events = list(chunked.stream("a red ball", SETTINGS, picture=PICTURE))
    whole = torch.cat([event.pixels for event in events if isinstance(event, Frames)])
    first = next(event.snapshot for event in events if isinstance(event, Border))
    rest = chunked.stream("a red ball", SETTINGS, start=first)
    made = torch.cat([event.pixels for event in rest if isinstance(event, Frames)])
    assert torch.equal(made, whole[9:])


def test_a_picture_of_another_size_is_refused(chunked):
    with pytest.raises(SettingError, match="the picture is 64x96 and the film 96x64"):
        next(chunked.stream("a red ball", SETTINGS, picture=PICTURE.transpose(0, 1)))


def test_a_border_after_any_frames_is_gone_on_from(chunked):
    made = film(chunked, "a red ball", frames=17)
    border = chunked.remember(made, "a red ball", SETTINGS)
    settings = replace(SETTINGS, frames=25)
    rest = chunked.stream("a red ball", settings, start=border)
    after = torch.cat([event.pixels for event in rest if isinstance(event, Frames)])
    assert (border.chunk, len(after)) == (2, 8)


@pytest.mark.parametrize(
    ("asked", "complaint"),
    [
        ({"cues": [Cue(at_s=1, text="x")]}, "tiny was not trained to change the prompt inside"),
        ({"picture": PICTURE}, "tiny was not trained to begin with a picture"),
    ],
)
def test_a_model_without_chunks_refuses_what_it_was_not_trained_for(pipeline, asked, complaint):
    with pytest.raises(SettingError, match=complaint):
        next(pipeline.stream("a red ball", SETTINGS, **asked))
    with pytest.raises(SettingError, match="tiny was not trained to go on from a film"):
        pipeline.remember(PICTURE[None].expand(9, -1, -1, -1), "a red ball", SETTINGS)


def test_a_take_longer_than_those_trained_on_is_made_and_that_is_said(chunked):
    events = list(chunked.stream("a red ball", replace(SETTINGS, frames=201, steps=1)))
    notices = [event.text for event in events if isinstance(event, Notice)]
    assert notices == ["tiny was trained on takes of up to 12 s; what comes after is not measured"]
    assert sum(len(event.pixels) for event in events if isinstance(event, Frames)) == 201


def said(pipeline, prompt, *cues):
    """What the model reads, and from which chunk on."""
    read, reading = [], pipeline.tokenizer.read
    pipeline.tokenizer.read = lambda text: read.append(text) or reading(text)
    next(pipeline.stream(prompt, replace(SETTINGS, steps=1), cues=cues))
    return read


def test_relative_times_become_absolute_where_the_model_knows_seconds(tiny):
    torch.manual_seed(0)
    words = (*tiny.words, "at", "seconds", "second", "one", "two", "three", "then")
    config = replace(tiny, chunk=2, words=words)
    parts = build(config)
    for part in parts:
        part.eval().requires_grad_(False)
    timed = Pipeline(name="tiny", model_hash="0", config=config, parts=parts)
    assert said(timed, "A red ball after 2 seconds") == ["a red ball at two seconds"]
    assert said(timed, "A red ball.", Cue(at_s=0.5, text="Blue after one second")) == [
        "a red ball.",
        "a red ball. at one second blue at two seconds",
    ]


def test_times_stay_as_they_are_where_the_model_knows_none(chunked):
    assert said(chunked, "A ball after 2 seconds", Cue(at_s=0.5, text="Blue")) == [
        "A ball after 2 seconds",
        "A ball after 2 seconds. Blue",
    ]


def test_a_cue_that_has_to_wait_for_a_border_says_so(chunked):
    events = chunked.stream("a red ball", SETTINGS, cues=[Cue(at_s=0.4, text="blue")])
    assert Notice("what is said at 0.4 s holds from 0.56 s, a chunk border") in list(events)
    events = chunked.stream("a red ball", SETTINGS, cues=[Cue(at_s=0.5, text="blue")])
    assert not any("border" in e.text for e in events if isinstance(e, Notice))


def test_a_border_tells_what_decided_the_film_before_it_and_not_what_comes_after(chunked):
    def told(prompt, *cues, **changes):
        events = chunked.stream(prompt, replace(SETTINGS, steps=1, **changes), cues=cues)
        return [dict(event.snapshot.notes) for event in events if isinstance(event, Border)]

    plain = told("a red ball")
    assert told("a red ball", frames=25)[:2] == plain
    assert told("a red ball", Cue(at_s=0.5, text="blue")) == [plain[0], ANY]
    assert told("a red ball", Cue(at_s=0.5, text="blue"))[1] != plain[1]
    for other in (told("a ball"), told("a red ball", seed=8), told("a red ball", guidance=2.0)):
        assert all(one != two for one, two in zip(other, plain, strict=True))


def test_what_a_film_shall_not_show_takes_the_place_of_no_prompt(pipeline):
    plain = film(pipeline)
    assert not torch.equal(film(pipeline, negative="a blue ball"), plain)
    unguided = film(pipeline, guidance=1.0)
    assert torch.equal(film(pipeline, negative="a blue ball", guidance=1.0), unguided)
