"""Prompts say what their captions state; files are read line by line or refused by line."""

import json
import random
from pathlib import Path

import numpy as np
import pytest

from longtake.errors import PromptError
from longtake.evaluate.prompts import (
    HELD_OUT_COUNTS,
    MAX_LINES,
    OWN,
    draw,
    read_prompts,
    scene_from,
    splits,
)
from longtake.evaluate.understand import fact_of, renumbered, understand
from longtake.world import Fact, caption, sample_scenes
from longtake.world.level import LEVELS, WHOLE
from longtake.world.scene import Split


def lines(tmp_path, text):
    path = tmp_path / "prompts.txt"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


TOLD = [(level, style) for level in LEVELS for style in level.styles]


@pytest.mark.parametrize("wording", ["train", "held_out", "any"])
@pytest.mark.parametrize("split", list(Split.__args__))
@pytest.mark.parametrize(("level", "style"), TOLD, ids=[f"{v.name}-{s}" for v, s in TOLD])
def test_a_caption_read_backwards_gives_exactly_its_facts(level, style, split, wording):
    scenes = sample_scenes(150, np.random.default_rng(3), split, level)
    for index in range(len(scenes)):
        said = caption(scenes, index, random.Random(index), wording, style=style)
        understood = understand(said.text)
        assert set(understood.facts) == set(renumbered(said.facts)), said.text
        assert understood.unknown == ()


def test_relative_times_are_understood_as_seconds():
    facts = understand("a red ball leaps up once after 2 seconds, then spins").facts
    assert facts[2:] == (
        Fact(0, "motion", "jump"), Fact(0, "start_s", "2"), Fact(0, "change_s", "4"),
        Fact(0, "then", "spin"),
    )  # fmt: skip


def test_the_ball_is_the_one_that_was_named_and_a_leader_is_nobody_new():
    facts = understand("a red ball. The ball moves left. A blue car follows the red ball").facts
    assert {fact.subject for fact in facts} == {0, 1}
    assert Fact(0, "motion", "right_to_left") in facts
    assert Fact(1, "motion", "follow") in facts


def test_misspelt_words_are_understood():
    assert understand("a puprle pyrmaid").facts == understand("a purple pyramid").facts


def test_words_outside_the_world_are_named_once():
    understood = understand("A lawyer reads a poem to a lawyer.")
    assert understood.facts == ()
    assert understood.unknown == ("lawyer", "reads", "poem")


def test_a_colour_after_a_person_is_the_persons():
    facts = understand("a person in red and a blue ball").facts
    assert Fact(0, "colour", "red") in facts
    assert Fact(1, "colour", "blue") in facts


@pytest.mark.parametrize("level", LEVELS, ids=lambda level: level.name)
def test_every_split_has_its_share_and_the_same_seed_draws_the_same(level):
    names = splits(level)
    asked = draw(2 * len(names), 5, level)
    assert sorted(a.split for a in asked) == sorted([*names, *names])
    assert [a.prompt for a in draw(2 * len(names), 5, level)] == [a.prompt for a in asked]
    for one in asked:
        count = names[one.split].count
        assert one.scene is not None
        assert count in (None, one.scene.num_subjects[0])


def test_a_held_out_count_is_one_more_than_the_level_has():
    assert splits()[HELD_OUT_COUNTS].count == 3
    assert splits(WHOLE)["four_subjects"].count == 4
    assert HELD_OUT_COUNTS not in splits(WHOLE)


def test_a_file_may_have_blank_lines_a_byte_order_mark_and_repetitions(tmp_path):
    path = lines(tmp_path, "\ufeffa red ball\r\n\r\n  a blue cube \na red ball\n")
    asked, notes = read_prompts(path)
    assert [a.prompt for a in asked] == ["a red ball", "a blue cube"]
    assert asked[0].split == OWN
    assert [note.split(": ", 1)[1] for note in notes] == [
        "1 prompts were there before and count once (line 4)"
    ]


def test_a_line_may_be_json_with_facts(tmp_path):
    fact = {"subject": 0, "attribute": "colour", "value": "red"}
    path = lines(tmp_path, json.dumps({"prompt": "something red", "facts": [fact]}))
    [asked], _ = read_prompts(path)
    assert asked.facts == (Fact(0, "colour", "red"),)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ('{"prompt": }', "wrong JSON at column"),
        ("{}", "lacks 'prompt'"),
        ('{"prompt": 3}', "must be text"),
        ('{"prompt": "a", "facts": 3}', "line 2"),
        ('{"prompt": "a", "facts": [3]}', "line 2"),
        ('{"prompt": "a", "facts": [{"attribute": "smell"}]}', "attribute must be one of"),
        ("a" * 10_001, "10,001 characters"),
    ],
)
def test_a_bad_line_is_named_by_its_number(tmp_path, line, said):
    with pytest.raises(PromptError, match="line 2") as caught:
        read_prompts(lines(tmp_path, f"a red ball\n{line}\n"))
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_bytes_that_are_no_text_are_named_by_line(tmp_path):
    with pytest.raises(PromptError, match="line 2: not UTF-8"):
        read_prompts(lines(tmp_path, b"a red ball\n\xff\xfe"))


def test_ten_thousand_lines_are_read_and_one_more_is_refused(tmp_path):
    many = [f"on snow {n}" for n in range(MAX_LINES)]
    assert len(read_prompts(lines(tmp_path, "\n".join(many)))[0]) == MAX_LINES
    with pytest.raises(PromptError, match="10,001 lines"):
        read_prompts(lines(tmp_path, "\n".join([*many, "x"])))


@pytest.mark.parametrize("text", ["", "\n \n"])
def test_a_file_without_prompts_is_refused(tmp_path, text):
    with pytest.raises(PromptError, match="has no prompts"):
        read_prompts(lines(tmp_path, text))


def test_a_missing_file_is_refused():
    with pytest.raises(PromptError, match="cannot read the prompts"):
        read_prompts(Path("nowhere.txt"))


def test_a_scene_is_found_for_what_the_world_can_show():
    scene = scene_from(understand("a red ball on the left on snow at night").facts)
    assert scene is not None
    assert len(scene) == 1
    assert scene_from(understand("something on snow").facts) is None
    assert scene_from((Fact(0, "kind", "tree"), Fact(0, "motion", "bounce"))) is None
    assert scene_from((Fact(0, "colour", "red"),)) is None
    assert scene_from((Fact(0, "kind", "tree"),)) is not None


@pytest.mark.parametrize(
    ("entry", "said"),
    [
        ({"attribute": "colour", "value": "mauve", "subject": 0}, "colour must be one of"),
        ({"attribute": "colour", "value": "red"}, "belongs to a subject"),
        ({"attribute": "light", "value": "day", "subject": 0}, "belongs to the scene"),
        ({"attribute": "colour", "value": "red", "subject": -1}, "a number from 0 on"),
        ({"attribute": "colour", "value": "red", "subject": True}, "belongs to"),
    ],
)
def test_a_fact_outside_the_world_is_refused(entry, said):
    with pytest.raises(ValueError, match=said):
        fact_of(entry)
