"""Named models: where their files lie and what they are for; the pipeline builds them."""

from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path

from longtake.errors import ModelError

MODEL_FILE = "model.json"
"""Shapes and vocabulary of a model."""
PARTS = ("text", "transformer", "autoencoder")
"""Weights of a model in the order of the path, each in safetensors of this name."""


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
        summary="the embedded toy-world model: 256x448, 16 fps, up to 5 seconds",
    ),
)


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
