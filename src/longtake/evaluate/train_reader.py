"""Train the reader's network on renders after an autoencoder round trip, and score the reader.

python -m longtake.evaluate.train_reader --out FOLDER [--minutes 3] [--device cuda]

Clips are rendered until the minutes are used up; a few passes over them follow, then the score on
scenes of another seed. `--no-round-trip --clips 40 --held-out 4` shows on a CPU that it runs.
"""

import argparse
import json
import logging
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Int64
from torch import Tensor

from longtake.checkpoints import save_tensors
from longtake.config import FPS
from longtake.evaluate.reader.colours import EXPLAINED
from longtake.evaluate.reader.films import RATE, Looked, look_at
from longtake.evaluate.reader.network import HEADS, NAMES, SubjectReader, Views, views_of
from longtake.evaluate.reader.parser import Placed, place_all, read_light
from longtake.evaluate.reader.read import Reader, weights_path
from longtake.evaluate.reader.readings import FilmReading, SubjectReading
from longtake.evaluate.reader.segments import find_tracks
from longtake.evaluate.round_trip import film_scenes
from longtake.evaluate.scope import CAMERAS, COLOURS, GROUNDS, LIGHTS, MOTIONS
from longtake.pipeline import device_of, load
from longtake.storage import atomic_write
from longtake.vae import Autoencoder
from longtake.world import Scenes, sample_scenes
from longtake.world.choreography import CLIP_S
from longtake.world.scene import SLOTS

logger = logging.getLogger("longtake.train")
HELD_OUT_SEED = 424_242
"""Scenes of this seed are only scored."""
HELD_OUT_PAIRS = 0.25
"""Share of clips with pairs that no film model is trained on; the reader must know them all."""
_CLIPS = 8
_SMOOTHING = 0.02
_NOISE = 3.0
_SIDEWAYS = (2, 6)
"""Features of a way that change sign in a mirror."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReaderRecipe:
    """How the network is trained."""

    clips: int = 0
    """Clips to render; 0 for as many as fit the minutes."""
    minutes: float = 3.0
    """Time to render in, if no number of clips is given."""
    passes: int = 40
    """Times that every subject is seen."""
    batch: int = 128
    """Subjects of a step."""
    learning_rate: float = 2e-3
    """AdamW's peak learning rate."""
    weight_decay: float = 0.05
    """Decoupled weight decay."""
    round_trip: bool = True
    """Whether clips go through the autoencoder, as every film does that is read."""
    held_out: int = 200
    """Clips that are only scored."""
    seed: int = 0
    """Seed of weights, clips and order."""


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


def main() -> None:
    """Train, score and write `reader.safetensors` and `reader.json`."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--model", default="previz", help="whose autoencoder blurs the clips")
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    parser.add_argument("--clips", type=int, default=0)
    parser.add_argument("--minutes", type=float, default=3.0)
    parser.add_argument("--passes", type=int, default=40)
    parser.add_argument("--held-out", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--no-round-trip", dest="round_trip", action="store_false")
    given = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    recipe = ReaderRecipe(
        clips=given.clips, minutes=given.minutes, passes=given.passes,
        held_out=given.held_out, seed=given.seed, round_trip=given.round_trip,
    )  # fmt: skip
    device = device_of(given.device)
    autoencoder = load(given.model, device=given.device).autoencoder
    given.out.mkdir(parents=True, exist_ok=True)
    network = train(recipe, collect(recipe, autoencoder, device))
    export(network, given.out)
    report = score(recipe, Reader(network), autoencoder, device)
    text = json.dumps({"names": NAMES, **report}, indent=1) + "\n"
    with atomic_write(given.out / "reader.json") as temp:
        temp.write_text(text, "utf-8")
    logger.info("%s", text)


def export(network: SubjectReader, folder: Path) -> None:
    """Write the weights in bf16, as they ship."""
    tensors = {k: v.detach().to(torch.bfloat16).cpu() for k, v in network.state_dict().items()}
    save_tensors(weights_path(folder), tensors)


def scenes_of(num: int, seed: tuple[int, ...]) -> Scenes:
    """Scenes of which a share shows held-out pairs, all mixed."""
    rng = np.random.default_rng(seed)
    if rng.random() < HELD_OUT_PAIRS:
        return sample_scenes(num, rng, "held_out_pairs")
    return sample_scenes(num, rng)


def collect(recipe: ReaderRecipe, autoencoder: Autoencoder, device: torch.device) -> Samples:
    """Render, round-trip and parse clips until time or number is reached."""
    parts: list[Samples] = []
    clips, end = 0, time.monotonic() + 60 * recipe.minutes
    while clips < recipe.clips or (not recipe.clips and time.monotonic() < end):
        scenes = scenes_of(_CLIPS, (recipe.seed, clips))
        for index, film in enumerate(_films(recipe, scenes, autoencoder, device)):
            found = samples_of(scenes, index, film)
            parts += [found] if found else []
        clips += _CLIPS
    samples = Samples(
        views=Views(
            pictures=torch.cat([part.views.pictures for part in parts]),
            ways=torch.cat([part.views.ways for part in parts]),
        ),
        labels={name: torch.cat([part.labels[name] for part in parts]) for name in HEADS},
    )
    logger.info("reader: %d subjects of %d clips", len(samples.views.ways), clips)
    return samples


def _films(
    recipe: ReaderRecipe, scenes: Scenes, autoencoder: Autoencoder, device: torch.device
) -> Iterator[Looked]:
    if recipe.round_trip:
        for film in film_scenes(scenes, autoencoder, device):
            yield look_at(film, FPS)
        return
    # Without the autoencoder the frames between are not needed.
    sparse = int(CLIP_S * RATE) + 1
    for film in film_scenes(scenes, None, device, frames=sparse, fps=RATE):
        yield look_at(film, RATE)


def samples_of(scenes: Scenes, index: int, film: Looked) -> Samples | None:
    """The subjects that the parser finds in a clip and that are there; None if there are none."""
    label, distance = read_light(film.frames)[1].look_up(film.frames)
    coloured = (label < len(COLOURS)) & (distance < EXPLAINED)
    tracks = find_tracks(torch.where(coloured, label, -1))
    backward = int(scenes.scene_jitter[index, 0] >= 0.5)
    number = int(scenes.camera[index]) + len(CAMERAS) * backward
    pairs = matched(scenes, index, place_all(tracks, number, film))
    if not pairs:
        return None
    rows = [row for row, _ in pairs]
    device = film.frames.device
    tables = {"kind": scenes.kind, "size": scenes.size, "motion": scenes.motion}
    return Samples(
        views=views_of(film.fine, [placed for _, placed in pairs]),
        labels={name: torch.from_numpy(tables[name][index][rows]).to(device) for name in HEADS},
    )


def matched(scenes: Scenes, index: int, placed: tuple[Placed, ...]) -> list[tuple[int, Placed]]:
    """Subjects of a scene with their tracks; those whose colour is not unique are left out."""
    colours = scenes.colour[index, : scenes.num_subjects[index]].tolist()
    found = Counter(one.track.colour for one in placed)
    return [
        (colours.index(one.track.colour), one)
        for one in placed
        if colours.count(one.track.colour) == found[one.track.colour] == 1
    ]


def train(recipe: ReaderRecipe, samples: Samples) -> SubjectReader:
    """Fit the network.

    Raises:
        FloatingPointError: a loss that is no finite number.
    """
    torch.manual_seed(recipe.seed)
    device = samples.views.ways.device
    network = SubjectReader().to(device)
    count = len(samples.views.ways)
    batch = min(recipe.batch, count)
    steps = max(recipe.passes * count // batch, 1)
    optimiser = torch.optim.AdamW(
        network.parameters(), recipe.learning_rate, weight_decay=recipe.weight_decay
    )
    curve = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, recipe.learning_rate, total_steps=steps + 1, pct_start=0.1
    )
    generator = torch.Generator(device).manual_seed(recipe.seed)
    for step in range(steps):
        rows = torch.randint(count, (batch,), generator=generator, device=device)
        part = augmented(samples.pick(rows), generator)
        with torch.autocast(device.type, torch.bfloat16):
            logits = network(part.views)
        losses = [
            F.cross_entropy(logits[name].float(), part.labels[name], label_smoothing=_SMOOTHING)
            for name in HEADS
        ]
        loss = torch.stack(losses).sum()
        if not torch.isfinite(loss):
            msg = f"the reader's loss is {loss.item()} at step {step}"
            raise FloatingPointError(msg)
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0, error_if_nonfinite=True)
        optimiser.step()
        curve.step()
        if step % 100 == 0 or step == steps - 1:
            logger.info("reader: step %d of %d, loss %.4f", step, steps, loss.item())
    return network.eval().requires_grad_(False)


def augmented(samples: Samples, generator: torch.Generator) -> Samples:
    """Mirrored, blurred, brightened and with noise, by chance."""
    pictures, ways = samples.views.pictures, samples.views.ways.clone()
    device, count = ways.device, len(ways)

    def chance(share: float) -> Tensor:
        return torch.rand(count, generator=generator, device=device) < share

    flip = chance(0.5)
    ways[..., _SIDEWAYS] *= torch.where(flip, -1.0, 1.0)[:, None, None]
    labels = dict(samples.labels)
    labels["motion"] = torch.where(flip, mirrored(device)[labels["motion"]], labels["motion"])
    pixels = torch.where(flip[:, None, None, None, None], pictures.flip(3), pictures).float()
    blurred = F.avg_pool3d(pixels, (3, 3, 1), 1, (1, 1, 0), count_include_pad=False)
    pixels = torch.where(chance(0.3)[:, None, None, None, None], blurred, pixels)
    shape = (count, 1, 1, 1, 3)
    gain = 1 + 0.04 * torch.randn(shape, generator=generator, device=device)
    noise = torch.randn(pixels.shape, generator=generator, device=device)
    pixels = (pixels * gain + _NOISE * noise).clamp(0, 255).to(torch.uint8)
    ways[..., 2:] += 0.02 * torch.randn(ways[..., 2:].shape, generator=generator, device=device)
    return Samples(views=Views(pictures=pixels, ways=ways), labels=labels)


def mirrored(device: torch.device) -> Int64[Tensor, " motions"]:
    """Number of the motion that each one is in a mirror."""
    rows = [{**asdict(motion), "name": ""} for motion in MOTIONS]
    twins = [{**row, "lateral": -row["lateral"]} for row in rows]
    numbers = [rows.index(twin) if twin in rows else n for n, twin in enumerate(twins)]
    return torch.tensor(numbers, device=device)


def score(
    recipe: ReaderRecipe, reader: Reader, autoencoder: Autoencoder, device: torch.device
) -> dict[str, object]:
    """How often the whole reader is right on held-out scenes after the round trip.

    Attributes of subjects are counted over the subjects that are there; one that is not found
    is wrong in all of them.
    """
    right: Counter[str] = Counter()
    total: Counter[str] = Counter()
    for number in range(0, recipe.held_out, _CLIPS):
        scenes = scenes_of(min(_CLIPS, recipe.held_out - number), (HELD_OUT_SEED, number))
        for index, film in enumerate(film_scenes(scenes, autoencoder, device)):
            for name, hit in marks(scenes, index, reader.read(film, FPS)).items():
                right[name] += sum(hit)
                total[name] += len(hit)
    return {
        "clips": recipe.held_out,
        "accuracy": {name: round(right[name] / total[name], 4) for name in sorted(total)},
        "counted": dict(sorted(total.items())),
    }


def marks(scenes: Scenes, index: int, reading: FilmReading) -> dict[str, list[bool]]:
    """Which answers about a clip are right."""
    count = int(scenes.num_subjects[index])
    rows = range(count)
    seen = {subject.colour: subject for subject in reading.subjects}
    hit: dict[str, list[bool]] = {
        "explained": [reading.explained],
        "light": [reading.light == LIGHTS[scenes.light[index]].name],
        "ground": [reading.ground == GROUNDS[scenes.ground[index]].name],
        "camera": [reading.camera == CAMERAS[scenes.camera[index]].name],
        "count": [len(reading.subjects) == count],
        "colour": [COLOURS[scenes.colour[index, row]].name in seen for row in rows],
    }
    tables = {"kind": scenes.kind, "size": scenes.size, "motion": scenes.motion}
    for name, table in tables.items():
        hit[name] = [
            _value(seen.get(COLOURS[scenes.colour[index, row]].name), name)
            == NAMES[name][table[index, row]]
            for row in rows
        ]
    hit["slot"] = [
        _value(seen.get(COLOURS[scenes.colour[index, row]].name), "slot")
        == SLOTS[scenes.slot[index, row]]
        for row in rows
        # Where a thing that crosses the frame stands depends on when one looks.
        if not MOTIONS[scenes.motion[index, row]].lateral
    ]
    return hit


def _value(subject: SubjectReading | None, attribute: str) -> str | None:
    return None if subject is None else subject.value(attribute)


if __name__ == "__main__":
    main()
