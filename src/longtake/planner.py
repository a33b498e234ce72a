"""Memory and time before any work: shapes run without data, one layer run for a moment."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.multiprocessing.reductions import StorageWeakRef
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from longtake.config import TransformerConfig
from longtake.model import Transformer

META = torch.device("meta")
Grid = tuple[int, int, int]
"""Latent frames, rows and columns."""


@dataclass(slots=True)
class Peak:
    """Most bytes that were alive at once."""

    bytes: int = 0


class _Counting(TorchDispatchMode):
    """Adds up the storages that operations make, as long as somebody holds them."""

    def __init__(self, peak: Peak) -> None:
        super().__init__()
        self.peak = peak
        self.alive: dict[int, tuple[StorageWeakRef, int]] = {}
        self.before: set[int] = set()

    def __torch_dispatch__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:  # noqa: ANN401
        for tensor in _tensors((args, kwargs or {})):
            reference = StorageWeakRef(tensor.untyped_storage())
            if reference.cdata not in self.alive:
                self.before.add(reference.cdata)
        result = func(*args, **(kwargs or {}))
        self.alive = {key: item for key, item in self.alive.items() if not item[0].expired()}
        for tensor in _tensors(result):
            storage = tensor.untyped_storage()
            reference = StorageWeakRef(storage)
            if reference.cdata not in self.before:
                self.alive[reference.cdata] = (reference, storage.nbytes())
        self.peak.bytes = max(self.peak.bytes, sum(size for _, size in self.alive.values()))
        return result


class _FusedAttention(TorchFunctionMode):
    """Stands in for softmax attention, whose scores no GPU kernel writes out."""

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:  # noqa: ANN401
        if func is F.scaled_dot_product_attention:
            return torch.empty_like(args[0])
        return func(*args, **(kwargs or {}))


@contextmanager
def live_peak() -> Iterator[Peak]:
    """Count the bytes that operations inside keep alive; what was there before does not count.

    On the meta device nothing is computed, and the count is that of a device whose allocator
    wastes nothing and whose kernels need no room of their own.
    """
    peak = Peak()
    with _FusedAttention(), _Counting(peak):
        yield peak


def forward_peak(config: TransformerConfig, grid: Grid, tokens: int, dtype: torch.dtype) -> int:
    """Bytes that one forward of the denoiser needs beside its weights.

    Args:
        config: The denoiser; its layers are alike, so two stand for all.
        grid: Of the latents.
        tokens: Of the text.
        dtype: Arithmetic.
    """
    with torch.device(META):
        model = Transformer(replace(config, depth=min(config.depth, 2))).to(dtype)
        latents = torch.empty(1, config.latent_channels, *grid)
        sigma = torch.empty(1, grid[0], dtype=torch.float64)
        text = torch.empty(1, tokens, config.text_width, dtype=dtype)
        mask = torch.empty(1, tokens, dtype=torch.bool)
        with torch.no_grad(), live_peak() as peak:
            model(latents, sigma, text, mask)
    # The prompt's keys and values of every layer stay all the time.
    kept = 2 * tokens * (config.cross_width or config.width) * dtype.itemsize
    return peak.bytes + max(config.depth - 2, 0) * kept


def weight_bytes(config: TransformerConfig, dtype: torch.dtype) -> tuple[int, int]:
    """Bytes of all the denoiser's weights, and of one layer's."""
    with torch.device(META):
        model = Transformer(replace(config, depth=1))
    layer = sum(weight.numel() for weight in model.blocks.parameters()) * dtype.itemsize
    rest = sum(weight.numel() for weight in model.parameters()) * dtype.itemsize - layer
    return rest + config.depth * layer, layer


def forward_seconds(
    config: TransformerConfig, grid: Grid, tokens: int, dtype: torch.dtype, device: torch.device
) -> float:
    """Seconds of one forward, from one layer run with random weights for a moment.

    On a CPU two latent frames are run and the time is taken as linear in them, as it is.
    """
    frames = grid[0] if device.type == "cuda" else min(grid[0], 2)
    one = replace(config, depth=1, attention=config.attention)
    with torch.device(META):
        model = Transformer(one)
    model = model.to(dtype).to_empty(device=device).eval().requires_grad_(False)
    for weight in model.parameters():
        weight.normal_(std=0.02)
    latents = torch.randn(1, config.latent_channels, frames, *grid[1:], device=device)
    sigma = torch.full((1, frames), 0.5, dtype=torch.float64, device=device)
    text = torch.randn(1, tokens, config.text_width, device=device, dtype=dtype)
    mask = torch.ones(1, tokens, dtype=torch.bool, device=device)
    with torch.no_grad():
        whole = _fastest(lambda: model(latents, sigma, text, mask), device)
        model.blocks = torch.nn.ModuleList()
        outside = _fastest(lambda: model(latents, sigma, text, mask), device)
    layer = max(whole - outside, 0.0)
    return (outside + config.depth * layer) * grid[0] / frames


def _fastest(work: Callable[[], object], device: torch.device, runs: int = 3) -> float:
    """Seconds of the fastest run after a warm-up."""
    times = []
    for _ in range(runs + 1):
        start = time.perf_counter()
        work()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        times.append(time.perf_counter() - start)
    return min(times[1:])


def _tensors(tree: object) -> Iterator[Tensor]:
    if isinstance(tree, Tensor):
        yield tree
    elif isinstance(tree, Mapping):
        for value in tree.values():
            yield from _tensors(value)
    elif isinstance(tree, tuple | list):
        for value in tree:
            yield from _tensors(value)
