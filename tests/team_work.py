"""What the processes of a team test run; `spawned` starts them and gives back what they return."""

import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from longtake.parallel import Roles, assemble


def spawned(work: Callable[..., Any], roles: Roles, *arguments: Any) -> list[Any]:
    """The results of `work(team, *arguments)`, one for each process."""
    with tempfile.TemporaryDirectory() as folder:
        mp.start_processes(
            _begin, (work, roles, arguments, folder), nprocs=roles.processes, start_method="fork"
        )
        return [
            torch.load(Path(folder) / f"{rank}.pt", weights_only=False)
            for rank in range(roles.processes)
        ]


def _begin(rank: int, work: Callable[..., Any], roles: Roles, arguments: Any, folder: str) -> None:
    os.environ["GLOO_SOCKET_IFNAME"] = "lo"
    torch.set_num_threads(1)
    store = dist.FileStore(f"{folder}/store", roles.processes)
    dist.init_process_group("gloo", store=store, rank=rank, world_size=roles.processes)
    with torch.no_grad():
        result = work(assemble(roles), *arguments)
    torch.save(result, Path(folder) / f"{rank}.pt")
    dist.destroy_process_group()
