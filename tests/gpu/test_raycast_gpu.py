"""The compiled ray caster against its reference."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from longtake.kernels import ops
from longtake.kernels.reference.raycast import raycast as plain
from longtake.world.cast import MATERIALS
from longtake.world.choreography import frame_times
from longtake.world.geometry import build
from longtake.world.level import WHOLE
from longtake.world.render import render
from longtake.world.sampling import sample_scenes
from longtake.world.scene import CAMERA_COORDINATES, Scenes
from longtake.world.stage import GROUNDS, LIGHTS
from longtake.world.written import number_of

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA card"),
]

PER_VALUE = 2
SHARE_EQUAL = 0.995
MEAN_APART = 0.2


@pytest.mark.parametrize("samples", [1, 2, 4])
@pytest.mark.parametrize(("height", "width"), [(256, 448), (384, 672), (64, 64), (75, 131)])
def test_the_triton_kernel_agrees_with_the_reference(height, width, samples):
    agree(sample_scenes(24, np.random.default_rng(samples)), height, width, samples)


@pytest.mark.parametrize("light", ["day", "rain"])
def test_rain_wind_and_dots_agree_with_the_reference(light):
    scenes = sample_scenes(24, np.random.default_rng(7), level=WHOLE)
    turned = scenes.camera_base.copy()
    turned[:, CAMERA_COORDINATES.index("orbit_deg")] = np.linspace(0, 180, 24)
    scenes = replace(
        scenes,
        light=np.full_like(scenes.light, number_of("light", LIGHTS, light)),
        ground=np.full_like(scenes.ground, number_of("ground", GROUNDS, "grass")),
        material=np.full_like(scenes.material, number_of("material", MATERIALS, "dotted")),
        camera_base=turned,
    )
    agree(scenes, 96, 160, 2)


def agree(scenes: Scenes, height: int, width: int, samples: int) -> None:
    """Film scenes both ways and compare."""
    start = np.linspace(0, 5, 24).astype(np.float32)
    scene = build(scenes, frame_times(24, 2, 16.0, start, torch.device("cuda")))
    tables = (scene.frame, scene.parts, scene.groups, scene.spans)
    apart = (
        ops.raycast(*tables, height, width, samples).int()
        - plain(*tables, height, width, samples).int()
    ).abs()
    assert (apart <= PER_VALUE).float().mean() >= SHARE_EQUAL
    assert apart.float().mean() < MEAN_APART


def test_the_card_films_the_same_scene_as_the_cpu():
    scenes = sample_scenes(8, np.random.default_rng(3))
    size = {"frames": 3, "height": 96, "width": 160}
    apart = (render(scenes, device="cuda", **size).cpu().int() - render(scenes, **size).int()).abs()
    assert (apart <= PER_VALUE).float().mean() >= SHARE_EQUAL
    assert apart.float().mean() < MEAN_APART


def test_every_call_gives_the_same_pixels():
    scenes = sample_scenes(16, np.random.default_rng(5))
    one, two = (render(scenes, frames=5, device="cuda") for _ in range(2))
    assert torch.equal(one, two)
