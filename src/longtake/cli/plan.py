"""`longtake plan`: memory, disk and time of a film before any work."""

import json
import shutil
from dataclasses import asdict
from pathlib import Path

import torch

from longtake.cli.official import arithmetic_for_public, settings_for, tell_fetching
from longtake.cli.options import FilmOptions, PublicOptions, RunOptions, TellOptions
from longtake.cli.progress import display, tell
from longtake.cli.several import public_roles
from longtake.errors import SettingError
from longtake.official.folder import read_model
from longtake.official.plan import Plan, predict
from longtake.official.source import Licences, licences_of, locate
from longtake.parallel import ONE
from longtake.pipeline import device_of
from longtake.presets import is_public


def tell_plan(
    film: FilmOptions, model: RunOptions, public: PublicOptions, how: TellOptions
) -> None:
    """Tell what a film will take: memory of GPU and host, disk, time, and what fits.

    Args:
        film: The film.
        model: The model.
        public: The public model.
        how: What is told.

    Raises:
        SettingError: not a public model.
        CannotHere: it does not fit.
    """
    if not is_public(model.model):
        msg = (
            f"plan is for public models; {model.model} fits any machine: a film of 5 s takes "
            "under 2 GiB"
        )
        raise SettingError(msg)
    with display(quiet=how.quiet) as show:
        found = read_model(locate(model.model, lambda what: tell_fetching(what, show)))
        settings, notes = settings_for(found, film, public)
        for note in notes:
            show.note(note)
        device = device_of(model.device)
        arithmetic = arithmetic_for_public(found, model, device)
        if note := arithmetic.note(device):
            show.note(note)
        free, roles = free_bytes(device), public_roles(found, settings, model.gpus)
        made = predict(
            found,
            settings,
            arithmetic,
            device,
            offload=public.offload,
            memory_bytes=free,
            roles=roles,
        )
    size = f"{settings.width}x{settings.height}x{settings.frames}, {settings.steps} steps"
    _tell(made, f"{size}, {arithmetic.name} on {device.type}", free, licences_of(found), how)


def free_bytes(device: torch.device) -> int:
    """Memory a film can have there."""
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        return free
    for line in Path("/proc/meminfo").read_text().splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024
    return 2**63


def _tell(made: Plan, what: str, free: int, licences: Licences, how: TellOptions) -> None:
    if how.as_json:
        tell(json.dumps(asdict(made) | {"free_bytes": free, "licences": asdict(licences)}))
        return
    gib = 2**30
    tell(what)
    for way, peaks in made.peaks.items():
        mark = "  <- this" if way == made.offload else ""
        tell(
            f"  --offload {way}: {peaks.most / gib:.1f} GiB (text {peaks.text / gib:.1f}, "
            f"denoising {peaks.denoise / gib:.1f}, decoding {peaks.decode / gib:.1f}){mark}"
        )
    if made.roles != str(ONE):
        tell(f"GPUs: {made.roles}; each hands on {made.traffic_bytes / 2**20:.1f} MiB a step")
    tell(f"free there: {free / gib:.1f} GiB; host memory: {made.host_bytes / gib:.1f} GiB")
    disk = shutil.disk_usage(Path.cwd()).free
    tell(f"disk: {made.disk_bytes / 2**20:.1f} MiB of {disk / gib:.1f} GiB free")
    if made.seconds is not None:
        tell(f"time: about {made.seconds:.0f} s, loading not counted")
    tell(str(licences))
