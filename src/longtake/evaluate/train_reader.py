"""Train the reader's network on renders after an autoencoder round trip, and score the reader.

python -m longtake.evaluate.train_reader --out FOLDER [--level whole] [--minutes 3] [--device cuda]

A part of the minutes films clips, another trains the part of the network that sees whole frames, a
last one the part that sees single subjects; then the reader is scored on scenes of another seed.
`--no-round-trip --clips 16 --steps 20 --held-out 2` shows on a CPU that it runs.
"""

import argparse
import json
import logging
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float, Int64
from torch import Tensor, nn

from longtake.checkpoints import save_tensors
from longtake.evaluate.reader.finder import NOBODY, SCENE_HEADS, Finder
from longtake.evaluate.reader.network import ALL_NAMES, HEADS, NAMES, ReaderNetwork, Views
from longtake.evaluate.reader.read import Reader, weights_path
from longtake.evaluate.reader_clips import UNKNOWN, Clip, Samples, collect, samples_of, stacked
from longtake.evaluate.reader_scores import score, text_of
from longtake.evaluate.scope import CAMERAS, MOTIONS
from longtake.pipeline import device_of, load
from longtake.storage import atomic_write
from longtake.world.level import LEVELS, WHOLE, level_named

logger = logging.getLogger("longtake.train")
_SHARES = (0.42, 0.28, 0.3)
"""Of the minutes, for clips, whole frames and subjects: what it errs in, it has seldom seen."""
_FINDING = 0.45
"""Most of the subjects' share that finding them may take."""
_SMOOTHING = 0.02
_NOISE = 3.0
_SIDEWAYS = (2, 6, 12)
"""Features of a way that change sign in a mirror."""
_NOBODY_WEIGHT = 0.5
_CLEAREST = 24
"""Cells of a film that tell best whether somebody of a colour is there at all."""
_SAY_EVERY = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class ReaderRecipe:
    """How the network is trained."""

    level: str = WHOLE.name
    """The widest level of the clips."""
    clips: int = 0
    """Clips to film; 0 for as many as fit the minutes."""
    minutes: float = 3.0
    """Time for clips and training."""
    steps: int = 0
    """Steps of each part; 0 for as many as fit the minutes."""
    frame_batch: int = 12
    """Clips of a step on whole frames."""
    subject_batch: int = 128
    """Subjects of a step."""
    learning_rate: float = 2e-3
    """AdamW's peak learning rate."""
    weight_decay: float = 0.05
    """Decoupled weight decay."""
    round_trip: bool = True
    """Whether clips go through the autoencoder, as every film does that is read."""
    held_out: int = 200
    """Clips of each level that are only scored."""
    seed: int = 0
    """Seed of weights, clips and order."""


def main() -> None:
    """Train, score and write `reader.safetensors` and `reader.json`."""
    recipe, given = _arguments()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    device = device_of(given.device)
    autoencoder = load(given.model, device=given.device).autoencoder
    given.out.mkdir(parents=True, exist_ok=True)
    level, minute = level_named(recipe.level), 60 * recipe.minutes
    clips = collect(
        level, recipe.clips, _SHARES[0] * minute, recipe.seed,
        autoencoder if recipe.round_trip else None, device,
    )  # fmt: skip
    network = train(recipe, clips)
    export(network, given.out)
    started = time.monotonic()
    report = score(level, recipe.held_out, Reader(network), autoencoder, device)
    report["scoring_s"] = round(time.monotonic() - started, 1)
    report["recipe"] = asdict(recipe) | {"clips": len(clips)}
    with atomic_write(given.out / "reader.json") as temp:
        card = {"names": ALL_NAMES, **report}
        temp.write_text(json.dumps(card, indent=1) + "\n", "utf-8")
    logger.info("%s", text_of(report))


def _arguments() -> tuple[ReaderRecipe, argparse.Namespace]:
    parser = argparse.ArgumentParser()
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--model", default="previz", help="whose autoencoder blurs the clips")
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    parser.add_argument("--level", choices=[level.name for level in LEVELS], default=WHOLE.name)
    parser.add_argument("--clips", type=int, default=0)
    parser.add_argument("--minutes", type=float, default=3.0)
    parser.add_argument("--steps", type=int, default=0)
    parser.add_argument("--held-out", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--no-round-trip", dest="round_trip", action="store_false")
    given = parser.parse_args()
    recipe = ReaderRecipe(
        level=given.level, clips=given.clips, minutes=given.minutes, steps=given.steps,
        held_out=given.held_out, seed=given.seed, round_trip=given.round_trip,
    )  # fmt: skip
    return recipe, given


def export(network: ReaderNetwork, folder: Path) -> None:
    """Write the weights in bf16, as they ship."""
    tensors = {k: v.detach().to(torch.bfloat16).cpu() for k, v in network.state_dict().items()}
    save_tensors(weights_path(folder), tensors)


def train(recipe: ReaderRecipe, clips: list[Clip]) -> ReaderNetwork:
    """Fit both parts of the network, one after the other.

    Raises:
        FloatingPointError: a loss that is no finite number.
    """
    torch.manual_seed(recipe.seed)
    network = ReaderNetwork().to(clips[0].cells.device)
    train_finder(recipe, network.finder, clips)
    network.eval()
    started = time.monotonic()
    finding_s = _FINDING * _SHARES[2] * 60 * recipe.minutes
    samples = samples_of(network, clips, math.inf if recipe.steps else finding_s)
    train_subject(recipe, network.subject, samples, time.monotonic() - started)
    # As it ships, so that it is scored as it ships.
    return network.to(torch.bfloat16).float().eval().requires_grad_(False)


def train_finder(recipe: ReaderRecipe, finder: Finder, clips: list[Clip]) -> None:
    """Fit the part that sees whole frames."""
    device = clips[0].cells.device
    labels = torch.tensor([clip.labels() for clip in clips], device=device)
    fits = torch.tensor([clip.camera.fit() for clip in clips], device=device)
    generator = torch.Generator(device).manual_seed(recipe.seed)
    weight = torch.ones(NOBODY + 1, device=device)
    weight[NOBODY] = _NOBODY_WEIGHT

    def loss() -> Tensor:
        rows = torch.randint(len(clips), (recipe.frame_batch,), generator=generator, device=device)
        batch = _mirrored_frames([clips[n] for n in rows.tolist()], labels[rows], fits[rows],
                                 generator)  # fmt: skip
        frames = blurred_and_noisy(batch.frames, generator)
        with _autocast(device):
            found = finder(frames)
            told = [finder.tell(found, batch.fits), finder.tell(found, None)]
        cells = found.cells.flatten(0, 1).float()
        losses = [F.cross_entropy(cells, batch.cells.flatten(0, 1), weight)]
        losses.append(0.3 * presence_loss(found.cells.float(), batch.cells))
        for logits in told:
            losses += [
                0.2 * F.cross_entropy(logits[name].float(), batch.labels[:, n],
                                      label_smoothing=_SMOOTHING)
                for n, name in enumerate(SCENE_HEADS)
            ]  # fmt: skip
        return torch.stack(losses).sum()

    _fit(recipe, finder, loss, _SHARES[1] * 60 * recipe.minutes)


def presence_loss(
    logits: Float[Tensor, "b frames classes height width"],
    true: Int64[Tensor, "b frames height width"],
) -> Float[Tensor, ""]:
    """Whether somebody of each colour is in a film, told by the cells that show it most clearly.

    What is imagined in a few cells hardly weighs among all cells of a film; here it weighs fully.
    Colours of fewer than `_CLEAREST` cells are left out.
    """
    shown = torch.stack([(true == c).sum(dim=(1, 2, 3)) for c in range(NOBODY)], dim=1)
    log_p = logits.log_softmax(dim=2)[:, :, :NOBODY]
    most = rearrange(log_p, "b f c h w -> b c (f h w)").topk(_CLEAREST, dim=2).values.mean(dim=2)
    log_not = (1 - most.clamp(max=-1e-4).exp()).log()
    known = (shown == 0) | (shown >= _CLEAREST)
    losses = torch.where(shown > 0, -most, -log_not) * known
    return losses.sum() / known.sum().clamp(min=1)


def train_subject(
    recipe: ReaderRecipe, subject: nn.Module, samples: Samples, spent_s: float
) -> None:
    """Fit the part that sees single subjects.

    Args:
        recipe: How.
        subject: The part.
        samples: Subjects with what is true of them.
        spent_s: Time that finding them took.
    """
    device = samples.views.ways.device
    generator = torch.Generator(device).manual_seed(recipe.seed)
    count = len(samples.views.ways)

    def loss() -> Tensor:
        shape = (min(recipe.subject_batch, count),)
        rows = torch.randint(count, shape, generator=generator, device=device)
        part = augmented(samples.pick(rows), generator)
        with _autocast(device):
            logits = subject(part.views)
        losses = []
        for name in HEADS:
            known = part.labels[name] != UNKNOWN
            total = F.cross_entropy(
                logits[name].float(), part.labels[name], reduction="sum",
                label_smoothing=_SMOOTHING, ignore_index=UNKNOWN,
            )  # fmt: skip
            losses.append(total / known.sum().clamp(min=1))
        return torch.stack(losses).sum()

    _fit(recipe, subject, loss, max(_SHARES[2] * 60 * recipe.minutes - spent_s, 1.0))


def _fit(
    recipe: ReaderRecipe, part: nn.Module, loss_of: Callable[[], Tensor], seconds: float
) -> None:
    optimiser = torch.optim.AdamW(
        part.parameters(), recipe.learning_rate, weight_decay=recipe.weight_decay
    )
    name = type(part).__name__
    for step, done in enumerate(shares(recipe.steps, seconds)):
        for group in optimiser.param_groups:
            group["lr"] = recipe.learning_rate * _warmth(done)
        loss = loss_of()
        said = step % _SAY_EVERY == 0
        if (said or recipe.steps) and not torch.isfinite(loss):
            msg = f"the reader's loss is {loss.item()} at step {step} of {name}"
            raise FloatingPointError(msg)
        optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(part.parameters(), 1.0)
        optimiser.step()
        if said:
            logger.info(
                "reader: %s, step %d, %.0f %%, loss %.4f", name, step, 100 * done, loss.item()
            )
    if not all(bool(torch.isfinite(p).all()) for p in part.parameters()):
        msg = f"the reader's loss is no number: the weights of {name} are lost"
        raise FloatingPointError(msg)


def shares(steps: int, seconds: float) -> Iterator[float]:
    """How much of a training is done at each step: by steps or, if they are 0, by time."""
    if steps:
        yield from (step / steps for step in range(steps))
        return
    started = time.monotonic()
    while (done := (time.monotonic() - started) / seconds) < 1:
        yield done


def _warmth(done: float) -> float:
    """Share of the peak learning rate: a short rise, then half a cosine."""
    return min((done + 1e-3) / 0.05, 1.0) * 0.5 * (1 + math.cos(math.pi * done))


def _autocast(device: torch.device) -> torch.autocast:
    return torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Batch:
    """Whole clips with what is true of them."""

    frames: Tensor
    cells: Tensor
    labels: Int64[Tensor, "b heads"]
    fits: Float[Tensor, "b fit"]


def _mirrored_frames(
    clips: list[Clip],
    labels: Int64[Tensor, "b heads"],
    fits: Float[Tensor, "b fit"],
    generator: torch.Generator,
) -> _Batch:
    """A batch of which about half the clips are seen in a mirror."""
    device = labels.device
    flip = torch.rand(len(clips), generator=generator, device=device) < 0.5
    frames, cells = stacked(clips), torch.stack([clip.cells for clip in clips]).long()
    frames = torch.where(flip[:, None, None, None, None], frames.flip(3), frames)
    cells = torch.where(flip[:, None, None, None], cells.flip(3), cells)
    twins = mirrored_cameras(device)
    camera = list(SCENE_HEADS).index("camera")
    other = labels.clone()
    other[:, camera] = twins[labels[:, camera]]
    by_shot = rearrange(fits[:, :-1], "b (shots moves) -> b shots moves", moves=len(twins))
    swapped = torch.cat([by_shot[:, :, twins].flatten(1), fits[:, -1:]], dim=1)
    return _Batch(
        frames=frames,
        cells=cells,
        labels=torch.where(flip[:, None], other, labels),
        fits=torch.where(flip[:, None], swapped, fits),
    )


def blurred_and_noisy(pictures: Tensor, generator: torch.Generator) -> Tensor:
    """Blurred, brightened and with noise, by chance; bytes of any channels, the last axis."""
    device, count = pictures.device, len(pictures)
    pixels = pictures.float()
    soft = F.avg_pool3d(pixels.flatten(0, 1), (3, 3, 1), 1, (1, 1, 0), count_include_pad=False)
    chance = torch.rand(count, generator=generator, device=device) < 0.3
    pixels = torch.where(chance[:, None, None, None, None], soft.view_as(pixels), pixels)
    shape = (count, 1, 1, 1, pictures.shape[-1])
    gain = 1 + 0.04 * torch.randn(shape, generator=generator, device=device)
    noise = torch.randn(pixels.shape, generator=generator, device=device)
    return (pixels * gain + _NOISE * noise).clamp(0, 255).to(torch.uint8)


def augmented(samples: Samples, generator: torch.Generator) -> Samples:
    """Mirrored, blurred, brightened and with noise, by chance."""
    pictures, ways = samples.views.pictures, samples.views.ways.clone()
    device, count = ways.device, len(ways)
    twins = mirrored_motions(device)[samples.labels["motion"]]
    flip = (torch.rand(count, generator=generator, device=device) < 0.5) & (twins >= 0)
    ways[..., _SIDEWAYS] *= torch.where(flip, -1.0, 1.0)[:, None, None]
    labels, slot = dict(samples.labels), samples.labels["slot"]
    labels["motion"] = torch.where(flip, twins, labels["motion"])
    other = torch.where(slot == UNKNOWN, UNKNOWN, len(NAMES["slot"]) - 1 - slot)
    labels["slot"] = torch.where(flip, other, slot)
    pixels = torch.where(flip[:, None, None, None, None], pictures.flip(3), pictures)
    pixels = shifted(recoloured(pixels, generator), generator)
    pixels = torch.cat([blurred_and_noisy(pixels[..., :3], generator), pixels[..., 3:]], dim=-1)
    ways[..., 2:] += 0.02 * torch.randn(ways[..., 2:].shape, generator=generator, device=device)
    return Samples(views=Views(pictures=pixels, ways=ways), labels=labels)


def recoloured(pictures: Tensor, generator: torch.Generator) -> Tensor:
    """Half of the subjects with red, green and blue exchanged: what a thing is no colour tells."""
    device, count = pictures.device, len(pictures)
    order = torch.rand(count, 3, generator=generator, device=device).argsort(dim=1)
    usual = torch.arange(3, device=device).expand(count, 3)
    keep = torch.rand(count, 1, generator=generator, device=device) < 0.5
    order = torch.cat([torch.where(keep, usual, order), torch.full_like(order[:, :1], 3)], dim=1)
    return pictures.gather(-1, order[:, None, None, None].expand(*pictures.shape))


def shifted(pictures: Tensor, generator: torch.Generator) -> Tensor:
    """Pictures moved and scaled a little, alike in all frames of a subject."""
    device, count, frames = pictures.device, *pictures.shape[:2]
    some = torch.rand(count, 3, generator=generator, device=device) - 0.5
    theta = torch.zeros(count, 2, 3, device=device)
    theta[:, 0, 0] = theta[:, 1, 1] = 1 + 0.2 * some[:, 0]
    theta[:, :, 2] = 0.16 * some[:, 1:]
    theta = theta.repeat_interleave(frames, dim=0)
    planes = rearrange(pictures, "b f h w c -> (b f) c h w").float()
    grid = F.affine_grid(theta, list(planes.shape), align_corners=False)
    moved = F.grid_sample(planes, grid, align_corners=False).round().to(torch.uint8)
    return rearrange(moved, "(b f) c h w -> b f h w c", f=frames)


def mirrored_motions(device: torch.device) -> Int64[Tensor, " motions"]:
    """Number of the motion that each one is in a mirror; -1 for none of the world."""
    return _twins([asdict(motion) for motion in MOTIONS], ("lateral", "comes", "goes"), device)


def mirrored_cameras(device: torch.device) -> Int64[Tensor, " cameras"]:
    """Number of the camera move that each one is in a mirror; an orbit goes either way."""
    return _twins([asdict(camera) for camera in CAMERAS], ("pan_deg", "truck", "roll_deg"), device)


def _twins(
    rows: Sequence[Mapping[str, object]], turned: tuple[str, ...], device: torch.device
) -> Tensor:
    plain = [{name: value for name, value in row.items() if name != "name"} for row in rows]
    twins = [{name: _turned(value, name in turned) for name, value in row.items()} for row in plain]
    numbers = [plain.index(twin) if twin in plain else -1 for twin in twins]
    return torch.tensor(numbers, device=device)


def _turned(value: object, turn: bool) -> object:
    return -value if turn and isinstance(value, float) else value


if __name__ == "__main__":
    main()
