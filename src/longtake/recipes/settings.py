"""What a user names, as a recipe: a shipped one, or a JSON file of the settings that differ."""

import json
from difflib import get_close_matches
from pathlib import Path
from typing import Any, TypeVar

from longtake.config import merge
from longtake.errors import SettingError
from longtake.recipes.recipe import PrevizRecipe

RECIPES = ("previz",)
"""Recipes by name."""
_MAX_BYTES = 2**20
Recipe = TypeVar("Recipe")


def load_recipe(name_or_file: str) -> PrevizRecipe:
    """The recipe of that name, or `previz` with the settings that a JSON file changes.

    Raises:
        SettingError: no such recipe or file, no JSON, or a setting that does not exist or fit.
    """
    if name_or_file in RECIPES:
        return PrevizRecipe()
    path = Path(name_or_file)
    try:
        return merged(PrevizRecipe(), path)
    except SettingError as error:
        if not isinstance(error.__cause__, FileNotFoundError):
            raise
        near = get_close_matches(path.stem, RECIPES, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"recipes are {', '.join(RECIPES)}"
        msg = f"no recipe and no settings file is named {name_or_file!r}; {hint}"
        raise SettingError(msg) from error


def merged(recipe: Recipe, path: Path) -> Recipe:
    """A recipe with the settings that a JSON file changes.

    Raises:
        SettingError: no file, no JSON, or a setting that does not exist or fit.
    """
    try:
        text = _read(path)
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is no UTF-8 text"
        msg = f"cannot read the settings file {path}: {why}"
        raise SettingError(msg) from error
    try:
        return merge(recipe, _parse(text))
    except SettingError as error:
        msg = f"{path}: {error}"
        raise SettingError(msg) from error


def _read(path: Path) -> str:
    with path.open("rb") as file:
        raw = file.read(_MAX_BYTES + 1)
    if len(raw) > _MAX_BYTES:
        msg = f"{path} has more than {_MAX_BYTES:,} bytes; settings are a few lines of JSON"
        raise SettingError(msg)
    return raw.decode("utf-8-sig")


def _parse(text: str) -> dict[str, Any]:
    example = 'as {"transformer": {"steps": 1000}}'
    try:
        content = json.loads(text)
    except json.JSONDecodeError as error:
        msg = f"line {error.lineno}, column {error.colno} is no JSON: {error.msg}"
        raise SettingError(msg) from error
    except (ValueError, RecursionError) as error:
        msg = f"the settings are no JSON: {error}; write one object, {example}"
        raise SettingError(msg) from error
    if not isinstance(content, dict):
        msg = f"the settings must be one JSON object, {example}"
        raise SettingError(msg)
    return content
