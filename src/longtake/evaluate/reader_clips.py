"""Clips whose truth is known, as the reader is trained on them."""

import logging
import math
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, fields, replace

import numpy as np
import torch
from einops import rearrange
from jaxtyping import Int64, UInt8
from torch import Tensor

from longtake.config import FPS
from longtake.evaluate.reader.background import CameraReading, camera_reading
from longtake.evaluate.reader.films import RATE, Looked, look_at
from longtake.evaluate.reader.finder import NOBODY, SCENE_HEADS
from longtake.evaluate.reader.network import HEADS, NEXT, TICK_S, ReaderNetwork, Views, views_of
from longtake.evaluate.reader.parser import Placed, background_errors, place_all
from longtake.evaluate.reader.segments import Track, find_tracks
from longtake.evaluate.round_trip import film_scenes
from longtake.evaluate.scope import MOTIONS
from longtake.vae import Autoencoder
from longtake.world import Scenes, sample_scenes
from longtake.world.choreography import CLIP_S
from longtake.world.level import LEVELS, Level
from longtake.world.render import render_ids
from longtake.world.scene import MAX_SUBJECTS
from longtake.world.stage import SHOTS

logger = logging.getLogger("longtake.train")
HELD_OUT_PAIRS = 0.25
"""Share of clips with pairs that no film model is trained on; the reader must know them all."""
UNKNOWN = -100
"""Label of what cannot be told."""
AT_ONCE = 8
"""Clips that are filmed together."""
_OWN_LEVEL = 0.55
"""Share of clips of the widest level; narrower ones share the rest."""
_FULL = 0.5
"""Share of clips that are chosen for all that is in them, of twice as many drawn."""
_DRAWN = {"cuda": 32, "cpu": 16}
"""Clips of all levels that are drawn together."""
_MOST_CLIPS = {"cuda": 5000, "cpu": 800}
"""Clips that fit in memory; each takes 9 MB."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Clip:
    """A film at the reader's rate, and what is true of it."""

    scene: Scenes
    film: Looked
    cells: UInt8[Tensor, "frames height2 width2"]
    """Number of the colour of the subject at each cell, or `NOBODY`."""
    camera: CameraReading

    def labels(self) -> tuple[int, ...]:
        """Number of the answer to each of `SCENE_HEADS`."""
        scene = self.scene
        told = {
            "light": scene.light,
            "ground": scene.ground,
            "camera": scene.camera,
            "shot": scene.shot,
        }
        return tuple(int(told[name][0]) for name in SCENE_HEADS)


@dataclass(frozen=True, slots=True, kw_only=True)
class Samples:
    """Subjects with what is true of them."""

    views: Views
    labels: dict[str, Int64[Tensor, " b"]]

    def pick(self, rows: Int64[Tensor, " n"]) -> "Samples":
        """Some of them."""
        return Samples(
            views=Views(pictures=self.views.pictures[rows], ways=self.views.ways[rows]),
            labels={name: label[rows] for name, label in self.labels.items()},
        )


def scenes_of(num: int, seed: tuple[int, ...], level: Level, *, loose: bool = False) -> Scenes:
    """Scenes of which a share shows held-out pairs, all mixed.

    Args:
        num: Scenes to draw.
        seed: Of the draw.
        level: What can occur.
        loose: Let things happen at any moment about the whole seconds that captions name.
    """
    rng = np.random.default_rng(seed)
    split = "held_out_pairs" if rng.random() < HELD_OUT_PAIRS else "train"
    scenes = sample_scenes(num, rng, split, level)
    scenes = padded(scenes)
    if not loose:
        return scenes
    shift = rng.uniform(-0.5, 0.5, (2, *scenes.start_s.shape)).astype(np.float32)
    start = np.where(scenes.start_s > 0, scenes.start_s + shift[0], scenes.start_s)
    return replace(scenes, start_s=start, change_s=scenes.change_s + shift[1])


def narrower(level: Level) -> tuple[Level, ...]:
    """The levels up to one."""
    return LEVELS[: LEVELS.index(level) + 1]


def padded(scenes: Scenes) -> Scenes:
    """The same scenes in tables for `MAX_SUBJECTS`, so that levels mix and kernels compile once."""
    missing = MAX_SUBJECTS - scenes.kind.shape[1]
    columns = {name: getattr(scenes, name) for name in _OF_SUBJECTS}
    return replace(
        scenes,
        **{
            name: np.concatenate([column, np.repeat(column[:, -1:], missing, axis=1)], axis=1)
            for name, column in columns.items()
        },
    )


_OF_SUBJECTS = ("kind", "colour", "size", "motion", "slot", "row", "subject_jitter", "material",
                "start_s", "then", "change_s", "aside")  # fmt: skip


def mixed(num: int, seed: tuple[int, ...], level: Level) -> Scenes:
    """Scenes of all levels up to one; in half of them more is and happens than they come with."""
    levels, rng = narrower(level), np.random.default_rng([*seed, 1])
    own = _OWN_LEVEL if len(levels) > 1 else 1.0
    others = [(1 - own) / max(len(levels) - 1, 1)] * (len(levels) - 1)
    parts = []
    for number, count in enumerate(rng.multinomial(num, [*others, own])):
        drawn = scenes_of(2 * int(count), (*seed, number), levels[number], loose=True)
        usual = int((1 - _FULL) * count)
        full = usual + np.argsort(-_happenings(drawn)[usual:], kind="stable")[: count - usual]
        parts.append(drawn.select(np.concatenate([np.arange(usual), full])))
    return Scenes(
        **{f.name: np.concatenate([getattr(p, f.name) for p in parts]) for f in fields(Scenes)}
    )


def _happenings(scenes: Scenes) -> Int64[np.ndarray, " b"]:
    """How many subjects there are, and how many things happen late or change."""
    shown = np.arange(scenes.kind.shape[1]) < scenes.num_subjects[:, None]
    happens = (scenes.start_s > 0).astype(int) + np.isfinite(scenes.change_s)
    return scenes.num_subjects + (happens * shown).sum(axis=1)


def clips_of(
    scenes: Scenes, autoencoder: Autoencoder | None, device: torch.device
) -> Iterator[Clip]:
    """Film scenes and keep what is true of them; without an autoencoder only frames looked at."""
    frames = int(CLIP_S * RATE) + 1
    seen = render_ids(scenes, frames=frames, fps=RATE, device=device)
    if autoencoder is None:
        # The frames between are not needed.
        films = film_scenes(scenes, None, device, frames=frames, fps=RATE, at_once=AT_ONCE)
        looked = [look_at(film, RATE) for film in films]
    else:
        films = film_scenes(scenes, autoencoder, device, at_once=AT_ONCE)
        looked = [look_at(film, FPS) for film in films]
    cells = [cells_of(scenes.select(index), seen[index]) for index in range(len(scenes))]
    errors = torch.stack(
        [background_errors(f, true_colours(c)) for f, c in zip(looked, cells, strict=True)]
    ).tolist()
    for index, (film, shown, error) in enumerate(zip(looked, cells, errors, strict=True)):
        scene = scenes.select(index)
        yield Clip(scene=scene, film=film, cells=shown, camera=camera_reading(error))


def cells_of(scene: Scenes, ids: Tensor) -> UInt8[Tensor, "frames height width"]:
    """The colour of the subject at each cell."""
    colours = torch.tensor([*scene.colour[0].tolist(), NOBODY], device=ids.device)
    return colours[ids.long()].to(torch.uint8)


def collect(
    level: Level, num: int, seconds: float, seed: int, autoencoder: Autoencoder | None,
    device: torch.device,
) -> list[Clip]:  # fmt: skip
    """Film clips until `num` are there or, if that is 0, until time or memory is used up."""
    clips: list[Clip] = []
    started, most = time.monotonic(), num or _MOST_CLIPS[device.type]
    first_s = 0.0
    while len(clips) < most and (num or time.monotonic() < started + seconds):
        count = min(_DRAWN[device.type], most - len(clips))
        clips += clips_of(mixed(count, (seed, len(clips)), level), autoencoder, device)
        first_s = first_s or time.monotonic() - started
    spent_s = time.monotonic() - started
    logger.info("reader: %d clips in %.1f s, the first ones in %.1f", len(clips), spent_s, first_s)
    return clips


def samples_of(
    network: ReaderNetwork, clips: list[Clip], seconds: float = math.inf, at_once: int = 16
) -> Samples:
    """The subjects that the network finds in clips and that are there, while there is time."""
    parts: list[Samples] = []
    started = time.monotonic()
    for first in range(0, len(clips), at_once):
        if parts and time.monotonic() > started + seconds:
            break
        some = clips[first : first + at_once]
        with torch.no_grad():
            found = network.finder(torch.stack([clip.film.frames for clip in some]))
        for clip, *seen in zip(some, found.colours(), found.sure(), strict=True):
            # A network that has seen little finds nobody, which would leave nothing to learn from.
            pairs = matched(clip, find_tracks(*seen)) or matched(
                clip, find_tracks(true_colours(clip.cells))
            )
            if pairs:
                rows, placed = zip(*pairs, strict=True)
                views = views_of(clip.film.fine, placed)
                parts.append(Samples(views=views, labels=_labels(clip.scene, list(rows))))
    device = clips[0].cells.device
    samples = Samples(
        views=Views(
            pictures=torch.cat([part.views.pictures for part in parts]),
            ways=torch.cat([part.views.ways for part in parts]),
        ),
        labels={
            name: torch.cat([part.labels[name] for part in parts]).to(device) for name in HEADS
        },
    )
    spent_s = time.monotonic() - started
    logger.info("reader: %d subjects of %d clips in %.1f s", len(samples.views.ways),
                min(first + at_once, len(clips)), spent_s)  # fmt: skip
    return samples


def true_colours(
    cells: UInt8[Tensor, "frames height width"],
) -> Int64[Tensor, "frames height width"]:
    """Number of the colour of the subject that each cell shows, or -1."""
    return torch.where(cells == NOBODY, -1, cells.long())


def matched(clip: Clip, tracks: tuple[Track, ...]) -> list[tuple[int, Placed]]:
    """Subjects of a clip with their tracks; those whose colour is not unique are left out."""
    number = clip.camera.best_of(int(clip.scene.camera[0]), int(clip.scene.shot[0]))
    colours = clip.scene.colour[0, : clip.scene.num_subjects[0]].tolist()
    found = Counter(track.colour for track in tracks)
    return [
        (colours.index(one.track.colour), one)
        for one in place_all(tracks, number, clip.film)
        if colours.count(one.track.colour) == found[one.track.colour] == 1
    ]


def _labels(scene: Scenes, rows: list[int]) -> dict[str, Int64[Tensor, " b"]]:
    """Number of the answer to each of `HEADS`, for some subjects of a scene."""
    motions = [MOTIONS[number] for number in scene.motion[0, rows]]
    framed = SHOTS[scene.shot[0]].share is not None
    changes = np.isfinite(scene.change_s[0, rows])
    nexts = [0 if m not in NEXT else NEXT.index(m) + 1 for m in MOTIONS]
    last = HEADS["start_s"] - 1
    ticks = {
        "start_s": scene.start_s[0, rows] / TICK_S,
        "change_s": np.where(changes, scene.change_s[0, rows], 0.0) / TICK_S,
    }
    columns = {
        "kind": scene.kind[0, rows],
        # How large a thing is cannot be seen in a shot that is framed on it.
        "size": np.where(framed, UNKNOWN, scene.size[0, rows]),
        "material": scene.material[0, rows],
        "motion": scene.motion[0, rows],
        "then": np.where(changes, np.array(nexts)[scene.then[0, rows]], 0),
        # Where a thing that crosses the frame stands depends on when one looks.
        "slot": np.where([bool(m.lateral) for m in motions], UNKNOWN, scene.slot[0, rows]),
        **{name: np.clip(np.rint(tick), 0, last) for name, tick in ticks.items()},
    }
    return {name: torch.from_numpy(np.asarray(columns[name]).astype(np.int64)) for name in HEADS}


def stacked(clips: list[Clip]) -> UInt8[Tensor, "b frames height width 3"]:
    """Frames of some clips."""
    return rearrange([clip.film.frames for clip in clips], "b f h w c -> b f h w c")
