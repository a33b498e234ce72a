"""A worker that stays the same: bytes, memory and files over threads, lengths and many jobs.

Rows 57, 58 and 59 of the fault matrix; row 39 beside them, for it needs a child that misbehaves.
"""

import base64
import io
import os
import re
import time
from dataclasses import replace
from pathlib import Path

import httpx
import pytest
from PIL import Image
from server_help import (
    CHUNKED,
    ENDED,
    FILM,
    Server,
    end,
    post,
    request,
    start_worker,
    until,
    wait,
    write_model,
)

from longtake.server.settings import STORE
from longtake.server.store import Store

pytestmark = [pytest.mark.faults, pytest.mark.slow]


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    return write_model(tmp_path_factory.mktemp("model") / "tiny", CHUNKED)


@pytest.fixture
def data(tmp_path):
    (tmp_path / "data").mkdir()
    return tmp_path / "data"


@pytest.fixture
def store(data):
    store = Store(data / STORE)
    yield store
    store.close()


def made(store, **more):
    job, _ = store.add("ann", request(**more))
    wait(lambda: store.find(job.id, "ann").status in ENDED, "the film")
    found = store.find(job.id, "ann")
    assert found.status == "completed", found.error
    return found.result


@pytest.mark.parametrize("chunk", [2, 0], ids=["chunks", "one-pass"])
def test_row_57_threads_and_what_was_made_before_change_no_byte(tmp_path, data, store, chunk):
    model = write_model(tmp_path / "tiny", replace(CHUNKED, chunk=chunk))
    found = []
    for threads in (1, 2, 4, 8):
        worker = start_worker(data, model, f"w{threads}", threads=threads)
        found.append(made(store)["sha256"])
        for seed in range(3 if threads == 2 else 0):
            made(store, seed=seed, frames=17)
        found.append(made(store)["sha256"])
        end(worker)
    assert len(set(found)) == 1


def test_row_57_a_busy_server_and_an_idle_one_make_the_same_bytes(tmp_path, model):
    server = Server(tmp_path, model)
    try:
        idle = until(server, post(server), *ENDED)
        jobs = [post(server, seed=seed % 3) for seed in range(10)]
        same = [job for job in jobs if job["seed"] == idle["seed"]]
        with httpx.Client(base_url=server.url, timeout=60) as client:
            while client.get(f"/v1/videos/{jobs[-1]['id']}").json()["status"] not in ENDED:
                client.get("/v1/videos?limit=100")
                client.post("/v1/videos/plan", json=FILM)
        assert {until(server, job, *ENDED)["sha256"] for job in same} == {idle["sha256"]}
        assert len(same) > 2
    finally:
        server.stop()


def peak_kib(pid) -> int:
    return int(re.search(r"VmHWM:\s+(\d+)", Path(f"/proc/{pid}/status").read_text())[1])


def test_row_58_a_film_of_a_minute_needs_no_more_memory_than_one_of_five_seconds(
    data, store, model
):
    peaks = []
    for seconds in (5, 60):
        worker = start_worker(data, model, f"w{seconds}")
        made(store, frames=16 * seconds + 1, steps=1)
        peaks.append(peak_kib(worker.pid))
        end(worker)
    assert peaks[1] <= 1.05 * peaks[0], peaks


@pytest.mark.parametrize("count", [60, pytest.param(500, marks=pytest.mark.soak)])
def test_row_59_many_short_films_leave_a_worker_as_it_was(data, store, model, count):
    worker = start_worker(data, model, "w")
    try:
        jobs = [store.add("ann", request(frames=5, steps=1, seed=n))[0].id for n in range(count)]

        def after(number):
            wait(lambda: store.find(jobs[number], "ann").status in ENDED, f"film {number}", 900)
            proc = Path(f"/proc/{worker.pid}")
            rss = int(re.search(r"VmRSS:\s+(\d+)", (proc / "status").read_text())[1])
            return rss, len(list((proc / "fd").iterdir())), len(list((proc / "task").iterdir()))

        early, late = after(count // 5), after(count - 1)
        assert late[0] <= 1.05 * early[0], (early, late)
        # The thread that gives signs of life, and its connection, come and go with each film.
        assert late[1] <= early[1] + 4
        assert late[2] <= early[2] + 1
    finally:
        end(worker)


def picture() -> str:
    file = io.BytesIO()
    Image.new("RGB", (64, 64), "red").save(file, "PNG")
    return base64.b64encode(file.getvalue()).decode()


@pytest.mark.parametrize("fault", ["os.kill(os.getpid(), 11)", "time.sleep(90)"])
def test_row_39_a_child_that_crashes_or_hangs_is_told_and_the_server_lives(tmp_path, model, fault):
    # Runs in every Python before its program; only in the child does it do harm.
    hook = tmp_path / "hook"
    hook.mkdir()
    (hook / "sitecustomize.py").write_text(
        f"import os, sys, time\nif 'longtake.server.decode' in sys.orig_argv:\n    {fault}\n"
    )
    paths = [str(hook), *filter(None, [os.environ.get("PYTHONPATH")])]
    server = Server(tmp_path, model, PYTHONPATH=":".join(paths))
    try:
        began = time.monotonic()
        answer = httpx.post(
            f"{server.url}/v1/videos", json={**FILM, "input_reference": picture()}, timeout=60
        )
        assert (answer.status_code, answer.json()["error"]["code"]) == (422, "media_decode_failed")
        assert time.monotonic() - began < 22
        assert httpx.get(f"{server.url}/v1/videos").json()["data"] == []
        assert list((server.data / "jobs").iterdir()) == []
        assert until(server, post(server), *ENDED)["status"] == "completed"
    finally:
        server.stop()
