"""Workers as processes: what they make, how they are stopped, and what survives their death."""

import hashlib
import json
import signal
import threading
import time
from dataclasses import replace

import pytest
from server_help import end, request, start_worker, wait, write_model

from longtake.config import Cue, from_dict, to_dict
from longtake.media.manifest import from_tags
from longtake.media.video import read_metadata, read_video
from longtake.pipeline import Border, load
from longtake.server.desk import Here
from longtake.server.files import JobFiles
from longtake.server.jobs import FilmRequest
from longtake.server.making import make
from longtake.server.settings import STORE
from longtake.server.store import Store
from longtake.server.worker import _Telling

pytestmark = pytest.mark.faults


@pytest.fixture(params=[0, 2], ids=["one-pass", "chunks"])
def chunk(request):
    return request.param


@pytest.fixture
def model(tmp_path, tiny, chunk):
    return write_model(tmp_path / "tiny", replace(tiny, chunk=chunk))


@pytest.fixture
def data(tmp_path):
    (tmp_path / "data").mkdir()
    return tmp_path / "data"


@pytest.fixture
def store(data):
    store = Store(data / STORE, lease_s=3)
    yield store
    store.close()


@pytest.fixture
def worker(data, model):
    processes = []

    def start(name="w", **more):
        processes.append(start_worker(data, model, name, **{"lease_s": 3, **more}))
        return processes[-1]

    yield start
    for process in processes:
        end(process)


def add(store, **more):
    job, _ = store.add("ann", request(**more))
    return job.id


def status(store, job):
    return store.find(job, "ann").status


def finished(store, job):
    wait(lambda: status(store, job) in ("completed", "failed", "cancelled"), f"the end of {job}")
    found = store.find(job, "ann")
    assert found.status == "completed", found.error
    return found.result


def events(store, job, kind):
    data = [json.loads(event.data) for event in store.events(0, job=job)]
    return [event for event in data if event["type"] == kind]


def sha(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_a_job_becomes_a_film_with_its_pictures_and_its_record(store, data, worker):
    job = add(store, seed=5)
    worker()
    made = finished(store, job)
    files = JobFiles(data, job)
    film = files.path(made["file"])
    pixels, fps = read_video(film)
    assert (len(pixels), fps) == (33, 16)
    assert made["sha256"] == sha(film)
    record = from_tags(read_metadata(film))
    assert (record.prompt, record.settings.seed) == ("a red ball", 5)
    assert sorted(made["pictures"]) == ["contact_sheet", "spritesheet", "thumbnail"]
    assert all(files.path(name).is_file() for name in made["pictures"].values())
    assert not list(files.folder.glob(".longtake-*"))


def test_progress_rises_from_the_first_event_to_the_last(store, worker):
    job = add(store, steps=20)
    worker()
    finished(store, job)
    told = [event["progress"] for event in events(store, job, "progress")]
    assert told == sorted(told)
    assert told[0] < 10
    assert 90 <= told[-1] < 100
    assert {"stage", "step", "steps_total", "eta_s"} <= events(store, job, "progress")[-1].keys()


@pytest.mark.parametrize("chunk", [2], indirect=True)
def test_a_kept_take_is_extended_to_the_film_that_a_longer_one_would_have_been(store, data, worker):
    worker()
    cues = (Cue(at_s=33 / 16, text="a blue ball"),)
    longer = replace(_request(request(frames=49)), cues=cues)
    whole, _ = store.add("ann", to_dict(longer))
    short = add(store, frames=33)
    finished(store, short)
    more, _ = store.add("ann", to_dict(replace(longer, parent=short)))
    film, extended = finished(store, whole.id), finished(store, more.id)
    assert extended["frames"] == 49
    assert (
        read_video(JobFiles(data, more.id).path(extended["file"]))[0]
        == (read_video(JobFiles(data, whole.id).path(film["file"]))[0])
    ).all()
    borders = [event["block"] for event in events(store, more.id, "border")]
    assert borders[0] > 1


def _request(values):
    return from_dict(FilmRequest, values)


@pytest.mark.slow
@pytest.mark.parametrize("chunk", [2], indirect=True)
def test_row_1_a_killed_worker_costs_a_block_and_not_a_byte(store, data, worker):
    calm = add(store, frames=129, steps=6)
    first = worker("w1")
    wanted = finished(store, calm)
    job = add(store, frames=129, steps=6)
    wait(lambda: len(events(store, job, "border")) >= 3, "three blocks")
    end(first)
    store.strike_worker("w1")
    worker("w2")
    made = finished(store, job)
    assert made["sha256"] == wanted["sha256"]
    assert store.find(job, "ann").attempt == 2
    blocks = [event["block"] for event in events(store, job, "border")]
    assert len(blocks) <= len(set(blocks)) + 1
    assert sha(JobFiles(data, job).path(made["file"])) == wanted["sha256"]


@pytest.mark.parametrize("chunk", [2], indirect=True)
def test_a_block_that_was_stored_and_never_told_is_told_by_the_next_attempt(store, data, model):
    job = add(store, steps=2)
    pipe = load(str(model), device="cpu")
    film = from_dict(FilmRequest, store.find(job, "ann").request)

    def attempt(worker, dies_at=0):
        """Make the film; or die when a block is stored, before it is told."""
        lease = store.claim(worker)
        telling = _Telling(store, Here(data), lease, film, threading.Event(), chunked=True)

        def tell(event, ready):
            if isinstance(event, Border) and event.snapshot.chunk == dies_at:
                raise KeyboardInterrupt
            telling.hear(event, ready)

        make(pipe, film, JobFiles(data, job), lease.attempt, tell)

    with pytest.raises(KeyboardInterrupt):
        attempt("w1", dies_at=2)
    store.strike_worker("w1")
    attempt("w2")
    told = events(store, job, "border")
    assert [event["block"] for event in told] == [1, 2, 3, 4]
    assert [event["frames_ready"] for event in told] == [9, 17, 25, 33]


@pytest.mark.slow
@pytest.mark.parametrize("chunk", [0], indirect=True)
def test_a_killed_worker_of_a_film_in_one_pass_begins_again_and_gives_the_same_bytes(store, worker):
    calm = add(store, steps=60)
    first = worker("w1")
    wanted = finished(store, calm)
    job = add(store, steps=60)
    wait(lambda: len(events(store, job, "progress")) >= 3, "some steps")
    end(first)
    worker("w2")  # nobody saw the death: the lease has to run out
    made = finished(store, job)
    assert made["sha256"] == wanted["sha256"]
    assert store.find(job, "ann").attempt == 2


@pytest.mark.slow
def test_row_8_a_frozen_worker_loses_its_job_and_its_late_film_counts_for_nothing(
    store, data, worker
):
    job = add(store, frames=33, steps=120)
    frozen = worker("frozen")
    wait(lambda: len(events(store, job, "progress")) >= 2, "some steps")
    frozen.send_signal(signal.SIGSTOP)
    worker("quick")
    made = finished(store, job)
    frozen.send_signal(signal.SIGCONT)
    other = add(store)
    finished(store, other)
    time.sleep(1)
    assert len(events(store, job, "completed")) == 1
    assert made["file"] == "video-2.mp4"
    assert sha(JobFiles(data, job).path(made["file"])) == made["sha256"]
    assert frozen.poll() is None


def test_row_23_a_running_job_is_cancelled_within_a_step(store, data, worker):
    job = add(store, steps=1000)
    worker()
    wait(lambda: len(events(store, job, "progress")) >= 2, "some steps")
    asked = time.monotonic()
    store.cancel(job)
    wait(lambda: status(store, job) == "cancelled", "the cancel")
    assert time.monotonic() - asked < 2
    wait(lambda: not JobFiles(data, job).folder.exists(), "the sweep")
    finished(store, add(store))


def test_row_5_a_worker_told_to_stop_gives_its_job_back_and_leaves_with_0(store, worker):
    job = add(store, steps=1000)
    process = worker()
    wait(lambda: len(events(store, job, "progress")) >= 2, "some steps")
    process.send_signal(signal.SIGTERM)
    assert process.wait(30) == 0
    assert status(store, job) == "queued"


def test_a_worker_whose_server_is_gone_stops(store, worker):
    job = add(store, steps=1000)
    process = worker()
    wait(lambda: len(events(store, job, "progress")) >= 2, "some steps")
    process.stdin.close()
    assert process.wait(30) == 0
    assert status(store, job) == "queued"


def test_row_7_two_workers_share_the_jobs_and_do_none_twice(store, worker):
    jobs = [add(store, steps=2, frames=5, seed=n) for n in range(6)]
    worker("w1")
    worker("w2")
    for job in jobs:
        finished(store, job)
    assert [store.find(job, "ann").attempt for job in jobs] == [1] * 6


@pytest.mark.parametrize("chunk", [0], indirect=True)
def test_a_request_that_the_model_cannot_make_fails_with_a_code_and_the_fix(store, worker):
    job = add(store, frames=1601)
    worker()
    wait(lambda: status(store, job) == "failed", "the failure")
    error = store.find(job, "ann").error
    assert error["code"] == "invalid_request"
    assert "33 frames" in error["message"]
