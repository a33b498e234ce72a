"""The authors' own .pth files, turned once into safetensors by a child that may do little else."""

import json
import os
import resource
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from longtake.checkpoints.public_keys import from_public, key_map, public_shapes
from longtake.config import TransformerConfig
from longtake.errors import LongtakeError, WeightsError
from longtake.official.transformer import empty_transformer, save_transformer, shapes_of

MAX_BYTES = 20 * 2**30
"""Largest file; the published ones hold 4 to 8 GiB, LongSANA's with a critic twice that."""
HEAD_SIZE = 112
"""Channels of a head in every published model; the file itself does not say."""
SECONDS = 1800
"""Longest a child may compute."""
_HOLDERS = ("state_dict", "generator_ema", "generator", "ema", "model")
"""Where files keep their weights, best first."""
_WRAPPERS = ("_fsdp_wrapped_module.", "_orig_mod.", "_checkpoint_wrapped_module.")
_PREFIXES = ("module.", "model.")
_IGNORED = ("pos_embed", "y_embedder.y_embedding", "logvar_linear.")
"""Of training only."""
_LAYER = "blocks."


@dataclass(frozen=True, slots=True, kw_only=True)
class Converted:
    """What a conversion made."""

    folder: Path
    """Holds config.json and safetensors."""
    parameters: int
    """Weights of the model."""
    ignored: tuple[str, ...]
    """Tensors that belong to training only."""
    holder: str
    """The part of the file that was taken; empty if it is one set of weights."""


def convert(
    source: Path, folder: Path, *, head_size: int = HEAD_SIZE, causal: bool = False
) -> Converted:
    """Turn a .pth into a `transformer` folder of the public layout.

    The file is opened by a child process with nothing but weights allowed in it, and with limits
    on memory, time, files and their sizes; it never runs what a file may bring.

    Args:
        source: The .pth or .pt.
        folder: Does not exist yet.
        head_size: Channels of an attention head.
        causal: The weights are LongSANA's.

    Raises:
        WeightsError: too large, not weights, or weights of another model.
    """
    try:
        size = source.stat().st_size
    except OSError as error:
        msg = f"cannot read {source}: {error.strerror}"
        raise WeightsError(msg) from error
    if not source.is_file() or not 0 < size <= MAX_BYTES:
        msg = f"{source} has {size:,} bytes; a checkpoint is a file of at most {MAX_BYTES:,}"
        raise WeightsError(msg)
    command = [sys.executable, "-m", "longtake.official.pth"]
    job = {
        "source": str(source.absolute()),
        "folder": str(folder.absolute()),
        "head": head_size,
        "causal": causal,
    }
    # A fresh environment: nothing of the user's is there to be read.
    environment = {"PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1"}
    child = subprocess.run(
        [*command, json.dumps(job)], env=environment, capture_output=True, text=True, check=False
    )
    try:
        answer = json.loads(child.stdout)
    except ValueError as error:
        msg = (
            f"{source} could not be read within the limits on memory and time "
            f"(the child ended with {child.returncode}); it is damaged, or no checkpoint"
        )
        raise WeightsError(msg) from error
    if "error" in answer:
        raise WeightsError(answer["error"])
    return Converted(
        folder=folder,
        parameters=answer["parameters"],
        ignored=tuple(answer["ignored"]),
        holder=answer["holder"],
    )


def weights_in(content: object, where: str) -> tuple[dict[str, Tensor], str]:
    """The one set of weights in what a file holds, with plain names, and which part it was.

    Raises:
        WeightsError: there is none.
    """
    holder = ""
    for _ in range(3):
        if not isinstance(content, Mapping):
            break
        inner = next((h for h in _HOLDERS if isinstance(content.get(h), Mapping)), None)
        if inner is None:
            break
        content, holder = content[inner], inner
    tensors = {}
    if isinstance(content, Mapping):
        tensors = {k: v for k, v in content.items() if isinstance(k, str) and type(v) is Tensor}
    if not tensors:
        msg = f"{where} holds no weights: no tensors by name, as state_dict or generator has them"
        raise WeightsError(msg)
    return _plain(tensors), holder


def read_shape(tensors: Mapping[str, Tensor], head_size: int, where: str) -> TransformerConfig:
    """The model that weights of the authors' names and shapes belong to.

    Raises:
        WeightsError: a tensor that tells the shape is missing, or the shape is impossible.
    """
    shapes = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    patch = _needed(shapes, "x_embedder.proj.weight", 5, where)
    text = _needed(shapes, "y_embedder.y_proj.fc1.weight", 2, where)
    up = _needed(shapes, "blocks.0.mlp.inverted_conv.conv.weight", 4, where)
    out = _needed(shapes, "final_layer.linear.weight", 2, where)
    cross = _needed(shapes, "blocks.0.cross_attn.q_linear.weight", 2, where)
    width = patch[0]
    layers = {name.split(".")[1] for name in shapes if name.startswith(_LAYER)}
    if width % head_size or cross[0] % head_size:
        msg = f"{where}: width {width} does not split into heads of {head_size}"
        raise WeightsError(msg)
    return TransformerConfig(
        latent_channels=patch[1],
        out_channels=out[0] // (patch[2] * patch[3] * patch[4]),
        width=width,
        depth=len(layers),
        heads=width // head_size,
        ffn_ratio=up[0] / 2 / width,
        text_width=text[1],
        rope_theta=10_000.0,
        patch=patch[2:],
        cross_heads=cross[0] // head_size,
        cross_width=cross[0],
        qk_norm="blocks.0.attn.q_norm.weight" in shapes,
        qkv_bias="blocks.0.attn.qkv.bias" in shapes,
        cross_norm_eps=1e-5,
        attention_eps=1e-15,
    )


def _plain(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Names without what wrappers of training put into them."""
    plain = dict(tensors)
    for wrapper in _WRAPPERS:
        plain = {name.replace(wrapper, ""): value for name, value in plain.items()}
    for _ in range(2):
        for prefix in _PREFIXES:
            if all(name.startswith(prefix) for name in plain):
                plain = {name.removeprefix(prefix): value for name, value in plain.items()}
    return plain


def _needed(
    shapes: Mapping[str, tuple[int, ...]], name: str, axes: int, where: str
) -> tuple[int, ...]:
    if len(shapes.get(name, ())) != axes:
        have = f"has shape {shapes[name]}" if name in shapes else "is missing"
        msg = f"{where}: tensor {name!r} {have}; it is no SANA-Video transformer"
        raise WeightsError(msg)
    return shapes[name]


def _check_exact(
    found: Mapping[str, Tensor], wanted: Mapping[str, tuple[int, ...]], where: str
) -> None:
    for name, shape in wanted.items():
        if name not in found:
            msg = f"{where}: tensor {name!r} is missing"
            raise WeightsError(msg)
        tensor = found[name]
        if tuple(tensor.shape) != shape:
            msg = (
                f"{where}: tensor {name!r} has shape {tuple(tensor.shape)}, the model wants {shape}"
            )
            raise WeightsError(msg)
        if not tensor.is_floating_point() or tensor.layout != torch.strided:
            msg = f"{where}: tensor {name!r} is {tensor.dtype}, {tensor.layout}; weights are plain"
            raise WeightsError(msg)
    extra = sorted(set(found) - set(wanted))
    if extra:
        msg = f"{where}: tensor {extra[0]!r} is not part of the model"
        raise WeightsError(msg)


def _limit(size: int) -> None:
    """Take from this process what reading weights does not need."""
    with Path("/proc/self/statm").open() as file:
        already = int(file.read().split()[0]) * resource.getpagesize()
    for what, most in (
        # The file mapped, its tensors in one more copy, and one written file in memory.
        (resource.RLIMIT_AS, already + 4 * size + 2**30),
        (resource.RLIMIT_CPU, SECONDS),
        (resource.RLIMIT_FSIZE, 2 * size + 2**20),
        (resource.RLIMIT_NOFILE, 64),
        (resource.RLIMIT_CORE, 0),
    ):
        _, hard = resource.getrlimit(what)
        bound = most if hard == resource.RLIM_INFINITY else min(most, hard)
        resource.setrlimit(what, (bound, bound))


def _read(source: Path) -> Any:  # noqa: ANN401 - whatever a file holds
    try:
        try:
            return torch.load(source, map_location="cpu", weights_only=True, mmap=True)
        except RuntimeError:
            # A file older than torch 1.6 cannot be mapped.
            return torch.load(source, map_location="cpu", weights_only=True)
    except (MemoryError, OSError):
        raise
    except Exception as error:
        # torch raises whatever a broken or wicked pickle makes it raise.
        reason = next(iter(str(error).splitlines()), "it is empty")[:160]
        msg = f"{source} is no file of plain weights ({type(error).__name__}: {reason})"
        raise WeightsError(msg) from error


def rewrite(source: Path, folder: Path, head_size: int, *, causal: bool = False) -> dict[str, Any]:
    """The child's work: read, check, write; answers what `convert` tells.

    Raises:
        WeightsError: not weights, or weights of another model.
    """
    tensors, holder = weights_in(_read(source), str(source))
    ignored = [name for name in tensors if name.startswith(_IGNORED)]
    tensors = {name: value for name, value in tensors.items() if name not in set(ignored)}
    config = read_shape(tensors, head_size, str(source))
    model = empty_transformer(config)
    keys = key_map(config, shapes_of(model), "original")
    _check_exact(tensors, public_shapes(keys), str(source))
    model.load_state_dict(from_public(keys, tensors), assign=True)
    save_transformer(model, folder, causal=causal)
    parameters = sum(weight.numel() for weight in model.parameters())
    return {"parameters": parameters, "ignored": ignored, "holder": holder}


def main(job: str) -> None:
    """Do a job of `convert` and answer on stdout in one JSON object."""
    order = json.loads(job)
    try:
        source = Path(order["source"])
        _limit(source.stat().st_size)
        folder = Path(order["folder"])
        answer = rewrite(source, folder, order["head"], causal=order["causal"])
    except (LongtakeError, MemoryError, OSError) as error:
        answer = {
            "error": str(error) or f"{order['source']} needs more memory than its size allows"
        }
    sys.stdout.write(json.dumps(answer))


if __name__ == "__main__":
    main(sys.argv[1])
