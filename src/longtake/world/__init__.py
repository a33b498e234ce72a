"""The previz world: scenes, renderer, captions, exact truth."""

from longtake.world.captions import Caption, Fact, caption, vocabulary
from longtake.world.render import render, render_ids
from longtake.world.sampling import sample_scenes
from longtake.world.scene import Scenes

__all__ = [
    "Caption",
    "Fact",
    "Scenes",
    "caption",
    "render",
    "render_ids",
    "sample_scenes",
    "vocabulary",
]
