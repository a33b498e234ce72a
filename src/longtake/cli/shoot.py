"""`longtake shoot`: a shot list becomes a cut that an editor can open."""

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from longtake import __version__
from longtake.cli.interrupts import raise_if_stopped
from longtake.cli.memory import memory_errors, peak_memory_bytes
from longtake.cli.options import LoraOptions, ModelOptions
from longtake.cli.progress import Display, display, tell
from longtake.cli.scene import (
    ListOptions,
    SceneOutput,
    ShotOptions,
    cast_of,
    codes_of,
    scene_folder,
    shared_settings,
)
from longtake.errors import CannotHere, OutputError, ShotListError
from longtake.presets import find

if TYPE_CHECKING:
    from longtake.config import LoraUse, SampleConfig
    from longtake.pipeline import Pipeline
    from longtake.shots.deliver import Delivered, Delivery
    from longtake.shots.render import Rendering
    from longtake.shots.shot import ShotList

_LIST, _SHOTS = ListOptions(), ShotOptions()
_MODEL, _LORA, _OUTPUT = ModelOptions(), LoraOptions(), SceneOutput()


def shoot(
    shot_list: Path,
    /,
    *,
    reading: ListOptions = _LIST,
    shots: ShotOptions = _SHOTS,
    model: ModelOptions = _MODEL,
    lora: LoraOptions = _LORA,
    out: SceneOutput = _OUTPUT,
) -> None:
    """Make a cut from a shot list; run it again after a change, and only what changed is made.

    Args:
        shot_list: CSV, TSV, JSON, Fountain or OpenTimelineIO file.
        reading: The list.
        shots: The shots.
        model: The model.
        lora: What is laid over it, for all shots.
        out: The output.
    """
    started = time.perf_counter()
    from longtake.media.guide import check_sound
    from longtake.shots.deliver import Delivery, check_folder
    from longtake.shots.read import read_shots

    scene = read_shots(shot_list, reading.rate or "", cast_of(reading.cast))
    # What is wrong in them is told before a model is loaded, which then fills what is not given.
    shared_settings(reading.size, shots)
    lock = codes_of(shots.lock, scene)
    folder = scene_folder(shot_list, out.output)
    delivery = Delivery(slate=out.slate, guide=out.audio, metadata=out.metadata)
    check_folder(folder)
    if out.audio:
        check_sound(out.audio)
    find(model.model)
    with display(quiet=out.quiet) as show, memory_errors("a smaller --size or --device cpu"):
        for note in scene.notes:
            show.note(note)
        loading = _Loading(model, lora.uses)
        pipe = _loaded(shot_list, scene, loading, show)
        settings = shared_settings(reading.size, shots, pipe.defaults)
        rendering = _prepared(_Asked(scene, settings, folder, shots, lock), pipe, loading)
        with _paused(shot_list):
            warnings = [*scene.notes, *_run(rendering, show)]
            delivered = _deliver(rendering, shots, settings, delivery, show)
    report = _report(rendering, delivered, warnings, started)
    if out.as_json:
        tell(json.dumps(asdict(report)))
    elif not out.quiet:
        tell(_summary(report, scene))


@dataclass(frozen=True, slots=True)
class SceneReport:
    """What was made."""

    folder: str
    files: tuple[str, ...]
    version: int
    fresh: bool
    """Whether the cut changed."""
    shots: tuple[dict[str, str | int], ...]
    frames: int
    seconds: float
    rate: str
    elapsed_s: float
    peak_memory_bytes: int
    warnings: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Asked:
    """What the arguments ask for."""

    scene: "ShotList"
    settings: "SampleConfig"
    folder: Path
    shots: ShotOptions
    lock: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Loading:
    """How the model is loaded, with LoRAs of one shot over those of all."""

    model: ModelOptions
    loras: "tuple[LoraUse, ...]"

    def __call__(self, more: "tuple[LoraUse, ...]" = ()) -> "Pipeline":
        from longtake.pipeline import load

        model = self.model
        loras = (*self.loras, *more)
        return load(model.model, device=model.device, precision=model.precision, loras=loras)


def _loaded(path: Path, scene: "ShotList", loading: _Loading, show: Display) -> "Pipeline":
    from longtake.rollout.numerics import fix_threads
    from longtake.shots.timeline import check_length

    check_length(scene, path)
    show.stage("load", 0, 1)
    fix_threads()
    pipe = loading()
    show.stage("load", 1, 1)
    return pipe


def _prepared(asked: _Asked, pipe: "Pipeline", loading: _Loading) -> "Rendering":
    """Every shot checked against the model before any is made."""
    from longtake.shots.plan import TakePlan, plan
    from longtake.shots.render import Rendering, locked_takes
    from longtake.shots.store import Store

    store = Store(asked.folder)
    locked = locked_takes(asked.scene, store, asked.lock)
    takes = {code: record.take for code, record in locked.items()}
    how = (asked.scene, pipe.name, pipe.config, asked.settings, asked.shots.handles)
    planned = plan(*how, takes)
    free: dict[str, TakePlan] = {}
    if locked:
        # A model that could not make the list may still cut what was made of it.
        with suppress(ShotListError):
            free = {one.shot.code: one.take for one in plan(*how)}
    rendering = Rendering(
        pipe,
        asked.scene,
        planned,
        store,
        asked.shots.retime,
        frozenset(locked),
        free,
        cache(loading),
    )
    rendering.check()
    return rendering


def _run(rendering: "Rendering", show: Display) -> list[str]:
    """Make what is missing; return what the user was told."""
    from longtake.pipeline import Notice, Progress

    told: list[str] = []
    total, done, began = len(rendering.planned), 0, time.perf_counter()
    for event in rendering.run():
        raise_if_stopped()
        match event:
            case Progress():
                # The end of one shot's stage is not the end of the scene's.
                if event.step < event.total:
                    show.stage(event.stage, event.step, event.total)
            case Notice():
                told.append(event.text)
                show.note(event.text)
            case _:
                done += 1
                took = time.perf_counter() - began
                began = time.perf_counter()
                show.note(f"{event.record.name}: {event.how}, {took:.1f} s ({done} of {total})")
                show.stage("shots", done, total)
    return told


def _deliver(
    rendering: "Rendering",
    shots: ShotOptions,
    settings: "SampleConfig",
    delivery: "Delivery",
    show: Display,
) -> "Delivered":
    import torch

    from longtake.rollout.numerics import processor_of
    from longtake.shots.deliver import deliver
    from longtake.shots.manifest import SceneManifest, keys_of

    pipe, cut = rendering.pipe, rendering.cut
    manifest = SceneManifest(
        scene=rendering.scene,
        retiming=shots.retime,
        handles=shots.handles,
        model=pipe.name,
        model_hash=pipe.model_hash,
        precision=pipe.precision,
        version=__version__,
        processor=processor_of(pipe.device),
        torch=str(torch.__version__),
        settings=settings,
        loras=tuple(replace(use, file=Path(use.file).name) for use in pipe.loras),
        takes=tuple(made.record.name for made in cut),
        keys=keys_of(cut),
        frozen=tuple(sorted(rendering.frozen)),
    )
    show.stage("cut", 0, 1)
    delivered = deliver(manifest, cut, rendering.store, delivery)
    show.stage("cut", 1, 1)
    for note in delivered.notes:
        show.note(note)
    return delivered


@contextmanager
def _paused(shot_list: Path) -> Iterator[None]:
    """Say that what is made stays, and how to go on.

    Raises:
        CannotHere: in place of a full disk.
        KeyboardInterrupt: with the command that goes on.
    """
    on = f"shots that are finished stay; longtake shoot {shot_list} again goes on"
    try:
        yield
    except KeyboardInterrupt as error:
        raise KeyboardInterrupt(on) from error
    except OutputError as error:
        msg = f"paused: {error}; {on}"
        raise CannotHere(msg) from error


def _report(
    rendering: "Rendering", delivered: "Delivered", warnings: list[str], started: float
) -> SceneReport:
    scene = rendering.scene
    return SceneReport(
        folder=str(rendering.store.folder),
        files=tuple(str(path) for path in delivered.files),
        version=delivered.number,
        fresh=delivered.fresh,
        shots=tuple(
            {
                "take": made.record.name,
                "how": made.how,
                "at": made.planned.at,
                "frames": made.planned.shot.frames,
                "file": str(rendering.store.file(made.record)),
            }
            for made in rendering.cut
        ),
        frames=scene.frames,
        seconds=float(scene.rate.seconds(scene.frames)),
        rate=scene.rate.name,
        elapsed_s=round(time.perf_counter() - started, 3),
        peak_memory_bytes=peak_memory_bytes(),
        warnings=(*warnings, *delivered.notes),
    )


def _summary(report: SceneReport, scene: "ShotList") -> str:
    made = sum(shot["how"] in ("made", "cut anew") for shot in report.shots)
    what = f"version {report.version}" + ("" if report.fresh else ", as it was")
    files = ", ".join(Path(file).name for file in report.files[1:])
    lines = (
        (
            f"{report.files[0]}: {len(report.shots)} shots, {report.frames} frames, "
            f"{report.seconds:.2f} s at {scene.rate.name} fps, {what}; {made} shots made"
        ),
        f"{report.folder}: {files}, and shots/",
        f"took {report.elapsed_s:.1f} s, peak memory {report.peak_memory_bytes / 2**20:,.0f} MiB",
    )
    return "\n".join(lines)
