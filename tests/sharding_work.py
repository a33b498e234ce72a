"""Sharded training on a few encoded clips: real processes, started and heard."""

import os
import sys
import tempfile
from pathlib import Path

import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from safetensors.torch import save_file

from longtake.config import ShardedConfig, TransformerConfig
from longtake.parallel import Workers

CPU = torch.device("cpu")
SHAPE = TransformerConfig(
    latent_channels=4, width=24, depth=2, heads=2, ffn_ratio=3.0, text_width=16,
    rope_theta=10_000.0, patch=(1, 2, 2), cross_norm_eps=1e-5,
)  # fmt: skip
CONFIG = ShardedConfig(
    steps=4, batch=4, warmup=2, learning_rate=1e-3, clip=1.0, precision="fp32", checkpoint_every=2
)


def spawned(work, size, folder, *arguments):
    """The results of `work(workers, folder, *arguments)` in several processes."""
    with tempfile.TemporaryDirectory() as results:
        mp.start_processes(
            _begin, (work, size, folder, arguments, results), nprocs=size, start_method="fork"
        )
        return [torch.load(Path(results) / f"{rank}.pt") for rank in range(size)]


def _begin(rank, work, size, folder, arguments, results):
    os.environ["GLOO_SOCKET_IFNAME"] = "lo"
    sys.stderr = open(os.devnull, "w")  # noqa: PTH123, SIM115 - failures are raised
    torch.set_num_threads(1)
    store = dist.FileStore(f"{results}/store", size)
    dist.init_process_group("gloo", store=store, rank=rank, world_size=size)
    result = work(Workers(rank, size), folder, *arguments)
    torch.save(result, Path(results) / f"{rank}.pt")
    dist.destroy_process_group()


def write_clips(folder):
    """Five clips of random numbers."""
    folder.mkdir()
    generator = torch.Generator().manual_seed(0)
    for number in range(5):
        clip = {
            "latents": torch.randn(4, 5, 4, 6, generator=generator),
            "text": torch.randn(5, 16, generator=generator),
            "mask": torch.ones(5, dtype=torch.uint8),
        }
        save_file(clip, folder / f"{number}.safetensors")
