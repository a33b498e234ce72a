"""Memory, time and traffic of a stage of the 2B model on 1 to 64 GPUs, before any of them runs.

Memory is counted: two layers run on the meta device, forward and back. Time is counted work over
a rate that is assumed, and stated.
"""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint
from torch.utils.flop_counter import FlopCounterMode

from longtake.config import TransformerConfig
from longtake.config.limits import latent_chunks
from longtake.model import Transformer
from longtake.model.lora import shapes
from longtake.planner import META, AsOnCard, Peak, Weights, live_peak, weight_bytes
from longtake.recipes.sana_video import SanaStage, published
from longtake.text.gemma import MAX_TOKENS
from longtake.train.causal import two_streams

GPUS = (1, 2, 4, 8, 16, 32, 64)
MACHINE = 8
"""GPUs of one machine, over which weights are cut; machines exchange gradients alone."""
TFLOPS = 300.0
"""Assumed for one H100 in bf16, training included; no stage was run."""
LINK_BYTES, NETWORK_BYTES = 300e9, 50e9
"""Assumed a second and GPU: between GPUs of a machine, and between machines."""
STATE_BYTES = 16
"""Of a weight: itself, its gradient and two averages, each float32."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StagePlan:
    """What one stage takes on so many GPUs."""

    gpus: int
    """GPUs."""
    clips: int
    """Clips that each runs in a step."""
    parts_bytes: int
    """Weights, gradients and averages on a GPU."""
    layers_bytes: int
    """Layers whose weights are whole at a time."""
    work_bytes: int
    """What a pass over one clip keeps and needs."""
    device_bytes: int
    """All of it."""
    step_s: float
    """Seconds of a step at the assumed rates, the slower of work and traffic."""
    moved_bytes: int
    """What a GPU sends in a step."""
    hours: float
    """Of the whole stage at the assumed rates."""


@dataclass(frozen=True, slots=True)
class Counted:
    """One clip forward and back through a network of some layers."""

    bytes: int
    """Most alive at once, the weights and their gradients not among them."""
    flops: int
    """Of the pass, of the layers run again, and of the pass back."""


def plan_stage(stage: SanaStage, config: TransformerConfig | None = None) -> list[StagePlan]:
    """The stage on 1 to 64 GPUs; those that cannot share its batch evenly are left out.

    Args:
        stage: Which.
        config: The denoiser; the published one by default.
    """
    config = config or published()
    first, layer = count_layers(config, stage)
    work = first.bytes + (config.depth - 1) * layer.bytes
    flops = first.flops + (config.depth - 1) * layer.flops
    keep = config.depth - stage.train.run_again(config.depth)
    if keep and stage.train.recompute:
        # Of a layer that runs again, what it makes is there once, while it does.
        kept = count_layers(config, replace(stage, train=replace(stage.train, recompute=False)))[1]
        work += keep * (kept.bytes - layer.bytes)
        flops += keep * (kept.flops - layer.flops)
    return [_on(gpus, stage, config, work, flops) for gpus in GPUS if stage.train.batch % gpus == 0]


def _on(gpus: int, stage: SanaStage, config: TransformerConfig, work: int, flops: int) -> StagePlan:
    here, machines = min(gpus, MACHINE), max(gpus // MACHINE, 1)
    weights, layer = (size // 4 for size in weight_bytes(config, Weights(dtype=torch.float32)))
    rest, clips = weights - config.depth * layer, stage.train.batch // gpus
    value = 2 if stage.train.precision == "bf16" else 4
    # Two layers, as the next comes while one runs, and what is in no layer.
    whole_layers = (2 * layer + rest) * value
    if stage.train.lora:
        # Weights that stay have no gradients; every device has all of the branches.
        branches = _branch_values(config, stage.train.lora)
        parts, layers = value * weights // here + STATE_BYTES * branches, whole_layers
        sent_inside, sent_outside = 2 * value * clips, 0.0
    else:
        parts, layers = STATE_BYTES * weights // here, 2 * whole_layers
        sent_inside, sent_outside = 2 * value * clips + 4, weights / here * 4
    # A layer comes for the pass, and for running it again in the pass back.
    inside = (here - 1) / here * weights * sent_inside
    outside = 2 * (machines - 1) / machines * sent_outside
    compute_s = clips * flops / (TFLOPS * 1e12)
    step_s = max(compute_s, inside / LINK_BYTES + outside / NETWORK_BYTES)
    return StagePlan(
        gpus=gpus,
        clips=clips,
        parts_bytes=parts,
        layers_bytes=layers,
        work_bytes=work,
        device_bytes=parts + layers + work,
        step_s=step_s,
        moved_bytes=round(inside + outside),
        hours=step_s * stage.train.steps / 3600,
    )


def _branch_values(config: TransformerConfig, rank: int) -> int:
    with torch.device(META):
        layer = shapes(Transformer(replace(config, depth=1)))
    return config.depth * sum(rank * (rows + columns) for rows, columns in layer.values())


def count_layers(config: TransformerConfig, stage: SanaStage) -> tuple[Counted, Counted]:
    """A network of one layer, and what each further layer adds to it."""
    one, two = (count_clip(config, stage, depth) for depth in (1, 2))
    return one, Counted(two.bytes - one.bytes, two.flops - one.flops)


def count_clip(config: TransformerConfig, stage: SanaStage, depth: int) -> Counted:
    """One clip forward and back through some of the layers, without data."""
    dtype = torch.bfloat16 if stage.train.precision == "bf16" else torch.float32
    with torch.device(META):
        model = Transformer(replace(config, depth=depth)).to(dtype)
        with _ready(model, stage), live_peak() as peak:
            _forward(model, stage, config).square().mean().backward()
            counted = _without_gradients(model, peak)
        counter = FlopCounterMode(display=False)
        with torch.no_grad(), counter:
            _forward(model, stage, config)
    # Back is twice the work, or once where weights stay. It is not counted: the counter takes
    # grouped convolutions for dense.
    passes = (4 if stage.train.recompute else 3) - (stage.train.lora > 0)
    return Counted(counted, passes * counter.get_total_flops())


def _forward(model: Transformer, stage: SanaStage, config: TransformerConfig) -> Tensor:
    """What the network makes of one clip, in float32."""
    frames, rows, columns = stage.grid
    latents = torch.empty(1, config.latent_channels, frames, rows, columns)
    sigma = torch.empty(1, frames, dtype=torch.float64)
    text = torch.empty(1, MAX_TOKENS, config.text_width)
    mask = torch.empty(1, MAX_TOKENS, dtype=torch.bool)
    if stage.train.chunk:
        chunks = latent_chunks(frames, stage.train.chunk)
        words = text[:, None].expand(-1, len(chunks), -1, -1)
        real = mask[:, None].expand(-1, len(chunks), -1)
        return two_streams(model, latents, sigma, latents, sigma, words, real, chunks).float()
    return model(latents, sigma, text, mask).float()


@contextmanager
def _ready(model: Transformer, stage: SanaStage) -> Iterator[None]:
    """Layers that run again in the pass back, as they are trained; no gradients are left."""
    forwards = [block.forward for block in model.blocks]
    for block in model.blocks if stage.train.recompute else ():
        block.forward = partial(
            checkpoint,
            block.forward,
            use_reentrant=False,
            # In the pass back torch switches the stand-in for softmax attention off.
            context_fn=lambda: (nullcontext(), AsOnCard()),
        )
    try:
        yield
    finally:
        for block, forward in zip(model.blocks, forwards, strict=True):
            block.forward = forward
        model.zero_grad(set_to_none=True)


def _without_gradients(model: Transformer, peak: Peak) -> int:
    """Gradients leave as soon as a layer is done; here they all stay, and are counted apart."""
    held = (w.grad for w in model.parameters() if w.grad is not None)
    return max(peak.bytes - sum(grad.numel() * grad.element_size() for grad in held), 0)
