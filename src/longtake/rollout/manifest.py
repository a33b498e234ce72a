"""What a take is made from: the text file in its folder, enough to go on with it."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from longtake.config import FPS, Cue, LoraUse, SampleConfig, from_dict, to_dict
from longtake.errors import SettingError, StateError
from longtake.media.manifest import Manifest
from longtake.rollout.cues import told_before
from longtake.rollout.grid import Grid
from longtake.rollout.snapshot import Identity
from longtake.storage import atomic_write, output_errors

FORMAT = 1
"""Layout of the file; newer releases read older ones."""
NAME = "take.json"
_MOST_BYTES = 4 * 2**20


@dataclass(frozen=True, slots=True, kw_only=True)
class TakeManifest:
    """Everything that decides the film, and how it is kept."""

    film: str
    """Name of the film; it lies beside the folder."""
    model: str
    """Preset by name, or the model's folder."""
    loras: tuple[LoraUse, ...] = ()
    """What is laid over its weights, by where it lay."""
    identity: Identity
    """What it is made with; other weights or arithmetic would make another film."""
    threads: int
    """Threads it is computed with; in fp32 some operations give other bytes with others."""
    version: str
    """Release of Longtake that began it."""
    chunk: int
    """Latent frames of a chunk."""
    prompt: str
    """As it was typed."""
    cues: tuple[Cue, ...] = ()
    """How the prompt goes on, in the order of time."""
    settings: SampleConfig
    """Everything else that decides the pixels; its frames count from where the grid begins."""
    begins: int = 0
    """Number of the first chunk that is made; those before are the end of another film."""
    turn: int = 0
    """Number of the chunk at which it turned off from another take; that take made those before."""
    before: int = 0
    """Frames of the film before that chunk, which another film gave."""
    picture: str = ""
    """Checksum of the picture it begins with; empty without one."""
    history: str = ""
    """Checksum of the frames of another film that it goes on from; empty without."""
    metadata: bool = True
    """Whether the film carries what it was made from."""
    sheet: bool = True
    """Whether a contact sheet goes with it."""
    keep: bool = False
    """Whether the folder stays when the film is finished."""
    keep_every_s: float = 0.0
    """Seconds between states that stay; 0: only the newest."""
    finished: bool = False
    """Whether the film is whole."""

    @property
    def grid(self) -> Grid:
        """Which frames each chunk makes."""
        return Grid(self.chunk)

    @property
    def chunks(self) -> int:
        """Chunks of the whole take."""
        return self.grid.chunks(self.settings.frames)

    @property
    def frames(self) -> int:
        """Frames of the film."""
        given = self.grid.frames(self.begins).start if self.begins else 0
        return self.settings.frames - given + self.before

    @property
    def trimmed(self) -> bool:
        """Whether the film ends inside its last chunk."""
        return self.grid.frames(self.chunks - 1).stop > self.settings.frames

    @property
    def kept(self) -> frozenset[int]:
        """Chunks before which a state stays: the first border at or after each so many seconds."""
        every = self.keep_every_s
        if not every:
            return frozenset()
        passed = [
            int(round(self.grid.begins_s(chunk) / every, 9)) for chunk in range(self.chunks + 1)
        ]
        return frozenset(n for n in range(1, len(passed)) if passed[n] > passed[n - 1])

    @property
    def shift_s(self) -> float:
        """Seconds by which the film's clock is ahead of the grid's."""
        given = self.grid.frames(self.begins).start if self.begins else 0
        return (self.before - given) / FPS

    def made_s(self, chunk: int) -> float:
        """Seconds of the film before a chunk."""
        return min(self.grid.frames(chunk).start, self.settings.frames) / FPS + self.shift_s

    def told_before(self, chunk: int) -> dict[str, str]:
        """What decided the take before a chunk."""
        given = self.picture or self.history
        return told_before(chunk, self.prompt, self.cues, self.settings, self.grid, given)

    def check_identity(self, now: Identity, path: Path, *, allow_different: bool) -> None:
        """Compare the model that made it with the one that is to go on.

        Raises:
            StateError: other weights, precision or arithmetic, by name.
        """
        then = {key: str(value) for key, value in asdict(self.identity).items()}
        now.check(then, str(path), allow_different=allow_different)


def film_manifest(take: TakeManifest, model: str) -> Manifest:
    """A take as its film tells it."""
    return Manifest(
        prompt=take.prompt,
        model=model,
        model_hash=take.identity.model_hash,
        version=take.version,
        settings=take.settings,
        precision=take.identity.precision,
        cues=take.cues,
        picture=take.picture,
        before=take.before,
        processor=take.identity.processor,
        torch=take.identity.torch,
        loras=tuple(replace(use, file=Path(use.file).name) for use in take.loras),
    )


def write_manifest(folder: Path, manifest: TakeManifest) -> None:
    """Store it; a run killed meanwhile keeps the one before.

    Raises:
        OutputError: it cannot be written.
    """
    path = folder / NAME
    text = json.dumps({"format": FORMAT, **to_dict(manifest)}, indent=1, ensure_ascii=False)
    with atomic_write(path) as temp, output_errors(path):
        temp.write_text(text + "\n", "utf-8")


def read_manifest(folder: Path) -> TakeManifest:
    """Read what a folder's take is made from.

    Raises:
        StateError: no take there, a damaged file, or one of a newer release.
    """
    path = folder / NAME
    try:
        raw = path.read_bytes()[: _MOST_BYTES + 1]
        data = json.loads(raw.decode("utf-8")) if len(raw) <= _MOST_BYTES else None
    except OSError as error:
        msg = f"there is no take in {folder}: {NAME} cannot be read ({error.strerror})"
        raise StateError(msg) from error
    except (ValueError, RecursionError) as error:
        msg = f"{path} is damaged: {error}; make the take again"
        raise StateError(msg) from error
    if not isinstance(data, dict) or not isinstance(data.get("format"), int):
        msg = f"{path} is damaged: it has no format number; make the take again"
        raise StateError(msg)
    if data.pop("format") > FORMAT:
        msg = f"{path} is of a newer release; this one reads format {FORMAT}"
        raise StateError(msg)
    return _checked(path, data)


def _checked(path: Path, data: Mapping[str, Any]) -> TakeManifest:
    try:
        manifest = from_dict(TakeManifest, data)
        manifest.grid.chunks(manifest.settings.frames)
    except (SettingError, ValueError, TypeError, AttributeError) as error:
        msg = f"{path} is damaged: {error}; make the take again"
        raise StateError(msg) from error
    if Path(manifest.film).name != manifest.film or not manifest.film:
        msg = f"{path} is damaged: the film's name {manifest.film!r} leads elsewhere"
        raise StateError(msg)
    return manifest
