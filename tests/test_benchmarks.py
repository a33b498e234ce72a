"""The blind sheet is fair and counts correctly; the figures are small and ask for known words."""

import importlib
import json
import re
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from longtake.config import FPS, SampleConfig
from longtake.pipeline import Pipeline, build
from longtake.recipes.recipe import world_words
from longtake.text import Tokenizer
from longtake.world import render, sample_scenes
from longtake.world.cast import HELD_OUT_PAIRS
from longtake.world.choreography import BOUNCE_S
from longtake.world.truth import truth

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))
bench_autoencoder, blind_sheet, compare_attention, figures = (
    importlib.import_module(name)
    for name in ("bench_autoencoder", "blind_sheet", "compare_attention", "figures")
)

SETTINGS = SampleConfig(width=96, height=64, frames=17, steps=1)
CAR = {"colour": "red", "kind": "car", "motion": "toward", "camera": "static"}
BALL = {"colour": "pink", "kind": "sphere", "motion": "bounce", "camera": "orbit"}
KEY = {
    "1": {"prompt": "a red car", "facts": CAR, "split": "train", "wording": "train"},
    "2": {"prompt": "a pink ball", "facts": BALL, "split": "train", "wording": "held_out"},
    "3": {"prompt": "the car", "facts": CAR, "split": "held_out_pairs", "wording": "train"},
}


@pytest.fixture(scope="module")
def asked():
    return blind_sheet.prompts(blind_sheet.SEED)


@pytest.fixture
def model(tiny):
    parts = build(replace(tiny, words=world_words()))
    for part in parts:
        part.eval().requires_grad_(False)
    return Pipeline(name="tiny", model_hash="0" * 64, config=tiny, parts=parts)


@pytest.fixture
def drawn(model, tmp_path, monkeypatch):
    monkeypatch.setattr(blind_sheet, "SHOWN_WIDTH", 24)
    blind_sheet.draw(model, blind_sheet.SEED, SETTINGS, tmp_path / "blind", tmp_path / "films.npz")
    return tmp_path


def test_the_drawing_depends_on_the_seed_alone(asked):
    assert blind_sheet.prompts(blind_sheet.SEED) == asked
    assert blind_sheet.prompts(blind_sheet.SEED + 1) != asked


def test_all_24_prompts_differ_and_state_colour_kind_motion_and_camera(asked):
    assert len({film.prompt for film in asked}) == len(asked) == 24
    for film in asked:
        assert list(film.facts) == list(blind_sheet.CHOICES)
        assert all(value in blind_sheet.CHOICES[name] for name, value in film.facts.items())


def test_pairs_and_wordings_are_known_and_held_out_in_equal_parts_and_mixed_order(asked):
    parts = Counter((film.split, film.wording) for film in asked)
    assert set(parts.values()) == {6}
    for film in asked:
        pair = (film.facts["colour"], film.facts["kind"])
        assert (pair in HELD_OUT_PAIRS) == (film.split == "held_out_pairs")
    assert len({film.split for film in asked[:12]}) == 2


def test_the_model_knows_every_word_that_is_asked_for(asked):
    tokenizer = Tokenizer(world_words(), 96)
    texts = [film.prompt for film in asked] + [*figures.PROMPTS, figures.FILM_PROMPT]
    readings = [tokenizer.read(text) for text in texts]
    assert [(r.unknown, r.replaced, r.cut) for r in readings] == [((), (), 0)] * len(texts)


def test_drawing_shows_numbers_and_never_a_prompt(model, tmp_path, monkeypatch, capsys, asked):
    labels = []

    def record(path, clips, names, **layout):
        assert len(clips) == len(names)
        assert layout == {"columns": 5, "cell_width": 224}
        labels.append((path.name, names))

    monkeypatch.setattr(blind_sheet, "small_strips", record)
    blind_sheet.draw(model, blind_sheet.SEED, SETTINGS, tmp_path, tmp_path / "films.npz")
    assert [name for name, _ in labels] == [f"page_{page}.png" for page in range(1, 7)]
    assert [n for _, names in labels for n in names] == [str(n) for n in range(1, 25) for _ in "ab"]
    words = set(re.findall("[a-z]+", "".join(capsys.readouterr()).lower()))
    assert not words & {value for film in asked for value in film.facts.values()}


def test_a_drawing_leaves_six_pages_the_key_and_films_to_show_beside_the_prompts(drawn, asked):
    pages = sorted(path.name for path in (drawn / "blind").glob("*.png"))
    assert pages == [f"page_{page}.png" for page in range(1, 7)]
    key = json.loads((drawn / "blind" / "key.json").read_text())
    assert [film["prompt"] for film in key["films"].values()] == [film.prompt for film in asked]
    assert list(key["films"]) == [str(number) for number in range(1, 25)]
    kept = blind_sheet.kept_films(key, "no such model is needed", drawn / "films.npz")
    assert np.stack(kept).shape == (24, 10, 16, 24, 3)


def test_the_judge_sees_ten_half_seconds_and_every_phase_of_a_bounce():
    film = torch.arange(81, dtype=torch.uint8)[:, None, None, None].repeat(1, 8, 8, 3)
    numbers = blind_sheet.shown(film)[:, 0, 0, 0]
    assert numbers.tolist() == list(range(0, 80, 8))
    phases = np.sort(numbers / FPS / BOUNCE_S % 1)
    assert np.diff(phases, append=phases[0] + 1).max() < 0.2


def test_a_film_runs_over_two_rows_of_five_frames_in_order():
    films = [
        np.arange(10, dtype=np.uint8)[:, None, None, None].repeat(3, axis=3) + n for n in (0, 9)
    ]
    clips, labels = blind_sheet.rows(films, first=5)
    assert labels == ["5", "5", "6", "6"]
    assert np.array_equal(np.concatenate(clips[:2]), films[0])
    assert np.array_equal(np.concatenate(clips[2:]), films[1])


def test_scoring_counts_each_attribute_and_films_that_are_right_in_all():
    answers = {"1": CAR, "2": BALL | {"camera": "unclear"}, "3": CAR | {"colour": "pink"}}
    report = blind_sheet.score(KEY, answers)
    counts = {name: report[name] for name in ("colour", "kind", "motion", "camera", "all_four")}
    assert counts == {"colour": 2, "kind": 3, "motion": 3, "camera": 2, "all_four": 1}
    assert report["all_four_split_train"] == "1 of 2"
    assert report["all_four_split_held_out_pairs"] == "0 of 1"
    assert report["all_four_wording_train"] == "1 of 2"


def test_the_result_page_marks_what_was_seen_otherwise_than_asked():
    answers = {"1": CAR, "2": BALL | {"camera": "unclear"}, "3": CAR}
    key = {"films": KEY, "model_hash": "0" * 64, "seed": 1}
    page = blind_sheet.result_page(key, answers, blind_sheet.score(KEY, answers))
    assert "all four right: 2 of 3" in page
    asked, seen = "pink, sphere, bounce, orbit", "pink, sphere, bounce, **unclear**"
    assert f"| 2 | a pink ball | {asked} | {seen} | wrong |" in page
    assert page.count("| right |") == 2


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"2": None}, "differ in the films 2"),
        ({"9": CAR}, "differ in the films 9"),
        ({"1": CAR | {"kind": "lorry"}}, "film 1: kind must be one of .* got 'lorry'"),
        ({"1": {"kind": "car"}}, "film 1: colour must be one of .* got None"),
    ],
)
def test_answers_that_are_missing_or_in_other_words_are_refused(change, said):
    answers = {"1": CAR, "2": BALL, "3": CAR} | change
    with pytest.raises(SystemExit, match=said):
        blind_sheet.score(KEY, {n: answer for n, answer in answers.items() if answer is not None})


def test_a_new_drawing_is_refused_while_answers_lie_there(tmp_path):
    blind_sheet.refuse_late_draw(tmp_path)
    (tmp_path / "answers.json").write_text("{}")
    with pytest.raises(SystemExit, match="move it away first"):
        blind_sheet.refuse_late_draw(tmp_path)


def test_pictures_stay_under_the_limit_and_keep_the_colour_of_a_small_thing(tmp_path):
    slope = np.random.default_rng(0).integers(0, 40, (200, 300, 3)).astype(np.uint8)
    slope[..., 1] += np.linspace(60, 200, 300).astype(np.uint8)
    slope[90:100, 140:150] = (220, 25, 30)
    figures.save_small(tmp_path / "big.png", Image.fromarray(slope))
    figures.save_small(tmp_path / "small.png", Image.fromarray(slope), largest_bytes=20_000)
    assert (tmp_path / "small.png").stat().st_size <= 20_000
    with Image.open(tmp_path / "big.png") as image:
        pixel = image.convert("RGB").getpixel((145, 95))
    assert np.abs(np.array(pixel) - (220, 25, 30)).max() <= 12


def test_time_before_a_restart_counts_in_the_training_curve(tmp_path):
    log = "step,loss,psnr,gradient,clips_per_s,time_s\n"
    log += "".join(f"{n},1.0,{n},1,1,{t}\n" for n, t in enumerate((60, 120, 30, 60, 15), start=1))
    (tmp_path / "autoencoder.csv").write_text(log)
    minutes, quality = figures.curve(tmp_path / "autoencoder.csv", "psnr")
    assert minutes.tolist() == [1.0, 2.0, 2.5, 3.0, 3.25]
    assert quality.tolist() == [1, 2, 3, 4, 5]


def test_the_training_figure_is_drawn_from_the_logs(tmp_path):
    head = "step,loss,{},gradient,clips_per_s,time_s\n"
    metrics = {
        "autoencoder": "psnr",
        "transformer": "low_noise",
        **{name: "low_noise" for name, _ in figures.FURTHER},
    }
    for name, metric in metrics.items():
        rows = [f"{n},{1 / n:.4f},{20 + n},1,1,{9 * n}\n" for n in range(1, 60)]
        (tmp_path / f"{name}.csv").write_text(head.format(metric) + "".join(rows))
    figures.training(tmp_path / "training.png", tmp_path)
    figures.training(tmp_path / "again.png", tmp_path)
    assert (tmp_path / "training.png").read_bytes() == (tmp_path / "again.png").read_bytes()


def test_the_figures_of_films_and_of_the_round_trip_are_drawn(model, tmp_path, monkeypatch):
    monkeypatch.setattr(figures, "PROMPTS", figures.PROMPTS[:1])
    monkeypatch.setattr(figures, "RECONSTRUCTED", 1)
    figures.films(tmp_path / "films.png", model, SETTINGS)
    figures.reconstruction(tmp_path / "reconstruction.png", model, (5, 64, 96))
    assert {path.name for path in tmp_path.iterdir()} == {"films.png", "reconstruction.png"}


def test_the_round_trip_gives_bytes_of_the_same_shape_and_a_perfect_copy_scores_highest(model):
    _, clip = next(bench_autoencoder.held_out_clips(1, 5, 64, 96))
    back = bench_autoencoder.round_trip(model.autoencoder, clip)
    assert back.shape == clip.shape
    assert back.dtype == torch.uint8
    assert bench_autoencoder.score(clip, clip) > 60 > bench_autoencoder.score(clip, back)


def test_only_what_is_inside_the_boxes_of_small_subjects_is_scored():
    scene = sample_scenes(1, np.random.default_rng(0))
    scene.num_subjects[:], scene.size[:] = 1, 0
    clip = render(scene, frames=1, height=64, width=96)[0]
    (subject,) = truth(scene, frames=1, height=64, width=96)[0].subjects
    left, top, right, bottom = map(round, subject.boxes[0])
    inside, outside = clip.clone(), clip.clone()
    outside[:, :top], outside[:, bottom:] = 0, 0
    inside[:, top:bottom, left:right] = 0
    assert bench_autoencoder.score_small(scene, clip, outside) > 60
    assert bench_autoencoder.score_small(scene, clip, inside) < 20
    scene.size[:] = 2
    assert bench_autoencoder.score_small(scene, clip, clip) is None


def test_attention_settings_are_compared_at_equal_steps_and_at_equal_time(tmp_path, capsys):
    for number, setting in enumerate(compare_attention.SETTINGS):
        curve = [{"step": 10.0 * n, "loss": 1 - 0.001 * n} for n in range(1, 101)]
        cost = {"20 s": {"median_ms": 5.0, "peak_mib": 7.0}}
        found = {"setting": setting.name, "curve": curve}
        (tmp_path / f"{setting.name}.json").write_text(json.dumps(found))
        clocked = {"step_s": 1.0 + number, "forward": cost}
        (tmp_path / f"{setting.name}.time.json").write_text(json.dumps(clocked))
    compare_attention.plot(tmp_path, tmp_path / "attention.png")
    told = json.loads(capsys.readouterr().out)
    assert told["linear"][0] == told["softmax"][0] == pytest.approx(0.91)
    assert told["linear"][1] == told["linear"][0]
    assert told["softmax"][1] > told["block-2"][1] > told["linear"][1]
    assert (tmp_path / "attention.png").stat().st_size > 1000


def test_a_segment_as_long_as_the_film_is_never_left():
    film = torch.randint(0, 256, (81, 4, 4, 3), dtype=torch.uint8)
    inside, across = compare_attention.parts(compare_attention.Setting("block", 20))
    assert compare_attention.change(film, across) is None
    assert compare_attention.change(film, inside) > 0


def test_a_segment_is_crossed_where_it_ends():
    inside, across = compare_attention.parts(compare_attention.Setting("block", 5))
    assert [frame for frame in range(1, 81) if across(frame)] == [20, 40, 60, 80]
    assert all(inside(frame) != across(frame) for frame in range(81))


@pytest.mark.slow
def test_the_benchmark_of_several_gpus_runs_on_two_processes_that_agree():
    script = Path(__file__).parents[1] / "benchmarks" / "bench_parallel.py"
    asked = ["--gpus", "2", "--size", "tiny", "--device", "cpu", "--runs", "1"]
    done = subprocess.run(
        [sys.executable, str(script), *asked], capture_output=True, text=True, check=True
    )
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert not [line for line in lines if line["what"] == "failed"]
    both = {line["what"]: line for line in lines if line["gpus"] == 2}
    assert both["fp32 equality"]["relative"] < 1e-5
    assert both["fp32 equality, causal"]["relative"] < 1e-5
    assert both["guided step"]["roles"] == "2 passes of guidance at once"
    assert both["chunk of ten latent frames"]["roles"] == "latent frames over 2"
    assert both["training, a clip"]["clips_a_step"] == 2
    assert {"chunk, one after the other", "chunk, decoded meanwhile"} <= {x["what"] for x in lines}


def test_a_take_of_a_figure_is_as_long_as_asked_and_changes_with_its_cue(model):
    settings = figures.seconds(SETTINGS, 2.0)
    assert settings.frames == 1 + 2 * FPS
    film = figures.made(model, "a red ball", (), replace(settings, frames=9))
    assert film.shape == (9, 64, 96, 3)
