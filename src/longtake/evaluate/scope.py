"""What the reader tells apart: the level of the world that the embedded model knows.

The world's tables grow at their ends alone, so these are the beginnings of them and a number
means the same in both.
"""

from longtake.world import cast, stage
from longtake.world.level import FIRST

LEVEL = FIRST
KINDS = cast.KINDS[: len(LEVEL.kinds)]
COLOURS = cast.COLOURS[: len(LEVEL.colours)]
SIZES = cast.SIZES
MOTIONS = cast.MOTIONS[: len(LEVEL.motions)]
GROUNDS = stage.GROUNDS[: len(LEVEL.grounds)]
LIGHTS = stage.LIGHTS[: len(LEVEL.lights)]
CAMERAS = stage.CAMERAS[: len(LEVEL.cameras)]
PROPS = stage.PROPS
