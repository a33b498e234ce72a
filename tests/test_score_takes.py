"""What is measured of takes passes on the truth, fails on faults, and runs on a tiny model."""

import importlib
import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from longtake.config import SampleConfig
from longtake.errors import SettingError
from longtake.evaluate import rolls
from longtake.evaluate import takes as measures
from longtake.evaluate.drift import curves, drift_of
from longtake.evaluate.reader.read import Reader, load_reader
from longtake.pipeline import Pipeline, build
from longtake.recipes.recipe import world_words
from longtake.text import Tokenizer
from longtake.world.level import ACTION
from longtake.world.script import render_script

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))
faults, score = (importlib.import_module(name) for name in ("faults", "score_takes"))
SIZE = {"height": 128, "width": 224}


@pytest.fixture(scope="module")
def reader():
    return load_reader()


@pytest.fixture(scope="module")
def away():
    """One subject that leaves for five seconds."""
    return measures.recall_script(score.script_of(0, 1), 5)


@pytest.fixture(scope="module")
def film(away):
    return render_script(away, frames=16 * away.length_s + 1, samples=1, **SIZE)


@pytest.fixture
def maker(tiny):
    torch.manual_seed(0)
    config = replace(tiny, words=world_words(ACTION), chunk=5)
    config = replace(config, text=replace(config.text, max_tokens=96))
    parts = build(config)
    torch.nn.init.normal_(parts[1].head.weight, std=0.1)
    for part in parts:
        part.eval().requires_grad_(False)
    pipe = Pipeline(name="tiny", model_hash="0" * 64, config=config, parts=parts)
    return rolls.Maker(pipe=pipe, settings=SampleConfig(width=96, height=64, steps=1))


@pytest.mark.slow
def test_attributes_are_right_on_the_truth_and_wrong_on_another_film(away, film, reader):
    true = measures.attributes(film, away, (0, 3), reader)
    assert measures.share_right([true]) > 80
    other = measures.attributes(255 - film, away, (0, 3), reader)
    assert measures.share_right([other]) < measures.share_right([true]) - 40


def test_who_is_away_is_asked_for_in_no_beat_but_those_that_show_it(away):
    told = measures.script_truth(away, height=64, width=112)
    asked = [{fact.attribute for fact in measures.facts_at(away, told, beat)} for beat in range(4)]
    assert all("colour" in asked[beat] for beat in (0, 3))
    long = measures.recall_script(away, 20)
    told = measures.script_truth(long, height=64, width=112)
    facts = measures.facts_at(long, told, 3)
    assert {fact.attribute for fact in facts} == {"light", "ground", "camera"}


@pytest.mark.slow
def test_the_truth_recalls_and_a_film_of_another_colour_after_the_return_does_not(
    away, film, reader
):
    told = measures.recall(film, away, reader)
    assert (told.seen, told.same, told.gap_s) == (True, 1.0, 5)
    changed = replace(away, scene=replace(away.scene, colour=(away.scene.colour + 4) % 8))
    other = render_script(changed, frames=len(film), samples=1, **SIZE)
    swapped = torch.cat([film[:160], other[160:]])
    assert measures.recall(swapped, away, reader).same == 0
    gone = film.clone()
    gone[240:] = film[158:159]
    assert measures.recall(gone, away, reader).same == 0


def test_chance_counts_returns_that_match_another_leaving():
    def one(before, after):
        return measures.Recalled(gap_s=5, seen=True, same=0.0, before=before, after=after)

    assert measures.chance([one("red", "red"), one("blue", "blue")]) == 0
    assert measures.chance([one("red", "red"), one("red", "red")]) == 1
    assert measures.chance([one(None, None), one(None, None)]) == 0
    assert measures.chance([]) == 0


def test_drift_lies_inside_the_range_of_true_films_and_outside_when_put_in():
    films = [
        render_script(score.script_of(7, n), frames=81, height=64, width=96, samples=1)
        for n in range(6)
    ]
    true = [drift_of(curves([film], 16)) for film in films]
    assert measures.drift_shares(true, true)["luma"] > 0.5
    faulty = [drift_of(curves([faults.drifted(film, "luma", 60.0)], 16)) for film in films]
    shares = measures.drift_shares(faulty, true)
    assert shares["luma"] == 0
    assert shares["all"] == 0


def test_a_frozen_take_has_too_little_motion(film):
    true = [drift_of(curves([film], 16))]
    assert measures.motion_ratio(true, true) == 1
    stopped = [drift_of(curves([faults.frozen(film, 90)], 16))]
    assert measures.motion_ratio(stopped, true) < 0.8


def test_change_at_borders_is_one_on_the_truth_and_seams_stand_out(film):
    borders = score.borders_of(rolls.Grid(5), len(film))
    assert measures.border_change(film, film, borders) == (1, 1)
    across, elsewhere = measures.border_change(faults.with_seams(film, borders, 4.0), film, borders)
    assert across > 2
    assert elsewhere == pytest.approx(1, abs=0.1)


def lights(away, light):
    beats = tuple(
        replace(beat, motions=("still",) * len(beat.motions), light=light if n else "day")
        for n, beat in enumerate(away.beats[:3])
    )
    return replace(away, beats=beats, length_s=15)


@pytest.mark.slow
def test_a_change_of_light_shows_and_changes_nothing_else(away, reader):
    plain, changed = (
        render_script(lights(away, light), frames=200, samples=1, **SIZE)
        for light in ("day", "night")
    )
    told = measures.prompt_change(changed, plain, 80, "night", reader)
    assert (told.shows, told.same, told.before) == (True, True, 0)
    assert not measures.prompt_change(plain, plain, 80, "night", reader).shows
    scene = replace(away.scene, colour=(away.scene.colour + 4) % 8)
    script = replace(lights(away, "night"), scene=scene)
    other = render_script(script, frames=200, samples=1, **SIZE)
    told = measures.prompt_change(other, plain, 80, "night", reader)
    assert told.shows
    assert not told.same
    assert told.before > 0


def test_psnr_is_that_of_the_error():
    one = torch.full((8, 8, 3), 100, dtype=torch.uint8)
    assert measures.psnr(one, one) == 99
    assert measures.psnr(one, one + 10) == pytest.approx(20 * np.log10(25.5))


def test_captions_without_colours_name_none_and_the_model_knows_every_word(away):
    tokenizer = Tokenizer(world_words(ACTION), 96)
    for colours in (True, False):
        said = measures.plain_captions(away, colours=colours)
        assert len(said) == len(away.beats)
        assert all(not tokenizer.read(text).unknown for text in said)
        named = [name for name in ("red", "blue", "green", "pink", "purple", "orange", "yellow",
                                   "cyan") if f" {name} " in said[0]]  # fmt: skip
        assert bool(named) == colours


@pytest.mark.parametrize("gap", [5, 10, 20, 40])
def test_the_subject_of_a_recall_script_is_out_of_sight_for_the_gap(away, gap):
    script = measures.recall_script(away, gap)
    told = measures.script_truth(script, height=64, width=112)
    leaves, returns = measures.away_of(script)
    assert 5 * (returns - leaves) == gap
    gone = told.visible[0][5 * leaves + 4 : 5 * returns]
    assert gone
    assert max(gone) == 0


def test_each_memory_makes_another_take_after_the_exit_and_the_same_before(maker):
    texts = ("a ball on grass",) * 4
    films = {c: rolls.roll(maker, texts, c, exit_chunk=2) for c in rolls.COLUMNS}
    assert {len(film) for film in films.values()} == {81}
    assert torch.equal(films["state"][:41], films["zeroed"][:41])
    assert not torch.equal(films["state"][41:], films["zeroed"][41:])
    assert torch.equal(films["state"][:21], films["window"][:21])
    assert not torch.equal(films["state"][21:], films["window"][21:])


def test_a_take_is_the_one_the_pipeline_makes(maker):
    settings = replace(maker.settings, frames=41)
    whole = maker.pipe.generate("a ball on grass", settings=settings).frames
    assert torch.equal(rolls.roll(maker, ("a ball on grass",) * 2), whole)


def test_clips_of_a_chain_begin_with_the_last_frame_of_the_one_before(maker):
    film = torch.cat(list(rolls.chained(maker, ("a ball",) * 3, 1)))
    assert len(film) == 61
    begun = list(rolls.chunks_of(maker, ("a ball",), picture=film[20]))
    again = maker.latent_of(film[20])
    decoded = rolls.to_bytes(maker.pipe.autoencoder.decode(again)[0])
    assert measures.psnr(begun[0][0], decoded[0]) > 40


def test_a_window_of_equal_bytes_is_not_larger_than_it_must_be(maker):
    state = rolls.emptied(first_state(maker))
    frames = rolls.window_frames(maker, state)
    assert frames >= 1
    assert rolls.state_bytes(state) == rolls.state_bytes(first_state(maker))


def first_state(maker):
    with torch.no_grad():
        made = maker.take().roll(lambda _: maker.encoded("a ball"), range(1))
        return [event.state for event in made if isinstance(event, rolls.Committed)][-1]


@pytest.mark.parametrize(("chunk", "complaint"), [(0, "in one pass"), (3, "do not fill")])
def test_a_model_of_other_chunks_is_refused(maker, chunk, complaint):
    config = replace(maker.pipe.config, chunk=chunk)
    parts = (maker.pipe.text, maker.pipe.transformer, maker.pipe.autoencoder)
    pipe = Pipeline(name="other", model_hash="0", config=config, parts=parts)
    with pytest.raises(SettingError, match=complaint):
        rolls.Maker(pipe=pipe, settings=maker.settings)


@pytest.mark.slow
def test_every_measure_of_a_tiny_model_comes_out_as_json(maker, monkeypatch):
    monkeypatch.setattr(score, "CHANGE_BEAT", 1)
    script = score.script_of(0, 0)
    short = replace(script, beats=script.beats[:4], length_s=20)
    rows = list(score.measure(maker, short, Reader(None), score.PARTS[:1] + score.PARTS[2:5], 0))
    told = score.report_of(rows)
    assert json.loads(json.dumps(told)) == told
    assert told["scripts"]["truth"]["motion_over_truth"] == 1
    assert told["scripts"]["truth"]["change_at_borders"] == 1
    assert told["prompt_change"]["model"]["before"] == 0
    assert told["picture"]["model"]["psnr_least"] > 40
    assert set(told["recall"]["5 s"]) == {*rolls.COLUMNS, "truth"}


def test_costs_name_the_state_and_every_length(maker):
    found = score.costs(maker, score.script_of(0, 0), (2, 1))
    assert found["state_bytes"] == rolls.state_bytes(first_state(maker))
    for seconds in ("1 s", "2 s"):
        assert 0 < found[seconds]["first_frames_s"] <= found[seconds]["time_s"]
    assert found["2 s"]["host_bytes"] >= found["1 s"]["host_bytes"]
