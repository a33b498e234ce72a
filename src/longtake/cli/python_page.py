"""The reference page of the Python API, made from the docstrings of the public names.

python -m longtake.cli.python_page > docs/reference/python.md
"""

import inspect
from typing import Any

import longtake

_HEAD = """\
# Python

What `import longtake` offers; other modules may change without notice. Settings are described in
[settings](settings.md).
"""


def python_page() -> str:
    """The page as Markdown."""
    names = [name for name in longtake.__all__ if not name.startswith("_")]
    return _HEAD + "".join(_entry(name, getattr(longtake, name)) for name in names)


def _entry(name: str, value: Any) -> str:  # noqa: ANN401 - whatever is public
    lines = [f"\n## {name}\n\n{_described(name, value)}\n"]
    if inspect.isclass(value):
        for member, method in vars(value).items():
            if inspect.isfunction(method) and not member.startswith("_"):
                lines.append(f"\n### {name}.{member}\n\n{_described(member, method)}\n")
    return "".join(lines)


def _described(name: str, value: Any) -> str:  # noqa: ANN401
    call = f"```python\n{name}{_signature(value)}\n```\n\n" if inspect.isfunction(value) else ""
    return f"{call}{inspect.getdoc(value)}"


def _signature(function: Any) -> str:  # noqa: ANN401
    signature = inspect.signature(function)
    shown = [
        parameter.replace(annotation=inspect.Parameter.empty)
        for parameter in signature.parameters.values()
        if parameter.name != "self"
    ]
    return str(inspect.Signature(shown))


if __name__ == "__main__":
    print(python_page(), end="")
