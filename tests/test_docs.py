"""Documents stay true: links lead somewhere, the reading order walks the path, names are pinned."""

import ast
import re
from pathlib import Path

import pytest

import longtake
from longtake import errors

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src" / "longtake"
README = (ROOT / "README.md").read_text("utf-8")
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *SOURCE.rglob("*.md")])


def reading_order():
    after = README.split("Read in this order:", 1)[1].split("```", 1)[0]
    return [ROOT / target for target in re.findall(r"\]\((src/[^)]+)\)", after)]


def imported(path):
    names = set()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def module(path):
    return ".".join(path.relative_to(ROOT / "src").with_suffix("").parts)


def test_the_reading_order_walks_from_the_prompt_to_the_maths():
    pipeline, transformer, attention, reference, losses = reading_order()
    text = pipeline.read_text("utf-8")
    stages = ["self._encode(", "self._start(", "flow.schedule(", "sampler(", "self._decode("]
    stream = text.split("def stream", 1)[1].split("\n    def ", 1)[0]
    places = [stream.index(stage) for stage in stages]
    assert places == sorted(places)
    assert "longtake.model" in imported(pipeline)
    assert module(attention) in imported(transformer)
    assert "longtake.kernels.ops" in imported(attention)
    assert module(reference) in imported(SOURCE / "kernels" / "ops.py")
    assert "def flow_loss" in losses.read_text("utf-8")


def test_the_pipeline_brings_every_stage_together_and_the_cli_writes_the_mp4():
    stages = {"text", "model", "guidance", "samplers", "vae"}
    found = {
        name.split(".")[1]
        for name in imported(SOURCE / "pipeline" / "path.py")
        if "longtake." in name
    }
    assert stages <= found
    assert "longtake.media.video" in imported(SOURCE / "cli" / "one_pass.py")


def test_the_tree_in_the_readme_names_every_room_once():
    tree = README.split("```\nsrc/longtake/\n", 1)[1].split("```", 1)[0]
    named = re.findall(r"── ([\w./]+)", tree)
    rooms = {
        f"{path.name}/" if path.is_dir() else path.name
        for path in SOURCE.iterdir()
        if path.name not in {"__pycache__", "py.typed"}
    }
    assert sorted(named) == sorted(rooms)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_of_a_page_leads_somewhere(page):
    targets = re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", page.read_text("utf-8"))
    lost = [t for t in targets if "://" not in t and not (page.parent / t).exists()]
    assert lost == []


def test_the_public_names_are_these():
    assert sorted(longtake.__all__) == [
        "Cue", "Film", "Frames", "LongtakeError", "Notice", "Pipeline", "Progress", "SampleConfig",
        "__version__", "load",
    ]  # fmt: skip
    assert all(getattr(longtake, name) is not None for name in longtake.__all__)


def test_every_error_has_its_line_in_the_tree_of_its_docstring():
    names = [
        n
        for n, v in vars(errors).items()
        if isinstance(v, type) and v.__module__ == errors.__name__
    ]
    assert all(re.search(rf"\b{name}\b", errors.__doc__) for name in names)


def test_shipped_weights_stay_within_their_budget():
    files = [*(SOURCE / "weights").rglob("*.safetensors")]
    assert sum(f.stat().st_size for f in files) <= 40 * 2**20
    assert all(f.stat().st_size <= 16 * 2**20 for f in files)
