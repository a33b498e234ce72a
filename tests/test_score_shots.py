"""Scoring of shots: what leaks, what chance is, and where a cut falls."""

import importlib
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from longtake.config import SampleConfig
from longtake.evaluate.prompts import draw
from longtake.evaluate.reader.read import Reader
from longtake.pipeline import Pipeline, build
from longtake.recipes.recipe import world_words
from longtake.world.speaker import Fact

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))
score_shots = importlib.import_module("score_shots")

SETTINGS = SampleConfig(width=96, height=64, frames=33, steps=1)


@pytest.fixture(params=[0, 2], ids=["one pass", "chunks"])
def pipe(request, tiny):
    config = replace(tiny, words=world_words(), chunk=request.param, max_frames=200)
    parts = build(config)
    torch.nn.init.normal_(parts[1].head.weight, std=0.1)
    for part in parts:
        part.eval().requires_grad_(False)
    return Pipeline(name="tiny", model_hash="0" * 64, config=config, parts=parts)


@pytest.mark.slow
def test_a_shot_after_a_cut_is_the_film_of_its_line_alone(pipe):
    rows = list(score_shots.film_list(pipe, Reader(None), draw(2, 0), SETTINGS, "cut"))
    assert len(rows) == 2
    for row in rows:
        assert row.inside == row.alone
        assert row.leak == row.chance
    assert score_shots.scores(rows)["ratio"] in (None, 1.0)


@pytest.mark.slow
@pytest.mark.parametrize("pipe", [2], indirect=True)
@pytest.mark.parametrize("kind", ["continue", "dissolve"])
def test_a_list_of_continued_shots_is_scored_without_cuts(pipe, kind):
    rows = list(score_shots.film_list(pipe, Reader(None), draw(2, 0), SETTINGS, kind))
    assert [row.cut for row in rows] == [[], []]
    assert rows[1].leak


def test_only_what_the_shot_before_alone_states_can_leak():
    red, blue = Fact(1, "colour", "red"), Fact(1, "colour", "blue")
    night = Fact(None, "light", "night")
    assert score_shots.foreign([red, night], [blue, night]) == (red,)
    assert score_shots.foreign([red], [Fact(2, "colour", "red")]) == ()


def test_a_fact_is_seen_of_the_scene_or_of_anybody_in_it(pipe):
    film = pipe.generate("a red ball", settings=SETTINGS).frames
    blank = Reader(None).read(film, 16)
    seen = replace(blank, explained=True, light="night")
    lights = [score_shots.fact_seen(Fact(None, "light", x), seen) for x in ("day", "night")]
    assert lights == [False, True]
    assert not score_shots.fact_seen(Fact(1, "colour", "red"), replace(seen, subjects=()))
    assert not score_shots.fact_seen(Fact(None, "light", "night"), replace(seen, explained=False))


def test_a_cut_is_found_exactly_where_it_is():
    still = torch.zeros(20, 8, 8, 3, dtype=torch.uint8)
    assert score_shots.is_cut(still, still + 90) == 1
    late = still.clone()
    late[3:] = 90
    assert score_shots.is_cut(still, late) == 0


def test_shares_are_over_all_shots():
    rows = [
        score_shots.Seen([1, 0], [1, 1], [0], [0], []),
        score_shots.Seen([1, 1], [1, 1], [1], [0], [1]),
    ]
    assert score_shots.scores(rows) == {
        "inside": 0.75, "alone": 1, "leak": 0.5, "chance": 0, "cut": 1, "ratio": 0.75,
    }  # fmt: skip
