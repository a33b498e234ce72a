"""The ray caster's reference against first principles, and its Triton twin against it."""

import importlib.util
import math
import os
import subprocess
import sys

import numpy as np
import pytest
import torch

from longtake.kernels import ops
from longtake.kernels.reference import raycast as reference
from longtake.kernels.reference import solids
from longtake.world.choreography import frame_times
from longtake.world.geometry import build
from longtake.world.sampling import sample_scenes

PER_VALUE = 2
"""Largest difference of a uint8 value that counts as equal."""
SHARE_EQUAL = 0.995
MEAN_APART = 0.2


@pytest.fixture(autouse=True)
def _one_thread():
    # Pictures this small lose more to waiting threads than they gain.
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def ray(
    ox: float, oy: float, oz: float, dx: float, dy: float, dz: float
) -> tuple[torch.Tensor, ...]:
    start = torch.tensor([ox, oy, oz]).reshape(3, 1, 1, 1)
    toward = torch.tensor([dx, dy, dz]).reshape(3, 1, 1, 1)
    return start, toward


@pytest.mark.parametrize(
    ("kind", "start", "distance", "normal"),
    [
        (0, (0.0, 0.0, -5.0), 4.0, (0.0, 0.0, -1.0)),
        (1, (0.3, 0.2, -5.0), 4.0, (0.0, 0.0, -1.0)),
        (2, (0.0, 0.9, -5.0), 4.0, (0.0, 0.0, -1.0)),
        (3, (0.0, 0.0, -5.0), 4.5, (0.0, 0.447, -0.894)),
        (4, (0.0, 0.0, -5.0), 4.5, (0.0, 0.447, -0.894)),
        (5, (0.0, 0.8, -5.0), 4.0, (0.0, 0.0, -1.0)),
    ],
)
def test_a_ray_meets_each_primitive_where_geometry_says(kind, start, distance, normal):
    t, n = solids.hit(kind, *ray(*start, 0.0, 0.0, 1.0))
    assert float(t) == pytest.approx(distance, abs=1e-3)
    n = n.flatten() / n.norm()
    assert n.tolist() == pytest.approx(normal, abs=1e-3)


@pytest.mark.parametrize("kind", range(6))
def test_a_ray_that_passes_by_meets_nothing(kind):
    t, _ = solids.hit(kind, *ray(0.0, 1.2, -5.0, 0.0, 0.0, 1.0))
    assert float(t) == solids.FAR
    t, _ = solids.hit(kind, *ray(0.0, 0.0, -5.0, 0.0, 0.0, -1.0))
    assert float(t) == solids.FAR


def test_a_ray_goes_through_the_hole_of_a_ring_or_meets_its_inner_wall():
    t, _ = solids.hit(5, *ray(0.0, 0.0, -5.0, 0.0, 0.0, 1.0))
    assert float(t) == solids.FAR
    t, n = solids.hit(5, *ray(0.0, 0.0, -2.0, 0.0, 0.3, 1.0))
    assert float(t) * 0.3 == pytest.approx(solids.RING_HOLE, abs=1e-3)
    assert float(n[1]) < 0


def test_a_part_unused_or_behind_the_camera_is_not_seen():
    scene = build(
        sample_scenes(2, np.random.default_rng(0)),
        frame_times(2, 1, 16.0, 0.0, torch.device("cpu")),
    )
    blank = scene.parts.clone()
    blank[..., reference.PRIMITIVE] = reference.NO_PART
    ids = reference.identify(scene.frame, blank, scene.groups, scene.spans, 24, 40)
    assert (ids == -1).all()


def test_waves_follow_the_sine():
    turns = torch.linspace(-3, 3, 200).reshape(1, 1, -1)
    assert (reference.wave(turns) - torch.sin(2 * math.pi * turns)).abs().max() < 2e-3


def test_chunks_do_not_show(monkeypatch):
    scene = build(
        sample_scenes(3, np.random.default_rng(4)), frame_times(3, 3, 1.0, 0.0, torch.device("cpu"))
    )
    tables = (scene.frame, scene.parts, scene.groups, scene.spans)
    whole = ops.raycast(*tables, 24, 40)
    monkeypatch.setitem(reference.CHUNK_PIXELS, "cpu", 24 * 40 * 2)
    assert (ops.raycast(*tables, 24, 40).int() - whole.int()).abs().max() <= 1


INTERPRETED = """
import sys
import numpy as np, torch
from longtake.kernels.reference.raycast import raycast as plain
from longtake.kernels.triton.raycast import raycast as fast
from dataclasses import replace
from longtake.world.cast import MATERIALS
from longtake.world.choreography import frame_times
from longtake.world.geometry import build
from longtake.world.level import level_named
from longtake.world.sampling import sample_scenes
from longtake.world.scene import CAMERA_COORDINATES
from longtake.world.stage import GROUNDS, LIGHTS
from longtake.world.written import number_of

scenes = sample_scenes(6, np.random.default_rng(7), level=level_named(sys.argv[1]))
if sys.argv[2] == "rain":
    drawn = scenes.camera_base.copy()
    drawn[:, CAMERA_COORDINATES.index("orbit_deg")] = np.linspace(0, 100, 6)
    scenes = replace(
        scenes,
        light=np.full_like(scenes.light, number_of("light", LIGHTS, "rain")),
        ground=np.full_like(scenes.ground, number_of("ground", GROUNDS, "grass")),
        material=np.full_like(scenes.material, number_of("material", MATERIALS, "dotted")),
        camera_base=drawn,
    )
scene = build(scenes, frame_times(6, 1, 16.0, np.linspace(0, 5, 6), torch.device("cpu")))
tables = (scene.frame, scene.parts, scene.groups, scene.spans)
apart = (fast(*tables, 18, 21).int() - plain(*tables, 18, 21).int()).abs().float()
print((apart <= 2).float().mean().item(), apart.mean().item())
"""


@pytest.mark.slow
@pytest.mark.skipif(
    importlib.util.find_spec("triton") is None, reason="the Triton kernel needs triton installed"
)
@pytest.mark.skipif(torch.cuda.is_available(), reason="tests/gpu compares the compiled kernel")
@pytest.mark.parametrize(("level", "look"), [("first", ""), ("whole", ""), ("whole", "rain")])
def test_the_triton_kernel_agrees_with_the_reference_in_the_interpreter(level, look):
    # Triton looks at the variable once, when it is imported; hence a process of its own.
    done = subprocess.run(
        [sys.executable, "-c", INTERPRETED, level, look],
        env={**os.environ, "TRITON_INTERPRET": "1", "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    share, mean = (float(value) for value in done.stdout.split())
    assert share >= SHARE_EQUAL
    assert mean < MEAN_APART
