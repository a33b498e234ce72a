"""A take at a chunk border, as a file that a later run can go on from."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path

import torch
from torch import Tensor

from longtake.checkpoints import load_state, save_state
from longtake.errors import StateError
from longtake.kernels.ops import Memory
from longtake.model import LayerState, State
from longtake.vae.autoencoder import StreamCache

FORMAT = 1
"""Layout of the file; newer releases read older ones."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """What must be the same for a take to go on to the same bytes."""

    model_hash: str
    """Of all weights and shapes."""
    precision: str
    """`fp32` or `bf16`."""
    device: str
    """Kind of the device: `cpu` or `cuda`."""
    processor: str
    """Its kind, as far as it decides which arithmetic runs."""
    torch: str
    """Version of the arithmetic underneath."""
    numerics: str
    """Fingerprint of the arithmetic, ours included, as measured."""

    def check(self, then: Mapping[str, str], what: str, *, allow_different: bool) -> None:
        """Compare with what something was made with.

        Args:
            then: The fields of its identity.
            what: Its name, for the message.
            allow_different: Pass other arithmetic, not other weights or precision.

        Raises:
            StateError: the first field that differs, by name.
        """
        for field in fields(self):
            before, now = then.get(field.name, "nothing"), str(getattr(self, field.name))
            if before == now:
                continue
            if field.name in ("model_hash", "precision"):
                fix = f"--precision {before}" if field.name == "precision" else "what made it"
                msg = f"{what} was made with {field.name} {before}, this is {now}; use {fix}"
                raise StateError(msg)
            if not allow_different:
                msg = (
                    f"{what} was made with {field.name} {before}, this is {now}: the rest would "
                    "have other bytes; --allow-different goes on all the same"
                )
                raise StateError(msg)


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """Everything the next chunk depends on."""

    chunk: int
    """Number of the chunk that comes next."""
    state: State
    """What the denoiser remembers."""
    decoder: StreamCache
    """What the decoder remembers."""
    notes: Mapping[str, str]
    """Texts of the caller's: prompts and settings."""

    def to(self, device: torch.device) -> "Snapshot":
        """The same on another device."""
        layers = tuple(
            LayerState(Memory(*(x.to(device) for x in layer.memory)), layer.frame.to(device))
            for layer in self.state.layers
        )
        blocks = [None if block is None else block.to(device) for block in self.decoder.blocks]
        state = State(layers, self.state.latent_frames)
        return replace(self, state=state, decoder=StreamCache(blocks))


def save_snapshot(path: Path, snapshot: Snapshot, identity: Identity) -> None:
    """Write a snapshot; a run killed meanwhile keeps the one before.

    Raises:
        OutputError: the folder is missing or not writable, or the disk is full.
    """
    tensors: dict[str, Tensor] = {}
    for number, layer in enumerate(snapshot.state.layers):
        tensors[f"layers.{number}.sums"] = layer.memory.sums
        tensors[f"layers.{number}.total"] = layer.memory.total
        tensors[f"layers.{number}.frame"] = layer.frame
    for number, cache in enumerate(snapshot.decoder.blocks):
        if cache is not None:
            tensors[f"decoder.{number}"] = cache
    settings = {
        "format": str(FORMAT),
        "chunk": str(snapshot.chunk),
        "latent_frames": str(snapshot.state.latent_frames),
        "layers": str(len(snapshot.state.layers)),
        "decoder": str(len(snapshot.decoder.blocks)),
    }
    settings |= {f"identity.{key}": str(value) for key, value in asdict(identity).items()}
    settings |= {f"notes.{key}": value for key, value in snapshot.notes.items()}
    save_state(path, tensors, settings)


def load_snapshot(path: Path, identity: Identity, *, allow_different: bool = False) -> Snapshot:
    """Read a snapshot that this model, here, goes on from.

    Args:
        path: The file.
        identity: Of the model that is to go on.
        allow_different: Go on under other arithmetic too (not: other weights or precision); the
            bytes are then no longer those of the undisturbed run.

    Raises:
        WeightsError: truncated, damaged, or no state.
        StateError: of other weights, precision or arithmetic, or of a newer release.
    """
    tensors, settings = load_state(path)
    _check_format(path, settings)
    then = {
        key.removeprefix("identity."): value
        for key, value in settings.items()
        if key.startswith("identity.")
    }
    identity.check(then, str(path), allow_different=allow_different)
    try:
        layers = tuple(
            LayerState(
                Memory(tensors[f"layers.{n}.sums"], tensors[f"layers.{n}.total"]),
                tensors[f"layers.{n}.frame"],
            )
            for n in range(int(settings["layers"]))
        )
        blocks = [tensors.get(f"decoder.{n}") for n in range(int(settings["decoder"]))]
        return Snapshot(
            chunk=int(settings["chunk"]),
            state=State(layers, int(settings["latent_frames"])),
            decoder=StreamCache(blocks),
            notes={
                key.removeprefix("notes."): value
                for key, value in settings.items()
                if key.startswith("notes.")
            },
        )
    except (KeyError, ValueError) as error:
        msg = f"{path} is no state of a take: {error} is missing; start the take again"
        raise StateError(msg) from error


def _check_format(path: Path, settings: Mapping[str, str]) -> None:
    written = settings.get("format", "")
    if not written.isdecimal():
        msg = f"{path} is the state of something else, not of a take"
        raise StateError(msg)
    if int(written) > FORMAT:
        msg = f"{path} has format {written} of a newer release; this one reads up to {FORMAT}"
        raise StateError(msg)
