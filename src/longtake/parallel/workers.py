"""Workers that train together: means and agreement."""

import os
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor

from longtake.errors import CannotHere
from longtake.parallel.contact import PATIENCE, contact
from longtake.parallel.launch import hold_on


@dataclass(frozen=True, slots=True)
class Workers:
    """This process among those that train together; one alone by default."""

    rank: int = 0
    """Number of this process, from 0."""
    size: int = 1
    """How many there are."""

    @property
    def first(self) -> bool:
        """True for the one that writes files and talks."""
        return self.rank == 0

    def average(self, tensors: Sequence[Tensor]) -> None:
        """Replace each tensor by its mean over the workers, in one message."""
        if self.size == 1:
            return
        flat = torch.cat([tensor.reshape(-1) for tensor in tensors])
        with contact():
            dist.all_reduce(flat)
        flat /= self.size
        means = flat.split([tensor.numel() for tensor in tensors])
        shaped = [mean.view_as(tensor) for mean, tensor in zip(means, tensors, strict=True)]
        torch._foreach_copy_(list(tensors), shaped)

    def agree(self, number: float, device: torch.device) -> float:
        """The first worker's number, everywhere."""
        if self.size == 1:
            return number
        shared = torch.tensor(number, dtype=torch.float64, device=device)
        with contact():
            dist.broadcast(shared, src=0)
        return shared.item()

    def wait(self) -> None:
        """Go on when all have come here."""
        if self.size > 1:
            with contact():
                dist.barrier()


ALONE = Workers()
"""The one worker of an ordinary run."""


def launched() -> bool:
    """Whether this process is one of several that torchrun, or `launch`, has started."""
    return dist.is_torchelastic_launched()


def join(device: torch.device, size: int | None = None) -> tuple[Workers, torch.device]:
    """Join the workers that torchrun started; alone without it.

    Args:
        device: CUDA gives each worker of a machine a card of its own; the CPU is shared.
        size: How many join, the first of those started; all of them by default.

    Raises:
        CannotHere: a worker has no card, or the others do not answer.
    """
    if not launched() or size == 1:
        return ALONE, device
    size = int(os.environ["WORLD_SIZE"]) if size is None else size
    device = own_device(device)
    hold_on()
    # Multicast of NVLink fails on machines that are cut into parts.
    os.environ.setdefault("NCCL_NVLS_ENABLE", "0")
    cuda = device.type == "cuda"
    with contact():
        store, rank, _ = next(dist.rendezvous("env://", int(os.environ["RANK"]), size))
        dist.init_process_group(
            "nccl" if cuda else "gloo",
            store=dist.PrefixStore("longtake", store),
            rank=rank,
            world_size=size,
            timeout=PATIENCE,
            device_id=device if cuda else None,
        )
    return Workers(rank, size), device


def own_device(device: torch.device) -> torch.device:
    """The card of this worker, where there are cards.

    Raises:
        CannotHere: there are fewer than workers.
    """
    if device.type != "cuda" or not launched():
        return device
    number = dist.get_node_local_rank()
    if number >= torch.cuda.device_count():
        msg = f"there are {torch.cuda.device_count()} GPUs here, one more process than that began"
        raise CannotHere(msg)
    torch.cuda.set_device(number)
    return torch.device("cuda", number)


def leave() -> None:
    """Let go of the others."""
    if dist.is_initialized():
        dist.destroy_process_group()
