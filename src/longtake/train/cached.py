"""Clips that were encoded once: latents and text embeddings from shards, in an exact order."""

import hashlib
import logging
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from jaxtyping import Bool, Float
from safetensors import SafetensorError
from safetensors.torch import load
from torch import Tensor

from longtake.data.shards import Sample, Shards
from longtake.errors import MediaError
from longtake.train.data import Batch

logger = logging.getLogger("longtake.train")
KEPT_BYTES = 2 * 2**30
"""Of clips that stay on the device once read; the rest is read whenever its turn comes."""
PARTS = ("latents", "text", "mask")
"""Tensors of a sample, in the order of a batch."""
Latents = Float[Tensor, "b c t h w"]
Text = tuple[Float[Tensor, "b m e"], Bool[Tensor, "b m"]]


def batch_order(
    sizes: Sequence[int], batch: int, seed: int, epoch: int
) -> list[tuple[int, list[int]]]:
    """The batches of an epoch: the group of each, and its members.

    Every member of a group comes once; the last batch of a group is filled up from the group's
    beginning. Only the arguments decide it, so that a run can go on in the middle.

    Args:
        sizes: Members of each group; a group's clips have one shape.
        batch: Members of a batch.
        seed: Of the order.
        epoch: Number of the pass, from 0.
    """
    rng = np.random.default_rng([seed, epoch])
    batches: list[tuple[int, list[int]]] = []
    for group, size in enumerate(sizes):
        order = rng.permutation(size)
        filled = np.resize(order, -(-size // batch) * batch)
        batches += [(group, part.tolist()) for part in filled.reshape(-1, batch)]
    return [batches[number] for number in rng.permutation(len(batches))]


@dataclass(slots=True)
class CachedClips:
    """Draws batches of clips from shards of latents; what cannot be read is left out and counted.

    A clip that cannot be read gives its place to the next of its group: the order of all others
    stays. More than a share of them ends the run.
    """

    shards: Shards
    samples: Sequence[Sample]
    batch: int
    seed: int
    device: torch.device
    most_bad: float = 0.05
    """Largest share of clips that cannot be read."""
    bad: dict[str, str] = field(default_factory=dict[str, str])
    """Clips that could not be read, and why."""
    step: int = 0
    _kept: dict[str, dict[str, Tensor]] = field(default_factory=dict[str, dict[str, Tensor]])
    _kept_bytes: int = 0
    _groups: list[list[Sample]] = field(default_factory=list[list[Sample]])
    _order: tuple[int, list[tuple[int, list[int]]]] = (-1, [])

    def __post_init__(self) -> None:
        """Sort the clips by their shapes."""
        groups: dict[tuple[int, ...], list[Sample]] = {}
        for sample in self.samples:
            shape = (*sample.told["shape"], len(sample.told["captions"]))
            groups.setdefault(shape, []).append(sample)
        self._groups = [groups[shape] for shape in sorted(groups)]

    @property
    def one_shape(self) -> bool:
        """Whether all batches are alike."""
        return len(self._groups) == 1

    def advance(self, target: int) -> None:
        """Batch number `target - 1` is next."""
        self.step = target - 1

    def draw(self, num: int, generator: torch.Generator) -> Batch:
        """The batch whose turn it is; its order is the seed's and not the generator's.

        Raises:
            MediaError: too many clips cannot be read.
        """
        assert num == self.batch, (num, self.batch)
        assert generator.device.type == self.device.type
        epoch, place = divmod(self.step, self.batches_per_epoch)
        if self._order[0] != epoch:
            sizes = [len(group) for group in self._groups]
            self._order = (epoch, batch_order(sizes, self.batch, self.seed, epoch))
        group, members = self._order[1][place]
        return self.stack([self._good(self._groups[group], member) for member in members])

    @property
    def batches_per_epoch(self) -> int:
        """Batches until every clip has come."""
        return sum(-(-len(group) // self.batch) for group in self._groups)

    def stack(self, clips: Sequence[dict[str, Tensor]]) -> Batch:
        """Clips of one shape as a batch."""
        return tuple(torch.stack([clip[name] for clip in clips]).to(self.device) for name in PARTS)

    def _good(self, group: list[Sample], member: int) -> dict[str, Tensor]:
        """The tensors of a clip, or of the next in its group that can be read."""
        for offset in range(len(group)):
            sample = group[(member + offset) % len(group)]
            if sample.key in self.bad:
                continue
            try:
                return self._read(sample)
            except MediaError as error:
                self._count(sample, str(error))
        msg = f"no clip of a shape can be read any more; the last: {list(self.bad.values())[-1]}"
        raise MediaError(msg)

    def _read(self, sample: Sample) -> dict[str, Tensor]:
        """A clip from memory, or read and checked."""
        if (kept := self._kept.get(sample.key)) is not None:
            return kept
        # On the device: a batch that is put together on the host costs more than a step on a card.
        read = read_clip(self.shards, sample)
        clip = {name: part.to(self.device) for name, part in read.items()}
        size = sum(part.numel() * part.element_size() for part in clip.values())
        if self._kept_bytes + size <= KEPT_BYTES:
            self._kept[sample.key] = clip
            self._kept_bytes += size
        return clip

    def _count(self, sample: Sample, why: str) -> None:
        self.bad[sample.key] = why
        bad, total = len(self.bad), len(self.samples)
        logger.warning("left out the clip %s (%d of %d): %s", sample.key, bad, total, why)
        if bad > self.most_bad * total:
            msg = (
                f"{bad} of {total} clips cannot be read, and the most is "
                f"{self.most_bad:.0%} (most_bad); the last: {why}"
            )
            raise MediaError(msg)


def readable(shards: Shards, samples: Sequence[Sample]) -> tuple[Sample, ...]:
    """Those samples that can be read; the others are told by name.

    Raises:
        MediaError: none can.
    """
    good: list[Sample] = []
    why = ""
    for sample in samples:
        try:
            read_clip(shards, sample)
        except MediaError as error:
            why = str(error)
            logger.warning("left out the held-out clip %s: %s", sample.key, why)
        else:
            good.append(sample)
    if not good:
        msg = f"no held-out clip can be read; the last: {why}"
        raise MediaError(msg)
    return tuple(good)


def read_clip(shards: Shards, sample: Sample) -> dict[str, Tensor]:
    """Latents, text embeddings of each wording, and their masks.

    Raises:
        MediaError: gone or damaged.
    """
    try:
        tensors = load(shards.read(sample)["safetensors"])
        clip = {name: tensors[name] for name in PARTS}
    except (SafetensorError, KeyError, ValueError) as error:
        msg = f"{shards.folder / sample.shard}: the sample {sample.key} holds no latents"
        raise MediaError(msg) from error
    if not torch.isfinite(clip["latents"]).all():
        msg = f"{shards.folder / sample.shard}: the latents of {sample.key} are not finite"
        raise MediaError(msg)
    return {**clip, "mask": clip["mask"].bool()}


def split_held_out(
    samples: Sequence[Sample], share: float
) -> tuple[tuple[Sample, ...], tuple[Sample, ...]]:
    """Clips to train on, and clips that are only looked at; those of one source stay together.

    Which sources are held out follows from their names, whatever else is in the set.

    Raises:
        MediaError: fewer than two clips.
    """
    if len(samples) < 2:
        msg = f"fine-tuning wants two clips or more, one of them to look at, got {len(samples)}"
        raise MediaError(msg)
    names = {sample.told["source"] for sample in samples}
    by = "source" if len(names) > 1 else None
    named = {sample.key: sample.told["source"] if by else sample.key for sample in samples}
    ranked = sorted(set(named.values()), key=lambda name: hashlib.sha256(name.encode()).digest())
    held = set(ranked[: max(1, min(round(share * len(ranked)), len(ranked) - 1))])
    return (
        tuple(sample for sample in samples if named[sample.key] not in held),
        tuple(sample for sample in samples if named[sample.key] in held),
    )
