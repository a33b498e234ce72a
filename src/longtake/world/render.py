"""Scenes to frames."""

import numpy as np
import torch
from einops import rearrange
from jaxtyping import Bool, Int8, UInt8
from torch import Tensor

from longtake.config import FPS
from longtake.kernels.ops import raycast
from longtake.kernels.reference.raycast import NO_PART, PRIMITIVE, identify
from longtake.world.choreography import frame_times
from longtake.world.geometry import build
from longtake.world.scene import Scenes


def render(
    scenes: Scenes,
    *,
    frames: int = 81,
    height: int = 256,
    width: int = 448,
    start_s: float | np.ndarray = 0.0,
    fps: float = FPS,
    device: torch.device | str = "cpu",
    samples: int = 2,
) -> UInt8[Tensor, "b frames height width 3"]:
    """Film scenes.

    Args:
        scenes: What to film.
        frames: Frames of each clip.
        height: Pixels; the vertical field of view is the same at any size.
        width: Pixels; a wider picture sees more to the sides.
        start_s: Time of the first frame, one for all clips or one each.
        fps: Frames per second.
        device: Where to compute; a CUDA card uses the Triton kernel.
        samples: Rays per pixel: 1, 2 or 4.
    """
    times = frame_times(len(scenes), frames, fps, start_s, torch.device(device))
    scene = build(scenes, times)
    film = raycast(scene.frame, scene.parts, scene.groups, scene.spans, height, width, samples)
    return rearrange(film, "(b f) h w c -> b f h w c", b=len(scenes))


def render_with_mask(
    scenes: Scenes,
    *,
    frames: int = 81,
    height: int = 256,
    width: int = 448,
    start_s: float | np.ndarray = 0.0,
    fps: float = FPS,
    device: torch.device | str = "cpu",
) -> tuple[UInt8[Tensor, "b frames height width 3"], Bool[Tensor, "b frames height width"]]:
    """Film scenes with and without their subjects: the film, and where the two differ.

    The mask covers what subjects and their shadows change. Arguments as of `render`.
    """
    times = frame_times(len(scenes), frames, fps, start_s, torch.device(device))
    scene = build(scenes, times)
    films = []
    for count in (0, scenes.kind.shape[1]):
        for first, last in scene.spans[:count].tolist():
            scene.parts[:, first:last, PRIMITIVE] = NO_PART
        film = raycast(scene.frame, scene.parts, scene.groups, scene.spans, height, width)
        films.append(rearrange(film, "(b f) h w c -> b f h w c", b=len(scenes)))
    return films[0], (films[0] != films[1]).any(dim=-1)


def render_ids(
    scenes: Scenes,
    *,
    frames: int = 81,
    height: int = 64,
    width: int = 112,
    start_s: float | np.ndarray = 0.0,
    fps: float = FPS,
    only: int | None = None,
    device: torch.device | str = "cpu",
) -> Int8[Tensor, "b frames height width"]:
    """Which subject each pixel shows, -1 for none.

    With `only`, the other subjects are taken away; set dressing stays.
    """
    times = frame_times(len(scenes), frames, fps, start_s, torch.device(device))
    scene = build(scenes, times)
    count = scenes.kind.shape[1]
    parts = scene.parts
    for i, (first, last) in enumerate(scene.spans[:count].tolist()):
        if only not in (None, i):
            parts[:, first:last, PRIMITIVE] = NO_PART
    groups = identify(scene.frame, parts, scene.groups, scene.spans, height, width)
    subjects = torch.where(groups < count, groups, torch.full_like(groups, -1))
    return rearrange(subjects, "(b f) h w -> b f h w", b=len(scenes))
