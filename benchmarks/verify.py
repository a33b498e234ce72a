"""Times an operation only after its tests have passed, and keeps the result with its address.

python benchmarks/verify.py speed [--out DIR] [-- ARGUMENTS OF THE BENCHMARK]
python benchmarks/verify.py --all

Prints no time if a test fails. The result is DIR/WHAT_PROCESSOR_DATE.md: commit, versions, the
command, and every JSON line that the benchmark printed.
"""

import argparse
import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import torch

from longtake.bench.origin import origin_of

ROOT = Path(__file__).parents[1]
FAILED, CANNOT = 1, 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """What is timed, and what has to be right before."""

    benchmark: str
    tests: tuple[str, ...]
    card_tests: tuple[str, ...] = ()
    """In place of the tests where there is a card."""


OPERATIONS = {
    "speed": Operation(
        benchmark="bench_speed.py",
        tests=("tests/test_kernels.py",),
        card_tests=("tests/gpu/test_kernels_gpu.py",),
    ),
    "transformer": Operation(
        benchmark="bench_transformer.py", tests=("tests/test_model.py", "tests/test_kernels.py")
    ),
    "autoencoder": Operation(benchmark="bench_autoencoder.py", tests=("tests/test_vae.py",)),
    "world": Operation(
        benchmark="bench_world.py",
        tests=("tests/test_raycast.py",),
        card_tests=("tests/gpu/test_raycast_gpu.py",),
    ),
}


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("what", nargs="?", choices=tuple(OPERATIONS))
    parser.add_argument("--all", action="store_true", help="every operation, one after the other")
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks" / "results")
    parser.add_argument("rest", nargs="*", help="after --: arguments of the benchmark")
    arguments = parser.parse_args()
    if (arguments.what is None) != arguments.all:
        parser.error(f"name one of {', '.join(OPERATIONS)}, or give --all")
    wanted = list(OPERATIONS) if arguments.all else [arguments.what]
    return max(verify(name, arguments.out, arguments.rest) for name in wanted)


def verify(name: str, out: Path, rest: list[str]) -> int:
    """Tests, then the benchmark, then the result; the exit code."""
    operation = OPERATIONS[name]
    card = torch.cuda.is_available()
    tests = operation.card_tests if card and operation.card_tests else operation.tests
    if code := run_tests(tests):
        print(f"{name}: the tests did not pass, so no time is told", file=sys.stderr)
        return code
    command = [f"benchmarks/{operation.benchmark}", *rest]
    lines: list[str] = []
    with subprocess.Popen(
        [sys.executable, *command], cwd=ROOT, env=environment(), text=True, stdout=subprocess.PIPE
    ) as run:
        assert run.stdout is not None
        for line in run.stdout:
            print(line, end="", flush=True)
            lines.append(line.rstrip())
    if run.returncode:
        return FAILED
    path = write_result(name, out, "python " + " ".join(command), tests, lines)
    print(path, file=sys.stderr)
    return 0


def run_tests(tests: tuple[str, ...]) -> int:
    """0 if all pass, else an exit code; a machine without pytest cannot tell."""
    found = subprocess.run([sys.executable, "-m", "pytest", "--version"], capture_output=True)  # noqa: PLW1510
    if found.returncode:
        print("no pytest here, so nothing can be verified", file=sys.stderr)
        return CANNOT
    # Without the settings of pyproject.toml: a machine with a card has not all they name.
    words = [sys.executable, "-m", "pytest", "-q", "-o", "addopts=--import-mode=importlib", *tests]
    done = subprocess.run(
        words, cwd=ROOT, env=environment(), stdout=subprocess.PIPE, text=True, check=False
    )
    print(done.stdout, end="", file=sys.stderr)
    return FAILED if done.returncode else 0


def environment() -> dict[str, str]:
    """This process's, with this checkout's sources first."""
    before = os.environ.get("PYTHONPATH", "")
    return {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, [str(ROOT / "src"), before]))}


def write_result(
    name: str, out: Path, command: str, tests: tuple[str, ...], lines: list[str]
) -> Path:
    """A dated page; one of the same day and processor is replaced."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    origin = origin_of(device, command)
    short = re.sub(r"[^a-z0-9]+", "-", str(origin["processor"]).lower()).strip("-")
    path = out / f"{name}_{short}_{origin['date']}.md"
    facts = [f"- {key}: {value}" for key, value in origin.items()]
    page = [f"# {name}", "", *facts, f"- tests before: {', '.join(tests)}, passed", "", "```"]
    out.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join([*page, *lines, "```", ""]), "utf-8")
    return path


if __name__ == "__main__":
    sys.exit(main())
