"""Devices that make one film together: who has which pass of guidance and which latent frames."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.distributed as dist
from jaxtyping import Float
from torch import Tensor

from longtake.errors import CannotHere
from longtake.parallel.contact import PATIENCE, contact

Frame = Float[Tensor, "b s d"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Roles:
    """What each of several devices does for one film."""

    sides: int = 1
    """Passes of guidance made at once: 1 or 2."""
    shards: int = 1
    """Devices that share the latent frames of a pass."""
    decodes: bool = False
    """The last device decodes finished chunks while the others make the next."""

    @property
    def processes(self) -> int:
        """Processes that denoise, each on a device of its own."""
        return self.sides * self.shards

    @property
    def devices(self) -> int:
        """All devices."""
        return self.processes + self.decodes

    def __str__(self) -> str:
        """As a person reads it."""
        parts = []
        if self.sides == 2:
            parts.append("2 passes of guidance at once")
        if self.shards > 1:
            parts.append(f"latent frames over {self.shards}")
        if self.decodes:
            parts.append("the last decodes meanwhile")
        return ", ".join(parts) or "one does all"


ONE = Roles()
"""One device does all."""


def roles_of(devices: int, *, guided: bool, by_chunks: bool, latent_frames: int) -> Roles:
    """How several devices share a film.

    The two passes of guidance are split first, for they meet once a step; then latent frames,
    which meet twice a layer. A film made by chunks has a device that decodes, unless an even
    number of devices can share guidance without it.

    Args:
        devices: How many there are.
        guided: Guidance makes two passes a step.
        by_chunks: Chunks are finished one after the other.
        latent_frames: Of a pass; of the smallest chunk if by chunks.

    Raises:
        CannotHere: more devices than there is work to share.
    """
    decodes = by_chunks and devices > 1 and not (guided and devices % 2 == 0)
    left = devices - decodes
    sides = 2 if guided and left % 2 == 0 else 1
    roles = Roles(sides=sides, shards=left // sides, decodes=decodes)
    if roles.shards > latent_frames:
        most = latent_frames * (2 if guided else 1) + decodes
        msg = f"{devices} GPUs share {latent_frames} latent frames; use --gpus {most} or fewer"
        raise CannotHere(msg)
    return roles


@dataclass(frozen=True, slots=True, kw_only=True)
class Team:
    """This process among those that make a film together; it does all of it by default."""

    roles: Roles = ONE
    """What each does."""
    rank: int = 0
    """Number of this process, from 0: all of the first pass of guidance, then of the second."""
    frames_group: "dist.ProcessGroup | None" = None
    """Those who share the frames of a pass, in the order of time."""
    sides_group: "dist.ProcessGroup | None" = None
    """Those who make the same frames of the other pass of guidance."""

    @property
    def first(self) -> bool:
        """True for the one that decodes, writes files and talks."""
        return self.rank == 0

    @property
    def side(self) -> int:
        """Its pass of guidance: 0 with the prompt, 1 without."""
        return self.rank // self.roles.shards

    @property
    def shard(self) -> int:
        """Number of its part of the frames, in the order of time."""
        return self.rank % self.roles.shards

    def frames(self, count: int) -> range:
        """Its part of so many latent frames."""
        return part_of(count, self.shard, self.roles.shards)

    def passes(self, count: int) -> slice:
        """Of so many passes of guidance, the one with the prompt first, those it makes itself."""
        return slice(self.side, self.side + 1) if self.roles.sides == 2 else slice(count)

    def total(self, parts: Sequence[Tensor]) -> list[Tensor]:
        """The sum of each tensor over those who share the frames, in one message."""
        if self.roles.shards == 1:
            return list(parts)
        flat = torch.cat([part.reshape(-1) for part in parts])
        with contact():
            dist.all_reduce(flat, group=self.frames_group)
        sums = flat.split([part.numel() for part in parts])
        return [total.view_as(part) for total, part in zip(sums, parts, strict=True)]

    def neighbours(
        self, first: Frame, last: Frame, *, ring: bool
    ) -> tuple[Frame | None, Frame | None, Frame]:
        """The frame before `first`, the one after `last`, and the last of all.

        Args:
            first: Of this process.
            last: Of this process.
            ring: Tell the first shard the last frame of all; else everyone has its own there.
        """
        shard, shards, group = self.shard, self.roles.shards, self.frames_group
        if shards == 1:
            return None, None, last
        first, last = first.contiguous(), last.contiguous()
        before, after = torch.empty_like(first), torch.empty_like(first)
        left, right = (shard - 1) % shards, (shard + 1) % shards
        calls = []
        if shard > 0:
            calls.append(dist.P2POp(dist.isend, first, group=group, group_peer=left, tag=1))
        if shard + 1 < shards:
            calls.append(dist.P2POp(dist.irecv, after, group=group, group_peer=right, tag=1))
        if ring or shard + 1 < shards:
            calls.append(dist.P2POp(dist.isend, last, group=group, group_peer=right))
        if ring or shard > 0:
            calls.append(dist.P2POp(dist.irecv, before, group=group, group_peer=left))
        with contact():
            for call in dist.batch_isend_irecv(calls):
                call.wait()
        return (
            before if shard > 0 else None,
            after if shard + 1 < shards else None,
            before if ring and shard == 0 else last,
        )

    def both(self, own: Tensor) -> tuple[Tensor, ...]:
        """What each pass of guidance made of these frames, the one with the prompt first."""
        if self.roles.sides == 1:
            return (own,)
        own = own.contiguous()
        parts = [torch.empty_like(own) for _ in range(2)]
        with contact():
            dist.all_gather(parts, own, group=self.sides_group)
        return tuple(parts)

    def whole(self, part: Float[Tensor, "b c t_own h w"], count: int) -> Float[Tensor, "b c t h w"]:
        """All latent frames from everybody's part of them."""
        shards = self.roles.shards
        if shards == 1:
            return part
        parts = []
        for shard in range(shards):
            size = list(part.shape)
            size[2] = len(part_of(count, shard, shards))
            own = shard == self.shard
            parts.append(part.contiguous() if own else part.new_empty(size))
            with contact():
                dist.broadcast(parts[-1], group=self.frames_group, group_src=shard)
        return torch.cat(parts, dim=2)


ALL = Team()
"""The one process of an ordinary run."""


def part_of(count: int, shard: int, shards: int) -> range:
    """Part of so many latent frames; the first parts take what is left over."""
    size, over = divmod(count, shards)
    start = shard * size + min(shard, over)
    return range(start, start + size + (shard < over))


def assemble(roles: Roles) -> Team:
    """The team of all processes that have joined.

    Args:
        roles: What each does; as many processes as it says.
    """
    if roles.processes == 1:
        return Team(roles=roles)
    shards = roles.shards
    frames_group = sides_group = None
    with contact():
        # Everyone makes every group, in one order.
        for side in range(roles.sides):
            group = _group([side * shards + shard for shard in range(shards)])
            frames_group = group or frames_group
        for shard in range(shards if roles.sides == 2 else 0):
            group = _group([side * shards + shard for side in range(2)])
            sides_group = group or sides_group
    return Team(
        roles=roles, rank=dist.get_rank(), frames_group=frames_group, sides_group=sides_group
    )


def _group(ranks: list[int]) -> "dist.ProcessGroup | None":
    group = dist.new_group(ranks, timeout=PATIENCE)
    # To those outside, torch gives a mark of its own instead.
    return group if isinstance(group, dist.ProcessGroup) else None
