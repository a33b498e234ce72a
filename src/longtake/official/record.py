"""What a film of a public model was made from: the record inside the mp4."""

import json
from dataclasses import dataclass

from longtake.config import LoraUse, to_dict
from longtake.media.manifest import TAG
from longtake.official.settings import OfficialConfig
from longtake.official.source import Licences


@dataclass(frozen=True, slots=True, kw_only=True)
class PublicRecord:
    """Prompt, model, settings and terms of one film."""

    prompt: str
    """As the user wrote it."""
    model: str
    """Folder or name on the hub."""
    model_hash: str
    """Fingerprint of the folder."""
    version: str
    """Release of Longtake that made the film."""
    settings: OfficialConfig
    """Everything else that decides the pixels."""
    precision: str
    """Arithmetic it was made in."""
    licences: Licences
    """Terms of the parts."""
    picture: str = ""
    """Checksum of the picture it began with; empty without one."""
    loras: tuple[LoraUse, ...] = ()
    """What was laid over the denoiser, by file name; the hash tells of them too."""

    def tags(self) -> dict[str, str]:
        """Container tags: the record, and what players show."""
        return {
            TAG: json.dumps(to_dict(self), ensure_ascii=False, separators=(",", ":")),
            "title": self.prompt,
            "comment": f"Longtake {self.version}, model {self.model}, seed {self.settings.seed}",
        }
