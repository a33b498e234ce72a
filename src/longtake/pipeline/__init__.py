"""THE PATH from a prompt to frames: `path` walks it, `loading` builds it, `events` tell of it."""

from longtake.pipeline.events import Border, Event, Film, Frames, Notice, Progress
from longtake.pipeline.loading import Device, build, device_of, load
from longtake.pipeline.path import DECODE_CHUNK, Parts, Picture, Pipeline
from longtake.pipeline.precision import Precision

__all__ = [
    "DECODE_CHUNK",
    "Border",
    "Device",
    "Event",
    "Film",
    "Frames",
    "Notice",
    "Parts",
    "Picture",
    "Pipeline",
    "Precision",
    "Progress",
    "build",
    "device_of",
    "load",
]
