"""What the reader tells apart: all that the widest level of the world has.

The world's tables grow at their ends alone, so these are the beginnings of them and a number
means the same in both.
"""

from longtake.world import cast, stage
from longtake.world.level import FIRST, WHOLE

LEVEL = WHOLE
KINDS = cast.KINDS[: len(LEVEL.kinds)]
COLOURS = cast.COLOURS[: len(LEVEL.colours)]
VIVID = len(FIRST.colours)
"""Colours that nothing but subjects has; the others are also those of stones, posts and tyres."""
SIZES = cast.SIZES
MATERIALS = cast.MATERIALS[: len(LEVEL.materials)]
MOTIONS = cast.MOTIONS[: len(LEVEL.motions)]
GROUNDS = stage.GROUNDS[: len(LEVEL.grounds)]
LIGHTS = stage.LIGHTS[: len(LEVEL.lights)]
CAMERAS = stage.CAMERAS[: len(LEVEL.cameras)]
SHOTS = stage.SHOTS
PROPS = stage.PROPS
