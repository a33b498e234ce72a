import dataclasses
import json
import re
from dataclasses import replace

import pytest

from longtake import config
from longtake.config import (
    AutoencoderConfig,
    Bucket,
    CausalConfig,
    Cue,
    Grain,
    JumpConfig,
    LoraUse,
    MatchConfig,
    ModelConfig,
    Refine,
    SampleConfig,
    Sampling,
    ShardedConfig,
    TextConfig,
    TrainConfig,
    TransformerConfig,
    from_dict,
    lora_use,
    to_dict,
)
from longtake.config.limits import latent_chunks
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


BUCKET = {"width": 1280, "height": 704, "share": 0.25, "batch": 2}


def test_sizes_of_a_stage_survive_json_and_are_changed_as_a_whole():
    stage = from_dict(TrainConfig, {"sizes": [BUCKET, BUCKET | {"frames": 41}]})
    assert stage.sizes == (Bucket(**BUCKET), Bucket(**BUCKET, frames=41))
    assert from_dict(TrainConfig, json.loads(json.dumps(to_dict(stage)))) == stage
    assert config.merge(stage, {"steps": 5}).sizes == stage.sizes
    assert config.merge(stage, {"sizes": []}).sizes == ()


@pytest.mark.parametrize(
    ("sizes", "complaint"),
    [
        ([BUCKET | {"batches": 5}], "unknown setting 'batches' in Bucket; did you mean 'batch'"),
        ([{"width": 1280}], "Bucket lacks the setting 'height'"),
        ([3], r"TrainConfig\.sizes cannot be 3; it wants Bucket"),
        ([BUCKET | {"width": 1270}], "width must be .* got 1270; the nearest is 1280"),
        ([BUCKET | {"height": 32}], "height must be .* got 32; the nearest is 64"),
        ([BUCKET | {"frames": 80}], "frames must be 4n .* got 80; the nearest are 77 and 81"),
        ([BUCKET | {"share": 1.5}], "share must be 0 to 1, got 1.5"),
        ([BUCKET | {"batch": 0}], "batch must be 1 to .* got 0"),
        ([BUCKET | {"share": 0.6}] * 2, "shares of sizes must be at most 1 together, got 1.2"),
    ],
)
def test_sizes_that_cannot_work_are_refused_by_name(sizes, complaint):
    with pytest.raises(SettingError, match=complaint) as refused:
        from_dict(TrainConfig, {"sizes": sizes})
    assert "\n" not in str(refused.value)


def test_ten_tenths_are_a_whole():
    tenth = Bucket(width=64, height=64, share=0.1, batch=1)
    assert len(TrainConfig(sizes=(tenth,) * 10).sizes) == 10


def test_a_stage_at_a_further_size_has_as_many_renderings_of_no_more_pixels():
    large = Bucket(**BUCKET)
    stage = TrainConfig(frames=161, pool=2048, render_batch=16, steps=7, sizes=(large,))
    at = stage.at(large)
    assert (at.width, at.height, at.frames, at.batch) == (1280, 704, 161, 2)
    assert (at.render_batch, at.pool, at.sizes, at.steps) == (2, 256, (), 7)
    assert stage.at(replace(large, frames=41)).render_batch == 7
    assert stage.at(Bucket(width=64, height=64, share=0, batch=64)).render_batch == 16
    assert replace(stage, render_batch=1).at(large).render_batch == 1
    assert stage.at_each_size == (stage, at)
    assert (at.highest, stage.at(replace(large, highest=0.8)).highest) == (1.0, 0.8)


@pytest.mark.parametrize("highest", [0, 1.5, float("nan")])
def test_a_size_whose_highest_noise_level_is_none_is_refused(highest):
    with pytest.raises(SettingError, match=r"highest must be 0\.01 to 1"):
        Bucket(**BUCKET, highest=highest)


def test_a_films_sides_are_made_whole_cells():
    assert SampleConfig(width=1280, height=720).made == (1280, 736)
    assert SampleConfig().made == (448, 256)
    with pytest.raises(SettingError, match="multiple of 8 from 64 to 4096, got 250; the nearest"):
        SampleConfig(height=250)


@pytest.mark.parametrize(("value", "near"), [(250, 248), (1, 64), (9999, 4096), (720, 720)])
def test_the_nearest_side_is_one_a_film_can_have(value, near):
    assert config.nearest_side(value) == near


def test_a_large_film_has_a_small_one_below_it_with_the_pixels_it_was_trained_on():
    refine = Refine(width=448, height=256)
    assert refine.small(1280, 736) == (448, 256)
    assert refine.small(512, 320) is None
    with pytest.raises(SettingError, match="level must be"):
        Refine(width=448, height=256, level=0)


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


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"frames": 80}, r"frames must be 4n \+ 1, got 80; the nearest are 77 and 81"),
        ({"frames": 82}, "got 82; the nearest are 81 and 85"),
        ({"frames": 1}, "got 1; the nearest are 5 and 9"),
        ({"width": 450}, "width must be .* got 450; the nearest is 448"),
        ({"height": 32}, "height must be .* got 32; the nearest is 64"),
        ({"steps": 0}, "steps must be 1 to .* got 0"),
        ({"render_batch": 0}, "render_batch must be 1 to .* got 0"),
        ({"learning_rate": float("nan")}, "learning_rate must be 0 to 1, got nan"),
        ({"seed": -1}, "seed must be 0 to .* got -1"),
        ({"pool": 100}, "pool must be a multiple of render_batch 16, got 100; the nearest is 96"),
    ],
)
def test_training_settings_that_cannot_work_are_refused(change, complaint):
    with pytest.raises(SettingError, match=complaint):
        TrainConfig(**change)


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"latent_channels": 4}, "must be 8 as autoencoder.latent_channels is, got 4"),
        ({"text_width": 12}, "transformer.text_width must be 24 as text.width is, got 12"),
    ],
)
def test_networks_that_do_not_fit_each_other_are_refused(tiny, change, complaint):
    with pytest.raises(SettingError, match=complaint):
        config.merge(tiny, {"transformer": change})


@pytest.mark.parametrize(
    "build, message",
    [
        (lambda: AutoencoderConfig(widths=(8, 16)), "has 3 stages"),
        (lambda: TextConfig(width=10, heads=4), "text width 10 is not a multiple of heads 4"),
        (lambda: TransformerConfig(width=30, heads=4), "must split into 4 even heads"),
        (lambda: TransformerConfig(segment=0), "segment must be at least 1 latent frame, got 0"),
    ],
)
def test_shapes_that_do_not_add_up_are_refused(build, message):
    with pytest.raises(SettingError, match=message):
        build()


def test_a_setting_without_a_default_must_be_given(tiny):
    data = config.to_dict(tiny)
    del data["words"]
    with pytest.raises(SettingError, match="ModelConfig lacks the setting 'words'"):
        config.from_dict(ModelConfig, data)


def test_a_latent_cell_covers_32_pixels_and_whole_numbers_pass_for_floats():
    assert AutoencoderConfig().spatial_stride == 32
    assert config.from_dict(SampleConfig, {"guidance": 3}).guidance == 3.0


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"chunk": 8}, "chunk must be 0 to 7 latent frames, got 8"),
        ({"chunk": -1}, "chunk must be 0 to 7 latent frames, got -1"),
    ],
)
def test_a_chunk_has_a_range(tiny, changes, complaint):
    with pytest.raises(SettingError, match=complaint):
        dataclasses.replace(tiny, **changes)


def test_softmax_attention_cannot_go_on_by_chunks(tiny):
    with pytest.raises(SettingError, match="no state of constant size"):
        dataclasses.replace(
            tiny, chunk=2, transformer=dataclasses.replace(tiny.transformer, attention="softmax")
        )


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"cross_heads": 3}, "cross_width 256 must split into 3 heads"),
        ({"cross_width": 30, "cross_heads": 4}, "cross_width 30 must split into 4 heads"),
        ({"patch": (2, 2)}, "patch must be 3 counts"),
        ({"patch": (1, 0, 2)}, "patch must be 3 counts"),
        ({"out_channels": 8}, "out_channels must be at least latent_channels 64, got 8"),
    ],
)
def test_a_transformer_of_no_possible_shape_is_refused(changes, told):
    with pytest.raises(SettingError, match=told):
        TransformerConfig(**changes)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Optional:
    count: int | None = 3


def test_a_setting_that_may_be_nothing_is_a_value_of_its_type_or_nothing():
    assert config.from_dict(Optional, {"count": None}).count is None
    assert config.from_dict(Optional, {"count": 5}).count == 5
    with pytest.raises(SettingError, match="count cannot be 'five'"):
        config.from_dict(Optional, {"count": "five"})


@pytest.mark.parametrize("at_s", [0.0, -1.0, float("nan"), float("inf")])
def test_a_prompt_changes_at_a_time_above_zero(at_s):
    with pytest.raises(SettingError, match="a prompt changes at a time above 0"):
        Cue(at_s=at_s, text="the sun sets")


def test_a_change_of_the_prompt_says_something():
    with pytest.raises(SettingError, match="the prompt at 2 s is empty"):
        Cue(at_s=2.0, text="  ")
    assert Cue(at_s=2.0, text="the sun sets").at_s == 2.0


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"chunk": 3}, "chunk must be 1, 2, 4 or 5 latent frames, got 3"),
        ({"max_frames": 0}, "max_frames must be 1 to"),
        ({"scripts": 1.5}, "scripts must be 0 to 1, got 1.5"),
        ({"history_noise": float("nan")}, "history_noise must be 0 to 1, got nan"),
        ({"first_frame": -0.1}, "first_frame must be 0 to 1"),
    ],
)
def test_what_a_model_is_taught_by_chunks_has_ranges(changes, said):
    with pytest.raises(SettingError, match=re.escape(said)):
        CausalConfig(**changes)
    assert CausalConfig().chunk == 5


def test_a_model_file_from_before_sampling_was_in_it_is_sampled_as_then(tiny):
    data = to_dict(tiny)
    del data["sampling"]
    assert from_dict(ModelConfig, data).sampling.settings() == SampleConfig()


def test_how_a_model_is_sampled_survives_its_file(tiny):
    quick = replace(tiny, sampling=Sampling(steps=4, guidance=1.0, sampler="euler"))
    assert from_dict(ModelConfig, json.loads(json.dumps(to_dict(quick)))) == quick


def test_a_model_cannot_ask_for_what_a_film_cannot_have():
    with pytest.raises(SettingError, match="steps must be 1 to 1000, got 0"):
        Sampling(steps=0)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"steps": 0}, "steps must be 1 to 50, got 0"),
        ({"guidance": 0.5}, "guidance must be 1 to 30, got 0.5"),
        ({"own": float("nan")}, "own must be 0 to 1, got nan"),
    ],
)
def test_what_a_model_is_taught_of_few_steps_has_ranges(changes, said):
    with pytest.raises(SettingError, match=re.escape(said)):
        JumpConfig(**changes)
    assert JumpConfig().steps == 4


def test_a_student_learns_at_a_share_of_its_critics_rates():
    with pytest.raises(SettingError, match="student_rate must be .* got 0"):
        MatchConfig(student_rate=0)


def test_a_prompt_gains_weight_over_a_time_that_a_take_can_have():
    with pytest.raises(SettingError, match="a prompt gains weight over 0 to"):
        Cue(at_s=2.0, text="the sun sets", over_s=-1.0)


def test_what_a_film_should_not_show_has_a_longest_length():
    with pytest.raises(SettingError, match="negative has 10,001 characters"):
        SampleConfig(negative="x" * 10_001)


@pytest.mark.parametrize(
    ("changes", "again"),
    [({}, 20), ({"keep_layers": 6}, 14), ({"keep_layers": 30}, 0), ({"recompute": False}, 0)],
)
def test_all_layers_but_the_kept_ones_run_again_in_the_backward_pass(changes, again):
    assert ShardedConfig(**changes).run_again(20) == again


@pytest.mark.parametrize(
    ("text", "file", "strength"),
    [
        ("a.safetensors", "a.safetensors", 1.0),
        ("a.safetensors:0.8", "a.safetensors", 0.8),
        ("a.safetensors:-1", "a.safetensors", -1.0),
        ("odd:name.safetensors", "odd:name.safetensors", 1.0),
        ("odd:name.safetensors:2", "odd:name.safetensors", 2.0),
    ],
)
def test_a_lora_is_named_with_or_without_its_strength(text, file, strength):
    assert lora_use(text) == LoraUse(file=file, strength=strength)


@pytest.mark.parametrize("text", ["a.safetensors:nan", "a.safetensors:11", "a:inf", ""])
def test_unbelievable_strengths_are_refused(text):
    with pytest.raises(SettingError):
        lora_use(text)


@pytest.mark.parametrize("seed", [-1, 2**64])
def test_a_change_of_the_seed_is_a_seed(seed):
    with pytest.raises(SettingError, match=f"seed must be .* got {seed} at 2 s"):
        Cue(at_s=2.0, text="", seed=seed)
    assert not Cue(at_s=2.0, text="", seed=7).text


@pytest.mark.parametrize(
    ("latent", "chunk", "wanted"),
    [
        (21, 5, (6, 5, 5, 5)),
        (20, 5, (5, 5, 5, 5)),
        (24, 5, (9, 5, 5, 5)),
        (3, 5, (3,)),
        (1, 1, (1,)),
    ],
)
def test_the_first_chunk_takes_what_is_left_over(latent, chunk, wanted):
    assert latent_chunks(latent, chunk) == wanted


@pytest.mark.parametrize("changes", [{"steps": 0}, {"learning_rate": float("nan")}, {"chunk": -1}])
def test_impossible_settings_of_a_sharded_training_are_refused(changes):
    with pytest.raises(SettingError, match=f"{next(iter(changes))} must be"):
        replace(ShardedConfig(), **changes)


@pytest.mark.parametrize("value", [-0.01, 0.51, float("nan"), float("inf")])
def test_wild_grain_is_refused(value):
    with pytest.raises(SettingError, match=r"grain.own must be 0 to 0.5"):
        Grain(own=value)
