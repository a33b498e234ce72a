"""The reader: fixed rules for colours, light, ground, camera and place; a network for the rest."""

from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import torch
from einops import rearrange
from jaxtyping import UInt8
from torch import Tensor

from longtake.checkpoints import load_tensors, read_json
from longtake.errors import ModelError
from longtake.evaluate.reader.films import HEIGHT, Looked, look_at, to_height
from longtake.evaluate.reader.network import HEADS, NAMES, SubjectReader, views_of
from longtake.evaluate.reader.parser import Parsed, Placed, parse
from longtake.evaluate.reader.readings import Detail, FilmReading, SubjectReading
from longtake.evaluate.scope import COLOURS, MOTIONS
from longtake.world import sample_scenes
from longtake.world.choreography import track
from longtake.world.scene import SLOTS

FOLDER = Path(__file__).parents[2] / "weights" / "reader"
"""Where the shipped network lies."""
TRAIN = "python -m longtake.evaluate.train_reader --out FOLDER"
_SURE = 0.34
"""Probability below which an answer counts as none."""


def weights_path(folder: Path) -> Path:
    """The network's file in a folder."""
    return folder / "reader.safetensors"


class Reader:
    """Reads films; without a network it tells nothing of kinds, sizes and motions."""

    def __init__(self, network: SubjectReader | None) -> None:
        """Take a ready network."""
        self.network = network

    @property
    def device(self) -> torch.device:
        """Where the network runs; films are read there."""
        if self.network is None:
            return torch.device("cpu")
        return self.network.join.weight.device

    @torch.no_grad()
    def read(self, film: UInt8[Tensor, "frames height width 3"], fps: float) -> FilmReading:
        """Read a film.

        Raises:
            MediaError: a film that is too short, too small or of an impossible shape.
        """
        looked = look_at(film, fps)
        parsed = parse(looked)
        answers, features = self._ask(looked, parsed)
        if not parsed.explained:
            answers = [dict.fromkeys(HEADS) for _ in answers]
        subjects = tuple(
            _subject(placed, answer)
            for placed, answer in zip(parsed.subjects, answers, strict=True)
        )
        return FilmReading(
            explained=parsed.explained,
            unexplained=parsed.unexplained,
            light=parsed.light,
            ground=parsed.ground,
            camera=parsed.camera.camera,
            subjects=tuple(_with_contacts(subject, film, fps) for subject in subjects),
            detail=detail_of(film),
            features=features,
            notes=looked.notes,
        )

    def _ask(
        self, looked: Looked, parsed: Parsed
    ) -> tuple[list[dict[str, str | None]], tuple[tuple[float, ...], ...]]:
        """Answers of the network and its features for each subject."""
        if self.network is None or not parsed.subjects:
            return [dict.fromkeys(HEADS) for _ in parsed.subjects], ()
        views = views_of(looked.fine, parsed.subjects)
        features = self.network.features(views)
        answers: list[dict[str, str | None]] = [{} for _ in parsed.subjects]
        for name, head in self.network.heads.items():
            sure, best = head(features).softmax(-1).max(-1)
            for answer, probability, number in zip(
                answers, sure.tolist(), best.tolist(), strict=True
            ):
                # Written so that NaN is no answer.
                answer[name] = NAMES[name][number] if probability >= _SURE else None
        return answers, tuple(tuple(row) for row in features.tolist())


def load_reader(folder: Path = FOLDER, device: torch.device | str = "cpu") -> Reader:
    """The reader with the network of a folder.

    Raises:
        ModelError: no network, or one trained for another world.
        WeightsError: damaged weights.
    """
    if not weights_path(folder).with_name("reader.json").is_file():
        msg = f"the reader's network is not in {folder}; train it: {TRAIN}"
        raise ModelError(msg)
    names = read_json(folder / "reader.json")["names"]
    if names != {name: list(values) for name, values in NAMES.items()}:
        msg = f"the reader's network in {folder} knows another world; train it anew: {TRAIN}"
        raise ModelError(msg)
    network = SubjectReader()
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


def _subject(placed: Placed, answer: dict[str, str | None]) -> SubjectReading:
    seen = placed.track.seen
    left, _, right, _ = placed.track.box[seen].unbind(-1)
    return SubjectReading(
        colour=COLOURS[placed.track.colour].name,
        kind=answer["kind"],
        size=answer["size"],
        motion=answer["motion"],
        slot=_slot(placed),
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


def _with_contacts(
    subject: SubjectReading, film: UInt8[Tensor, "frames height width 3"], fps: float
) -> SubjectReading:
    """Add the moments at which a bouncing subject is lowest, from all frames."""
    bounces = any(m.bounce and m.name == subject.motion for m in MOTIONS)
    if not bounces:
        return subject
    frames = to_height(film, HEIGHT)
    looked = Looked(frames=frames, fine=frames, times_s=torch.arange(len(frames)) / fps, notes=())
    same = [p for p in parse(looked).subjects if COLOURS[p.track.colour].name == subject.colour]
    if not same:
        return subject
    bottom = rearrange(same[0].track.box, "f side -> side f")[3]
    return replace(subject, contacts_s=lowest_moments(bottom, same[0].track.seen, fps))


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
