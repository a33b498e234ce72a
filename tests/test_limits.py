"""Sizes that fail the build: files, functions and kernels stay short enough to read at once."""

import ast
from collections.abc import Iterator
from pathlib import Path

SOURCE = Path(__file__).parents[1] / "src" / "longtake"
KERNELS = SOURCE / "kernels"
FILE_LINES = 500
FUNCTION_LINES = 60
KERNEL_LINES = 150
VAGUE_NAMES = {"utils", "util", "common", "helpers", "misc"}


def functions(path: Path) -> Iterator[tuple[str, int]]:
    """Yield each function of a file with the lines from its `def` to its last statement."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield f"{path.relative_to(SOURCE)}:{node.lineno} {node.name}", lines(node)


def lines(node: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    return (node.end_lineno or node.lineno) - node.lineno + 1


def function_limit(path: Path) -> int:
    return KERNEL_LINES if path.is_relative_to(KERNELS) else FUNCTION_LINES


def test_files_have_at_most_500_lines():
    sizes = {path: len(path.read_text().splitlines()) for path in SOURCE.rglob("*.py")}
    assert sizes, f"no source found in {SOURCE}"
    assert {str(path): size for path, size in sizes.items() if size > FILE_LINES} == {}


def test_functions_have_at_most_60_lines_and_kernels_150():
    too_long = {
        name: size
        for path in SOURCE.rglob("*.py")
        for name, size in functions(path)
        if size > function_limit(path)
    }
    assert too_long == {}


def test_no_module_has_a_name_that_says_nothing():
    assert [path for path in SOURCE.rglob("*") if path.stem in VAGUE_NAMES] == []
