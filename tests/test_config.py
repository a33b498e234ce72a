import dataclasses
import json

import pytest

from longtake import config
from longtake.config import ModelConfig, SampleConfig, TrainConfig, TransformerConfig
from longtake.errors import SettingError


@pytest.mark.parametrize("seconds, frames", [(5, 81), (1, 17), (0.5, 9), (0.1, 3), (60, 961)])
def test_frames_are_sixteen_a_second_and_one(seconds, frames):
    assert config.frames_for(seconds) == frames


@pytest.mark.parametrize("seconds", [0, -1, float("nan"), float("inf"), 1e9])
def test_impossible_lengths_are_refused(seconds):
    with pytest.raises(SettingError, match=r"seconds must be .* got"):
        config.frames_for(seconds)


@pytest.mark.parametrize("frames, latent", [(1, 1), (2, 2), (5, 2), (6, 3), (81, 21)])
def test_latent_frames_hold_at_least_the_frames(frames, latent):
    assert config.latent_frames_for(frames) == latent


@pytest.mark.parametrize(
    "change",
    [
        {"seed": -1},
        {"seed": 2**64},
        {"width": 450},
        {"height": 0},
        {"width": 100_000},
        {"steps": 0},
        {"guidance": float("nan")},
        {"shift": 0.0},
        {"frames": 0},
        {"frames": 10**9},
    ],
)
def test_a_value_out_of_range_names_the_setting_and_what_was_given(change):
    ((name, value),) = change.items()
    with pytest.raises(SettingError, match=rf"{name} must be .*got '?{value}"):
        SampleConfig(**change)


def test_an_unknown_sampler_is_refused_where_settings_come_from_a_file():
    with pytest.raises(SettingError, match=r"SampleConfig\.sampler cannot be 'heun'"):
        config.from_dict(SampleConfig, {"sampler": "heun"})


def test_the_nearest_size_is_named():
    with pytest.raises(SettingError, match="the nearest is 448"):
        SampleConfig(width=450)


def test_every_config_survives_json(tiny):
    for value in (SampleConfig(), TrainConfig(), TransformerConfig(), tiny):
        text = json.dumps(config.to_dict(value))
        assert config.from_dict(type(value), json.loads(text)) == value


def test_a_misspelt_setting_is_refused_with_the_nearest_name():
    with pytest.raises(SettingError, match="did you mean 'guidance'"):
        config.from_dict(SampleConfig, {"guidence": 3})


@pytest.mark.parametrize("value", ["20", 2.5, None, True, [1]])
def test_a_value_of_another_type_is_refused(value):
    with pytest.raises(SettingError, match=r"SampleConfig\.steps cannot be"):
        config.from_dict(SampleConfig, {"steps": value})


def test_merge_changes_nested_settings_and_keeps_the_rest(tiny):
    changed = config.merge(tiny, {"transformer": {"depth": 5}})
    assert changed.transformer == dataclasses.replace(tiny.transformer, depth=5)
    assert changed.text == tiny.text
    with pytest.raises(SettingError, match="did you mean 'depth'"):
        config.merge(tiny, {"transformer": {"dept": 5}})


def test_every_setting_is_documented():
    for cls in (SampleConfig, TrainConfig, ModelConfig, TransformerConfig):
        source = __import__("inspect").getsource(cls)
        for field in dataclasses.fields(cls):
            after = source.split(f"\n    {field.name}:", 1)[1].split("\n", 1)[1]
            assert after.lstrip().startswith('"""'), f"{cls.__name__}.{field.name}"
