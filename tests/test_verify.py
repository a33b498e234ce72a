"""No time without tests that passed, and no time without its address; the speed script runs."""

import importlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "benchmarks"))
verify = importlib.import_module("verify")


@pytest.fixture
def asked(monkeypatch):
    """The operation `asked`, of a test and a benchmark written for it."""

    def ask(folder, test):
        (folder / "test_it.py").write_text(test)
        (folder / "bench_it.py").write_text("print('{\"ms\": 1.5}')\n")
        operation = verify.Operation(
            benchmark=os.path.relpath(folder / "bench_it.py", ROOT / "benchmarks"),
            tests=(str(folder / "test_it.py"),),
        )
        monkeypatch.setitem(verify.OPERATIONS, "asked", operation)
        return folder / "results"

    return ask


def test_a_time_is_kept_with_commit_versions_command_and_tests(asked, tmp_path, capsys):
    out = asked(tmp_path, "def test_it(): assert True\n")
    assert verify.verify("asked", out, []) == 0
    (page,) = out.glob("asked_*.md")
    text = page.read_text()
    assert '{"ms": 1.5}' in text
    assert all(f"- {key}: " in text for key in ("commit", "versions", "command", "tests before"))
    assert '{"ms": 1.5}' in capsys.readouterr().out


def test_no_time_is_told_when_a_test_fails(asked, tmp_path, capsys):
    out = asked(tmp_path, "def test_it(): assert False\n")
    assert verify.verify("asked", out, []) == verify.FAILED
    told = capsys.readouterr()
    assert told.out == ""
    assert "no time is told" in told.err
    assert not out.exists()


def test_every_operation_has_tests_and_a_benchmark_that_are_there():
    for operation in verify.OPERATIONS.values():
        assert (ROOT / "benchmarks" / operation.benchmark).is_file()
        for path in (*operation.tests, *operation.card_tests):
            assert (ROOT / path).is_file()


def test_the_speed_script_goes_on_after_a_section_that_fails_and_keeps_what_it_found(tmp_path):
    # A process of its own: it sets an alarm for each section.
    script = (
        "import runpy, sys; sys.path.insert(0, 'benchmarks'); import bench_speed as b\n"
        "def broken(bench): raise ValueError('on purpose')\n"
        "b.SECTIONS['profile_480p'] = broken\n"
        "b.main()\n"
    )
    sections = "kernels,profile_480p,accuracy,chunk_480p"
    done = subprocess.run(
        [sys.executable, "-c", script, "--tiny", "--only", sections, "--out", str(tmp_path)],
        cwd=ROOT, env=verify.environment(), capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    found = json.loads((tmp_path / "speed.json").read_text())
    assert list(found) == sections.split(",")
    assert found["profile_480p"]["failed"] == "ValueError: on purpose"
    bound = found["accuracy"]["bound"]
    assert all(found["accuracy"][who]["output"] <= bound for who in ("ours", "ours_plain"))
    assert found["chunk_480p"]["ours"]["ms"] > 0
    assert [json.loads(line) for line in done.stdout.splitlines()] == [
        {name: value} for name, value in found.items()
    ]
