"""What a cut is made from: beside it as a file, and inside its mp4, enough to make it again."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

from longtake.config import LoraUse, SampleConfig, from_dict, to_dict
from longtake.errors import LongtakeError, MediaError
from longtake.shots.render import Made
from longtake.shots.retime import Retiming
from longtake.shots.shot import ShotList
from longtake.shots.table import Row, Sheet, cells_of, shots_of
from longtake.shots.timecode import rate_of

FORMAT = 1
KIND = "scene"
"""What tells the record of a cut from that of a film."""
MOST_INSIDE = 60_000
"""Longest record that goes into the mp4; longer ones lie beside it only."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SceneManifest:
    """A cut: its list, and how every shot of it was made."""

    scene: ShotList
    retiming: Retiming
    handles: int
    model: str
    model_hash: str
    precision: str
    version: str
    settings: SampleConfig
    """What all shots share."""
    takes: tuple[str, ...] = ()
    """Takes that fill the shots, in order."""
    keys: tuple[str, ...] = ()
    """Digests of what decides each shot's file."""
    processor: str = ""
    """Kind of the processor that made it; another may give other bytes."""
    torch: str = ""
    """Version of the arithmetic underneath; another may give other bytes."""
    loras: tuple[LoraUse, ...] = ()
    """What was laid over the model for all shots, by file name."""
    frozen: tuple[str, ...] = ()
    """Codes of shots that were locked; the list may not tell what they are made from."""

    def to_json(self, folder: Path) -> str:
        """One compact line; the same cut gives the same bytes.

        Args:
            folder: From where pictures will be looked for.
        """
        told: dict[str, Any] = {"format": FORMAT, "kind": KIND, "title": self.scene.title}
        told |= {"rate": self.scene.rate.name, "retiming": self.retiming, "handles": self.handles}
        told |= {"model": self.model, "model_hash": self.model_hash, "precision": self.precision}
        told |= {"version": self.version, "settings": to_dict(self.settings)}
        told |= {"processor": self.processor, "torch": self.torch}
        told["loras"] = [to_dict(use) for use in self.loras]
        told["shots"] = [cells_of(shot, folder) for shot in self.scene.shots]
        told |= {"takes": self.takes, "keys": self.keys, "frozen": self.frozen}
        return json.dumps(told, ensure_ascii=False, separators=(",", ":"))


def manifest_from(text: str, folder: Path) -> SceneManifest:
    """Read a record back.

    Args:
        text: The record.
        folder: From where pictures are looked for.

    Raises:
        MediaError: not a record of this form.
    """
    try:
        told = json.loads(text)
        if told.pop("format") > FORMAT:
            msg = f"the cut was made by a newer release; this one reads format {FORMAT}"
            raise MediaError(msg)
        rate = rate_of(told["rate"])
        rows = [Row(f"shot {n}", cells) for n, cells in enumerate(told["shots"], start=1)]
        shots, _ = shots_of(Sheet(rows=rows), rate, folder, {})
        if told["retiming"] not in get_args(Retiming):
            msg = f"unknown re-timing {told['retiming']!r}"
            raise MediaError(msg)
        return SceneManifest(
            scene=ShotList(title=told["title"], rate=rate, shots=shots),
            retiming=told["retiming"],
            handles=int(told["handles"]),
            model=str(told["model"]),
            model_hash=str(told["model_hash"]),
            precision=str(told["precision"]),
            version=str(told["version"]),
            processor=str(told["processor"]),
            torch=str(told["torch"]),
            loras=tuple(from_dict(LoraUse, use) for use in told.get("loras", ())),
            settings=from_dict(SampleConfig, told["settings"]),
            takes=tuple(map(str, told["takes"])),
            keys=tuple(map(str, told["keys"])),
            frozen=tuple(map(str, told["frozen"])),
        )
    except (ValueError, TypeError, AttributeError, KeyError, LongtakeError) as error:
        msg = f"the record of the cut cannot be used: {error}"
        raise MediaError(msg) from error


def is_scene(text: str) -> bool:
    """Whether a film's record is that of a cut."""
    try:
        told = json.loads(text)
    except ValueError:
        return False
    return isinstance(told, dict) and told.get("kind") == KIND


def keys_of(cut: Sequence[Made]) -> tuple[str, ...]:
    """Digests of what decides each shot's file."""
    return tuple(made.record.cut_key for made in cut)
