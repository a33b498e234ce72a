"""Memory and time before any work: shapes run without data, one layer run for a moment."""

import math
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
from torch.utils._python_dispatch import TorchDispatchMode, _disable_current_modes
from torch.utils.flop_counter import FlopCounterMode

from longtake.config import TransformerConfig
from longtake.kernels.planned import card_bytes, planned_on
from longtake.model import Transformer
from longtake.quantize import Format, Way, choose_way, low_layers, prepare

META = torch.device("meta")
CARD_ROOM = 124 * 2**20
"""What the card's libraries keep to work in; measured on an H100 beside forwards of 12 settings."""
_LAST = {torch.conv2d: torch.channels_last, torch.conv3d: torch.channels_last_3d}
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
        self.before: dict[int, StorageWeakRef] = {}

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
                # Held, so that no later storage is met under the same address.
                self.before.setdefault(reference.cdata, reference)
        result = func(*args, **(kwargs or {}))
        self.alive = {key: item for key, item in self.alive.items() if not item[0].expired()}
        for tensor in _tensors(result):
            storage = tensor.untyped_storage()
            reference = StorageWeakRef(storage)
            if reference.cdata not in self.before:
                self.alive[reference.cdata] = (reference, storage.nbytes())
        self.peak.bytes = max(self.peak.bytes, sum(size for _, size in self.alive.values()))
        return result


class AsOnCard(TorchFunctionMode):
    """Stands in for what a card does otherwise than torch without data.

    No GPU kernel writes out the scores of softmax attention; and while a plan is for a card,
    convolutions leave channels last where they find them so.
    """

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:  # noqa: ANN401
        """An empty answer for those functions, every other as it is."""
        if func is F.scaled_dot_product_attention:
            return torch.empty_like(args[0])
        order = _LAST.get(func) if card_bytes(META) else None
        if order is None or not args[0].is_contiguous(memory_format=order):
            return func(*args, **(kwargs or {}))
        with _disable_current_modes():
            shape = func(*args, **(kwargs or {})).shape
        return torch.empty(shape, dtype=args[0].dtype, device=args[0].device, memory_format=order)


@contextmanager
def live_peak() -> Iterator[Peak]:
    """Count the bytes that operations inside keep alive; what was there before does not count.

    On the meta device nothing is computed, and the count is that of a device whose allocator
    wastes nothing and whose kernels need no room of their own.
    """
    peak = Peak()
    with AsOnCard(), _Counting(peak):
        yield peak


@dataclass(frozen=True, slots=True, kw_only=True)
class Weights:
    """How a denoiser holds its weights and multiplies with them."""

    dtype: torch.dtype
    """Arithmetic of everything that is not in few bits."""
    how: Format | None = None
    """Format of the layers that are; None: there are none."""
    way: Way = "unpack"
    """How those multiply."""
    card_bytes: int = 0
    """Memory of the CUDA card that computes, with its kernels; 0: references do."""


def forward_peak(config: TransformerConfig, grid: Grid, tokens: int, weights: Weights) -> int:
    """Bytes that one forward of the denoiser, its prompt read before, needs beside its weights.

    Args:
        config: The denoiser; its layers are alike, so two stand for all.
        grid: Of the latents.
        tokens: Of the text.
        weights: How they are held.
    """
    model = _network(replace(config, depth=min(config.depth, 2)), weights)
    latents, sigma, text, mask = _inputs(config, grid, tokens, weights.dtype, META)
    with torch.no_grad(), planned_on(weights.card_bytes), live_peak() as peak:
        model.predict(latents, sigma, model.read(text, mask))
    # The prompt's keys and values of every layer stay all the time.
    kept = 2 * tokens * (config.cross_width or config.width) * weights.dtype.itemsize
    return peak.bytes + max(config.depth - 2, 0) * kept + room_of(weights)


def room_of(weights: Weights) -> int:
    """Bytes that libraries keep to work in: on a card `CARD_ROOM`."""
    return CARD_ROOM if weights.card_bytes else 0


def weight_bytes(config: TransformerConfig, weights: Weights) -> tuple[int, int]:
    """Bytes of all the denoiser's weights, and of one layer's."""
    model = _network(replace(config, depth=1), weights)
    layer = sum(weight.nbytes for weight in model.blocks.parameters())
    rest = sum(weight.nbytes for weight in model.parameters()) - layer
    return rest + config.depth * layer, layer


def forward_flops(config: TransformerConfig, grid: Grid, tokens: int) -> int:
    """Operations of one forward, two for each product that is added to a sum."""
    counts = []
    for depth in (1, 2):
        model = _network(replace(config, depth=depth), Weights(dtype=torch.bfloat16))
        with torch.no_grad(), FlopCounterMode(display=False) as counter:
            model(*_inputs(config, grid, tokens, torch.bfloat16, META))
        counts.append(counter.get_total_flops())
    one, two = counts
    return one + (config.depth - 1) * (two - one)


@dataclass(frozen=True, slots=True, kw_only=True)
class Traffic:
    """Bytes that a device hands to others in one layer of a shared pass."""

    sums: int
    """Into the all-reduce of the attention's sums, in float32."""
    frames: int
    """Its first and last latent frame, to the devices before and after it."""


def traffic_of(
    config: TransformerConfig,
    sides: tuple[int, int],
    dtype: torch.dtype,
    *,
    shards: int,
    causal: bool,
) -> Traffic:
    """What sharing latent frames moves, a layer and sample; it does not grow with the film.

    sums = heads * k * (k + 1) * 4 with k = width / heads; frames = 2 * tokens of a frame * width.
    The first and the last device have one neighbour, and send one frame; where a pass leaves a
    state, only the first, for the last hands its last frame on to it.

    Args:
        config: The denoiser.
        sides: Height and width of the latents.
        dtype: Arithmetic.
        shards: Devices that share.
        causal: The pass leaves a state.
    """
    if shards == 1:
        return Traffic(sums=0, frames=0)
    size = config.width // config.heads
    tokens = (sides[0] // config.patch[1]) * (sides[1] // config.patch[2])
    ends = 1 if shards == 2 and not causal else 2
    return Traffic(
        sums=config.heads * size * (size + 1) * 4,
        frames=ends * tokens * config.width * dtype.itemsize,
    )


CALIBRATED = 4
"""Layers that a card runs to tell the time of all."""


def forward_seconds(
    config: TransformerConfig, grid: Grid, tokens: int, weights: Weights, device: torch.device
) -> float:
    """Seconds of one forward, from a few layers run with random weights for a moment.

    A card runs several, or the host's own time before the first would count for each of them. On a
    CPU one layer over two latent frames is run, and the time is taken as linear in them, as it is.
    """
    frames = grid[0] if device.type == "cuda" else min(grid[0], 2)
    layers = min(config.depth, CALIBRATED if device.type == "cuda" else 1)
    model = _network(replace(config, depth=layers), weights).to_empty(device=device).eval()
    for weight in model.parameters():
        if weight.dtype == weights.dtype:
            weight.normal_(std=0.02)
        else:
            # Codes and scales of low bits: ones are numbers in all of them.
            weight.fill_(1)
    inputs = _inputs(config, (frames, *grid[1:]), tokens, weights.dtype, device)
    with torch.no_grad():
        whole = _fastest(lambda: model(*inputs), device)
        model.blocks = torch.nn.ModuleList()
        outside = _fastest(lambda: model(*inputs), device)
    layer = max(whole - outside, 0.0) / layers
    return (outside + config.depth * layer) * grid[0] / frames


HOST_SAMPLE = 256 * 2**20
"""Bytes copied to tell the rate between host and card."""


def host_rate(device: torch.device) -> float:
    """Bytes a second from the host's memory to a device's; endless where they are the same."""
    if device.type == "cpu":
        return math.inf
    sample = torch.ones(HOST_SAMPLE, dtype=torch.uint8)
    return HOST_SAMPLE / _fastest(lambda: sample.to(device), device)


def _network(config: TransformerConfig, weights: Weights) -> Transformer:
    """The denoiser without memory for its weights."""
    with torch.device(META):
        model = Transformer(config).to(weights.dtype).requires_grad_(False)
    if weights.how is not None:
        prepare(model, weights.how, low_layers(model, weights.how))
        choose_way(model, weights.way)
    return model


def _inputs(
    config: TransformerConfig, grid: Grid, tokens: int, dtype: torch.dtype, device: torch.device
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """What a forward takes, of the right shapes."""
    return (
        torch.zeros(1, config.latent_channels, *grid, device=device),
        torch.full((1, grid[0]), 0.5, dtype=torch.float64, device=device),
        torch.zeros(1, tokens, config.text_width, dtype=dtype, device=device),
        torch.ones(1, tokens, dtype=torch.bool, device=device),
    )


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
