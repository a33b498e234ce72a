"""Where a number comes from: machine, versions, commit and command; no paths, names or prompts."""

import platform
import subprocess
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch

from longtake.kernels import ops

_LIBRARIES = ("longtake", "torch", "triton", "diffusers", "transformers")


def origin_of(device: torch.device, command: str) -> dict[str, object]:
    """All that tells one run from another.

    Args:
        device: Where it computed.
        command: The command, without what is nobody's business.
    """
    return {
        "processor": processor_of(device),
        "driver": torch.version.cuda or "none",
        "threads": torch.get_num_threads(),
        "versions": {name: _version(name) for name in _LIBRARIES},
        "commit": commit(),
        "date": datetime.now(UTC).date().isoformat(),
        "command": command,
        "kernels": ops.paths(device),
    }


def processor_of(device: torch.device) -> str:
    """The card's name, or the CPU's kind and whether it multiplies bf16."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    fast = "AVX512-BF16" if torch.cpu._is_avx512_bf16_supported() else "no bf16 units"
    return f"{platform.machine()}, {fast}"


def commit() -> str:
    """The commit this code is of, with a + if files were changed since; unknown if installed."""
    here = Path(__file__).parent
    try:
        head = _git(here, "rev-parse", "--short=12", "HEAD")
        changed = _git(here, "status", "--porcelain", "--untracked-files=no")
    except (OSError, subprocess.SubprocessError):
        return "unknown"
    return head + ("+" if changed else "")


def _git(folder: Path, *words: str) -> str:
    done = subprocess.run(
        ["git", "-C", str(folder), *words],
        capture_output=True,
        text=True,
        check=True,
        timeout=10,
    )
    return done.stdout.strip()


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "none"
