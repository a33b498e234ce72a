"""Batches: what is made is not made again, what is in the way is refused before anything is."""

import asyncio
import hashlib
import json
import subprocess
import sys
from contextlib import contextmanager
from dataclasses import replace

import pytest

from longtake.config import SampleConfig, to_dict
from longtake.errors import BatchError, CannotHere
from longtake.server import batch as batch_module
from longtake.server.batch import BatchConfig, run_batch
from longtake.server.batch_list import Entry
from longtake.server.files import JobFiles
from longtake.server.jobs import FilmRequest
from longtake.server.settings import STORE, EngineConfig, Limits
from longtake.server.store import Store
from longtake.server.studio import open_studio

SETTINGS = SampleConfig(width=64, height=64, frames=5, steps=1)


class Hand:
    """A worker without a model: its films hold their prompt; `die` fails, `stop` ends it."""

    def __init__(self, config):
        self.config, self.stopped = config, False

    async def lines(self):
        data = batch_module.Path(self.config.data)
        store = Store(data / STORE)
        yield json.dumps({"ready": True, "model_hash": "m", "version": "1"})
        while not self.stopped:
            await asyncio.sleep(0)
            lease = store.claim(self.config.name)
            if lease is None:
                continue
            prompt = lease.job.request["prompt"]
            if prompt.startswith("die"):
                store.fail(lease, "code", "it cannot be made")
            elif prompt.startswith("stop"):
                break
            else:
                store.complete(lease, made(JobFiles(data, lease.job.id), prompt), keep_s=9)
        store.close()

    def stop(self) -> None:
        self.stopped = True

    def kill(self) -> None:
        self.stopped = True


class Engine:
    def __init__(self):
        self.started = 0

    async def start(self, config):
        self.started += 1
        return Hand(config)


def made(files, prompt):
    files.folder.mkdir(parents=True)
    film = prompt.encode()
    files.path("video-1.mp4").write_bytes(film)
    files.path("sheet-1.png").write_bytes(b"sheet")
    digest = hashlib.sha256(film).hexdigest()
    return {
        "file": "video-1.mp4", "bytes": len(film), "sha256": digest, "inference_time_s": 0.5,
        "notices": [], "pictures": {"contact_sheet": "sheet-1.png"},
    }  # fmt: skip


@pytest.fixture
def engine(monkeypatch):
    engine = Engine()

    @contextmanager
    def opened(*_arguments):
        yield engine

    monkeypatch.setattr(batch_module, "open_engine", opened)
    monkeypatch.setattr(batch_module, "LOOK_EVERY_S", 0.001)
    return engine


@pytest.fixture
def make(tmp_path, tiny, engine):  # noqa: ARG001 - stands in for the one of the batch
    model = tmp_path / "tiny"
    model.mkdir()
    (model / "model.json").write_text(json.dumps(to_dict(tiny)))
    (model / "text.safetensors").write_bytes(b"\0" * 8)
    studio = open_studio(str(model), Limits())
    (tmp_path / "films").mkdir()

    def make(*prompts, **more):
        films = [
            Entry(n, f"{n:04}", FilmRequest(model="tiny", prompt=prompt, settings=SETTINGS))
            for n, prompt in enumerate(prompts, 1)
            if prompt
        ]
        told = []
        config = BatchConfig(folder=tmp_path / "films", engines=EngineConfig(workers=2), **more)
        tally, _ = run_batch(films, studio, config, lambda *heard: told.append(heard))
        return tally, [entry.name for _, entry, _ in told if entry]

    make.folder = tmp_path / "films"
    return make


def results(make):
    lines = (make.folder / "results.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines]


def films(make):
    return {path.stem: path.read_text() for path in sorted(make.folder.glob("*.mp4"))}


def test_every_line_becomes_a_film_with_its_sheet_and_its_result(make):
    tally, told = make("a", "b", "c")
    assert (tally.made, tally.there, tally.failed) == (3, 0, {})
    assert sorted(told) == ["0001", "0002", "0003"]
    assert films(make) == {"0001": "a", "0002": "b", "0003": "c"}
    assert (make.folder / "0002.png").read_bytes() == b"sheet"
    assert [(r["line"], r["status"], r["film"], r["prompt"]) for r in results(make)] == [
        (1, "completed", "0001.mp4", "a"),
        (2, "completed", "0002.mp4", "b"),
        (3, "completed", "0003.mp4", "c"),
    ]
    assert list((make.folder / "queue" / "jobs").iterdir()) == []


def test_what_is_made_is_not_made_again_and_more_lines_are(make, engine):
    make("a", "b")
    started = engine.started
    tally, told = make("a", "b")
    assert (tally.there, tally.made, told, engine.started) == (2, 0, [], started)
    tally, told = make("a", "b", "c")
    assert (tally.there, tally.made, told) == (2, 1, ["0003"])


def test_a_film_that_was_deleted_is_made_again(make):
    make("a", "b")
    (make.folder / "0002.mp4").unlink()
    tally, told = make("a", "b", sheet=False)
    assert (tally.there, told) == (1, ["0002"])
    assert films(make) == {"0001": "a", "0002": "b"}


def test_a_changed_line_is_refused_before_anything_is_made_unless_it_may_replace(make):
    make("a", "b")
    with pytest.raises(BatchError, match=r"line 2: .*0002\.mp4 exists already, made from"):
        make("a", "B", "c")
    assert films(make) == {"0001": "a", "0002": "b"}
    tally, _ = make("a", "B", "c", overwrite=True)
    assert (tally.there, tally.made) == (1, 2)
    assert films(make) == {"0001": "a", "0002": "B", "0003": "c"}


@pytest.mark.parametrize("name", ["0001.mp4", "0001.png"])
def test_a_file_of_someone_else_is_never_replaced(make, name):
    (make.folder / name).write_text("mine")
    with pytest.raises(BatchError, match="exists already"):
        make("a")
    assert (make.folder / name).read_text() == "mine"


def test_a_film_that_fails_does_not_stop_the_rest_and_is_tried_again(make):
    tally, _ = make("a", "die", "c")
    assert list(tally.failed.values()) == ["it cannot be made"]
    assert films(make) == {"0001": "a", "0003": "c"}
    assert [r["error"] for r in results(make)] == [None, "it cannot be made", None]
    tally, told = make("a", "die", "c")
    assert (tally.there, told) == (2, ["0002"])


def test_a_film_finished_just_before_a_crash_is_given_its_name_by_the_next_run(make, monkeypatch):
    with monkeypatch.context() as patch, pytest.raises(RuntimeError):
        patch.setattr(batch_module, "_move", crash)
        make("a")
    assert films(make) == {}
    tally, _ = make("a")
    assert (tally.made, films(make)) == (1, {"0001": "a"})


def interrupted(*_arguments):
    raise KeyboardInterrupt


def test_a_batch_whose_workers_cannot_get_ready_ends_with_what_they_said(make, monkeypatch):
    class Broken(Hand):
        async def lines(self):
            yield json.dumps({"error": "the weights are damaged"})

    monkeypatch.setattr(Engine, "start", lambda self, config: ready(Broken(config)))
    with pytest.raises(CannotHere, match="the weights are damaged"):
        make("a", "b")


async def ready(hand):
    return hand


def crash(*_arguments):
    msg = "power cut"
    raise RuntimeError(msg)


def test_lines_that_an_older_list_left_in_the_queue_are_not_made(make, monkeypatch):
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(batch_module, "open_engine", interrupted)
        make("a", "b")
    assert [r["status"] for r in results(make)] == ["queued", "queued"]
    tally, _ = make("", "", "c")
    assert (tally.made, films(make)) == (1, {"0003": "c"})


def test_time_left_is_counted_by_pixels_and_not_by_films(make):
    tally, _ = make("a", "b")
    first, second = tally.entries
    long = replace(tally.entries[second].request, settings=replace(SETTINGS, frames=45))
    tally.entries[second] = replace(tally.entries[second], request=long)
    tally.shares = {first: 1.0, second: 0.0}
    tally.begun = batch_module.time.monotonic() - 10
    assert tally.left_s == pytest.approx(90, rel=0.01)


def test_a_batch_needs_nothing_but_the_core():
    others = ("fastapi", "uvicorn", "starlette", "prometheus_client", "multipart", "h11", "ray")
    code = (
        f"import sys; sys.modules.update(dict.fromkeys({others}))\n"
        "import longtake.server.worker, longtake.server.batch, longtake.server.batch_list\n"
        "import longtake.server.fleet.clerk, longtake.server.fleet.far"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
