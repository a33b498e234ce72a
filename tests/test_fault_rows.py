"""The page of faults says what the tests prove."""

import importlib
import re
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent / "faults"))
rows = importlib.import_module("rows")
PAGE = Path(__file__).parents[1] / "docs" / "reference" / "faults.md"


def test_the_page_is_that_of_the_tests():
    assert PAGE.read_text("utf-8") == rows.page(), "run: make docs"


def test_every_fault_has_a_test_or_an_exception_with_its_day():
    bare = [number for number, found in rows.tests().items() if not found]
    assert set(bare) <= rows.EXCEPTIONS.keys()
    assert all(re.match(r"\d{4}-\d\d-\d\d: ", text) for text in rows.EXCEPTIONS.values())


def test_what_runs_with_soak_alone_is_there():
    for text in rows.SOAKED.values():
        for name in re.findall(r"(?:benchmarks|tests)/[\w/]+\.py", text):
            assert (PAGE.parents[2] / name).is_file(), name
