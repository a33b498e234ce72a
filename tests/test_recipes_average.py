"""A model between two others."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from training_help import TINY_MODEL, save_model

from longtake.config import merge
from longtake.errors import ModelError, OutputError, SettingError, WeightsError
from longtake.pipeline import load
from longtake.recipes.average import average
from longtake.recipes.previz import PrevizRecipe

CONFIG = replace(merge(PrevizRecipe().model, TINY_MODEL), words=("a", "ball", "red"))
WORDS = ("a", "ball", "ten", "red")
"""Of the second model, which knows one more."""


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    first = save_model(folder / "first", CONFIG, seed=0)
    return str(first), str(save_model(folder / "second", replace(CONFIG, words=WORDS), seed=1))


def networks(folder):
    pipe = load(str(folder), device="cpu", precision="fp32")
    return pipe.text.state_dict(), pipe.transformer.state_dict(), pipe.autoencoder.state_dict()


def test_every_weight_lies_at_its_share_of_the_way(models, tmp_path):
    average(*models, 0.25, tmp_path / "out")
    first, second, made = map(networks, (*models, tmp_path / "out"))
    for part in (0, 1):
        for name in set(made[part]) - {"tokens.weight"}:
            between = 0.75 * first[part][name] + 0.25 * second[part][name]
            assert torch.allclose(made[part][name], between, rtol=0.01, atol=1e-3), name
    assert all(torch.equal(made[2][name], second[2][name]) for name in second[2])


def test_words_are_averaged_with_themselves_and_new_ones_are_the_seconds(models, tmp_path):
    average(*models, 0.5, tmp_path / "out")
    first, second, made = (
        networks(folder)[0]["tokens.weight"] for folder in (*models, tmp_path / "out")
    )
    special = len(made) - len(WORDS)
    assert torch.equal(made[special + 2], second[special + 2])
    red = (first[special + 2] + second[special + 3]) / 2
    assert torch.allclose(made[special + 3], red, rtol=0.01, atol=1e-3)


def test_the_ends_are_the_two_models(models, tmp_path):
    average(*models, 1.0, tmp_path / "second")
    average(*models, 0.0, tmp_path / "first")
    for part in ("text", "transformer", "autoencoder"):
        file = f"{part}.safetensors"
        assert (tmp_path / "second" / file).read_bytes() == (Path(models[1]) / file).read_bytes()
    file = "transformer.safetensors"
    assert (tmp_path / "first" / file).read_bytes() == (Path(models[0]) / file).read_bytes()


@pytest.mark.parametrize("share", [-0.1, 1.5, float("nan")])
def test_a_share_beyond_the_two_is_refused(models, tmp_path, share):
    with pytest.raises(SettingError, match="share must be 0 to 1"):
        average(*models, share, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_models_of_other_shapes_are_refused(models, tmp_path):
    other = merge(CONFIG, {"transformer": {"depth": 1}})
    with pytest.raises(WeightsError, match="transformer"):
        average(str(save_model(tmp_path / "other", other)), models[1], 0.5, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_finished_model_is_not_written_over_and_one_that_is_missing_is_named(models, tmp_path):
    before = (Path(models[0]) / "transformer.safetensors").read_bytes()
    with pytest.raises(OutputError, match="holds a model already"):
        average(*models, 0.5, Path(models[0]))
    assert (Path(models[0]) / "transformer.safetensors").read_bytes() == before
    with pytest.raises(ModelError, match="no model named"):
        average("nothing", models[1], 0.5, tmp_path / "out")
