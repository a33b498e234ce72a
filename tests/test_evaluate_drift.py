"""The drift meter finds faults of known size and lets true films pass."""

import importlib
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from longtake.config import FPS
from longtake.errors import MediaError
from longtake.evaluate.drift import (
    MEASURES,
    alarms,
    curves,
    cuts_of,
    drift_of,
    flicker,
    longest_freeze,
    loop,
    seam,
    slope,
)
from longtake.evaluate.drift_report import as_report, as_text, notes
from longtake.rollout.grid import Grid
from longtake.world import render, sample_scenes
from longtake.world.screenwriter import sample_script
from longtake.world.script import render_script

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))
faults = importlib.import_module("faults")

SIZES = {"luma": 20.0, "saturation": 0.3, "contrast": 0.3, "sharpness": 0.5, "motion": 12.0}
BORDERS = [Grid(5).frames(chunk).start for chunk in range(1, 8)]


def script_film(seed, seconds=10, start_s=0):
    script = sample_script(np.random.default_rng(seed))
    frames = seconds * FPS + 1
    size = {"height": 64, "width": 112, "samples": 1}
    return render_script(script, frames=frames, start_s=start_s, **size)


@pytest.fixture(scope="module")
def film():
    """A beat in which a subject leaves, and the one after it."""
    return script_film(3)


def measured(film):
    return curves([film], FPS)


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("measure", MEASURES)
def test_a_slope_that_was_put_in_is_found_within_15_percent(film, measure, sign):
    # What is lost can be regained: backwards the same film drifts the other way.
    base = film if sign > 0 else film.flip(0)
    faulty = faults.drifted(base, measure, SIZES[measure])
    faulty = faulty if sign > 0 else faulty.flip(0)
    known = sign * faults.known_slope(base, measure, SIZES[measure], FPS)
    gained = slope(measured(faulty), measure).per_s - slope(measured(film), measure).per_s
    assert gained == pytest.approx(known, rel=0.15)


@settings(max_examples=20, deadline=None)
@given(per_s=st.floats(-5, 5), noise=st.floats(0, 1), passes=st.integers(0, 30))
def test_noise_and_somebody_who_passes_do_not_hide_a_slope(per_s, noise, passes):
    times = torch.arange(161) / FPS
    generator = torch.Generator().manual_seed(0)
    level = 120 + per_s * times + noise * torch.randn(161, generator=generator)
    level[60 : 60 + passes] += 40
    film = level.round().to(torch.uint8)[:, None, None, None].expand(-1, 16, 28, 3)
    found = slope(measured(film), "luma")
    assert found.per_s == pytest.approx(per_s, abs=0.25)
    assert found.low <= found.per_s <= found.high


def test_a_cut_is_told_and_is_no_drift(film):
    jump = torch.cat([film[:80], 255 - film[80:]])
    found = drift_of(measured(jump))
    assert found.cuts_s == (5.0,)
    clean = slope(measured(film), "luma").total
    assert abs(found.slopes["luma"].total) < abs(clean) + 1
    assert "jumps at 5.0 s: a cut or a switch of light" in "\n".join(notes(found))


def test_what_moves_fast_is_no_cut():
    noise = torch.randint(0, 256, (40, 32, 56, 3), dtype=torch.uint8)
    assert cuts_of(measured(noise).change) == []


def test_flicker_is_measured_in_levels(film):
    clean = flicker(measured(film))
    assert flicker(measured(faults.flickering(film, 2.0))) == pytest.approx(2 + clean, abs=0.2)
    assert clean < 0.1


def test_seams_are_found_at_borders_and_nowhere_else(film):
    faulty = measured(faults.with_seams(film, BORDERS, 4.0))
    found = seam(faulty, BORDERS)
    assert found.across == pytest.approx(4, abs=0.5)
    assert found.ratio > 3
    assert seam(faulty, [border + 7 for border in BORDERS]).ratio < 1.2
    assert seam(measured(film), BORDERS).ratio < 1.3
    assert seam(faulty, []) is None


def test_a_freeze_is_measured_with_its_beginning():
    film = torch.randint(0, 256, (161, 32, 56, 3), dtype=torch.uint8)
    lasts, begins = longest_freeze(measured(faults.frozen(film, 48)))
    assert (lasts, begins) == (pytest.approx(112 / FPS), pytest.approx(48 / FPS))
    assert longest_freeze(measured(film))[0] == 0


def test_a_loop_is_found_with_its_length(film):
    moving = torch.cat([film[16:64], film[16:64].flip(2)])
    assert loop(measured(faults.looping(moving, 96))) is None
    twice = moving[torch.arange(288) % 96]
    assert loop(measured(twice)) == pytest.approx(6, abs=0.2)


def test_bouncing_is_no_loop():
    scene = sample_scenes(40, np.random.default_rng(0))
    bouncing = scene.select(np.flatnonzero((scene.motion == 6)[:, 0])[:1])
    film = render(bouncing, frames=161, height=64, width=112, samples=1)[0]
    assert loop(measured(film)) is None


@pytest.mark.parametrize("seed", [11, 12, 13])
def test_true_films_raise_no_alarm(seed):
    film = script_film(seed, seconds=10, start_s=20)
    assert alarms(drift_of(measured(film), BORDERS)) == []


@pytest.mark.parametrize("measure", [m for m in MEASURES if m != "sharpness"])
def test_strong_drift_raises_its_alarm(film, measure):
    # Sharpness has no alarm that can be relied on: true films with little detail vary as much.
    long = film[:1].expand(321, -1, -1, -1).contiguous()
    size = {"luma": 80.0, "motion": 60.0}.get(measure, 0.95)
    assert measure in alarms(drift_of(measured(faults.drifted(long, measure, size))))


def test_measuring_in_parts_is_measuring_at_once(film):
    parts = curves(film.split(7), FPS)
    whole = measured(film)
    for measure in MEASURES:
        assert np.allclose(parts.values(measure), whole.values(measure), atol=1e-4)
    assert np.allclose(parts.cells, whole.cells, atol=1e-4)


@pytest.mark.parametrize("frames", [1, 3, 31])
def test_a_film_too_short_is_refused_with_its_length(frames):
    film = torch.zeros(frames, 32, 56, 3, dtype=torch.uint8)
    with pytest.raises(MediaError, match=f"2 seconds or more, got {frames} frames"):
        measured(film)


def test_a_film_too_small_is_refused_with_its_size():
    with pytest.raises(MediaError, match="16x16 or more, got 40x8"):
        measured(torch.zeros(60, 8, 40, 3, dtype=torch.uint8))


def test_a_still_has_no_drift_and_is_called_one(film):
    found = drift_of(measured(film[:1].expand(81, -1, -1, -1)))
    assert alarms(found) == []
    assert all(one.total == 0 for one in found.slopes.values())
    assert notes(found) == ["a still: nothing moves, so nothing can be said of motion"]


def test_the_report_names_every_measure_and_what_drifts(film):
    still = film[:1].expand(321, -1, -1, -1)
    found = drift_of(measured(faults.drifted(still, "luma", 80.0)), BORDERS)
    text, report = as_text(found), as_report(found)
    assert all(measure in text for measure in MEASURES)
    assert "DRIFTS" in next(line for line in text.splitlines() if line.startswith("luma"))
    assert report["alarms"] == ["luma"]
    assert report["seam"]["ratio"] == found.seam.ratio
