"""Longtake: one prompt, one take.

>>> film = longtake.load("previz").generate("a red ball bounces on grass", seconds=5, seed=7)
"""

from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING

from longtake.config import Cue, SampleConfig
from longtake.errors import LongtakeError

if TYPE_CHECKING:
    from longtake.pipeline import Film, Frames, Notice, Pipeline, Progress, load

try:
    __version__ = version("longtake")
except PackageNotFoundError:  # a bare checkout on the path, as on a GPU machine
    __version__ = "0+checkout"

__all__ = [
    "Cue",
    "Film",
    "Frames",
    "LongtakeError",
    "Notice",
    "Pipeline",
    "Progress",
    "SampleConfig",
    "__version__",
    "load",
]
_FROM_PIPELINE = {"Film", "Frames", "Notice", "Pipeline", "Progress", "load"}


def __getattr__(name: str) -> object:
    """Bring in the pipeline, and torch with it, only when it is asked for."""
    if name in _FROM_PIPELINE:
        from longtake import pipeline  # noqa: PLC0415 - `longtake --help` must not wait for torch

        return getattr(pipeline, name)
    msg = f"module 'longtake' has no attribute {name!r}"
    raise AttributeError(msg)
