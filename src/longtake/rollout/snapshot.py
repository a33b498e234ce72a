"""A take at a chunk border, as a file that a later run can go on from."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from torch import Tensor

from longtake.checkpoints import load_state, save_state
from longtake.errors import StateError
from longtake.kernels.ops import Memory
from longtake.model import LayerState, State
from longtake.vae.autoencoder import StreamCache

FORMAT = 1
"""Layout of the file; newer releases read older ones."""
NUMERICS = 1
"""Changes whenever the same state would go on to other bytes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """What must be the same for a take to go on to the same bytes."""

    model_hash: str
    """Of all weights and shapes."""
    precision: str
    """`fp32` or `bf16`."""
    device: str
    """Kind of the device: `cpu` or `cuda`."""
    torch: str
    """Version of the arithmetic underneath."""
    numerics: int = NUMERICS
    """Version of the arithmetic here."""


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
    _check_identity(path, settings, identity, allow_different=allow_different)
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


def _check_identity(
    path: Path, settings: Mapping[str, str], identity: Identity, *, allow_different: bool
) -> None:
    for field in fields(Identity):
        then = settings.get(f"identity.{field.name}", "nothing")
        now = str(getattr(identity, field.name))
        if then == now:
            continue
        if field.name in ("model_hash", "precision"):
            msg = f"{path} was made with {field.name} {then}, this is {now}; use what made it"
            raise StateError(msg)
        if not allow_different:
            msg = (
                f"{path} was made with {field.name} {then}, this is {now}: the rest would have "
                "other bytes; --allow-different goes on all the same"
            )
            raise StateError(msg)
