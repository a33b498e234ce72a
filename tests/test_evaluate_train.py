"""The reader's network learns, never in silence from broken numbers, and mirrors what turns."""

import json
import math

import numpy as np
import pytest
import torch

from longtake.evaluate.reader.films import look_at
from longtake.evaluate.reader.network import HEADS, NAMES, Views
from longtake.evaluate.reader.read import Reader, load_reader
from longtake.evaluate.scope import COLOURS, MOTIONS
from longtake.evaluate.train_reader import (
    ReaderRecipe,
    Samples,
    augmented,
    export,
    marks,
    mirrored,
    samples_of,
    train,
)
from longtake.world import render, sample_scenes

RECIPE = ReaderRecipe(passes=2, batch=4)


def some_samples(count=8):
    generator = torch.Generator().manual_seed(0)
    return Samples(
        views=Views(
            pictures=torch.randint(
                0, 256, (count, 5, 40, 40, 3), dtype=torch.uint8, generator=generator
            ),
            ways=torch.rand(count, 5, 10, generator=generator),
        ),
        labels={name: torch.arange(count) % number for name, number in HEADS.items()},
    )


def test_the_same_seed_gives_the_same_network_and_it_can_be_loaded(tmp_path):
    networks = [train(RECIPE, some_samples()) for _ in range(2)]
    for one, other in zip(*(n.state_dict().values() for n in networks), strict=True):
        assert torch.equal(one, other)
    export(networks[0], tmp_path)
    assert (tmp_path / "reader.safetensors").stat().st_size <= 2 * 2**20


def test_a_loss_that_is_no_number_stops_the_training():
    samples = some_samples()
    samples.views.ways[0] = math.nan
    with pytest.raises(FloatingPointError, match="at step"):
        train(ReaderRecipe(passes=8, batch=8), samples)


def test_a_mirror_swaps_left_and_right_and_nothing_else():
    numbers = mirrored(torch.device("cpu")).tolist()
    for number, twin in enumerate(numbers):
        assert MOTIONS[twin].lateral == -MOTIONS[number].lateral
        assert numbers[twin] == number


def test_augmented_samples_keep_what_a_mirror_keeps():
    before = some_samples()
    after = augmented(before, torch.Generator().manual_seed(1))
    assert torch.equal(after.labels["kind"], before.labels["kind"])
    assert after.views.pictures.dtype == torch.uint8
    assert torch.equal(after.views.ways[..., 0], before.views.ways[..., 0])


def test_samples_are_what_is_true_of_the_subjects_that_are_found():
    scenes = sample_scenes(1, np.random.default_rng(4))
    film = look_at(render(scenes, frames=9, fps=4, height=128, width=224)[0], 4)
    samples = samples_of(scenes, 0, film)
    assert samples is not None
    count = int(scenes.num_subjects[0])
    assert sorted(samples.labels["kind"].tolist()) == sorted(scenes.kind[0, :count].tolist())
    reading = Reader(None).read(film.fine, 4)
    hits = marks(scenes, 0, reading)
    assert hits["colour"] == [True] * count
    assert hits["light"] == hits["camera"] == hits["count"] == [True]
    assert hits["kind"] == [False] * count
    assert {s.colour for s in reading.subjects} == {
        COLOURS[c].name for c in scenes.colour[0, :count]
    }


def test_a_trained_network_is_read_back_with_its_names(tmp_path):
    export(train(RECIPE, some_samples()), tmp_path)

    (tmp_path / "reader.json").write_text(json.dumps({"names": NAMES}))
    assert load_reader(tmp_path).network is not None
