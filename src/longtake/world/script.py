"""One-minute scripts: beats on one set with one cast, who leave and return unchanged.

A beat is a scene of its own that starts where the last one ended, so a script is rendered and
known exactly at any second. In a beat a subject stands, exits, is away, enters or does something
on the spot; the camera goes on from where the last move left it; light may change; a cut puts
the camera back.
"""

from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Float32, UInt8
from torch import Tensor

from longtake.config import FPS
from longtake.errors import SettingError
from longtake.world.cast import MOTIONS
from longtake.world.render import render
from longtake.world.scene import CAMERA_COORDINATES, NEVER, Scenes
from longtake.world.stage import CAMERAS, LIGHTS
from longtake.world.truth import ClipTruth, truth, with_visibility
from longtake.world.written import number_of

SCRIPT_S = 60
"""Seconds of a whole script."""
GAPS_S = (5, 10, 20, 40)
"""Seconds that a subject stays away, from leaving to returning."""
_ACTS = {"spin": 2.6, "bounce": 3.2, "jump": NEVER}
"""What subjects do on the spot, and when they cease, so that a beat ends as it began."""
_BEGIN_S = 1e-3
"""Who bounces from the very start of a clip may start in the air; from then on it does not."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Beat:
    """Some seconds of a script."""

    start_s: int
    motions: tuple[str, ...]
    """What each subject does from the beat's start."""
    light: str
    camera: str = "static"
    cut: bool = False
    """Whether the camera stands somewhere else than at the end of the last beat."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Script:
    """A cast, a set, and beats in the order of their starts."""

    scene: Scenes
    """One scene: who and where; motions and camera are the beats'."""
    beats: tuple[Beat, ...]
    gap_s: int
    """Seconds between the first subject's leaving and its return."""
    length_s: int = SCRIPT_S

    def __post_init__(self) -> None:
        """Check that there is one scene and that beats follow one another from 0."""
        starts = [beat.start_s for beat in self.beats]
        if len(self.scene) != 1 or not starts or starts[0] != 0 or sorted(set(starts)) != starts:
            msg = f"a script has one scene and beats from 0 on, got {len(self.scene)} and {starts}"
            raise SettingError(msg)


def beat_scenes(script: Script) -> list[Scenes]:
    """Each beat as a scene whose time runs from the beat's start."""
    moving = [beat.camera for beat in script.beats if beat.camera != "static"]
    # The first move goes through the usual place half-way, as in a clip, and a cut leads back.
    first = -_way(script, moving[0]) / 2 if moving else _way(script, "static")
    base, scenes = first, []
    for beat in script.beats:
        base = first if beat.cut else base
        way = _way(script, beat.camera)
        motions = [number_of("motion", MOTIONS, name) for name in beat.motions]
        ends = [_ACTS.get(name, NEVER) for name in beat.motions]
        scenes.append(
            replace(
                script.scene,
                motion=np.array([motions]),
                start_s=np.full((1, len(motions)), _BEGIN_S, dtype=np.float32),
                then=np.zeros((1, len(motions)), dtype=np.int64),
                change_s=np.array([ends], dtype=np.float32),
                camera=np.array([number_of("camera", CAMERAS, beat.camera)]),
                camera_base=(base + way / 2)[None].astype(np.float32),
                light=np.array([number_of("light", LIGHTS, beat.light)]),
                since_s=np.array([beat.start_s], dtype=np.float32),
            )
        )
        base = base + way
    return scenes


def _way(script: Script, camera: str) -> Float32[np.ndarray, " coordinates"]:
    """How far a move goes; its amplitude varies a little from scene to scene."""
    move = CAMERAS[number_of("camera", CAMERAS, camera)]
    way = np.array([getattr(move, name) for name in CAMERA_COORDINATES], dtype=np.float32)
    return way * np.float32(1 + 0.2 * (script.scene.scene_jitter[0, 1] - 0.5))


def _runs(script: Script, start_s: float, frames: int, fps: float) -> list[tuple[int, float, int]]:
    """Which beats the frames lie in: its number, seconds into it, and how many frames."""
    starts = np.array([beat.start_s for beat in script.beats])
    times = start_s + np.arange(frames) / fps
    number = np.searchsorted(starts, times + 1e-6, side="right") - 1
    runs = []
    for beat in np.unique(number):
        mine = np.flatnonzero(number == beat)
        runs.append((int(beat), float(times[mine[0]] - starts[beat]), len(mine)))
    return runs


def render_script(
    script: Script,
    *,
    frames: int = 81,
    height: int = 256,
    width: int = 448,
    start_s: float = 0.0,
    fps: float = FPS,
    device: torch.device | str = "cpu",
    samples: int = 2,
) -> UInt8[Tensor, "frames height width 3"]:
    """Film a part of a script, from any second on, so that long ones can be streamed."""
    scenes = beat_scenes(script)
    return torch.cat(
        [
            render(
                scenes[beat], frames=count, height=height, width=width, start_s=into, fps=fps,
                device=device, samples=samples,
            )[0]
            for beat, into, count in _runs(script, start_s, frames, fps)
        ]
    )  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class ScriptEvent:
    """Something that happens at a second of the script."""

    what: str
    """An event of a subject, or `light`, `camera` or `cut`."""
    time_s: float
    subject: int | None = None
    value: str | None = None
    """Name of the light or of the camera move."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ScriptTruth:
    """What is true of a script."""

    beats: tuple[ClipTruth, ...]
    """Each beat at one frame a second; times count from the beat's start."""
    visible: tuple[tuple[float, ...], ...]
    """Of each subject, the share seen at every second."""
    events: tuple[ScriptEvent, ...]
    gap_s: int


def script_truth(script: Script, *, height: int = 256, width: int = 448) -> ScriptTruth:
    """Visibility of each second and all events, in seconds of the script."""
    ends = [*(beat.start_s for beat in script.beats[1:]), script.length_s]
    beats, events, last = [], [], script.beats[0]
    for beat, scene, end in zip(script.beats, beat_scenes(script), ends, strict=True):
        count = end - beat.start_s
        told = truth(scene, frames=count, fps=1, height=height, width=width)
        (clip,) = with_visibility(told, scene)
        beats.append(clip)
        (fine,) = truth(scene, frames=8 * count, fps=8, height=height, width=width)
        for i, subject in enumerate(fine.subjects):
            for event in subject.events:
                if event.what not in ("starts", "changes"):
                    at = round(beat.start_s + event.time_s, 3)
                    events.append(ScriptEvent(what=event.what, time_s=at, subject=i))
        events += _changes(last, beat)
        last = beat
    seen = [
        tuple(share for clip in beats for share in clip.subjects[i].visible or ())
        for i in range(len(beats[0].subjects))
    ]
    ordered = tuple(sorted(events, key=lambda event: event.time_s))
    return ScriptTruth(beats=tuple(beats), visible=tuple(seen), events=ordered, gap_s=script.gap_s)


def _changes(last: Beat, beat: Beat) -> list[ScriptEvent]:
    at = float(beat.start_s)
    events = []
    if beat.cut:
        events.append(ScriptEvent(what="cut", time_s=at))
    if beat.light != last.light:
        events.append(ScriptEvent(what="light", time_s=at, value=beat.light))
    if beat.camera != "static":
        events.append(ScriptEvent(what="camera", time_s=at, value=beat.camera))
    return events
