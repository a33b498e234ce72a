"""The page of the Python API names everything public, and is current."""

from pathlib import Path

import longtake
from longtake.cli.python_page import python_page

PAGE = Path(__file__).parents[1] / "docs" / "reference" / "python.md"


def test_the_page_is_current():
    assert PAGE.read_text("utf-8") == python_page(), (
        "run: python -m longtake.cli.python_page > docs/reference/python.md"
    )


def test_every_public_name_has_its_section():
    for name in longtake.__all__:
        assert name.startswith("_") or f"\n## {name}\n" in python_page()
