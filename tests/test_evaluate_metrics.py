"""Scores follow from facts and readings alone; what cannot be explained is wrong."""

import math

import numpy as np
import pytest

from longtake.evaluate.metrics import (
    Expected,
    bootstrap,
    confusion,
    contact_error,
    frechet,
    goes,
    in_pace,
    mark,
    pair_up,
    stated_subjects,
)
from longtake.evaluate.reader.readings import Detail, FilmReading, SubjectReading
from longtake.evaluate.scope import MOTIONS
from longtake.world import Fact

WORLD = {m.name: Expected(motion=m, way_m=7.6, contact_s=1.1) for m in MOTIONS}
RIGHT = next(m for m in MOTIONS if m.lateral > 0)


def seen(**changes):
    values = {
        "colour": "red", "kind": "sphere", "size": "small", "motion": "still", "slot": "left",
        "seen": 1.0, "across": 0.3, "way_m": (0.0, 0.0),
    }  # fmt: skip
    return SubjectReading(**(values | changes))


def film(*subjects, **changes):
    values = {
        "explained": True, "unexplained": 0.0, "light": "day", "ground": "grass",
        "camera": "static", "subjects": subjects, "detail": Detail(space=1.0, time=1.0),
    }  # fmt: skip
    return FilmReading(**(values | changes))


def facts(*subjects, **scene):
    said = [Fact(n, k, v) for n, one in enumerate(subjects) for k, v in one.items()]
    return tuple(said + [Fact(None, k, v) for k, v in scene.items()])


def test_a_film_as_stated_is_right_in_everything():
    stated = facts(
        {"kind": "sphere", "colour": "red", "size": "small", "slot": "left", "motion": "still"},
        light="day", ground="grass", camera="static",
    )  # fmt: skip
    marks = mark(stated, film(seen()), WORLD)
    assert all(value == [1.0] for value in marks.values())
    assert set(marks) == {
        "explained", "count", "presence", "kind", "colour", "size", "slot", "motion", "binding",
        "light", "ground", "camera",
    }  # fmt: skip


def test_a_film_that_cannot_be_explained_is_wrong_in_everything():
    stated = facts({"kind": "sphere", "colour": "red"}, light="day", camera="static")
    marks = mark(stated, film(seen(), explained=False), WORLD)
    assert {value for values in marks.values() for value in values} == {0.0}


def test_binding_wants_all_attributes_on_the_same_subject():
    stated = facts({"kind": "sphere", "colour": "red"}, {"kind": "cube", "colour": "blue"})
    swapped = film(seen(kind="cube"), seen(colour="blue"))
    marks = mark(stated, swapped, WORLD)
    assert marks["binding"] == [0.0, 0.0]
    assert marks["count"] == [1.0]
    assert sum(marks["kind"] + marks["colour"]) == 2


def test_a_missing_subject_is_neither_present_nor_anything_else():
    stated = facts({"kind": "sphere", "colour": "red"}, {"kind": "cube", "colour": "blue"})
    marks = mark(stated, film(seen()), WORLD)
    assert marks["presence"] == [1.0, 0.0]
    assert marks["colour"] == [1.0, 0.0]
    assert marks["count"] == [0.0]


def test_a_stranger_stands_in_for_nobody():
    stated = stated_subjects(facts({"kind": "cube", "colour": "blue"}))
    assert pair_up(stated, [seen()]) == {}


def test_subjects_are_paired_whatever_their_order():
    stated = stated_subjects(
        facts({"kind": "cube", "colour": "blue"}, {"kind": "sphere", "colour": "red"})
    )
    blue, red = seen(kind="cube", colour="blue"), seen()
    assert pair_up(stated, [red, blue]) == pair_up(stated, [blue, red]) == {0: blue, 1: red}


def test_a_value_that_was_not_read_is_wrong():
    marks = mark(facts({"kind": "sphere", "colour": "red"}), film(seen(kind=None)), WORLD)
    assert (marks["kind"], marks["colour"]) == ([0.0], [1.0])


@pytest.mark.parametrize(
    ("way", "right"),
    [((7.0, 0.0), True), ((7.0, 3.9), True), ((7.0, 4.2), False), ((-7.0, 0), False),
     ((0.9, 0.0), False)],
)  # fmt: skip
def test_direction_is_within_30_degrees_and_goes_somewhere(way, right):
    assert goes(way, RIGHT) is right


def test_direction_and_speed_are_marked_for_what_travels_only():
    stated = facts({"kind": "sphere", "colour": "red", "motion": RIGHT.name})
    marks = mark(stated, film(seen(motion=RIGHT.name, way_m=(7.6, 0.0))), WORLD)
    assert (marks["direction"], marks["speed"]) == ([1.0], [1.0])
    lost = mark(stated, film(), WORLD)
    assert (lost["direction"], lost["speed"]) == ([0.0], [0.0])
    assert "direction" not in mark(facts({"kind": "sphere"}), film(seen()), WORLD)


def test_pace_is_about_the_motions_own():
    assert in_pace((7.6, 0.0), 7.6)
    assert not in_pace((3.0, 0.0), 7.6)
    assert not in_pace((16.0, 0.0), 7.6)


def test_timing_compares_the_time_between_contacts():
    stated = facts({"kind": "sphere", "colour": "red", "motion": "bounce"})
    good = seen(motion="bounce", contacts_s=(0.2, 1.3, 2.45, 3.5))
    assert mark(stated, film(good), WORLD)["timing"] == [1.0]
    assert mark(stated, film(seen(motion="bounce")), WORLD)["timing"] == [0.0]
    assert mark(stated, film(), WORLD)["timing"] == [0.0]


def test_contact_error_is_in_frames():
    assert contact_error((0.0, 1.0, 2.0), 1.125) == pytest.approx(2.0)
    assert contact_error((0.5,), 1.1) == math.inf


@pytest.mark.parametrize(
    ("left", "right", "mark_"), [(0.2, 0.8, 1.0), (0.8, 0.2, 0.0), (0.5, 0.55, 0.0)]
)
def test_relation_is_the_order_across_the_frame(left, right, mark_):
    stated = facts(
        {"kind": "cube", "colour": "blue", "slot": "left"},
        {"kind": "sphere", "colour": "red", "slot": "right"},
    )
    both = film(seen(across=right), seen(kind="cube", colour="blue", across=left))
    assert mark(stated, both, WORLD)["relation"] == [mark_]
    assert mark(stated, film(seen()), WORLD)["relation"] == [0.0]


def test_relation_wants_two_places_that_differ():
    alike = facts({"colour": "blue", "slot": "left"}, {"colour": "red", "slot": "left"})
    assert "relation" not in mark(alike, film(seen()), WORLD)
    unsaid = facts({"colour": "blue", "slot": "left"}, {"colour": "red"})
    assert "relation" not in mark(unsaid, film(seen()), WORLD)


def test_nothing_stated_marks_nothing_but_the_explanation():
    assert mark((), film(seen()), WORLD) == {"explained": [1.0]}


def test_readings_answer_only_for_their_attributes():
    assert [seen().value(name) for name in ("size", "camera")] == ["small", None]
    assert [film().value(name) for name in ("camera", "size")] == ["static", None]


def test_bootstrap_interval_holds_the_mean_and_repeats():
    score = bootstrap([[1.0], [0.0, 1.0], [], [1.0]])
    assert score.mean == pytest.approx(0.75)
    assert score.low <= score.mean <= score.high
    assert score.count == 4
    assert bootstrap([[1.0], [0.0, 1.0], [], [1.0]]) == score


def test_bootstrap_of_nothing_is_no_number():
    score = bootstrap([[], []])
    assert math.isnan(score.mean)
    assert score.count == 0


def test_confusion_counts_what_was_not_read_in_the_last_column():
    table = confusion([("a", "a"), ("a", "b"), ("b", None)], ["a", "b"])
    assert table == [[1, 1, 0], [0, 0, 1]]


def test_frechet_of_shifted_clouds_is_the_square_of_the_shift():
    cloud = np.random.default_rng(0).normal(size=(200, 3))
    assert frechet(cloud, cloud) == pytest.approx(0, abs=1e-9)
    assert frechet(cloud, cloud + [2.0, 0, 0]) == pytest.approx(4, abs=1e-6)
    assert frechet(cloud[:, :1], 3 * cloud[:, :1]) > 1


def test_frechet_wants_two_rows():
    assert math.isnan(frechet(np.zeros((1, 2)), np.zeros((5, 2))))


def test_a_moment_is_right_within_half_a_second_and_the_order_of_two_is_told():
    stated = facts(
        {"kind": "sphere", "colour": "red", "start_s": "1"},
        {"kind": "cube", "colour": "blue", "start_s": "3"},
    )
    cube = {"kind": "cube", "colour": "blue"}
    marks = mark(stated, film(seen(start_s=1.2), seen(**cube, start_s=2.4)), WORLD)
    assert (marks["moment"], marks["order"]) == ([1.0, 0.0], [1.0])
    marks = mark(stated, film(seen(start_s=2.0), seen(**cube, start_s=1.0)), WORLD)
    assert marks["order"] == [0.0]
    assert mark(stated, film(seen(start_s=1.0)), WORLD)["order"] == [0.0]
    assert "order" not in mark(facts({"kind": "cube", "start_s": "1"}), film(seen()), WORLD)
