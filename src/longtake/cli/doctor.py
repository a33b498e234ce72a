"""`longtake doctor`: what this machine has, and whether a model is what it should be."""

import json
import platform
import random
import shutil
import sys
from collections.abc import Iterator
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import av
import numpy as np
import torch

from longtake import __version__
from longtake.cli.official import tell_fetching
from longtake.cli.options import TellOptions
from longtake.cli.plan import free_bytes
from longtake.cli.progress import display, tell
from longtake.errors import CannotHere, LongtakeError
from longtake.kernels import ops
from longtake.official.check import Finding, check_model
from longtake.official.pipeline import Running
from longtake.official.source import locate
from longtake.pipeline import Device, device_of, load
from longtake.pipeline.precision import FIRST_WITH_BF16, arithmetic_for
from longtake.presets import is_public
from longtake.quantize.product import FIRST_WITH
from longtake.world.captions import caption
from longtake.world.render import render
from longtake.world.sampling import sample_scenes

CODECS = ("libx264", "libx265", "libsvtav1", "libvpx-vp9")
EXTRAS = ("diffusers", "transformers", "huggingface_hub", "triton", "tensorboard")
CLIP = (17, 256, 448)
"""Frames, height and width of the clip a model is tried on."""


def examine(model: str, device: Device, how: TellOptions) -> None:
    """Tell what this machine can do, and whether a model is whole and predicts.

    Args:
        model: Which model is looked at.
        device: Where a step of a public one is computed.
        how: What is told.

    Raises:
        CannotHere: something is not as it should be.
    """
    findings = []
    for finding in (*_machine(), *_model(model, device, quiet=how.quiet)):
        findings.append(finding)
        if not (how.as_json or how.quiet):
            tell(f"{'ok ' if finding.fine else 'BAD'}  {finding.what}: {finding.told}")
    if how.as_json:
        tell(json.dumps([asdict(finding) for finding in findings]))
    bad = [finding.what for finding in findings if not finding.fine]
    if bad:
        msg = f"not as it should be: {', '.join(dict.fromkeys(bad))}"
        raise CannotHere(msg)


def _machine() -> Iterator[Finding]:
    def found(what: str, told: str, *, fine: bool = True) -> Finding:
        return Finding(what=what, fine=fine, told=told)

    yield found("longtake", __version__)
    yield found("python", sys.version.split()[0], fine=sys.version_info >= (3, 11))
    yield found("torch", f"{torch.__version__}, CUDA {torch.version.cuda or 'none'}")
    yield found("processor", f"{platform.machine()}, {torch.get_num_threads()} threads")
    cpu = "bf16" if torch.cpu._is_avx512_bf16_supported() else "fp32 (bf16 works, slowly)"
    yield found("precision of the CPU", cpu)
    yield found("memory", f"{free_bytes(torch.device('cpu')) / 2**30:.1f} GiB free")
    for number in range(torch.cuda.device_count()):
        yield found(f"gpu {number}", _gpu(number))
    if torch.cuda.is_available():
        for name, told in ops.paths(torch.device("cuda")).items():
            yield found(f"kernel {name}", told)
    else:
        yield found("gpu", "none")
    disk = shutil.disk_usage(Path.cwd()).free
    yield found("disk here", f"{disk / 2**30:.1f} GiB free", fine=disk > 2**28)
    have = [name for name in CODECS if name in av.codecs_available]
    yield found("codecs", ", ".join(have) or "none", fine="libx264" in have)
    yield found("extras", ", ".join(_version(name) for name in EXTRAS))


def _gpu(number: int) -> str:
    major, minor = torch.cuda.get_device_capability(number)
    has = ["fp32", "fp16"]
    if (major, minor) >= FIRST_WITH_BF16:
        has.append("bf16")
    has += [how for how, first in FIRST_WITH.items() if (major, minor) >= first]
    free, total = torch.cuda.mem_get_info(number)
    name = torch.cuda.get_device_name(number)
    return (
        f"{name}, capability {major}.{minor}, {', '.join(has)}; "
        f"{free / 2**30:.1f} of {total / 2**30:.1f} GiB free"
    )


def _version(name: str) -> str:
    try:
        return f"{name} {version(name)}"
    except PackageNotFoundError:
        return f"{name} not installed"


def _model(name: str, where: Device, *, quiet: bool) -> Iterator[Finding]:
    try:
        if not is_public(name):
            pipe = load(name, device="cpu")
            yield Finding(what=name, fine=True, told=f"whole, model hash {pipe.model_hash[:16]}")
            return
        device = device_of(where)
        running = Running(device=device, dtype=arithmetic_for("auto", device).dtype)
        with display(quiet=quiet) as show:
            folder = locate(name, lambda what: tell_fetching(what, show))
        frames, height, width = CLIP
        scenes = sample_scenes(1, np.random.default_rng(0))
        clip = render(scenes, frames=frames, height=height, width=width)[0]
        text = caption(scenes, 0, random.Random(0)).text
        yield from check_model(folder, clip, text, running)
    except LongtakeError as error:
        yield Finding(what=name, fine=False, told=str(error))
