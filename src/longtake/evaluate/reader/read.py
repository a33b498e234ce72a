"""The reader: fixed rules for colours, light, ground, camera and place; a network for the rest."""

from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from einops import rearrange
from jaxtyping import Float, UInt8
from torch import Tensor

from longtake.checkpoints import load_tensors, read_json
from longtake.errors import ModelError
from longtake.evaluate.reader.films import HEIGHT, Looked, look_at, to_height
from longtake.evaluate.reader.finder import SCENE_NAMES, Found
from longtake.evaluate.reader.network import (
    ALL_NAMES,
    HEADS,
    MOMENTS,
    NAMES,
    TICK_S,
    ReaderNetwork,
    views_of,
)
from longtake.evaluate.reader.parser import Parsed, Placed, parse, place_all
from longtake.evaluate.reader.readings import ByRule, Detail, FilmReading, SubjectReading
from longtake.evaluate.reader.segments import find_tracks
from longtake.evaluate.reader.turning import PAINTED, Turning, circles, turning
from longtake.evaluate.scope import CAMERAS, COLOURS, MOTIONS, SHOTS
from longtake.world import sample_scenes
from longtake.world.choreography import track
from longtake.world.scene import SLOTS

FOLDER = Path(__file__).parents[2] / "weights" / "reader"
"""Where the shipped network lies."""
TRAIN = "python -m longtake.evaluate.train_reader --out FOLDER"
_STANDS, _SPINS, _CIRCLES = "still", "spin", "circle"
_LATE_S = 0.5
"""Second from which a motion begins late."""
_AT_ONCE = 27
"""Frames of a film that the network sees at once."""
_SURE = 0.34
"""Probability below which an answer counts as none."""


Answer = dict[str, Any]
"""What the network says of a subject, by the names of `HEADS`."""


def weights_path(folder: Path) -> Path:
    """The network's file in a folder."""
    return folder / "reader.safetensors"


class Reader:
    """Reads films; without a network it tells only what rules alone can."""

    def __init__(self, network: ReaderNetwork | None) -> None:
        """Take a ready network."""
        self.network = network

    @property
    def device(self) -> torch.device:
        """Where the network runs; films are read there."""
        if self.network is None:
            return torch.device("cpu")
        return self.network.subject.join.weight.device

    @torch.no_grad()
    def read(self, film: UInt8[Tensor, "frames height width 3"], fps: float) -> FilmReading:
        """Read a film.

        Raises:
            MediaError: a film that is too short, too small or of an impossible shape.
        """
        looked = look_at(film, fps)
        found = None if self.network is None else self.network.finder(looked.frames[None])
        seen = (None, None) if found is None else (found.colours()[0], found.sure()[0])
        parsed = parse(looked, *seen)
        scene = self._scene(found, parsed)
        number = _candidate(parsed, scene["camera"], scene["shot"])
        placed = place_all(parsed.tracks, number, looked)
        answers, features = self._ask(looked, placed)
        if not parsed.explained:
            answers = [dict.fromkeys(HEADS) for _ in answers]
        subjects = tuple(_subject(one, answer) for one, answer in zip(placed, answers, strict=True))
        return FilmReading(
            explained=parsed.explained,
            unexplained=parsed.unexplained,
            **scene,
            subjects=tuple(self._with_contacts(one, film, fps) for one in subjects),
            detail=detail_of(film),
            features=features,
            by_rule=ByRule(
                light=parsed.light,
                ground=parsed.ground,
                camera=parsed.camera.camera,
                colours=parsed.colours,
            ),
            notes=looked.notes,
        )

    def _scene(self, found: Found | None, parsed: Parsed) -> dict[str, str | None]:
        """Answers about the scene."""
        if self.network is None or found is None:
            by_rule = {"light": parsed.light, "ground": parsed.ground}
            return {**by_rule, "camera": parsed.camera.camera, "shot": None}
        fit = torch.tensor([parsed.camera.fit()], device=found.scene.device)
        logits = self.network.finder.tell(found, fit)
        # A move that does not undo the change of the background is not the one, however it looks.
        logits["camera"] = logits["camera"] - fit.new_tensor(parsed.camera.doubts())
        return {name: _answers(SCENE_NAMES[name], row)[0] for name, row in logits.items()}

    def _ask(
        self, looked: Looked, placed: tuple[Placed, ...]
    ) -> tuple[list[Answer], tuple[tuple[float, ...], ...]]:
        """Answers of the network and its features for each subject."""
        if self.network is None or not placed:
            return [dict.fromkeys(HEADS) for _ in placed], ()
        subject = self.network.subject
        views = views_of(looked.fine, placed)
        seen, features = subject.look(views)
        told = subject.answers(seen, features)
        columns = {
            name: _moments(row) if name in MOMENTS else _answers(NAMES[name], row)
            for name, row in told.items()
        }
        answers = [
            {name: column[n] for name, column in columns.items()} for n in range(len(placed))
        ]
        turns = turning(views.pictures, views.ways[..., 0] > 0)
        settled = [
            turn_settled(answer, turn) | ({"motion": _CIRCLES} if circles(one) else {})
            for answer, turn, one in zip(answers, turns, placed, strict=True)
        ]
        return settled, tuple(tuple(row) for row in features.tolist())

    def _with_contacts(
        self, subject: SubjectReading, film: UInt8[Tensor, "frames height width 3"], fps: float
    ) -> SubjectReading:
        """Add the moments at which a bouncing subject is lowest, from all frames."""
        bounces = any(m.bounce and m.name in (subject.motion, subject.then) for m in MOTIONS)
        if not bounces or self.network is None:
            return subject
        frames = to_height(film, HEIGHT)
        # Some at a time, so that memory stays small.
        parts = [self.network.finder(some[None]) for some in frames.split(_AT_ONCE)]
        colours = torch.cat([part.colours()[0] for part in parts])
        tracks = find_tracks(colours, torch.cat([part.sure()[0] for part in parts]))
        same = [track for track in tracks if COLOURS[track.colour].name == subject.colour]
        if not same:
            return subject
        bottom = rearrange(same[0].box, "f side -> side f")[3]
        return replace(subject, contacts_s=lowest_moments(bottom, same[0].seen, fps))


def _candidate(parsed: Parsed, camera: str | None, shot: str | None) -> int:
    """The row of the camera table that best explains the film with what was read of it."""
    cameras, shots = ([entry.name for entry in table] for table in (CAMERAS, SHOTS))
    return parsed.camera.best_of(
        cameras.index(camera) if camera in cameras else None,
        shots.index(shot) if shot in shots else None,
    )


def _answers(names: tuple[str, ...], logits: Float[Tensor, "b _"]) -> list[str | None]:
    """The likeliest of each row; none where nothing is likely."""
    sure, best = logits.float().softmax(-1).max(-1)
    # Written so that NaN is no answer.
    return [
        names[number] or None if probability >= _SURE else None
        for probability, number in zip(sure.tolist(), best.tolist(), strict=True)
    ]


def _moments(logits: Float[Tensor, "b ticks"]) -> list[float | None]:
    """Seconds: the mean of the likeliest tick and its neighbours; 0 stands apart."""
    share = logits.float().softmax(-1)
    found: list[float | None] = []
    for row in share.tolist():
        if not all(value >= 0 for value in row):
            found.append(None)
            continue
        best = max(range(len(row)), key=lambda n: row[n])
        near = range(max(best - 2, 1), min(best + 3, len(row))) if best else range(1)
        weight = sum(row[n] for n in near)
        found.append(round(TICK_S * sum(n * row[n] for n in near) / weight, 3))
    return found


def turn_settled(answer: Answer, turn: Turning | None) -> Answer:
    """An answer in which standing and spinning all the time are told by rule, where it is sure."""
    idle = answer["motion"] in (_STANDS, _SPINS)
    late = (answer["start_s"] or 0) >= _LATE_S
    if turn is None or not idle or late or answer["then"] is not None:
        return answer
    if turn.spins:
        return answer | {"motion": _SPINS}
    if turn.rests and answer["kind"] in PAINTED:
        return answer | {"motion": _STANDS}
    return answer


def load_reader(folder: Path = FOLDER, device: torch.device | str = "cpu") -> Reader:
    """The reader with the network of a folder.

    Raises:
        ModelError: no network, or one trained for another world.
        WeightsError: damaged weights.
    """
    if not weights_path(folder).with_name("reader.json").is_file():
        msg = f"the reader's network is not in {folder}; train it: {TRAIN}"
        raise ModelError(msg)
    card = read_json(folder / "reader.json")
    if card["names"] != {name: list(values) for name, values in ALL_NAMES.items()}:
        msg = f"the reader's network in {folder} knows another world; train it anew: {TRAIN}"
        raise ModelError(msg)
    network = ReaderNetwork()
    expected = {key: tuple(value.shape) for key, value in network.state_dict().items()}
    network.load_state_dict(load_tensors(weights_path(folder), expected))
    return Reader(network.float().to(device).eval().requires_grad_(False))


def detail_of(film: UInt8[Tensor, "frames height width 3"]) -> Detail:
    """Energy of second differences along width and height, and along time."""
    grey = to_height(film, 2 * HEIGHT).float().mean(dim=-1)
    across = grey[:, :, 2:] - 2 * grey[:, :, 1:-1] + grey[:, :, :-2]
    down = grey[:, 2:] - 2 * grey[:, 1:-1] + grey[:, :-2]
    along = grey[2:] - 2 * grey[1:-1] + grey[:-2]
    return Detail(
        space=round(float((across**2).mean() + (down**2).mean()) / 2, 4),
        time=round(float((along**2).mean()), 4),
    )


def _subject(placed: Placed, answer: Answer) -> SubjectReading:
    seen = placed.track.seen
    left, _, right, _ = placed.track.box[seen].unbind(-1)
    told = answer if answer["then"] is not None else answer | {"change_s": None}
    return SubjectReading(
        colour=COLOURS[placed.track.colour].name,
        **told | {"slot": answer["slot"] or _slot(placed)},
        seen=round(float(seen.float().mean()), 4),
        across=round(float(((left + right) / 2).mean()), 4),
        way_m=_way(placed),
    )


def _slot(placed: Placed) -> str:
    # The middle of whole frames: what is cut off at the edge seems to stand further in.
    good = placed.whole if bool(placed.whole.any()) else placed.track.seen
    x = float(placed.x[good].mean())
    places = slot_places()
    return SLOTS[min(range(len(SLOTS)), key=lambda n: abs(places[n] - x))]


@cache
def slot_places() -> tuple[float, ...]:
    """Metres to the right of the scene's middle of each slot."""
    count = len(SLOTS)
    scenes = sample_scenes(count, np.random.default_rng(0))
    still = next(n for n, motion in enumerate(MOTIONS) if motion.name == "still")
    scenes = replace(
        scenes,
        motion=np.full_like(scenes.motion, still),
        slot=np.arange(count, dtype=np.int64)[:, None].repeat(scenes.slot.shape[1], 1),
        subject_jitter=np.full_like(scenes.subject_jitter, 0.5),
    )
    return tuple(track(scenes, torch.zeros(count, 1)).position[:, 0, 0, 0].tolist())


def _way(placed: Placed) -> tuple[float, float]:
    """From where it is first seen whole to where it is last, robust to one bad frame."""
    good = placed.whole if int(placed.whole.sum()) > 2 else placed.track.seen
    x, z = placed.x[good], placed.z[good]
    few = max(min(3, len(x) // 2), 1)
    return (
        round(float(x[-few:].median() - x[:few].median()), 3),
        round(float(z[-few:].median() - z[:few].median()), 3),
    )


def lowest_moments(bottom: Tensor, seen: Tensor, fps: float) -> tuple[float, ...]:
    """Moments of the local lowest places, between frames where a parabola says so."""
    values, moments = bottom.tolist(), []
    swing = float(bottom.quantile(0.9) - bottom.quantile(0.1))
    for n in range(1, len(values) - 1):
        near = values[max(n - 4, 0) : n + 5]
        if not bool(seen[n]) or values[n] < max(near) or values[n] - min(near) < 0.3 * swing:
            continue
        before, here, after = values[n - 1 : n + 2]
        bend = before - 2 * here + after
        shift = 0.5 * (before - after) / bend if bend < 0 else 0.0
        if moments and n / fps - moments[-1] < 4 / fps:
            continue
        moments.append(round((n + max(min(shift, 0.5), -0.5)) / fps, 3))
    return tuple(moments)
