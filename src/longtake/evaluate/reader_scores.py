"""How often the reader is right about films whose truth is known, and what it must refuse."""

from collections import Counter
from collections.abc import Iterable
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import UInt8
from torch import Tensor

from longtake.config import FPS
from longtake.evaluate.reader.read import Reader
from longtake.evaluate.reader.readings import FilmReading, SubjectReading
from longtake.evaluate.reader_clips import AT_ONCE, narrower, scenes_of
from longtake.evaluate.round_trip import HEIGHT, WIDTH, film_scenes
from longtake.evaluate.scope import (
    CAMERAS,
    COLOURS,
    GROUNDS,
    KINDS,
    LIGHTS,
    MATERIALS,
    MOTIONS,
    SHOTS,
    SIZES,
)
from longtake.vae import Autoencoder
from longtake.world import Scenes
from longtake.world.level import Level
from longtake.world.scene import SLOTS

HELD_OUT_SEED = 424_242
"""Scenes of this seed are only scored."""
STRANGE = 8
"""Films of each sort that must be refused."""
Marks = dict[str, list[float]]


def score(
    level: Level, num: int, reader: Reader, autoencoder: Autoencoder, device: torch.device
) -> dict[str, Any]:
    """Accuracy on held-out scenes of each level up to one, after the round trip.

    Attributes of subjects are counted over the subjects that are there; one that is not found
    is wrong in all of them, and so is everything in a film that cannot be explained.
    """
    rows: dict[str, Any] = {}
    confused: Counter[str] = Counter()
    for number, one in enumerate(narrower(level)):
        marks: Marks = {}
        for first in range(0, num, AT_ONCE):
            count = min(AT_ONCE, num - first)
            scenes = scenes_of(count, (HELD_OUT_SEED, number, first), one)
            films = film_scenes(scenes, autoencoder, device, at_once=AT_ONCE)
            for index, film in enumerate(films):
                reading = reader.read(film, FPS)
                _add(marks, marks_of(scenes, index, reading))
                confused.update(mistakes(scenes, index, reading))
        rows[one.name] = {
            name: [round(float(np.mean(marks[name])), 4), len(marks[name])]
            for name in sorted(marks)
        }
    return {"clips": num, "accuracy": rows, "explained_of_strange": refusals(reader, device),
            "mistakes": dict(confused.most_common(60))}  # fmt: skip


def _add(total: Marks, more: Marks) -> None:
    for name, values in more.items():
        total.setdefault(name, []).extend(values)


def marks_of(scenes: Scenes, index: int, reading: FilmReading) -> Marks:
    """Which answers about a clip are right; names with a colon compare with fixed rules."""
    scene = scenes.select(index)
    count = int(scene.num_subjects[0])
    true = {
        "light": LIGHTS[scene.light[0]].name,
        "ground": GROUNDS[scene.ground[0]].name,
        "camera": CAMERAS[scene.camera[0]].name,
        "shot": SHOTS[scene.shot[0]].name,
    }
    hit: Marks = {"explained": [reading.explained]}
    hit |= {n: [reading.explained and reading.value(n) == v] for n, v in true.items()}
    hit["count"] = [reading.explained and len(reading.subjects) == count]
    rule = reading.by_rule
    if rule is not None:
        for name, value in (("light", rule.light), ("ground", rule.ground),
                            ("camera", rule.camera)):  # fmt: skip
            hit[f"rule:{name}"] = [value == true[name]]
            hit[f"agree:{name}"] = [value == reading.value(name)]
        hit["agree:colour"] = [
            colour == one.colour for colour, one in zip(rule.colours, reading.subjects, strict=True)
        ]
    seen = {one.colour: one for one in reading.subjects} if reading.explained else {}
    for row in range(count):
        _add(hit, _subject_marks(scene, row, seen))
    _add(hit, _order(scene, count, seen))
    return hit


def _truths(scene: Scenes, row: int) -> dict[str, str]:
    """What captions can state of a subject."""
    motion = MOTIONS[scene.motion[0, row]]
    true = {
        "kind": KINDS[scene.kind[0, row]].name,
        "material": MATERIALS[scene.material[0, row]].name,
        "motion": motion.name,
    }
    if SHOTS[scene.shot[0]].share is None:
        true["size"] = SIZES[scene.size[0, row]].name
    if not motion.lateral:
        true["slot"] = SLOTS[scene.slot[0, row]]
    if scene.start_s[0, row] > 0:
        true["start_s"] = str(round(float(scene.start_s[0, row])))
    if np.isfinite(scene.change_s[0, row]):
        true["then"] = MOTIONS[scene.then[0, row]].name
        true["change_s"] = str(round(float(scene.change_s[0, row])))
    return true


def _subject_marks(scene: Scenes, row: int, seen: dict[str, SubjectReading]) -> Marks:
    one = seen.get(COLOURS[scene.colour[0, row]].name)
    true = _truths(scene, row)
    hit: Marks = {"colour": [one is not None]}
    for name, value in true.items():
        hit[name] = [one is not None and one.value(name) == value]
    hit["binding"] = [all(values[0] for values in hit.values())]
    if "then" not in true:
        hit["no_then"] = [one is not None and one.then is None]
    times = {} if one is None else {"start_s": one.start_s, "change_s": one.change_s}
    for name, read in times.items():
        if name in true and read is not None:
            at = float(getattr(scene, name)[0, row])
            hit[f"frames_off:{name}"] = [abs(read - at) * FPS]
    return hit


def _order(scene: Scenes, count: int, seen: dict[str, SubjectReading]) -> Marks:
    """Whether of two subjects the one that begins first is read as such."""
    marks: list[float] = []
    for row in range(count):
        for other in range(row):
            gap = float(scene.start_s[0, row] - scene.start_s[0, other])
            if not gap:
                continue
            pair = [seen.get(COLOURS[scene.colour[0, n]].name) for n in (row, other)]
            times = [None if one is None else one.start_s for one in pair]
            right = None not in times and (times[0] - times[1]) * gap > 0  # pyrefly: ignore
            marks.append(float(right))
    return {"order": marks} if marks else {}


def mistakes(scenes: Scenes, index: int, reading: FilmReading) -> list[str]:
    """What was taken for what."""
    scene = scenes.select(index)
    seen = {one.colour: one for one in reading.subjects}
    found = []
    names = {
        "camera": CAMERAS[scene.camera[0]].name,
        "ground": GROUNDS[scene.ground[0]].name,
        "light": LIGHTS[scene.light[0]].name,
        "shot": SHOTS[scene.shot[0]].name,
    }
    found += [f"{n}: {v} as {reading.value(n)}" for n, v in names.items() if reading.value(n) != v]
    for row in range(int(scene.num_subjects[0])):
        colour = COLOURS[scene.colour[0, row]].name
        one = seen.get(colour)
        if one is None:
            found.append(f"colour: {colour} not seen")
            continue
        found += [
            f"{name}: {value} as {one.value(name)}"
            for name, value in _truths(scene, row).items()
            if one.value(name) != value
        ]
    real = {COLOURS[c].name for c in scene.colour[0, : scene.num_subjects[0]]}
    found += [f"colour: {colour} imagined" for colour in seen if colour not in real]
    return found


def strange_films(num: int, seed: int = 0) -> dict[str, list[UInt8[Tensor, "f h w 3"]]]:
    """Films that show nothing of the world: noise, flat colours, clouds, drifting textures."""
    generator = torch.Generator().manual_seed(seed)

    def noise(*shape: int) -> Tensor:
        return torch.rand(shape, generator=generator)

    frames = 33
    flat = [noise(1, 1, 1, 3).expand(frames, HEIGHT // 2, WIDTH // 2, 3) for _ in range(num)]
    white = [noise(frames, HEIGHT // 2, WIDTH // 2, 3) for _ in range(num)]
    films = {"flat": flat, "noise": white}
    films["clouds"] = [_clouds(generator, frames, drift=0) for _ in range(num)]
    films["drifting"] = [_clouds(generator, frames, drift=2) for _ in range(num)]
    films["photo"] = [_landscape(generator, frames) for _ in range(num)]
    return {
        name: [(255 * one.clamp(0, 1)).to(torch.uint8) for one in some]
        for name, some in films.items()
    }


def _clouds(generator: torch.Generator, frames: int, drift: int) -> Tensor:
    """Noise of all scales in natural strengths, as photographs have, moved sideways."""
    height, width = HEIGHT // 2, WIDTH // 2 + drift * frames
    total = torch.zeros(3, height, width)
    for level in range(2, 8):
        size = (max(height >> (8 - level), 1), max(width >> (8 - level), 1))
        grain = torch.rand(1, 3, *size, generator=generator) - 0.5
        total += F.interpolate(grain, (height, width), mode="bilinear")[0] / 2 ** (level - 2)
    picture = (total - total.mean()) / total.std() * 0.2 + 0.5
    at = [drift * n for n in range(frames)]
    return torch.stack([picture[:, :, x : x + WIDTH // 2].permute(1, 2, 0) for x in at])


def _landscape(generator: torch.Generator, frames: int) -> Tensor:
    """Brown and green clutter under a bright top, handheld."""
    clutter = _clouds(generator, 1, drift=0)[0]
    rows = torch.linspace(0, 1, len(clutter))[:, None, None]
    tint = 0.3 + 0.6 * torch.rand(3, generator=generator)
    picture = clutter * tint * (0.6 + 0.4 * rows) + 0.5 * (1 - rows).clamp(min=0) ** 3
    shifts = torch.randint(-3, 4, (frames, 2), generator=generator).tolist()
    return torch.stack([picture.roll((dy, dx), (0, 1)) for dy, dx in shifts])


def refusals(reader: Reader, device: torch.device) -> dict[str, float]:
    """Share of films of each strange sort that is explained though it must not be."""
    return {
        name: float(np.mean([reader.read(film.to(device), FPS).explained for film in some]))
        for name, some in strange_films(STRANGE).items()
    }


def text_of(report: dict[str, Any]) -> str:
    """A table with a row for each attribute and a column for each level."""
    levels = list(report["accuracy"])
    names = sorted({name for row in report["accuracy"].values() for name in row}, key=_place)
    lines = ["".join([f"{'':24}", *(f"{level:>16}" for level in levels)])]
    for name in names:
        cells = (report["accuracy"][level].get(name) for level in levels)
        lines.append("".join([f"{name:24}", *(f"{_cell(name, cell):>16}" for cell in cells)]))
    lines.append(f"explained though strange: {report['explained_of_strange']}")
    lines.append(f"scored in {report.get('scoring_s')} s")
    lines += [f"{count:4} x {what}" for what, count in report["mistakes"].items()]
    return "\n".join(lines)


def _place(name: str) -> tuple[bool, str]:
    return ":" in name, name


def _cell(name: str, cell: Iterable[float] | None) -> str:
    if cell is None:
        return "-"
    mean, count = cell
    shown = f"{mean:.1f}" if name.startswith("frames_off") else f"{100 * mean:.1f} %"
    return f"{shown} of {count}"
