"""Rain that falls and grass that sways, at the whole level alone."""

import numpy as np
import pytest
import torch

from longtake.kernels import ops
from longtake.kernels.reference import raycast as columns
from longtake.world.choreography import frame_times
from longtake.world.geometry import build
from longtake.world.level import LEVELS, WHOLE
from longtake.world.render import render, render_ids
from longtake.world.sampling import sample_scenes
from longtake.world.scene import CAMERA_COORDINATES, Scenes, Subject
from longtake.world.script import Beat, Script, render_script
from longtake.world.stage import CAMERAS
from longtake.world.truth import truth
from longtake.world.written import scene_of


@pytest.fixture(autouse=True)
def _one_thread():
    # Pictures this small lose more to waiting threads than they gain.
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def scene(camera: str = "static", **place: object) -> Scenes:
    return scene_of([Subject(kind="cube", colour="red", size="small")], camera=camera, **place)


def test_only_the_whole_level_has_wind():
    for level in LEVELS:
        drawn = sample_scenes(4, np.random.default_rng(0), level=level)
        assert (drawn.wind == float(level is WHOLE)).all()


def test_wind_moves_grass_and_no_other_ground():
    for ground, moves in (("grass", True), ("sand", False)):
        film = render(scene(ground=ground, wind=1.0), frames=2, fps=4, height=64, width=112)[0]
        assert bool(((film[0].int() - film[1].int()).abs() > 4).any()) == moves
    calm = render(scene(), frames=2, fps=4, height=64, width=112)[0]
    assert torch.equal(calm[0], calm[1])


def test_truth_tells_the_wind():
    (told,) = truth(scene(wind=0.5), frames=1)
    assert told.wind == 0.5


def layer(scenes: Scenes, fps: float, frames: int, *, things: bool = False) -> torch.Tensor:
    """What rain adds to each value of a film, with or without anything on the ground."""
    wet = build(scenes, frame_times(1, frames, fps, 2.0, torch.device("cpu")))
    parts, dry = wet.parts.clone(), wet.frame.clone()
    if not things:
        parts[..., columns.PRIMITIVE] = columns.NO_PART
    dry[:, columns.RAIN : columns.RAIN + 2] = 0.0
    film, bare = (
        ops.raycast(frame, parts, wet.groups, wet.spans, 48, 84, 1).int()
        for frame in (wet.frame, dry)
    )
    return film - bare


def test_rain_falls():
    before, after = layer(scene(light="rain"), fps=32, frames=2)[:, :20].float().mean(-1)

    def alike(down: int) -> float:
        return float((before.roll(down, 0) * after)[4:-4].mean())

    assert max(range(-4, 5), key=alike) > 0


@pytest.mark.parametrize("camera", [move.name for move in CAMERAS])
@pytest.mark.parametrize("facing_deg", [0, 45])
def test_rain_is_seen_by_every_camera_and_never_pops(camera, facing_deg):
    scenes = scene(camera, light="rain")
    scenes.camera_base[:, CAMERA_COORDINATES.index("orbit_deg")] = facing_deg
    moment = layer(scenes, fps=2000, frames=8).diff(dim=0).abs().amax(-1)
    # Where a plane of rain meets the ground, a drop is either before or behind it.
    assert (moment > 8).float().mean() < 2e-4
    assert moment[:, :12].max() <= 4
    assert (layer(scenes, fps=16, frames=2).diff(dim=0).abs() > 8).float().mean() > 0.02


def test_things_hide_the_rain_behind_them_and_not_the_rain_before_them():
    scenes = scene_of([Subject(kind="sphere", colour="red")], light="rain", shot="medium")
    inside = render_ids(scenes, frames=1, height=48, width=84)[0, 0] == 0
    free, hidden = (
        (layer(scenes, fps=16, frames=16, things=things)[:, inside].abs().amax(-1) > 4)
        for things in (False, True)
    )
    assert 0.02 < hidden.float().mean() < 0.9 * free.float().mean()


def test_rain_and_wind_go_on_from_beat_to_beat():
    still = scene(light="rain", wind=1.0)

    def film(*starts: int) -> torch.Tensor:
        beats = tuple(Beat(start_s=s, motions=("still", "still"), light="rain") for s in starts)
        script = Script(scene=still, beats=beats, gap_s=5)
        return render_script(script, start_s=3.5, frames=2, height=48, width=84).int()

    assert (film(0) - film(0, 3)).abs().max() <= 1
