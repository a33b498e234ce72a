"""What can appear, how scenes are drawn, and what moves where."""

from dataclasses import fields
from itertools import combinations, pairwise

import numpy as np
import pytest
import torch

from longtake.errors import SettingError
from longtake.world.cast import COLOURS, HELD_OUT_PAIRS, KINDS, MOTIONS, SIZES, allowed_motions
from longtake.world.choreography import frame_times, track
from longtake.world.level import FIRST, LEVELS, Level
from longtake.world.sampling import sample_scenes
from longtake.world.scene import Scenes, Subject
from longtake.world.written import scene_of

LAB_APART = 25.0


def lab(rgb: tuple[float, float, float]) -> np.ndarray:
    """CIE Lab of an sRGB colour under D65."""
    linear = np.array([c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in rgb])
    to_xyz = np.array(
        [[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]]
    )
    xyz = to_xyz @ linear / np.array([0.9505, 1.0, 1.089])
    root = np.where(xyz > 0.008856, np.cbrt(xyz), 7.787 * xyz + 16 / 116)
    return np.array([116 * root[1] - 16, 500 * (root[0] - root[1]), 200 * (root[1] - root[2])])


def pairs(scenes: Scenes) -> set[tuple[str, str]]:
    shown = np.arange(scenes.kind.shape[1]) < scenes.num_subjects[:, None]
    both = zip(scenes.colour[shown], scenes.kind[shown], strict=True)
    return {(COLOURS[c].name, KINDS[k].name) for c, k in both}


def test_any_two_colours_can_be_told_apart():
    for one, other in combinations(COLOURS, 2):
        assert np.linalg.norm(lab(one.rgb) - lab(other.rgb)) >= LAB_APART, (one.name, other.name)


def test_neighbouring_sizes_differ_by_half_at_least():
    for small, large in pairwise(SIZES):
        # Sizes of two subjects may each stray by 6%.
        assert large.metres * 0.94 >= 1.5 * small.metres * 1.06


def test_the_same_seed_draws_the_same_scenes():
    one = sample_scenes(50, np.random.default_rng(3))
    two = sample_scenes(50, np.random.default_rng(3))
    for field in fields(Scenes):
        np.testing.assert_array_equal(getattr(one, field.name), getattr(two, field.name))


def held_out(level: Level) -> set[tuple[str, str]]:
    return {(c, k) for c, k in HELD_OUT_PAIRS if c in level.colours and k in level.kinds}


@pytest.mark.parametrize("level", LEVELS, ids=lambda level: level.name)
def test_training_never_sees_a_held_out_pair_and_all_others(level):
    drawn = pairs(sample_scenes(20_000, np.random.default_rng(0), level=level))
    assert not drawn & set(HELD_OUT_PAIRS)
    assert len(drawn) == len(level.colours) * len(level.kinds) - len(held_out(level))


@pytest.mark.parametrize("level", LEVELS, ids=lambda level: level.name)
def test_the_held_out_split_shows_nothing_else(level):
    scenes = sample_scenes(3000, np.random.default_rng(0), "held_out_pairs", level)
    # A scene whose kind has no held-out colour at this level cannot be drawn; there is none.
    assert pairs(scenes) == held_out(level)
    assert (scenes.num_subjects == 1).all()


def test_every_colour_and_kind_is_left_for_training():
    for colour in COLOURS:
        assert sum(c == colour.name for c, _ in HELD_OUT_PAIRS) < len(KINDS) / 2
    for kind in KINDS:
        assert sum(k == kind.name for _, k in HELD_OUT_PAIRS) < len(COLOURS) / 2


def test_every_value_is_drawn_about_equally_often():
    scenes = sample_scenes(20_000, np.random.default_rng(1))
    for column, table in (
        (scenes.ground, FIRST.grounds),
        (scenes.light, FIRST.lights),
        (scenes.camera, FIRST.cameras),
        (scenes.kind[:, 0], FIRST.kinds),
        (scenes.size[:, 0], SIZES),
        (scenes.colour[:, 0], FIRST.colours),
    ):
        counts = np.bincount(column, minlength=len(table)) * len(table) / len(scenes)
        assert counts.min() > 0.85
        assert counts.max() < 1.15


def test_two_subjects_differ_in_colour_and_kinds_keep_to_their_motions():
    scenes = sample_scenes(5000, np.random.default_rng(2))
    assert (scenes.colour[:, 0] != scenes.colour[:, 1]).all()
    assert 0.5 < (scenes.num_subjects == 1).mean() < 0.6
    for kind, motion in zip(scenes.kind.ravel(), scenes.motion.ravel(), strict=True):
        assert motion in allowed_motions(KINDS[kind])


@pytest.mark.parametrize("motion", MOTIONS[: len(FIRST.motions)], ids=lambda m: m.name)
def test_a_subject_moves_the_way_the_word_says(motion):
    scenes = scene_of([Subject(kind="sphere", colour="red", motion=motion.name)], seed=4)
    times = frame_times(1, 81, 16.0, 0.0, torch.device("cpu"))
    tracks = track(scenes, times)
    x, y, z = tracks.position[0, :, 0].unbind(-1)
    going_x, going_z = float(x[-1] - x[0]), float(z[-1] - z[0])
    if motion.lateral:
        assert np.sign(going_x) == motion.lateral
        assert abs(going_x) > 5
        assert (torch.diff(x) * motion.lateral > 0).all()
    else:
        assert abs(going_x) < 3
    if motion.depth:
        assert np.sign(going_z) == motion.depth
        assert (torch.diff(z) * motion.depth > 0).all()
    if motion.circle:
        middle = tracks.position[0, :65, 0].mean(0)
        radius = (tracks.position[0, :, 0] - middle).norm(dim=-1)
        assert radius.max() - radius.min() < 0.1 * radius.mean()
    assert (float(y.max()) > 0.5) == bool(motion.bounce)
    assert float(y.min()) >= 0
    turned = float((tracks.heading[0, -1, 0] - tracks.heading[0, 0, 0]).abs())
    assert (turned > 3) == bool(motion.spin or motion.circle)


def test_one_way_moves_hold_after_the_clip():
    scenes = scene_of([Subject(kind="car", colour="red", motion="left_to_right")])
    late = track(scenes, frame_times(1, 2, 1.0, 6.0, torch.device("cpu")))
    assert torch.equal(late.position[0, 0, 0], late.position[0, 1, 0])


@pytest.mark.parametrize(
    "wrong",
    [
        {"kind": "dragon", "colour": "red"},
        {"kind": "cube", "colour": "mauve"},
        {"kind": "tree", "colour": "red", "motion": "bounce"},
        {"kind": "cube", "colour": "red", "slot": "above"},
    ],
)
def test_a_scene_of_unknown_words_is_refused(wrong):
    with pytest.raises(SettingError):
        scene_of([Subject(**wrong)])


def test_a_scene_holds_one_to_four_subjects():
    assert scene_of([Subject(kind="cube", colour="red")] * 4).num_subjects == 4
    with pytest.raises(SettingError, match="1 to 4 subjects, got 5"):
        scene_of([Subject(kind="cube", colour="red")] * 5)


def test_select_keeps_the_chosen_scenes_in_order():
    scenes = sample_scenes(9, np.random.default_rng(0))
    chosen = scenes.select([4, 1])
    assert len(chosen) == 2
    np.testing.assert_array_equal(chosen.prop_jitter, scenes.prop_jitter[[4, 1]])
    np.testing.assert_array_equal(scenes.select(3).kind, scenes.kind[3:4])
