"""A real Ray on this machine: films survive the death of their workers, and nobody else gets in."""

import importlib.util
import json
import os
import re
import secrets
import signal
import socket
import subprocess
import sys
import tempfile
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
    monkeypatch.chdir(tmp_path / "home")
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
    """Each process of this test's Ray, told by the folder it was started in, with its command."""
    found = {}
    for path in Path("/proc").glob("[0-9]*"):
        try:
            words = (path / "cmdline").read_bytes().replace(b"\0", b" ").decode()
            is_ours = (path / "cwd").readlink() == Path.cwd()
        except OSError:
            continue
        if is_ours and (words.startswith("ray::") or "longtake-ray-" in words):
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


def write_list(folder):
    lines = (
        {"prompt": "a red ball", "seed": n, "size": "64x64", "frames": 33, "steps": 6}
        for n in range(FILMS)
    )
    (folder / "films.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))


def made_with(process, when, then):
    """The report of a batch in which something happens after so many films."""
    with process:
        for line in process.stderr:
            assert "error" not in line, line
            if line.startswith(f"{when} of"):
                then()
        report = json.loads(process.stdout.read())
        assert process.wait(PATIENCE_S) == 0
    return report


def start_node(*more):
    """A machine of a cluster; on a busy one Ray misses its own deadlines, so it may try again."""
    command = [str(Path(sys.executable).with_name("ray")), "start", "--num-cpus", "1", "--block"]
    for _ in range(3):
        node = subprocess.Popen(
            [*command, "--object-store-memory", str(100 * 2**20), *more],
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )  # fmt: skip
        said = []
        for line in node.stdout:
            said.append(line)
            if "Ray runtime started" in line:
                return node
        end_node(node)
    pytest.fail("".join(said[-20:]))


def end_node(node):
    node.terminate()
    node.wait(60)
    node.stdout.close()


def raylet_of(node):
    """The process of a node that starts workers."""
    for path in Path("/proc").glob("[0-9]*"):
        try:
            words = (path / "cmdline").read_bytes()
            parent = re.search(r"PPid:\s+(\d+)", (path / "status").read_text())[1]
        except OSError:
            continue
        if int(parent) == node.pid and b"raylet/raylet" in words.partition(b"\0")[0]:
            return int(path.name)
    return None


def test_a_batch_over_ray_loses_no_film_and_no_byte_with_a_killed_worker(tmp_path, tiny, home):
    write_model(tmp_path / "tiny", tiny)
    write_list(tmp_path)
    heard = set()

    def kill_one():
        os.kill(wait(ray_workers)[0], signal.SIGKILL)
        heard.update(listening(ray_processes()))

    process = batch(tmp_path, tmp_path / "far", "--engine", "ray", "--workers", "2")
    report = made_with(process, 3, kill_one)
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


def test_a_machine_that_falls_out_of_a_cluster_loses_no_film(tmp_path, tiny, monkeypatch):
    write_model(tmp_path / "tiny", tiny)
    write_list(tmp_path)
    monkeypatch.setenv("RAY_AUTH_MODE", "token")
    monkeypatch.setenv("RAY_AUTH_TOKEN", secrets.token_hex(32))
    monkeypatch.setenv("RAY_worker_niceness", "0")
    with socket.socket() as free, tempfile.TemporaryDirectory(prefix="ray-") as folder:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
        free.close()
        head = start_node("--head", "--port", port, "--include-dashboard=false",
                          "--temp-dir", folder)  # fmt: skip
        try:
            other = start_node("--address", f"127.0.0.1:{port}")
            process = batch(
                tmp_path, tmp_path / "far", "--engine", "ray", "--workers", "2",
                "--ray-address", f"127.0.0.1:{port}",
            )  # fmt: skip
            report = made_with(process, 3, lambda: os.kill(raylet_of(other), signal.SIGKILL))
            end_node(other)
        finally:
            end_node(head)
    assert (report["made"], report["failed"]) == (FILMS, [])
    assert report["workers_lost"] >= 1


@pytest.mark.parametrize("port_of", ["nobody", "something else", "no address"])
def test_an_address_where_no_ray_is_is_said_in_a_line_and_at_once(tmp_path, tiny, port_of):
    write_model(tmp_path / "tiny", tiny)
    write_list(tmp_path)
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{listener.getsockname()[1]}"
        said = {"nobody": "Connection refused", "something else": "timed out",
                "no address": "wants HOST:PORT"}[port_of]  # fmt: skip
        if port_of == "something else":
            listener.listen()
        if port_of == "no address":
            address = "here"
        process = batch(
            tmp_path, tmp_path / "far", "--engine", "ray", "--ray-address", address, "--quiet"
        )
        _, errors = process.communicate(timeout=120)
    assert process.returncode == (2 if port_of == "no address" else 3)
    assert said in errors
    assert len(errors.splitlines()) == 1


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
