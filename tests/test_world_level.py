"""Levels of the world: the first stays as it was, wider ones hold all of the narrower."""

import hashlib
import random
from dataclasses import fields
from itertools import pairwise

import numpy as np
import pytest
import torch

from longtake.errors import SettingError
from longtake.world import caption, render, sample_scenes, vocabulary
from longtake.world.camera import move_camera
from longtake.world.cast import COLOURS, KINDS, MATERIALS, MOTIONS
from longtake.world.choreography import frame_times, track
from longtake.world.level import FIRST, LEVELS, WHOLE, Level, level_named
from longtake.world.scene import Scenes, Subject
from longtake.world.stage import CAMERAS, GROUNDS, LIGHTS, SHOTS
from longtake.world.truth import truth, with_visibility
from longtake.world.written import scene_of

FIRST_COLUMNS = (
    "num_subjects", "kind", "colour", "size", "motion", "slot", "row", "ground", "light", "camera",
    "prop", "subject_jitter", "scene_jitter", "prop_jitter",
)  # fmt: skip
SCENES = "8f8295f90fc6b7f2e952656710a372540275c849174ea8d40bc3e48577af47ee"
CAPTIONS = "b16f1ec2e7a736c38b00bd2262b6c3b6ad048db584982035030460895ffc31eb"
WORDS = "0dcd85ff4b7f0f904b7d302feda30fc289f8f97e4635fcdd1067dc64d9b0a771"
COLOUR_MEANS = (
    (158.14, 172.75, 186.30), (168.73, 181.24, 198.68), (55.41, 64.14, 99.09),
    (43.38, 55.02, 64.40), (141.95, 113.63, 74.71), (56.19, 63.40, 98.87),
    (150.36, 114.18, 75.71), (56.51, 63.74, 99.46),
)  # fmt: skip
"""Mean colour of each clip; other processors round a little differently."""
CPU = torch.device("cpu")
TABLES = {
    "kinds": KINDS,
    "colours": COLOURS,
    "motions": MOTIONS,
    "grounds": GROUNDS,
    "lights": LIGHTS,
    "cameras": CAMERAS,
    "materials": MATERIALS,
    "shots": SHOTS,
}


@pytest.fixture(autouse=True)
def _one_thread():
    # Pictures this small lose more to waiting threads than they gain.
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def moved(seconds: float = 5.0, **subject: object) -> tuple[torch.Tensor, torch.Tensor]:
    """Positions and sizes of one subject through a clip, 16 times a second."""
    scenes = scene_of([Subject(**{"kind": "sphere", "colour": "red"} | subject)], seed=4)
    tracks = track(scenes, frame_times(1, int(16 * seconds) + 1, 16.0, 0.0, CPU))
    return tracks.position[0, :, 0], tracks.scale[0, :, 0]


def test_the_first_level_draws_the_scenes_it_always_drew():
    digest = hashlib.sha256()
    for split in ("train", "held_out_pairs"):
        scenes = sample_scenes(64, np.random.default_rng(5), split)
        for name in FIRST_COLUMNS:
            digest.update(np.ascontiguousarray(getattr(scenes, name)).tobytes())
    assert digest.hexdigest() == SCENES


def test_the_first_level_says_what_it_always_said():
    scenes = sample_scenes(64, np.random.default_rng(5))
    digest = hashlib.sha256()
    for wording in ("train", "held_out", "any"):
        rng = random.Random(3)
        for i in range(64):
            told = caption(scenes, i, rng, wording)
            facts = [(f.subject, f.attribute, f.value) for f in told.facts]
            digest.update(f"{told.text}|{facts!r}".encode())
    assert digest.hexdigest() == CAPTIONS
    assert hashlib.sha256(" ".join(vocabulary()).encode()).hexdigest() == WORDS


def test_the_first_level_looks_as_it_always_looked():
    scenes = sample_scenes(64, np.random.default_rng(5)).select(slice(0, 8))
    film = render(scenes, frames=3, fps=0.5, height=64, width=112)
    assert np.allclose(film.float().mean((1, 2, 3)).numpy(), COLOUR_MEANS, atol=0.1)


@pytest.mark.parametrize(("narrow", "wide"), list(pairwise(LEVELS)))
def test_a_wider_level_holds_all_of_a_narrower_one_in_the_same_order(narrow, wide):
    for name in TABLES:
        few, many = getattr(narrow, name), getattr(wide, name)
        assert many[: len(few)] == few
    assert wide.most_subjects >= narrow.most_subjects


def test_the_whole_level_has_everything_that_can_be_cast():
    for name, table in TABLES.items():
        entries = [e.name for e in table if e is not MOTIONS[-1]]
        assert list(getattr(WHOLE, name)) == entries
    assert len(WHOLE.motions) >= 14
    assert len(WHOLE.colours) == 12


def test_a_level_is_found_by_its_name():
    assert level_named("whole") is WHOLE
    with pytest.raises(SettingError, match="first, cast, action, whole, got 'all'"):
        level_named("all")


@pytest.mark.parametrize("level", LEVELS[1:], ids=lambda level: level.name)
def test_every_value_of_a_level_is_drawn(level: Level):
    scenes = sample_scenes(6000, np.random.default_rng(1), level=level)
    shown = np.arange(level.most_subjects) < scenes.num_subjects[:, None]
    columns = {
        "kinds": scenes.kind[shown],
        "colours": scenes.colour[shown],
        "motions": scenes.motion[shown],
        "materials": scenes.material[shown],
        "grounds": scenes.ground,
        "lights": scenes.light,
        "cameras": scenes.camera,
        "shots": scenes.shot,
    }
    for name, column in columns.items():
        drawn = {TABLES[name][i].name for i in np.unique(column)}
        assert drawn == set(getattr(level, name)), name
    assert set(scenes.num_subjects) == set(range(1, level.most_subjects + 1))


def test_subjects_of_a_scene_differ_in_colour():
    scenes = sample_scenes(3000, np.random.default_rng(2), level=WHOLE)
    for row, count in zip(scenes.colour, scenes.num_subjects, strict=True):
        assert len(set(row[:count])) == count


def test_the_same_seed_draws_the_same_scenes_of_the_whole_level():
    one = sample_scenes(50, np.random.default_rng(3), level=WHOLE)
    two = sample_scenes(50, np.random.default_rng(3), level=WHOLE)
    for field in fields(Scenes):
        np.testing.assert_array_equal(getattr(one, field.name), getattr(two, field.name))


@pytest.mark.parametrize(
    ("motion", "side"),
    [("enter_left", -1), ("enter_right", 1), ("exit_left", -1), ("exit_right", 1)],
)
def test_who_enters_or_exits_does_so_at_the_named_side(motion, side):
    position, _ = moved(motion=motion)
    x = position[:, 0] if motion.startswith("exit") else position[:, 0].flip(0)
    assert abs(float(x[0])) < 0.5
    assert float(x[-1]) * side > 6


def test_who_returns_ends_where_it_began():
    position, _ = moved(motion="return")
    assert float(position[:, 0].abs().max()) > 6
    assert torch.allclose(position[0], position[-1], atol=1e-4)


@pytest.mark.parametrize(
    ("motion", "first", "last"),
    [("grow", 0.55, 1.35), ("shrink", 1.35, 0.55), ("appear", 0, 1), ("disappear", 1, 0)],
)
def test_sizes_change_the_way_the_word_says(motion, first, last):
    _, size = moved(motion=motion, start_s=1.0, seconds=7)
    _, usual = moved()
    assert float(size[0] / usual[0]) == pytest.approx(first, abs=0.01)
    assert float(size[-1] / usual[0]) == pytest.approx(last, abs=0.01)


def test_nothing_moves_before_its_start_and_a_second_motion_takes_over_without_a_leap():
    position, _ = moved(motion="left_to_right", start_s=2.0)
    assert torch.equal(position[0], position[32])
    assert position[40, 0] > position[32, 0]
    for first, second in (("bounce", "spin"), ("circle", "still"), ("left_to_right", "jump")):
        position, _ = moved(motion=first, then=second, change_s=2.0)
        assert float(position.diff(dim=0).norm(dim=-1).max()) < 0.45
        late = position[-8:]
        assert float((late - late[0]).norm(dim=-1).max()) < 1e-3


def test_a_follower_keeps_its_distance_behind_the_first_subject():
    leader = Subject(kind="car", colour="red", motion="right_to_left")
    scenes = scene_of([leader, Subject(kind="figure", colour="blue", motion="follow")])
    position = track(scenes, frame_times(1, 81, 16.0, 0.0, CPU)).position[0]
    apart = position[:, 1] - position[:, 0]
    assert (apart[:, 0] > 1).all()
    assert torch.allclose(apart, apart[:1].expand_as(apart), atol=1e-4)


@pytest.mark.parametrize(
    ("camera", "way"),
    [("tilt_up", 1), ("tilt_down", -1)],
)
def test_a_tilt_turns_the_camera_and_leaves_it_in_place(camera, way):
    scenes = scene_of([Subject(kind="cube", colour="red")], camera=camera)
    path = move_camera(scenes, frame_times(1, 81, 16.0, 0.0, CPU))
    assert torch.equal(path.eye[0, 0], path.eye[0, -1])
    assert (path.forward[0, -1, 1] - path.forward[0, 0, 1]) * way > 0.25


@pytest.mark.parametrize(("camera", "way"), [("roll_left", -1), ("roll_right", 1)])
def test_a_roll_keeps_the_line_of_sight(camera, way):
    scenes = scene_of([Subject(kind="cube", colour="red")], camera=camera)
    path = move_camera(scenes, frame_times(1, 81, 16.0, 0.0, CPU))
    assert torch.equal(path.forward[0, 0], path.forward[0, -1])
    assert (path.right[0, 0, 1] - path.right[0, -1, 1]) * way > 0.5


@pytest.mark.parametrize(("camera", "way"), [("pedestal_up", 1), ("pedestal_down", -1)])
def test_a_pedestal_moves_up_and_down_and_looks_the_same_way(camera, way):
    scenes = scene_of([Subject(kind="cube", colour="red")], camera=camera)
    path = move_camera(scenes, frame_times(1, 81, 16.0, 0.0, CPU))
    assert (path.eye[0, -1, 1] - path.eye[0, 0, 1]) * way > 1.8
    assert torch.equal(path.forward[0, 0], path.forward[0, -1])


@pytest.mark.parametrize(("camera", "way"), [("zoom_in", 1), ("zoom_out", -1)])
def test_a_zoom_changes_the_focal_length_alone(camera, way):
    scenes = scene_of([Subject(kind="cube", colour="red")], camera=camera)
    path = move_camera(scenes, frame_times(1, 81, 16.0, 0.0, CPU))
    assert torch.equal(path.eye[0, 0], path.eye[0, -1])
    (told,) = truth(scenes, frames=2, fps=1 / 5)
    assert np.log(told.poses[1].focal / told.poses[0].focal) * way > 0.6


def test_a_following_camera_keeps_its_subject_in_the_middle():
    scenes = scene_of([Subject(kind="car", colour="red", motion="left_to_right")], camera="follow")
    (told,) = truth(scenes, frames=6, fps=1)
    centres = [(box[0] + box[2]) / 2 for box in told.subjects[0].boxes if box]
    assert len(centres) == 6
    assert max(abs(x - told.width / 2) for x in centres) < 0.15 * told.width


@pytest.mark.parametrize(("shot", "low", "high"), [("medium", 0.4, 0.6), ("close", 0.7, 1.0)])
def test_shots_differ_by_the_height_of_the_first_subject(shot, low, high):
    for kind in ("figure", "sphere", "house"):
        scenes = scene_of([Subject(kind=kind, colour="red", slot="centre")], shot=shot)
        (told,) = truth(scenes, frames=1)
        _, top, _, bottom = told.subjects[0].boxes[0]
        assert low < (bottom - top) / told.height < high


def test_leaving_subjects_leave_the_frame_and_the_truth_says_when():
    scenes = sample_scenes(600, np.random.default_rng(4), level=WHOLE)
    leaves = np.array([motion.leaves for motion in MOTIONS])[scenes.motion]
    shown = np.arange(WHOLE.most_subjects) < scenes.num_subjects[:, None]
    scenes = scenes.select((leaves & shown).any(axis=1).nonzero()[0][:60])
    seen = 0
    for i, told in enumerate(truth(scenes, frames=17, fps=2)):
        for subject, number in zip(told.subjects, scenes.motion[i], strict=False):
            motion, events = MOTIONS[number], [e.what for e in subject.events]
            if motion.comes:
                assert "enters" in events, (told.camera, told.shot, subject.motion)
            if motion.goes:
                assert "leaves" in events, (told.camera, told.shot, subject.motion)
            if motion.returns:
                assert events.index("leaves") < len(events) - 1 - events[::-1].index("enters")
            seen += motion.leaves
    assert seen > 50


def test_a_subject_that_appears_is_not_visible_before():
    scenes = scene_of([Subject(kind="cube", colour="red", motion="appear", start_s=2.0)])
    (told,) = with_visibility(truth(scenes, frames=6, fps=1), scenes)
    subject = told.subjects[0]
    assert subject.visible is not None
    assert subject.visible[:3] == (0.0, 0.0, 0.0)
    assert subject.visible[3] == 1.0
    assert [(e.what, e.time_s) for e in subject.events] == [("starts", 2.0), ("appears", 3.0)]


def test_fog_hides_what_is_far():
    def contrast(light: str) -> float:
        scenes = scene_of([Subject(kind="cube", colour="red", size="small")], light=light)
        film = render(scenes, frames=1, height=64, width=112)[0, 0].float()
        return float(film[10:22].std(dim=1).mean())

    assert contrast("fog") < 0.5 * contrast("day")


def test_wings_beat_and_flags_wave_while_nothing_else_moves():
    for kind in ("bird", "flag"):
        scenes = scene_of([Subject(kind=kind, colour="red", size="large")])
        film = render(scenes, frames=3, fps=4, height=64, width=112)[0].int()
        assert ((film[0] - film[1]).abs().amax(-1) > 15).sum() > 15
        assert torch.equal(film[0, :5], film[1, :5])


def test_materials_can_be_seen():
    film = {
        name: render(
            scene_of([Subject(kind="sphere", colour="red", size="large", material=name)]),
            frames=1,
            height=64,
            width=112,
        ).int()
        for name in ("matte", "shiny", "striped", "dotted")
    }
    brighter = (film["shiny"] - film["matte"]).amin(-1)
    darker = (film["matte"] - film["striped"]).amax(-1)
    assert 5 < (brighter > 20).sum() < 100
    assert (darker > 20).sum() > 50
    dots = (film["matte"] - film["dotted"]).amax(-1)
    assert ((dots > 20) & (darker <= 20)).sum() > 20


def test_no_pattern_is_named_that_its_colour_hides():
    scenes = sample_scenes(3000, np.random.default_rng(4), level=WHOLE)
    black = scenes.colour == [c.name for c in COLOURS].index("black")
    assert {MATERIALS[i].name for i in np.unique(scenes.material[black])} == {"matte", "shiny"}


def test_larger_groups_do_not_make_the_first_level_pay():
    first = sample_scenes(2, np.random.default_rng(0))
    whole = sample_scenes(2, np.random.default_rng(0), level=WHOLE)
    assert first.kind.shape[1] == FIRST.most_subjects
    assert whole.kind.shape[1] == WHOLE.most_subjects


def test_the_same_scene_looks_the_same_among_larger_ones():
    scenes = sample_scenes(6, np.random.default_rng(1), level=WHOLE)
    batch = render(scenes, frames=2, height=48, width=84)
    alone = render(scenes.select(3), frames=2, height=48, width=84)
    assert (batch[3].int() - alone[0].int()).abs().max() <= 1
