"""Windows of scripts: every chunk plays in one beat, and its caption tells what it shows."""

import random
from itertools import pairwise

import numpy as np
import pytest
import torch

from longtake.recipes.recipe import world_words
from longtake.text import Tokenizer
from longtake.text.tokenizer import split
from longtake.world.cast import COLOURS
from longtake.world.level import ACTION, WHOLE
from longtake.world.screenwriter import sample_script, sample_scripts
from longtake.world.script import render_script
from longtake.world.window import (
    TELLINGS,
    WINDOW_TOKENS,
    render_windows,
    sample_windows,
    tell_window,
    window_words,
)

SMALL = {"height": 32, "width": 56}


@pytest.fixture(autouse=True)
def _one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def windows(num, *, seed=0, level=WHOLE, chunks=8, chunk_s=1.25):
    return sample_windows(num, np.random.default_rng(seed), level, chunks=chunks, chunk_s=chunk_s)


def test_several_scripts_are_as_one_alone():
    alone = sample_script(np.random.default_rng(3), WHOLE)
    (same,) = sample_scripts(1, np.random.default_rng(3), WHOLE)
    assert alone.beats == same.beats
    several = sample_scripts(5, np.random.default_rng(3), WHOLE)
    assert len({script.beats for script in several}) == 5


def test_the_same_seed_draws_the_same_windows_from_many_places():
    drawn = [(w.first, w.script.beats) for w in windows(12)]
    assert drawn == [(w.first, w.script.beats) for w in windows(12)]
    assert len({first % 4 for first, _ in drawn}) > 2
    assert all(0 <= first and (first + 8) * 1.25 <= 60 for first, _ in drawn)


def test_a_window_films_what_the_script_shows():
    for window in windows(3, seed=1, chunks=2):
        (film,) = render_windows([window], **SMALL)
        assert len(film) == 41
        start_s = window.first * window.chunk_s
        # The frame on a beat's first moment is the last of the chunk before, so it is left out.
        for chunk in (0, 1):
            at = start_s + 1.25 * chunk + 1 / 16
            script = render_script(window.script, frames=19, start_s=at, **SMALL)
            shown = film[1 + 20 * chunk : 20 + 20 * chunk]
            assert (shown.float() - script.float()).abs().mean() < 0.5


def test_windows_filmed_together_are_as_each_alone():
    several = windows(3, seed=2, chunks=2)
    together = render_windows(several, **SMALL)
    for film, window in zip(together, several, strict=True):
        assert torch.equal(film, render_windows([window], **SMALL)[0])


@pytest.mark.parametrize("telling", TELLINGS)
def test_captions_change_only_where_beats_do(telling):
    changed = 0
    for number, window in enumerate(windows(12)):
        told = tell_window(window, random.Random(number), WHOLE, telling)
        assert len(told) == window.chunks
        for chunk, (before, after) in enumerate(pairwise(told)):
            if window.beat(chunk) == window.beat(chunk + 1):
                assert before == after
            changed += before != after
    assert changed


@pytest.mark.parametrize("telling", TELLINGS)
def test_colours_are_left_out_on_demand_from_the_first_chunk_to_the_last(telling):
    # Paragraphs tell of gray stones.
    known, bare = {colour.name for colour in COLOURS} - {"gray"}, 0
    for number, window in enumerate(windows(40)):
        told = tell_window(window, random.Random(number), WHOLE, telling, colours=False)
        scene = window.script.scene
        kinds = scene.kind[0][: scene.num_subjects[0]].tolist()
        named = known & {word for text in told for word in split(text.lower())}
        assert not named or len(set(kinds)) < len(kinds), told
        bare += not named
    assert bare > 20


def test_the_light_of_each_chunk_is_told():
    checked = 0
    for number, window in enumerate(windows(40)):
        told = tell_window(window, random.Random(number), WHOLE, "on")
        for chunk, text in enumerate(told):
            shown = window.script.beats[window.beat(chunk)].light
            if shown == "sunset":
                assert {"sunset", "dusk", "evening"} & set(split(text)), text
                checked += 1
    assert checked > 10


def test_who_is_away_is_told_to_be_away_and_comes_back_by_name():
    seen = set()
    for number, window in enumerate(windows(60, chunks=12)):
        told = tell_window(window, random.Random(number), WHOLE, "on")
        for chunk, text in enumerate(told):
            motion = window.script.beats[window.beat(chunk)].motions[0]
            if motion == "absent":
                assert "stays out of the frame" in text
            if motion.startswith("enter") and window.beat(chunk) != window.beat(0):
                assert {"enters", "comes"} & set(split(text)), text
            seen.add(motion)
    assert {"absent", "enter_left", "enter_right"} <= seen


def test_what_was_over_before_the_window_began_is_not_told():
    for window in windows(60):
        if window.into_s(0) > 0:
            assert set(window.told[0].motions) <= {"still", "absent"}
        assert not window.told[0].cut


@pytest.mark.parametrize("level", [ACTION, WHOLE], ids=lambda level: level.name)
def test_every_word_is_in_the_vocabulary_and_every_caption_fits(level):
    added = {word for phrase in window_words(8, 1.25) for word in split(phrase)}
    tokenizer = Tokenizer(tuple(sorted({*world_words(level), *added})), WINDOW_TOKENS)
    rng = random.Random(0)
    for window in windows(100, level=level):
        for telling in TELLINGS:
            for text in set(tell_window(window, rng, level, telling)):
                reading = tokenizer.read(text)
                # Paragraphs are the level's own, and it states how long they are.
                fits = reading.cut == 0 or telling == "again"
                assert (reading.unknown, reading.replaced, fits) == ((), (), True), text
