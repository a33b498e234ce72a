"""The reference page of all settings, made from the dataclasses themselves.

python -m longtake.cli.settings_page > docs/reference/settings.md
"""

import ast
import inspect
from collections.abc import Iterator
from dataclasses import MISSING, Field, fields, is_dataclass
from textwrap import dedent
from types import UnionType
from typing import Any, Literal, get_args, get_origin, get_type_hints

from longtake import config
from longtake.config import grain, lora, refine, training
from longtake.data.rules import PrepareConfig
from longtake.official.settings import OfficialConfig
from longtake.recipes.finetune import FinetuneRecipe
from longtake.recipes.recipe import PrevizRecipe

CLASSES: tuple[type[Any], ...] = (
    *(
        cls
        for module in (config, grain, lora, refine, training)
        for cls in vars(module).values()
        if isinstance(cls, type) and is_dataclass(cls) and cls.__module__ == module.__name__
    ),
    OfficialConfig,
    PrevizRecipe,
    FinetuneRecipe,
    PrepareConfig,
)
"""Every class of settings, in the order of the page."""
_MOST_SHOWN = 8
"""Longer lists are counted."""
_HEAD = """\
# Settings

Every setting with its type, its default and what it does. A JSON file for `longtake train` names
those that differ from `PrevizRecipe`, nested as they are here: `{"transformer": {"steps": 1000}}`.
A name that is not on this page is an error. A model keeps its `ModelConfig` in `model.json`.
"""


def settings_page() -> str:
    """The page as Markdown."""
    return _HEAD + "".join(_section(cls) for cls in CLASSES)


def field_docs(cls: type[Any]) -> dict[str, str]:
    """The docstring under each field; a field without one is left out."""
    (definition,) = ast.parse(dedent(inspect.getsource(cls))).body
    assert isinstance(definition, ast.ClassDef)
    docs: dict[str, str] = {}
    for node, after in zip(definition.body, definition.body[1:], strict=False):
        match node, after:
            case (
                ast.AnnAssign(target=ast.Name(id=name)),
                ast.Expr(value=ast.Constant(value=str(text))),
            ):
                docs[name] = " ".join(text.split())
    return docs


def _section(cls: type[Any]) -> str:
    title = (inspect.getdoc(cls) or "").splitlines()[0]
    lines = [f"\n## {cls.__name__}\n\n{title}\n\n| setting | type | default | what it does |\n"]
    lines.append("|---|---|---|---|\n")
    docs, hints = field_docs(cls), get_type_hints(cls)
    for f in fields(cls):
        row = (f"`{f.name}`", _type(hints[f.name]), _default(f), docs.get(f.name, ""))
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |\n")
    return "".join(lines)


def _type(hint: Any) -> str:  # noqa: ANN401 - whatever a field may have
    if get_origin(hint) is Literal:
        return ", ".join(f"`{choice}`" for choice in get_args(hint))
    if hint in CLASSES:
        return f"[{hint.__name__}](#{hint.__name__.lower()})"
    if get_origin(hint) is tuple:
        return f"list of {get_args(hint)[0].__name__}"
    if get_origin(hint) is UnionType:
        return f"{get_args(hint)[0].__name__} or none"
    return hint.__name__


def _default(f: Field[Any]) -> str:
    if f.default is not MISSING:
        return _shown(f.default)
    if f.default_factory is not MISSING:
        return _shown(f.default_factory())
    return "required"


def _shown(value: object) -> str:
    if is_dataclass(value):
        return ", ".join(_changes(value)) or "its defaults"
    if isinstance(value, tuple):
        if len(value) > _MOST_SHOWN:
            return f"a list of {len(value)}"
        return "[" + ", ".join(_shown(part) for part in value) + "]"
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:g}" if isinstance(value, float) else str(value)


def _changes(value: Any) -> Iterator[str]:  # noqa: ANN401 - any class of settings
    """Fields in which a default differs from the defaults of its class."""
    for f in fields(value):
        given = getattr(value, f.name)
        if given != f.default and not (is_dataclass(given) and given == type(given)()):
            yield f"`{f.name}` {_shown(given)}"


if __name__ == "__main__":
    print(settings_page(), end="")
