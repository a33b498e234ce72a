"""Clips whose truth is known, as the reader is trained on them."""

import logging
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch
from einops import rearrange
from jaxtyping import Int64, UInt8
from torch import Tensor

from longtake.config import FPS
from longtake.evaluate.reader.background import CameraReading
from longtake.evaluate.reader.films import RATE, Looked, look_at
from longtake.evaluate.reader.finder import NOBODY, SCENE_HEADS
from longtake.evaluate.reader.network import HEADS, NEXT, TICK_S, ReaderNetwork, Views, views_of
from longtake.evaluate.reader.parser import Placed, camera_of, place_all
from longtake.evaluate.reader.segments import Track, find_tracks
from longtake.evaluate.round_trip import film_scenes
from longtake.evaluate.scope import MOTIONS
from longtake.vae import Autoencoder
from longtake.world import Scenes, sample_scenes
from longtake.world.choreography import CLIP_S
from longtake.world.level import LEVELS, Level
from longtake.world.render import render_ids
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
_MOST_CLIPS = {"cuda": 4000, "cpu": 800}
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
    if not loose:
        return scenes
    shift = rng.uniform(-0.5, 0.5, (2, *scenes.start_s.shape)).astype(np.float32)
    start = np.where(scenes.start_s > 0, scenes.start_s + shift[0], scenes.start_s)
    return replace(scenes, start_s=start, change_s=scenes.change_s + shift[1])


def narrower(level: Level) -> tuple[Level, ...]:
    """The levels up to one."""
    return LEVELS[: LEVELS.index(level) + 1]


def levels_of(level: Level, number: int, seed: int) -> Level:
    """Level of a batch of clips."""
    rng = np.random.default_rng([seed, number, 1])
    others = narrower(level)[:-1]
    if not others or rng.random() < _OWN_LEVEL:
        return level
    return others[int(rng.integers(len(others)))]


def clips_of(
    scenes: Scenes, autoencoder: Autoencoder | None, device: torch.device
) -> Iterator[Clip]:
    """Film scenes and keep what is true of them; without an autoencoder only frames looked at."""
    frames = int(CLIP_S * RATE) + 1
    for first in range(0, len(scenes), AT_ONCE):
        some = scenes.select(slice(first, first + AT_ONCE))
        seen = render_ids(some, frames=frames, fps=RATE, device=device)
        if autoencoder is None:
            # The frames between are not needed.
            films = film_scenes(some, None, device, frames=frames, fps=RATE, at_once=AT_ONCE)
            looked = [look_at(film, RATE) for film in films]
        else:
            films = film_scenes(some, autoencoder, device, at_once=AT_ONCE)
            looked = [look_at(film, FPS) for film in films]
        for index, film in enumerate(looked):
            cells = cells_of(some.select(index), seen[index])
            camera = camera_of(film, torch.where(cells == NOBODY, -1, cells.long()))
            yield Clip(scene=some.select(index), film=film, cells=cells, camera=camera)


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
    end, most = time.monotonic() + seconds, num or _MOST_CLIPS[device.type]
    while len(clips) < most and (num or time.monotonic() < end):
        drawn = levels_of(level, len(clips), seed)
        count = min(2 * AT_ONCE, most - len(clips))
        scenes = scenes_of(count, (seed, len(clips)), drawn, loose=True)
        clips += clips_of(scenes, autoencoder, device)
    logger.info("reader: %d clips", len(clips))
    return clips


def samples_of(network: ReaderNetwork, clips: list[Clip], at_once: int = 16) -> Samples:
    """The subjects that the network finds in clips and that are there."""
    parts = []
    for first in range(0, len(clips), at_once):
        some = clips[first : first + at_once]
        with torch.no_grad():
            found = network.finder(torch.stack([clip.film.frames for clip in some]))
        for clip, *seen in zip(some, found.colours(), found.sure(), strict=True):
            # A network that has seen little finds nobody, which would leave nothing to learn from.
            pairs = matched(clip, find_tracks(*seen)) or matched(clip, find_tracks(true_of(clip)))
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
    logger.info("reader: %d subjects of %d clips", len(samples.views.ways), len(clips))
    return samples


def true_of(clip: Clip) -> Int64[Tensor, "frames height width"]:
    """Number of the colour of the subject that each cell shows, or -1."""
    return torch.where(clip.cells == NOBODY, -1, clip.cells.long())


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
