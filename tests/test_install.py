"""What a person gets who installs Longtake: everything pinned, and a film without a network."""

import os
import re
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
NO_NETWORK = """
import socket

def refuse(*args, **kwargs):
    raise OSError("the network is switched off")

socket.socket.connect = socket.socket.connect_ex = socket.getaddrinfo = refuse
"""


def normalised(requirement: str) -> str:
    """The name in a requirement, in the one spelling that all tools share."""
    return re.sub(r"[-_.]+", "-", re.split(r"[^\w.-]", requirement)[0]).lower()


def run(*command: str | Path, cwd: Path, **environment: str) -> str:
    finished = subprocess.run(
        [str(part) for part in command],
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": "", **environment},
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        check=False,
    )
    assert finished.returncode == 0, f"{command}\n{finished.stdout}\n{finished.stderr}"
    return finished.stdout


def wheel_folders() -> str:
    """Folders of local wheels in uv's spelling, as the Makefile hands them on."""
    return os.environ.get("UV_FIND_LINKS") or os.environ.get("PIP_FIND_LINKS", "").replace(" ", ",")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the wheel as a release does: from the source archive, so that no stale file gets in."""
    folder = tmp_path_factory.mktemp("wheel")
    run(sys.executable, "-m", "build", "--outdir", folder, ROOT, cwd=folder)
    return next(folder.glob("longtake-*.whl"))


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The interpreter of a clean environment that holds the wheel and its dependencies."""
    folder = tmp_path_factory.mktemp("clean")
    run(sys.executable, "-m", "venv", "--without-pip", folder / "venv", cwd=folder)
    python = folder / "venv" / "bin" / "python"
    pins = ROOT / "constraints.txt"
    uv = [sys.executable, "-m", "uv", "pip", "install", "--python", python, "-c", pins]
    run(*uv, wheel, cwd=folder, UV_FIND_LINKS=wheel_folders())
    return python


def test_every_dependency_is_pinned():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"].values()
    wanted = [*project["dependencies"], *(each for extra in extras for each in extra)]
    pins = {normalised(line) for line in (ROOT / "constraints.txt").read_text().splitlines()}
    assert {normalised(each) for each in wanted} - pins == set()


def test_pins_name_versions_and_no_place():
    for line in (ROOT / "constraints.txt").read_text().splitlines():
        assert re.fullmatch(r"[a-z0-9.-]+==[\w.]+( ; .*)?", line), line
        assert "/" not in line, line


@pytest.mark.slow
def test_wheel_carries_types_weights_and_the_studio(wheel: Path):
    package = ROOT / "src" / "longtake"
    data = [path for path in (package / "weights").glob("*") if path.is_file()]
    data += (package / "server" / "web").iterdir()
    wanted = {str(path.relative_to(package.parent)) for path in [package / "py.typed", *data]}
    assert wanted - set(zipfile.ZipFile(wheel).namelist()) == set()


@pytest.mark.slow
def test_installed_wheel_tells_its_version(installed: Path, tmp_path: Path):
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert version in run(installed, "-m", "longtake", "--version", cwd=tmp_path)


@pytest.mark.slow
def test_installed_wheel_makes_a_film_without_a_network(installed: Path, tmp_path: Path):
    (tmp_path / "sitecustomize.py").write_text(NO_NETWORK)
    probe = "import socket; socket.create_connection(('localhost', 9))"
    with pytest.raises(AssertionError, match="the network is switched off"):
        run(installed, "-c", probe, cwd=tmp_path, PYTHONPATH=str(tmp_path))
    film = ["generate", "a red ball bounces on grass", "--seconds", "1", "--steps", "2"]
    command = [installed, "-m", "longtake", *film, "-o", "out.mp4"]
    run(*command, cwd=tmp_path, PYTHONPATH=str(tmp_path))
    assert (tmp_path / "out.mp4").read_bytes()[4:8] == b"ftyp"
