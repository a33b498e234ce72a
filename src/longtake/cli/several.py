"""One film by several devices: `--gpus` begins a process for each that denoises."""

import os
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING

from longtake.cli.options import FilmOptions, RunOptions, settings_of
from longtake.errors import CannotHere, SettingError

if TYPE_CHECKING:
    import torch

    from longtake.config import ModelConfig, SampleConfig
    from longtake.official.folder import PublicModel
    from longtake.official.settings import OfficialConfig
    from longtake.parallel import Roles, Team


@dataclass(frozen=True, slots=True)
class Place:
    """Where a process stands among those that make a film."""

    team: "Team"
    """Who they are."""
    decoder: "torch.device | None"
    """Where chunks are decoded meanwhile, if they are."""


def gather(model: RunOptions, film: FilmOptions, prompt: str) -> Place | None:
    """Make a film of a model of our own by several devices.

    Args:
        model: The model, and how many.
        film: The film.
        prompt: As it was read.

    Returns:
        This process's place; None if others have made the film.

    Raises:
        SettingError: no device at all.
        CannotHere: more devices than there is work or GPUs, or a process failed.
    """
    from longtake.checkpoints import read_json
    from longtake.config import ModelConfig, from_dict
    from longtake.pipeline import device_of
    from longtake.presets import MODEL_FILE, find

    config = from_dict(ModelConfig, read_json(find(model.model).folder / MODEL_FILE))
    settings, _ = settings_of(film, config.sampling.settings())
    roles = own_roles(config, settings, model.gpus)
    return place_of(roles, device_of(model.device), prompt)


def place_of(roles: "Roles", device: "torch.device", prompt: str) -> Place | None:
    """This process's place in a run of these roles; None if others have done the work.

    Raises:
        CannotHere: fewer GPUs than that, or a process failed.
    """
    from longtake.parallel import assemble, join

    home, decoder = places(device, roles)
    if begin_together(roles, prompt):
        return None
    join(home, roles.processes)
    return Place(assemble(roles), decoder)


def refuse_torchrun() -> None:
    """Refuse to be begun by torchrun, each of whose processes would make the same film.

    Raises:
        SettingError: it was.
    """
    if "TORCHELASTIC_RUN_ID" in os.environ and "LONGTAKE_LIFELINE" not in os.environ:
        msg = "torchrun is for training; a film by several GPUs is: longtake generate ... --gpus 2"
        raise SettingError(msg)


def begin_together(roles: "Roles", prompt: str) -> bool:
    """Run this same command as several processes and wait for them.

    Args:
        roles: What each does.
        prompt: What they are told on stdin.

    Returns:
        False if there is nothing to begin: this is one of them, or one is enough.

    Raises:
        CannotHere: one of the processes failed, in its own words.
        SystemExit: the first one failed and has said why.
    """
    from longtake.parallel import launched, run_together

    if roles.processes == 1 or launched():
        return False
    command = [sys.executable, "-m", "longtake", *sys.argv[1:]]
    ending = run_together(command, roles.processes, prompt.encode())
    if ending.code == 0:
        return True
    if ending.rank == 0 and ending.code > 0:
        raise SystemExit(ending.code)
    raise CannotHere(told(ending.rank, ending.code, ending.word))


def told(rank: int, code: int, word: str) -> str:
    """Why a process failed, in one line."""
    if code < 0:
        return f"process {rank} was killed by signal {-code}; nothing was written"
    return f"process {rank}: {word.removeprefix('error: ') or f'exit code {code}'}"


def public_roles(model: "PublicModel", settings: "OfficialConfig", gpus: int) -> "Roles":
    """What each of several devices does for a film of a public model.

    Raises:
        SettingError: no device at all.
        CannotHere: more devices than there is work.
    """
    from longtake.official.longsana import chunks_of
    from longtake.parallel import roles_of

    check_count(gpus)
    frames = model.latent_frames(settings.frames)
    least = min(chunks_of(frames)) if model.causal else frames
    guided = settings.guidance > 1.0
    return roles_of(gpus, guided=guided, by_chunks=model.causal, latent_frames=least)


def own_roles(config: "ModelConfig", settings: "SampleConfig", gpus: int) -> "Roles":
    """What each of several devices does for a film of a model of our own.

    A take by chunks is gone on with to the same bytes, so that its chunks are not shared; what can
    be had beside them is the decoder.

    Raises:
        SettingError: no device at all.
        CannotHere: more devices than there is work.
    """
    from longtake.config import latent_frames_for
    from longtake.parallel import Roles, roles_of

    check_count(gpus)
    if config.chunk:
        if gpus > 2:
            msg = f"a take by chunks has work for 2 GPUs, got --gpus {gpus}; use --gpus 2"
            raise CannotHere(msg)
        return Roles(decodes=gpus == 2)
    frames = latent_frames_for(settings.frames)
    guided = settings.guidance != 1.0
    roles = roles_of(gpus, guided=guided, by_chunks=False, latent_frames=frames)
    if roles.shards > 1 and config.transformer.attention != "linear":
        msg = (
            f"{config.transformer.attention} attention cannot be shared frame by frame; "
            f"use --gpus {2 if guided else 1}"
        )
        raise CannotHere(msg)
    return roles


def check_count(gpus: int) -> None:
    """Refuse no device.

    Raises:
        SettingError: fewer than one.
    """
    if gpus < 1:
        msg = f"--gpus must be at least 1, got {gpus}; try 2"
        raise SettingError(msg)


def places(device: "torch.device", roles: "Roles") -> "tuple[torch.device, torch.device | None]":
    """Where this process denoises, and where chunks are decoded meanwhile, if they are.

    Raises:
        CannotHere: there are fewer GPUs.
    """
    import torch

    from longtake.parallel import own_device

    there = torch.cuda.device_count()
    if device.type == "cuda" and roles.devices > there:
        msg = f"--gpus {roles.devices}, but {there} can be seen here; use --gpus {there}"
        raise CannotHere(msg)
    decoder = torch.device("cuda", roles.devices - 1) if device.type == "cuda" else device
    return own_device(device), decoder if roles.decodes else None
