"""The only user of torch.distributed: who works together, means and agreement."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor


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
        dist.broadcast(shared, src=0)
        return shared.item()

    def wait(self) -> None:
        """Go on when all have come here."""
        if self.size > 1:
            dist.barrier()


ALONE = Workers()
"""The one worker of an ordinary run."""


def join(device: torch.device) -> tuple[Workers, torch.device]:
    """Join the workers that torchrun started; alone without it.

    Args:
        device: CUDA gives each worker of a machine a card of its own; the CPU is shared.
    """
    if not dist.is_torchelastic_launched():
        return ALONE, device
    if device.type == "cuda":
        device = torch.device("cuda", dist.get_node_local_rank())
        torch.cuda.set_device(device)
        dist.init_process_group("nccl", device_id=device)
    else:
        dist.init_process_group("gloo")
    return Workers(dist.get_rank(), dist.get_world_size()), device


def leave() -> None:
    """Let go of the others."""
    if dist.is_initialized():
        dist.destroy_process_group()
