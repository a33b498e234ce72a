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
from longtake.rollout.take import Sketch
from longtake.vae.autoencoder import StreamCache

FORMAT = 2
"""Layout of the file; newer releases read older ones."""
PLAIN = 1
"""Layout of a state without a small film, which older releases read too."""


_SKETCH = "sketch."


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
    sketch: Sketch | None = None
    """What is remembered of the small film below, if there is one."""
    notes: Mapping[str, str]
    """Texts of the caller's: prompts and settings."""

    def to(self, device: torch.device) -> "Snapshot":
        """The same on another device."""
        sketch = self.sketch
        if sketch is not None:
            sketch = Sketch(
                state=_state_on(sketch.state, device),
                decoder=_cache_on(sketch.decoder, device),
                encoder=_cache_on(sketch.encoder, device),
            )
        return replace(
            self,
            state=_state_on(self.state, device),
            decoder=_cache_on(self.decoder, device),
            sketch=sketch,
        )


def save_snapshot(path: Path, snapshot: Snapshot, identity: Identity) -> None:
    """Write a snapshot; a run killed meanwhile keeps the one before.

    Raises:
        OutputError: the folder is missing or not writable, or the disk is full.
    """
    sketch = snapshot.sketch
    tensors = _of_state("", snapshot.state) | _of_cache("decoder", snapshot.decoder)
    settings = {
        "format": str(PLAIN if sketch is None else FORMAT),
        "chunk": str(snapshot.chunk),
        **_told("", snapshot.state),
        "decoder": str(len(snapshot.decoder.blocks)),
    }
    if sketch is not None:
        tensors |= _of_state(_SKETCH, sketch.state)
        tensors |= _of_cache(f"{_SKETCH}decoder", sketch.decoder)
        tensors |= _of_cache(f"{_SKETCH}encoder", sketch.encoder)
        settings |= _told(_SKETCH, sketch.state) | {
            f"{_SKETCH}decoder": str(len(sketch.decoder.blocks)),
            f"{_SKETCH}encoder": str(len(sketch.encoder.blocks)),
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
        sketch = None
        if f"{_SKETCH}layers" in settings:
            sketch = Sketch(
                state=_state_from(_SKETCH, tensors, settings),
                decoder=_cache_from(f"{_SKETCH}decoder", tensors, settings),
                encoder=_cache_from(f"{_SKETCH}encoder", tensors, settings),
            )
        return Snapshot(
            chunk=int(settings["chunk"]),
            state=_state_from("", tensors, settings),
            decoder=_cache_from("decoder", tensors, settings),
            sketch=sketch,
            notes={
                key.removeprefix("notes."): value
                for key, value in settings.items()
                if key.startswith("notes.")
            },
        )
    except (KeyError, ValueError) as error:
        msg = f"{path} is no state of a take: {error} is missing; start the take again"
        raise StateError(msg) from error


def _state_on(state: State, device: torch.device) -> State:
    layers = tuple(
        LayerState(Memory(*(x.to(device) for x in layer.memory)), layer.frame.to(device))
        for layer in state.layers
    )
    return State(layers, state.latent_frames)


def _cache_on(cache: StreamCache, device: torch.device) -> StreamCache:
    return StreamCache([None if block is None else block.to(device) for block in cache.blocks])


def _of_state(name: str, state: State) -> dict[str, Tensor]:
    tensors: dict[str, Tensor] = {}
    for number, layer in enumerate(state.layers):
        tensors[f"{name}layers.{number}.sums"] = layer.memory.sums
        tensors[f"{name}layers.{number}.total"] = layer.memory.total
        tensors[f"{name}layers.{number}.frame"] = layer.frame
    return tensors


def _of_cache(name: str, cache: StreamCache) -> dict[str, Tensor]:
    return {f"{name}.{n}": block for n, block in enumerate(cache.blocks) if block is not None}


def _told(name: str, state: State) -> dict[str, str]:
    return {
        f"{name}latent_frames": str(state.latent_frames),
        f"{name}layers": str(len(state.layers)),
    }


def _state_from(name: str, tensors: Mapping[str, Tensor], settings: Mapping[str, str]) -> State:
    layers = tuple(
        LayerState(
            Memory(tensors[f"{name}layers.{n}.sums"], tensors[f"{name}layers.{n}.total"]),
            tensors[f"{name}layers.{n}.frame"],
        )
        for n in range(int(settings[f"{name}layers"]))
    )
    return State(layers, int(settings[f"{name}latent_frames"]))


def _cache_from(
    name: str, tensors: Mapping[str, Tensor], settings: Mapping[str, str]
) -> StreamCache:
    return StreamCache([tensors.get(f"{name}.{n}") for n in range(int(settings[name]))])


def _check_format(path: Path, settings: Mapping[str, str]) -> None:
    written = settings.get("format", "")
    if not written.isdecimal():
        msg = f"{path} is the state of something else, not of a take"
        raise StateError(msg)
    if int(written) > FORMAT:
        msg = f"{path} has format {written} of a newer release; this one reads up to {FORMAT}"
        raise StateError(msg)
