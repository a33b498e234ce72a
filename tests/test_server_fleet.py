"""Workers far away: the clerk is a store by JSON, files travel, late attempts change nothing."""

import json
import tempfile
import threading
from dataclasses import asdict, replace
from pathlib import Path

import pytest
from server_help import request, write_model

from longtake.pipeline import load
from longtake.server.desk import local_desk
from longtake.server.files import JobFiles
from longtake.server.fleet import clerk as clerk_module
from longtake.server.fleet.clerk import Clerk
from longtake.server.fleet.far import far_desk, remove_scratch
from longtake.server.jobs import LeaseLost
from longtake.server.schema import StoreError
from longtake.server.settings import STORE, WorkerConfig
from longtake.server.store import Store
from longtake.server.worker import Worker


class Line:
    """A wire that lets text and bytes through and nothing else."""

    def __init__(self, clerk):
        self.clerk, self.sent = clerk, 0

    def call(self, name: str, text: str) -> str:
        return self.clerk.call(name, text)

    def read(self, job: str, name: str, offset: int) -> bytes:
        return self.clerk.read(job, name, offset)

    def put(self, text: str, part: bytes) -> str:
        self.sent += len(part)
        return self.clerk.put(text, part)


@pytest.fixture
def data(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "scratch"))
    (tmp_path / "scratch").mkdir()
    (tmp_path / "data").mkdir()
    return tmp_path / "data"


@pytest.fixture
def store(data):
    store = Store(data / STORE)
    yield store
    store.close()


@pytest.fixture
def line(data):
    return Line(Clerk(str(data), 30.0))


def claimed(line, worker="worker-1"):
    desk = far_desk(line, worker)
    jobs = desk.open()
    lease = jobs.claim(worker)
    return desk, jobs, lease, desk.place.files(lease).folder


def test_a_far_worker_sees_the_job_as_a_near_one_does(store, line):
    job, _ = store.add("ann", request(seed=3))
    _, jobs, lease, _ = claimed(line)
    assert replace(store.find(job.id, "ann"), owner="ann") == lease.job
    assert jobs.claim("worker-1") is None
    assert jobs.wished_away(lease) is False
    store.cancel(job.id)
    assert jobs.beat(lease) is True


@pytest.mark.parametrize(
    ("end", "status"),
    [
        (lambda jobs, lease: jobs.complete(lease, {"file": "x"}, keep_s=9), "completed"),
        (lambda jobs, lease: jobs.fail(lease, "code", "text"), "failed"),
        (lambda jobs, lease: jobs.strike(lease, "code", "text", 1), "failed"),
        (lambda jobs, lease: jobs.strike(lease, "code", "text"), "queued"),
        (lambda jobs, lease: jobs.park(lease), "queued"),
        (lambda jobs, lease: jobs.pause(lease, "code", "text", 9.0), "paused"),
        (lambda jobs, lease: jobs.drop(lease), "cancelled"),
    ],
)
def test_every_end_of_an_attempt_reaches_the_store(store, line, end, status):
    job, _ = store.add("ann", request())
    _, jobs, lease, _ = claimed(line)
    jobs.tell(lease, {"type": "progress", "progress": 7})
    end(jobs, lease)
    assert store.find(job.id, "ann").status == status
    assert store.find(job.id, "ann").progress["progress"] == 7
    with pytest.raises(LeaseLost):
        jobs.beat(lease)


def test_files_that_are_handed_in_are_there_for_the_next_attempt(store, data, line, monkeypatch):
    monkeypatch.setattr(clerk_module, "PART_BYTES", 1000)
    job, _ = store.add("ann", request())
    desk, jobs, lease, folder = claimed(line)
    (folder / "take.longtake").mkdir()
    state = bytes(range(256)) * 40
    (folder / "take.longtake" / "state-000001.safetensors").write_bytes(state)
    (folder / "video-1.mp4").write_bytes(b"begun")
    (folder / ".longtake-x.part").write_bytes(b"unfinished")
    desk.place.hand_in(lease)
    jobs.park(lease)
    desk.place.leave(lease)
    assert not folder.exists()
    kept = JobFiles(data, job.id).folder
    assert {path.name for path in kept.glob("**/*")} == {
        "take.longtake", "state-000001.safetensors", "video-1.mp4",
    }  # fmt: skip
    *_, again = claimed(line, "worker-2")
    assert (again / "take.longtake" / "state-000001.safetensors").read_bytes() == state
    assert not (again / "video-1.mp4").exists()


def test_what_did_not_change_is_not_sent_again_and_a_growing_film_by_its_end_alone(store, line):
    store.add("ann", request())
    desk, _, lease, folder = claimed(line)
    (folder / "state").write_bytes(bytes(5000))
    (folder / "video-1.mp4").write_bytes(bytes(3000))
    desk.place.hand_in(lease)
    assert line.sent == 8000
    with (folder / "video-1.mp4").open("ab") as film:
        film.write(b"more")
    (folder / "state").unlink()
    desk.place.hand_in(lease)
    assert line.sent == 8004
    kept = JobFiles(line.clerk.data, lease.job.id).folder
    assert [path.name for path in kept.iterdir()] == ["video-1.mp4"]
    assert (kept / "video-1.mp4").read_bytes() == bytes(3000) + b"more"


def test_a_worker_that_slept_through_its_lease_can_no_longer_change_a_file(store, data, line):
    job, _ = store.add("ann", request())
    late, _, old, folder = claimed(line)
    store.release("worker-1")
    newer, _, lease, again = claimed(line, "worker-2")
    (again / "state").write_bytes(b"new")
    newer.place.hand_in(lease)
    (folder / "state").write_bytes(b"old")
    with pytest.raises(LeaseLost):
        late.place.hand_in(old)
    assert (JobFiles(data, job.id).folder / "state").read_bytes() == b"new"


@pytest.mark.parametrize(
    "name", ["../x", "/etc/x", "take.longtake/../../x", "a/b", "", ".x", "a\n"]
)
def test_a_name_that_leads_elsewhere_is_refused(store, line, name):
    job, _ = store.add("ann", request())
    _, _, lease, _ = claimed(line)
    told = {"lease": [job.id, lease.attempt, "worker-1"], "name": name, "offset": 0, "grows": True}
    with pytest.raises(ValueError, match="no file of a job"):
        line.put(json.dumps(told), b"x")
    with pytest.raises(ValueError, match="no file of a job"):
        line.read(job.id, name, 0)
    with pytest.raises(ValueError, match="no job"):
        line.read("../data", "x", 0)


def test_a_full_disk_at_the_clerk_is_told_as_one(store, line, monkeypatch):
    store.add("ann", request())
    desk, _, lease, folder = claimed(line)
    (folder / "state").write_bytes(b"x")

    def full(*_arguments):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(clerk_module.os, "open", full)
    with pytest.raises(StoreError, match="No space"):
        desk.place.hand_in(lease)


def test_a_cancelled_job_leaves_nothing_at_the_clerk(store, data, line):
    job, _ = store.add("ann", request())
    desk, jobs, lease, folder = claimed(line)
    (folder / "state").write_bytes(b"x")
    desk.place.hand_in(lease)
    desk.place.clear(lease)
    assert JobFiles(data, job.id).folder.exists()
    jobs.drop(lease)
    desk.place.clear(lease)
    assert not JobFiles(data, job.id).folder.exists()


def test_folders_of_the_dead_are_removed_and_of_the_living_are_not(line):
    far_desk(line, "worker-lives")
    (root,) = Path(tempfile.gettempdir()).iterdir()
    (root / "worker-dead").mkdir()
    far_desk(line, "worker-new")
    assert {path.name for path in root.glob("worker-*")} == {"worker-lives", "worker-new"}
    remove_scratch("worker-new")
    assert {path.name for path in root.glob("worker-*")} == {"worker-lives"}


def run(data, pipe, desk, name, stop):
    config = WorkerConfig(name=name, data=str(data), model="tiny", threads=1)
    worker = Worker(config, pipe, stop, desk)
    lease = worker.store.claim(name)
    worker._work(lease)


@pytest.mark.slow
def test_a_take_goes_on_at_another_far_worker_to_the_bytes_of_a_near_one(tmp_path, tiny, data):
    model = write_model(tmp_path / "tiny", replace(tiny, chunk=2))
    pipe, store, stop = load(str(model)), Store(data / STORE), threading.Event()
    line = Line(Clerk(str(data), 30.0))
    made = []
    for far in (False, True):
        job, _ = store.add("ann", request(frames=65, steps=2))
        if far:
            desk, stopping = far_desk(line, "worker-1"), threading.Event()
            stored = desk.place.hand_in
            calls = iter(range(100))

            def hand_in(lease, stored=stored, calls=calls, stopping=stopping):
                stored(lease)
                if next(calls) == 2:
                    stopping.set()

            desk.place.hand_in = hand_in
            run(data, pipe, desk, "worker-1", stopping)
            assert store.find(job.id, "ann").status == "queued"
            run(data, pipe, far_desk(line, "worker-2"), "worker-2", stop)
        else:
            run(data, pipe, local_desk(data, "worker-0", 30.0), "worker-0", stop)
        found = store.find(job.id, "ann")
        assert found.status == "completed", found.error
        made.append(found)
        told = [json.loads(event.data) for event in store.events(0, job=job.id)]
        blocks = [event["block"] for event in told if event["type"] == "border"]
        assert blocks == list(range(1, len(blocks) + 1))
    near, far = made
    assert far.attempt == 2
    assert far.result["sha256"] == near.result["sha256"]
    files = JobFiles(data, far.id)
    assert all(files.path(name).is_file() for name in far.result["pictures"].values())
    assert files.path(far.result["file"]).stat().st_size == far.result["bytes"]
    assert asdict(far)["status"] == "completed"
    store.close()
