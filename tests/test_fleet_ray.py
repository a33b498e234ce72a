"""A real Ray on this machine: films survive the death of their workers, and nobody else gets in."""

import importlib.util
import json
import os
import re
import signal
import socket
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import httpx
import pytest
from server_help import Server, wait, write_model

pytestmark = [
    pytest.mark.slow,
    pytest.mark.faults,
    pytest.mark.timeout(900),
    pytest.mark.skipif(
        importlib.util.find_spec("ray") is None,
        reason="Ray is not installed: pip install 'longtake[fleet]'",
    ),
]
FILMS = 12
PATIENCE_S = 400


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    (tmp_path / "home").mkdir()
    return tmp_path / "home"


def batch(folder, out, *more):
    command = [
        sys.executable, "-m", "longtake", "batch", str(folder / "films.jsonl"), "-o", str(out),
        "--model", str(folder / "tiny"), "--threads", "1", "--json", *more,
    ]  # fmt: skip
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip


def ray_processes():
    """Each process of Ray with its command line."""
    found = {}
    for path in Path("/proc").glob("[0-9]*"):
        try:
            words = (path / "cmdline").read_bytes().replace(b"\0", b" ").decode()
        except OSError:
            continue
        if words.startswith("ray::") or "longtake-ray-" in words:
            found[int(path.name)] = words
    return found


def ray_workers():
    return [pid for pid, words in ray_processes().items() if words.startswith("ray::RayWorker.run")]


def listening(pids):
    """Addresses that these processes listen on."""
    inodes = set()
    for pid in pids:
        for link in Path(f"/proc/{pid}/fd").glob("*"):
            try:
                found = re.fullmatch(r"socket:\[(\d+)\]", str(link.readlink()))
            except OSError:
                continue
            if found:
                inodes.add(found[1])
    addresses = set()
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == "0A" and fields[9] in inodes:
                packed = bytes.fromhex(fields[1].partition(":")[0])
                words = (packed[n : n + 4][::-1] for n in range(0, len(packed), 4))
                family = socket.AF_INET6 if table == "tcp6" else socket.AF_INET
                addresses.add(socket.inet_ntop(family, b"".join(words)))
    return addresses


def test_a_batch_over_ray_loses_no_film_and_no_byte_with_a_killed_worker(tmp_path, tiny, home):
    write_model(tmp_path / "tiny", tiny)
    lines = (
        {"prompt": "a red ball", "seed": n, "size": "64x64", "frames": 33, "steps": 6}
        for n in range(FILMS)
    )
    (tmp_path / "films.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    with batch(tmp_path, tmp_path / "far", "--engine", "ray", "--workers", "2") as process:
        for line in process.stderr:
            if line.startswith("3 of"):
                os.kill(wait(ray_workers)[0], signal.SIGKILL)
                heard = listening(ray_processes())
            assert "error" not in line, line
        report = json.loads(process.stdout.read())
        assert process.wait(PATIENCE_S) == 0
    assert (report["made"], report["failed"], report["workers_lost"]) == (FILMS, [], 1)
    assert heard
    assert heard <= {"127.0.0.1", "::ffff:127.0.0.1"}
    assert not (home / ".ray").exists()
    assert ray_processes() == {}
    near = batch(tmp_path, tmp_path / "near", "--workers", "2")
    out, said = near.communicate(timeout=PATIENCE_S)
    assert near.returncode == 0, said
    assert json.loads(out)["made"] == FILMS
    for n in range(1, FILMS + 1):
        film = f"{n:04}.mp4"
        assert (tmp_path / "far" / film).read_bytes() == (tmp_path / "near" / film).read_bytes()


@pytest.mark.usefixtures("home")
def test_a_server_over_ray_goes_on_with_a_take_whose_worker_was_killed(tmp_path, tiny):
    model = write_model(tmp_path / "tiny", replace(tiny, chunk=2))
    server = Server(tmp_path, model, "--engine", "ray")
    try:
        with httpx.Client(base_url=server.url, timeout=60) as client:
            wait(lambda: client.get("/health").status_code == 200, "a worker", PATIENCE_S)
            film = {"prompt": "a red ball", "size": "64x64", "frames": 129, "steps": 6}
            job = client.post("/v1/videos", json=film).json()["id"]
            folder = server.data / "jobs" / job / "take.longtake"
            wait(lambda: len(list(folder.glob("segment-*"))) >= 3, "three blocks", PATIENCE_S)
            os.kill(ray_workers()[0], signal.SIGKILL)
            wait(lambda: told(client, job)["status"] == "completed", "the film", PATIENCE_S)
            events = client.get(f"/v1/videos/{job}/events").text
            blocks = re.findall(r'"type": ?"border"[^}]*"block": ?(\d+)', events)
            assert [int(block) for block in blocks] == list(range(1, len(blocks) + 1))
            made = client.get(f"/v1/videos/{job}/content").content
            assert len(made) == told(client, job).get("bytes", len(made))
    finally:
        assert server.stop() == 0
    assert wait(lambda: ray_processes() == {}, "the end of Ray")


def told(client, job):
    found = client.get(f"/v1/videos/{job}").json()
    assert found["status"] != "failed", found
    return found
