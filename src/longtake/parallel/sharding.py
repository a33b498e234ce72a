"""A network whose weights lie in parts on several devices (FSDP2), and its exact file form."""

import os
from collections.abc import Sequence
from functools import partial
from typing import Literal

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.fsdp import (
    FSDPModule,
    MixedPrecisionPolicy,
    fully_shard,
    register_fsdp_forward_method,
)
from torch.distributed.tensor import DTensor
from torch.utils.checkpoint import checkpoint

from longtake.parallel.contact import PATIENCE, contact
from longtake.parallel.workers import Workers, join

Arithmetic = Literal["fp32", "bf16"]


def join_sharded(device: torch.device) -> tuple[Workers, torch.device]:
    """Join the workers that torchrun started; without it, form a group of one.

    Args:
        device: As in `join`.
    """
    workers, device = join(device)
    if not dist.is_initialized():
        # The same code then runs on one device as on many.
        backend = "nccl" if device.type == "cuda" else "gloo"
        store = dist.HashStore()
        dist.init_process_group(backend, store=store, rank=0, world_size=1, timeout=PATIENCE)
    return workers, device


def shard(
    model: nn.Module,
    layers: Sequence[nn.Module],
    device: torch.device,
    *,
    arithmetic: Arithmetic,
    recompute: int,
    compiled: bool = False,
    entries: Sequence[str] = (),
) -> None:
    """Cut every weight into as many parts as there are workers, in place.

    A layer's weights are whole only while it runs. On several machines each holds all weights in
    parts, and machines exchange gradients alone. Weights, gradients and their sums are float32;
    `bf16` computes in bfloat16 between.

    Args:
        model: On any device; its other weights are cut as one more layer.
        layers: Its layers, in the order they run.
        device: Where the parts go.
        arithmetic: Of the layers.
        recompute: How many layers, from the first on, keep their input alone and run again in the
            backward pass.
        compiled: Compile what a layer computes; gathering its weights stays outside.
        entries: Methods beside `forward` that begin a pass.
    """
    mesh = _mesh(device)
    policy = MixedPrecisionPolicy(
        param_dtype=torch.bfloat16 if arithmetic == "bf16" else None,
        reduce_dtype=torch.float32,
        # Noise levels need their digits; the layers cast what they read.
        cast_forward_inputs=False,
    )
    with contact():
        for number, layer in enumerate(layers):
            if compiled:
                layer.forward = torch.compile(layer.forward, dynamic=False)
            if number < recompute:
                layer.forward = partial(checkpoint, layer.forward, use_reentrant=False)
            fully_shard(layer, mesh=mesh, mp_policy=policy)
        fully_shard(model, mesh=mesh, mp_policy=policy)
    for entry in entries:
        register_fsdp_forward_method(model, entry)


def hold_gradients(model: nn.Module, *, last: bool) -> None:
    """Add up gradients on each device, and exchange them with the last pass of a step only."""
    assert isinstance(model, FSDPModule)
    model.set_requires_gradient_sync(last)


def whole(tensor: Tensor) -> Tensor:
    """All of a tensor that may lie in parts; everybody has to ask."""
    if not isinstance(tensor, DTensor):
        return tensor
    with contact():
        return tensor.full_tensor()


def own_values(tensor: Tensor) -> Tensor:
    """This device's part of a tensor that may lie in parts."""
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def _mesh(device: torch.device) -> DeviceMesh:
    size = dist.get_world_size()
    here = int(os.environ.get("LOCAL_WORLD_SIZE", size))
    if here < size and size % here == 0:
        return init_device_mesh(
            device.type, (size // here, here), mesh_dim_names=("machines", "devices")
        )
    return init_device_mesh(device.type, (size,), mesh_dim_names=("devices",))
