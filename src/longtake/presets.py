"""Named models: where their files lie and what they are for; the pipeline builds them."""

import re
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path

from longtake.errors import ModelError

MODEL_FILE = "model.json"
"""Shapes and vocabulary of a model."""
PUBLIC_FILE = "model_index.json"
"""The file that makes a folder a public model."""
PARTS = ("text", "transformer", "autoencoder")
"""Weights of a model in the order of the path, each in safetensors of this name."""
_HUB_ID = re.compile(r"([A-Za-z0-9][\w.-]{0,95}/[\w-][\w.-]{0,95})(?:@([\w.-]{1,96}))?")


@dataclass(frozen=True, slots=True, kw_only=True)
class Preset:
    """A model by name."""

    name: str
    """What a user types."""
    folder: Path
    """Where its files lie."""
    summary: str
    """What it is, in one line."""


PRESETS = (
    Preset(
        name="previz",
        folder=Path(__file__).parent / "weights" / "previz",
        summary="the embedded toy-world model: 256x448, 16 fps, four steps, up to a minute",
    ),
)


@dataclass(frozen=True, slots=True)
class HubId:
    """A repository on the hub and a revision of it."""

    repository: str
    """As `owner/name`."""
    revision: str | None
    """Commit, tag or branch; None: the newest, which is then told as a commit."""


def hub_id(name: str) -> HubId | None:
    """The repository that `owner/name` or `owner/name@revision` names; None for anything else."""
    found = _HUB_ID.fullmatch(name)
    return HubId(found[1], found[2]) if found and ".." not in name else None


def is_public(name: str) -> bool:
    """True for a public model: a folder with a model_index.json, or a name on the hub."""
    if Path(name).exists():
        return (Path(name) / PUBLIC_FILE).is_file()
    return hub_id(name) is not None


def find(name: str) -> Preset:
    """The preset of that name, or the model in that folder.

    Raises:
        ModelError: neither exists.
    """
    for preset in PRESETS:
        if preset.name == name:
            return preset
    if (Path(name) / MODEL_FILE).is_file():
        return Preset(name=Path(name).name, folder=Path(name), summary="a model of your own")
    names = [preset.name for preset in PRESETS]
    near = get_close_matches(name, names, n=1)
    hint = f"did you mean {near[0]!r}?" if near else f"there is {', '.join(names)}"
    msg = f"no model named {name!r} and no folder with a {MODEL_FILE}; {hint}"
    raise ModelError(msg)
