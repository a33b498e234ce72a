"""The server by its system calls: what is synced before it is told, and what if a sync fails.

Rows 6, 14, 31 and 40 of the fault matrix; skipped where strace is missing or may not attach.
"""

import hashlib
import os
import re
import shutil
import signal
import subprocess
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote

import httpx
import pytest
from server_help import (
    CHUNKED,
    ENDED,
    FILM,
    Server,
    end,
    intact,
    post,
    request,
    start_worker,
    wait,
    write_model,
)

from longtake.server.settings import STORE
from longtake.server.store import Store

pytestmark = [
    pytest.mark.faults,
    pytest.mark.slow,
    pytest.mark.skipif(
        shutil.which("strace") is None or os.geteuid() != 0, reason="needs strace, and root"
    ),
]
SYNCS = "fsync,fdatasync"


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    return write_model(tmp_path_factory.mktemp("model") / "tiny", CHUNKED)


@pytest.fixture
def server(tmp_path, model):
    server = Server(tmp_path, model)
    wait(lambda: httpx.get(f"{server.url}/health").json()["workers_ready"], "a worker")
    yield server
    server.stop()


@pytest.fixture
def data(tmp_path):
    (tmp_path / "data").mkdir()
    return tmp_path / "data"


@contextmanager
def traced(pid: int, log: Path, *options: str):
    command = ["strace", "-f", "-y", "-s", "400", "-o", str(log), *options, "-p", str(pid)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as strace:
        told = strace.stderr.readline()
        if "attached" not in told:
            strace.wait()
            pytest.skip(f"strace may not attach here: {told.strip()}")
        try:
            yield
        finally:
            strace.send_signal(signal.SIGINT)
            strace.communicate()


def calls(log: Path) -> list[str]:
    """Calls of all threads, in the order in which they returned."""
    begun, found = {}, []
    for line in log.read_text(errors="replace").splitlines():
        thread, _, text = line.partition(" ")
        text = text.strip()
        if text.endswith("<unfinished ...>"):
            begun[thread] = text.removesuffix(" <unfinished ...>")
        elif match := re.match(r"<\.\.\. \w+ resumed>(.*)", text):
            found.append(begun.pop(thread, "") + match[1])
        else:
            found.append(text)
    # Results are set in a column, which only lines that were split are short enough to show.
    return [re.sub(r"\) += ", ") = ", call) for call in found]


def test_a_call_that_another_thread_split_reads_like_one_that_was_not(tmp_path):
    log = tmp_path / "log"
    split = "7 fsync(9</store.sqlite-wal> <unfinished ...>\n8 fsync(3</f>) = 0\n"
    log.write_text(split + "7 <... fsync resumed>)             = 0\n")
    assert calls(log) == ["fsync(3</f>) = 0", "fsync(9</store.sqlite-wal>) = 0"]


def first(found: list[str], *parts: str, after: int = -1) -> int:
    for number in range(after + 1, len(found)):
        if all(part in found[number] for part in parts):
            return number
    pytest.fail(f"no call with {parts} after the call {found[max(after, 0)] if found else None}")


def last(found: list[str], *parts: str, before: int) -> int:
    for number in range(before - 1, -1, -1):
        if all(part in found[number] for part in parts):
            return number
    pytest.fail(f"no call with {parts} before {found[before]}")


def test_row_6_a_job_is_synced_before_it_is_accepted(server, tmp_path):
    sends = "write,writev,sendto,sendmsg"
    with traced(server.process.pid, tmp_path / "log", "-e", f"trace={SYNCS},{sends}"):
        post(server)
    found = calls(tmp_path / "log")
    answer = first(found, "HTTP/1.1 202")
    assert "= 0" in found[last(found, "sync(", "store.sqlite-wal", before=answer)]


def test_row_6_a_film_and_its_pictures_are_synced_before_they_are_named_and_told(
    data, model, tmp_path
):
    store = Store(data / STORE)
    worker = start_worker(data, model, "w")
    try:
        with traced(worker.pid, tmp_path / "log", "-e", f"trace={SYNCS},rename,renameat,renameat2"):
            job, _ = store.add("ann", request())
            wait(lambda: store.find(job.id, "ann").status in ENDED, "the film")
        assert store.find(job.id, "ann").status == "completed"
    finally:
        end(worker)
        store.close()
    found = calls(tmp_path / "log")
    renames = [number for number, call in enumerate(found) if call.startswith("rename")]
    named = {Path(re.findall(r'"([^"]+)"', found[n])[-1]).name for n in renames}
    assert {"video-1.mp4", "thumbnail-1.png", "take.json", "state-000002.safetensors"} <= named
    for number in renames:
        old, new = (Path(name) for name in re.findall(r'"([^"]+)"', found[number]))
        last(found, "sync(", f"{old}>", ") = 0", before=number)
        first(found, "sync(", f"{new.parent}>", ") = 0", after=number)
    # The end of the job is the last thing that is made durable.
    first(found, "sync(", "store.sqlite-wal>", ") = 0", after=renames[-1])


def test_row_14_a_sync_that_fails_refuses_the_job_and_the_next_one_is_kept(server, tmp_path):
    kept = [post(server)["id"]]
    with traced(server.process.pid, tmp_path / "log", "-e", f"inject={SYNCS}:error=EIO"):
        for _ in range(3):
            answer = httpx.post(f"{server.url}/v1/videos", json=FILM, timeout=60)
            assert answer.status_code == 503, answer.text
            assert answer.json()["error"]["code"] == "insufficient_storage"
    kept += [post(server)["id"] for _ in range(3)]
    server.kill()
    server.start()
    for job in kept:
        assert httpx.get(f"{server.url}/v1/videos/{job}", timeout=60).status_code == 200
    intact(server.data)


def test_row_14_whichever_sync_of_a_worker_fails_the_film_has_the_same_bytes(data, model, tmp_path):
    store = Store(data / STORE)
    worker = start_worker(data, model, "w")

    def film():
        job, _ = store.add("ann", request(frames=17, steps=1))
        wait(lambda: store.find(job.id, "ann").status in ENDED, "the film")
        return store.find(job.id, "ann")

    try:
        wanted, failed, which = film().result["sha256"], 0, 1
        while True:
            inject = f"inject={SYNCS}:error=EIO:when={which}"
            with traced(worker.pid, tmp_path / "log", "-e", f"trace={SYNCS}", "-e", inject):
                made = film()
            assert made.status == "completed", made.error
            assert made.result["sha256"] == wanted
            content = (data / "jobs" / made.id / made.result["file"]).read_bytes()
            assert hashlib.sha256(content).hexdigest() == wanted
            if "INJECTED" not in (tmp_path / "log").read_text():
                break
            failed, which = failed + (made.attempt > 1), which + max(which // 2, 1)
        assert failed >= 3
    finally:
        end(worker)
        store.close()


def test_rows_31_and_40_no_id_and_no_address_leads_to_a_file_or_a_line(server, tmp_path):
    canary = tmp_path / "canary"
    canary.write_text("secret")
    names = ("../../canary", str(canary), "..\\..\\canary", "canary", "jobs/../../canary\0")
    urls = (f"file://{canary}", "http://127.0.0.1:1/canary", f"data:,{canary}", str(canary))
    with traced(server.process.pid, tmp_path / "log", "-e", "trace=%file,connect"):
        for name in names:
            for path in ("", "/content", "/live", "/events"):
                url = f"{server.url}/v1/videos/{quote(name, safe='')}{path}"
                assert httpx.get(url).status_code == 404
            extend = {"video": name}
            answer = httpx.post(f"{server.url}/v1/videos/extensions", json=extend)
            assert answer.status_code in (404, 422)
        for url in urls:
            answer = httpx.post(f"{server.url}/v1/videos", json={**FILM, "input_reference": url})
            assert answer.status_code == 422
    found = calls(tmp_path / "log")
    assert [call for call in found if "canary" in call or call.startswith("connect")] == []
