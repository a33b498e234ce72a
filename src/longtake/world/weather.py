"""Wind in the grass and falling rain, as the last columns of each frame's row."""

import torch
from einops import rearrange, repeat
from jaxtyping import Float
from torch import Tensor

from longtake.kernels.reference import raycast as columns
from longtake.world.camera import CameraPath
from longtake.world.choreography import on_device, table
from longtake.world.scene import Scenes
from longtake.world.stage import GROUNDS, LIGHTS

_GUSTS = 0.45
"""Gusts a second."""
_FALL = 5.5
"""Metres a second that rain falls."""


def weather_rows(
    scenes: Scenes, camera: CameraPath, times: Float[Tensor, "b frames"]
) -> Float[Tensor, "f params"]:
    """Blades of grass, wind and rain of every frame; from `columns.BLADES` on.

    Rain falls in planes across z for cameras that look along z, in planes across x for those that
    look along x, and in both between.
    """
    device = times.device
    ground, light = on_device(scenes.ground, device), on_device(scenes.light, device)
    jitter = on_device(scenes.scene_jitter, device)[:, 11:12]
    blades = [[v for kx, kz, tall in g.blades for v in (kx, kz, 0.0, tall)] for g in GROUNDS]
    grows = table([float(any(tall for *_, tall in g.blades)) for g in GROUNDS], times)[ground]
    wind = grows * on_device(scenes.wind, device)
    still = torch.cat([table(blades, times)[ground], wind[:, None]], dim=1)
    clock = times + on_device(scenes.since_s, device)[:, None]
    sideways = camera.forward[..., 0].abs() - camera.forward[..., 2].abs()
    across = (0.5 - 2 * sideways).clamp(0, 1)
    rain = table([x.rain for x in LIGHTS], times)[light][:, None]
    gust, fall = _GUSTS * clock + jitter, _FALL * clock + 7 * jitter
    moving = torch.stack([gust, rain * across.sqrt(), rain * (1 - across).sqrt(), fall], dim=-1)
    rows = torch.cat([repeat(still, "b c -> b f c", f=times.shape[1]), moving], dim=-1)
    assert rows.shape[-1] == columns.NUM_FRAME - columns.BLADES, rows.shape
    return rearrange(rows, "b f c -> (b f) c")
