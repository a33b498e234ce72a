"""Shots to takes: exact totals at every rate, whatever the model's own rate and chunks are."""

import random
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from longtake.config import (
    AutoencoderConfig,
    ModelConfig,
    SampleConfig,
    TextConfig,
    TransformerConfig,
)
from longtake.errors import ShotListError
from longtake.rollout.grid import Grid
from longtake.shots.plan import last_frame, plan
from longtake.shots.retime import covered, needed, retimed
from longtake.shots.shot import Shot, ShotList
from longtake.shots.timecode import RATES, rate_of

RATE = st.sampled_from(RATES)
MODEL = ModelConfig(
    autoencoder=AutoencoderConfig(), transformer=TransformerConfig(), text=TextConfig(), words=()
)
BASE = SampleConfig(width=96, height=64, steps=1)


def shot(number: int, frames: int, **more) -> Shot:
    return Shot(code=f"SH{number:04}", frames=frames, prompt="a red ball", seed=number,
                row=f"scene.csv, row {number + 2}", **more)  # fmt: skip


def scene(rate: str, *shots: Shot) -> ShotList:
    return ShotList(title="scene", rate=rate_of(rate), shots=shots)


def counting(frames: int) -> list[torch.Tensor]:
    return [torch.full((2, 2, 3), n, dtype=torch.uint8) for n in range(frames)]


@given(RATE, st.integers(1, 10**6))
@settings(deadline=None)
def test_needed_frames_are_enough_and_one_less_is_not(rate, shown):
    frames = needed(shown, rate.fps)
    assert covered(frames, rate.fps) >= shown
    assert frames == 1 or covered(frames - 1, rate.fps) < shown


@given(RATE, st.integers(1, 200), st.sampled_from(["duplicate", "blend"]))
@settings(deadline=None)
def test_retiming_gives_the_frames_asked_for_and_shows_each_moment_in_its_time(rate, shown, how):
    source = counting(needed(shown, rate.fps))
    made = [int(frame[0, 0, 0]) for frame in retimed(source, shown, rate.fps, how)]
    assert len(made) == shown
    for index, value in enumerate(made):
        moment = float(index * 16 / rate.fps)
        assert 0 <= moment - value < 1 if how == "duplicate" else abs(moment - value) <= 0.5


@pytest.mark.parametrize("how", ["duplicate", "blend"])
def test_the_models_own_rate_is_left_alone(how):
    source = counting(9)
    made = list(retimed(source, 9, rate_of("16").fps, how))
    assert all(torch.equal(one, other) for one, other in zip(made, source, strict=True))


@pytest.mark.parametrize("rate", [r.name for r in RATES])
def test_motion_moves_what_moves_and_gives_the_frames_asked_for(rate):
    frames = []
    for n in range(needed(30, rate_of(rate).fps)):
        frame = torch.full((64, 96, 3), 40, dtype=torch.uint8)
        frame[20:44, 8 + 2 * n : 32 + 2 * n] = 220
        frames.append(frame)
    made = list(retimed(frames, 30, rate_of(rate).fps, "motion"))
    assert len(made) == 30
    edges = [int((frame[32, :, 0] > 130).nonzero()[0]) for frame in made]
    assert edges == sorted(edges)
    wanted = [8 + 2 * float(n * 16 / rate_of(rate).fps) for n in range(30)]
    inside = slice(3, 25)  # the filter has nothing to estimate from at the ends
    off = [abs(e - w) for e, w in zip(edges[inside], wanted[inside], strict=True)]
    assert max(off) <= 3


def random_scene(rng: random.Random, *, chunks: bool) -> ShotList:
    rate = rng.choice(RATES)
    shots = []
    for n in range(rng.randint(1, 12)):
        frames = rng.randint(1, 900 if chunks else covered(33, rate.fps))
        kind = rng.choice(["cut", "continue", "dissolve"]) if chunks and n else "cut"
        fade = rng.randint(1, frames) if kind == "dissolve" else 0
        after = f"SH{rng.randrange(n):04}" if chunks and n and kind == "cut" else ""
        after = after if rng.random() < 0.3 else ""
        shots.append(shot(n, frames, transition=kind, dissolve=fade, after=after))
    return ShotList(title="scene", rate=rate, shots=tuple(shots))


@pytest.mark.parametrize("chunk", [0, 1, 5, 7])
def test_totals_are_exact_in_a_thousand_random_lists(tiny, chunk):
    rng, model = random.Random(chunk), replace(tiny, chunk=chunk)
    for _ in range(250):
        listed = random_scene(rng, chunks=bool(chunk))
        handles = rng.choice([0, 8, 24])
        made = plan(listed, "tiny", model, BASE, handles)
        assert [p.at for p in made] == list(listed.starts())
        assert made[-1].at + made[-1].shot.frames == listed.frames
        for planned in made:
            assert needed(planned.shown, listed.rate.fps) <= planned.take.made
            assert last_frame(planned, listed.rate.fps) < planned.take.made
            assert 0 <= planned.take.head <= handles
            assert 0 <= planned.tail <= handles
            if chunk:
                assert planned.tail == handles


@given(
    st.integers(1, 7), RATE, st.integers(1, 500), st.integers(1, 500), st.sampled_from([0, 8, 24])
)
@settings(deadline=None)
def test_a_continued_shot_begins_at_the_first_border_after_the_one_before(
    chunk, rate, one, two, handles
):
    listed = scene(rate.name, shot(0, one), shot(1, two, transition="continue"))
    first, second = plan(listed, "tiny", replace(MODEL, chunk=chunk), BASE, handles)
    grid, end = Grid(chunk), needed(first.take.head + one, rate.fps)
    assert second.take.skipped >= end
    assert second.take.skipped - end < 4 * chunk or second.take.first == 1
    assert second.take.skipped == grid.frames(first.take.border).start
    (cue,) = second.take.cues
    assert grid.chunk_at(cue.at_s) == first.take.border == second.take.first


def test_what_goes_before_a_shot_does_not_depend_on_what_comes_after(tiny):
    model = replace(tiny, chunk=2)
    alone = scene("24", shot(0, 50), shot(1, 30))
    chained = scene("24", shot(0, 50), shot(1, 30, transition="continue"))
    assert plan(alone, "t", model, BASE, 8)[0] == plan(chained, "t", model, BASE, 8)[0]


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"transition": "continue"}, "column transition: tiny makes each film in one pass"),
        ({"transition": "dissolve", "dissolve": 4}, "not trained to dissolve; make it a plain cut"),
        ({"after": "SH0000"}, "column first_frame: tiny makes each film in one pass"),
        ({"frames": 50}, "column duration: 50 frames are 2.08 s, and tiny makes up to 49 frames"),
    ],
)
def test_a_model_of_one_pass_refuses_what_it_cannot_by_name(tiny, change, told):
    listed = scene("24", shot(0, 9), shot(1, **{"frames": 9, **change}))
    with pytest.raises(ShotListError) as caught:
        plan(listed, "tiny", tiny, BASE)
    assert str(caught.value).startswith("scene.csv, row 3, column")
    assert told in str(caught.value)


def test_handles_shrink_where_one_pass_has_no_room(tiny):
    (made,) = plan(scene("24", shot(0, 45)), "tiny", tiny, BASE, handles=8)
    assert (made.take.head, made.tail, made.shown) == (2, 2, 49)
    assert made.take.settings.frames == 33
