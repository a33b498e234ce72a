"""The reader's network learns, never in silence from broken numbers, and mirrors what turns."""

import json
import math
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import torch

from longtake.evaluate.reader.finder import NOBODY
from longtake.evaluate.reader.network import ALL_NAMES, HEADS, NEXT, ReaderNetwork, Views
from longtake.evaluate.reader.read import Reader, load_reader
from longtake.evaluate.reader_clips import (
    UNKNOWN,
    Samples,
    clips_of,
    collect,
    mixed,
    padded,
    samples_of,
)
from longtake.evaluate.reader_scores import marks_of, mistakes, strange_films, text_of
from longtake.evaluate.scope import CAMERAS, COLOURS, MOTIONS
from longtake.evaluate.train_reader import (
    ReaderRecipe,
    augmented,
    export,
    mirrored_cameras,
    mirrored_motions,
    presence_loss,
    shares,
    train,
    train_subject,
)
from longtake.world import render, sample_scenes
from longtake.world.level import FIRST, WHOLE
from longtake.world.scene import MAX_SUBJECTS

CPU = torch.device("cpu")
RECIPE = ReaderRecipe(steps=2, frame_batch=1, subject_batch=4)


@pytest.fixture(scope="module")
def clips():
    return list(clips_of(sample_scenes(2, np.random.default_rng(4), level=WHOLE), None, CPU))


def some_samples(count=8):
    generator = torch.Generator().manual_seed(0)
    return Samples(
        views=Views(
            pictures=torch.randint(
                0, 256, (count, 5, 40, 40, 4), dtype=torch.uint8, generator=generator
            ),
            ways=torch.rand(count, 5, 15, generator=generator),
        ),
        labels={name: torch.arange(count) % number for name, number in HEADS.items()},
    )


@pytest.mark.slow
def test_the_same_seed_gives_the_same_network_and_it_can_be_loaded(clips, tmp_path):
    networks = [train(RECIPE, clips) for _ in range(2)]
    for one, other in zip(*(n.state_dict().values() for n in networks), strict=True):
        assert torch.equal(one, other)
    export(networks[0], tmp_path)
    assert (tmp_path / "reader.safetensors").stat().st_size <= 2 * 2**20
    (tmp_path / "reader.json").write_text(json.dumps({"names": ALL_NAMES}))
    loaded = load_reader(tmp_path).network
    for one, other in zip(
        loaded.state_dict().values(), networks[0].state_dict().values(), strict=True
    ):
        assert torch.equal(one, other)


def test_a_loss_that_is_no_number_stops_the_training():
    samples = some_samples()
    samples.views.ways[0] = math.nan
    with pytest.raises(FloatingPointError, match="the reader's loss is"):
        train_subject(
            replace(RECIPE, steps=3, subject_batch=64), ReaderNetwork().subject, samples, 0
        )


def test_a_mirror_swaps_left_and_right_and_nothing_else():
    numbers = mirrored_motions(CPU).tolist()
    for number, twin in enumerate(numbers):
        if MOTIONS[number].name == "zigzag":
            assert twin == -1
            continue
        assert MOTIONS[twin].lateral == -MOTIONS[number].lateral
        assert MOTIONS[twin].comes == -MOTIONS[number].comes
        assert numbers[twin] == number
    cameras = mirrored_cameras(CPU).tolist()
    for number, twin in enumerate(cameras):
        assert cameras[twin] == number
        assert CAMERAS[twin].roll_deg == -CAMERAS[number].roll_deg


def test_augmented_samples_keep_what_a_mirror_keeps():
    before = some_samples()
    after = augmented(before, torch.Generator().manual_seed(1))
    assert torch.equal(after.labels["kind"], before.labels["kind"])
    assert after.views.pictures.dtype == torch.uint8
    assert torch.equal(after.views.ways[..., 0], before.views.ways[..., 0])


def test_trainings_end_by_steps_or_by_time():
    assert list(shares(4, 0.0)) == [0, 0.25, 0.5, 0.75]
    done = list(shares(0, 0.02))
    assert done == sorted(done)
    assert done[-1] < 1


@pytest.mark.slow
def test_clips_and_samples_are_what_is_true_of_the_scenes(clips):
    for clip in clips:
        scene, count = clip.scene, int(clip.scene.num_subjects[0])
        shown = set(clip.cells.unique().tolist()) - {len(COLOURS)}
        assert shown <= set(scene.colour[0, :count].tolist())
        assert clip.camera.camera == CAMERAS[scene.camera[0]].name
    samples = samples_of(ReaderNetwork(), clips)
    kinds = [k for c in clips for k in c.scene.kind[0, : c.scene.num_subjects[0]].tolist()]
    assert Counter(samples.labels["kind"].tolist()) <= Counter(kinds)
    assert set(samples.labels["kind"].tolist())
    for name, label in samples.labels.items():
        assert ((label == UNKNOWN) | ((label >= 0) & (label < HEADS[name]))).all()


def test_second_motions_are_those_the_world_draws():
    scenes = sample_scenes(500, np.random.default_rng(0), level=WHOLE)
    drawn = scenes.then[np.isfinite(scenes.change_s)]
    assert {MOTIONS[number] for number in np.unique(drawn)} == set(NEXT)


def test_scenes_in_wider_tables_look_the_same():
    scenes = sample_scenes(2, np.random.default_rng(1), level=FIRST)
    wider = padded(scenes)
    assert wider.kind.shape == (2, MAX_SUBJECTS)
    size = {"frames": 2, "fps": 1, "height": 32, "width": 56, "samples": 1}
    assert torch.equal(render(scenes, **size), render(wider, **size))


def test_mixed_scenes_are_of_all_levels_and_fuller_than_drawn():
    scenes = mixed(200, (0, 0), WHOLE)
    drawn = sample_scenes(1000, np.random.default_rng(0), level=WHOLE)
    assert len(scenes) == 200
    whole = scenes.select(scenes.wind > 0)
    assert whole.num_subjects.mean() > drawn.num_subjects.mean() + 0.1
    assert np.isfinite(whole.change_s[:, 0]).mean() > np.isfinite(drawn.change_s[:, 0]).mean()
    assert 0.2 < (scenes.wind == 0).mean() < 0.7
    again = mixed(200, (0, 0), WHOLE)
    assert np.array_equal(scenes.colour, again.colour)


def test_who_is_imagined_or_missed_costs_however_few_cells_it_is():
    true = torch.full((1, 2, 16, 16), NOBODY)
    true[:, :, 4:8, 4:8] = 2
    right = 8.0 * torch.nn.functional.one_hot(true, NOBODY + 1).permute(0, 1, 4, 2, 3).float()
    imagined, missed = right.clone(), right.clone()
    imagined[:, :, 5, 12:, 12:] += 16
    missed[:, :, 2, 4:8, 4:8] = 0
    least = presence_loss(right, true)
    assert least < 0.02
    assert presence_loss(imagined, true) > 10 * least
    assert presence_loss(missed, true) > 10 * least


def test_clips_are_collected_until_the_number_is_reached():
    clips = collect(WHOLE, 1, 0.0, 3, None, CPU)
    assert len(clips) == 1


def test_what_rules_alone_tell_is_marked_and_what_is_not_read_is_wrong(clips):
    reading = Reader(None).read(clips[0].film.fine, 4)
    hits = marks_of(clips[0].scene, 0, reading)
    assert hits["camera"] == hits["light"] == hits["rule:camera"] == [True]
    assert not any(hits["kind"])
    assert any(line.startswith("kind: ") for line in mistakes(clips[0].scene, 0, reading)) or (
        not reading.subjects
    )


def test_strange_films_are_of_many_sorts_and_the_report_names_them():
    films = strange_films(1)
    assert {"noise", "flat", "photo"} <= set(films)
    assert {one.dtype for some in films.values() for one in some} == {torch.uint8}
    report = {
        "accuracy": {"first": {"kind": [0.5, 2], "frames_off:start_s": [3.25, 4]}},
        "explained_of_strange": {"noise": 0.0}, "mistakes": {"kind: cone as cube": 1},
    }  # fmt: skip
    text = text_of(report)
    assert "50.0 % of 2" in text
    assert "3.2 of 4" in text
    assert "kind: cone as cube" in text
