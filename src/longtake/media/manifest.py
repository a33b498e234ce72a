"""What a film was made from: the record inside the mp4, enough to make it again."""

import json
from collections.abc import Mapping
from dataclasses import dataclass

from longtake.config import Cue, LoraUse, SampleConfig, from_dict, to_dict
from longtake.errors import MediaError, SettingError

TAG = "longtake"
"""Name of the container tag that holds the record."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """Prompt, model and settings of one film."""

    prompt: str
    """As the model read it."""
    model: str
    """Preset name or folder name of the model."""
    model_hash: str
    """Content hash of the weights."""
    version: str
    """Release of Longtake that made the film."""
    settings: SampleConfig
    """Everything else that decides the pixels, the seed among it."""
    precision: str
    """Arithmetic it was made in, fp32 or bf16; the same bytes need the same."""
    cues: tuple[Cue, ...] = ()
    """How the prompt went on, in the order of time."""
    picture: str = ""
    """Checksum of the picture it began with; empty without one."""
    before: int = 0
    """Frames at its beginning that are another film's."""
    processor: str = ""
    """Kind of the processor that made it; another may give other bytes."""
    torch: str = ""
    """Version of the arithmetic underneath; another may give other bytes."""
    loras: tuple[LoraUse, ...] = ()
    """What was laid over the weights, by file name; the model hash tells of them too."""

    def to_json(self) -> str:
        """One compact line; the same manifest gives the same bytes."""
        return json.dumps(to_dict(self), ensure_ascii=False, separators=(",", ":"))

    def tags(self) -> dict[str, str]:
        """Container tags: the record, and what players show."""
        return {
            TAG: self.to_json(),
            "title": self.prompt,
            "comment": f"Longtake {self.version}, model {self.model}, seed {self.settings.seed}",
        }


def from_json(text: str) -> Manifest:
    """Read a record back.

    Raises:
        MediaError: not a record of this form.
    """
    try:
        return from_dict(Manifest, json.loads(text))
    except (ValueError, TypeError, AttributeError, RecursionError, SettingError) as error:
        msg = f"the film's {TAG!r} tag is not a Longtake record: {error}"
        raise MediaError(msg) from error


def from_tags(tags: Mapping[str, str]) -> Manifest:
    """Read the record from a film's container tags.

    Raises:
        MediaError: the film has none, or it is damaged.
    """
    if TAG not in tags:
        msg = f"the film has no {TAG!r} tag; only films made by Longtake without --no-metadata do"
        raise MediaError(msg)
    return from_json(tags[TAG])
