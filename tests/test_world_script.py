"""One-minute scripts: who leaves returns unchanged, and any second can be rendered."""

import random
from itertools import pairwise

import numpy as np
import pytest
import torch

from longtake.errors import SettingError
from longtake.world.camera import move_camera
from longtake.world.choreography import frame_times, track
from longtake.world.level import WHOLE
from longtake.world.screenwriter import BEAT_S, sample_script, tell_script
from longtake.world.script import GAPS_S, Script, beat_scenes, render_script, script_truth

SMALL = {"height": 32, "width": 56}
CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def _one_thread():
    # Pictures this small lose more to waiting threads than they gain.
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def scripts(num: int) -> list[Script]:
    return [sample_script(np.random.default_rng(seed), WHOLE) for seed in range(num)]


def test_subjects_and_camera_go_on_where_the_last_beat_left_them():
    for script in scripts(12):
        scenes = beat_scenes(script)
        for n, (before, after) in enumerate(pairwise(scenes)):
            late, early = frame_times(1, 1, 1.0, BEAT_S, CPU), frame_times(1, 1, 1.0, 0.0, CPU)
            one, two = track(before, late), track(after, early)
            # Out of the frame a subject may be put where it is out of the next beat's frame too.
            here = [not name.startswith("enter") for name in script.beats[n + 1].motions]
            seen = (one.scale > 0.05) & (two.scale > 0.05) & torch.tensor(here)
            apart = (one.position - two.position).norm(dim=-1)
            assert float((apart * seen).max()) < 0.02, script.beats[n]
            if not script.beats[n + 1].cut:
                left, right = move_camera(before, late), move_camera(after, early)
                assert torch.allclose(left.eye, right.eye, atol=1e-3)
                assert torch.allclose(left.tan_half, right.tan_half, atol=1e-4)


@pytest.mark.slow
def test_who_leaves_stays_away_for_the_stated_time_and_returns():
    gaps = set()
    for script in scripts(8):
        told = script_truth(script, height=128, width=224)
        (goes,) = [b.start_s for b in script.beats if b.motions[0].startswith("exit")]
        (comes,) = [b.start_s for b in script.beats if b.motions[0].startswith("enter")]
        # A high leap may leave the frame for a moment as well.
        mine = [e for e in told.events if e.subject == 0]
        left = [e.time_s for e in mine if e.what == "leaves" and e.time_s > goes]
        back = [e.time_s for e in mine if e.what == "enters" and e.time_s > comes]
        assert comes - goes == script.gap_s
        assert back[0] - left[0] == pytest.approx(script.gap_s, abs=2.5)
        assert len(told.visible[0]) == script.length_s
        assert max(told.visible[0][int(left[0]) + 3 : int(back[0]) - 1], default=0) == 0
        assert max(told.visible[0][int(back[0]) + 1 :]) > 0.5
        gaps.add(script.gap_s)
    assert gaps <= set(GAPS_S)


def test_a_subject_looks_the_same_after_it_has_returned():
    script = next(
        s for s in scripts(30) if len({b.light for b in s.beats}) == 1 and not s.gap_s > 20
    )
    quiet = [n for n, beat in enumerate(script.beats) if set(beat.motions) == {"still"}]
    scenes = beat_scenes(script)
    for n in quiet:
        for name in ("kind", "colour", "size", "subject_jitter"):
            assert np.array_equal(getattr(scenes[n], name), getattr(script.scene, name))


def test_any_part_can_be_rendered_on_its_own():
    script = scripts(1)[0]
    whole = render_script(script, frames=24, fps=2, start_s=3.0, **SMALL)
    part = render_script(script, frames=5, fps=2, start_s=8.0, **SMALL)
    assert torch.equal(whole[10:15], part)


def test_light_changes_at_the_stated_second():
    script = next(s for s in scripts(30) if len({b.light for b in s.beats}) == 2)
    (event,) = [e for e in script_truth(script, **SMALL).events if e.what == "light"]
    before, after = render_script(
        script, frames=2, fps=8, start_s=event.time_s - 0.125, **SMALL
    ).float()
    assert (before - after).abs().mean() > 10


def test_captions_name_the_cast_and_absolute_seconds():
    for seed, script in enumerate(scripts(10)):
        whole, beats = tell_script(script, random.Random(seed))
        assert len(beats) == len(script.beats)
        assert beats[1].startswith("at five seconds: ")
        assert "leaves the frame" in whole.text
        assert "enters the frame" in whole.text
        assert {"kind", "colour", "ground", "light"} <= {fact.attribute for fact in whole.facts}


def test_the_same_seed_writes_the_same_script():
    one, two = (sample_script(np.random.default_rng(4), WHOLE) for _ in range(2))
    assert one.beats == two.beats


def test_beats_must_start_at_zero_and_follow_one_another():
    script = scripts(1)[0]
    with pytest.raises(SettingError, match="beats from 0 on"):
        Script(scene=script.scene, beats=script.beats[1:], gap_s=5)
