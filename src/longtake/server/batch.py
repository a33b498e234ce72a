"""A batch: films from a list in a folder, made by a crew; a second run makes what is missing.

The folder holds the films, `results.jsonl`, and a queue like that of a server. A job's id comes
from its film's name, its request and the model: so a run knows what runs before it have made.
"""

import asyncio
import json
import os
import shutil
import signal
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from longtake.checkpoints import content_hash
from longtake.config import to_dict
from longtake.errors import BatchError, CannotHere
from longtake.server import reserve
from longtake.server.batch_list import Entry
from longtake.server.crew import Crew
from longtake.server.engines import open_engine
from longtake.server.files import JobFiles
from longtake.server.jobs import ENDED, Job
from longtake.server.presence import alone, is_gone, tidy
from longtake.server.schema import StoreError
from longtake.server.settings import STORE, EngineConfig, WorkerConfig
from longtake.server.store import Store
from longtake.server.studio import Studio
from longtake.storage import atomic_write, output_errors, rename

QUEUE = "queue"
"""Folder of the jobs inside the batch's folder."""
RESULTS = "results.jsonl"
OWNER = "batch"
LOOK_EVERY_S = 0.1
_TELL_EVERY_S = 5.0
_KEEP_S = 100 * 365 * 86_400
_HOPELESS = 4
"""Workers that may end in a row without one getting ready."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchConfig:
    """How a batch is made."""

    folder: Path
    """Where films and results go."""
    engines: EngineConfig
    """What makes them."""
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    """Arithmetic."""
    lease_s: float = 30.0
    """How long a worker holds a film without a sign of life."""
    sheet: bool = True
    """Whether a contact sheet goes beside each film."""
    overwrite: bool = False
    """Whether films of these names that other requests made are replaced."""


@dataclass(slots=True)
class Tally:
    """How far a batch is."""

    entries: Mapping[str, Entry]
    """By the ids of their jobs, in the order of the list."""
    begun: float = field(default_factory=time.monotonic)
    there: int = 0
    """Films that runs before have made."""
    made: int = 0
    failed: dict[str, str] = field(default_factory=dict)
    """Why, by job."""
    note: str = ""
    """What keeps it from going on."""
    shares: dict[str, float] = field(default_factory=dict)
    """What part of a film is made, of those in this run."""

    @property
    def done(self) -> int:
        """Films that need nothing more."""
        return self.there + self.made + len(self.failed)

    @property
    def left_s(self) -> float | None:
        """Seconds to go at the speed so far; None before anything is made."""
        open_work = {job: _work(entry) for job, entry in self.entries.items() if job in self.shares}
        made = sum(work * self.shares[job] for job, work in open_work.items())
        if not made:
            return None
        return (time.monotonic() - self.begun) * (sum(open_work.values()) - made) / made


Tell = Callable[[Tally, Entry | None, Job | None], None]
"""Hears of each film that ended, and now and then with None of how far all is."""


def run_batch(
    entries: Sequence[Entry], studio: Studio, config: BatchConfig, tell: Tell
) -> tuple[Tally, int]:
    """Make what is not made; everything that could be in the way is found before.

    Returns:
        How far it came, and workers that were lost meanwhile.

    Raises:
        LongtakeError: the folder cannot be used, or no worker can run.
        KeyboardInterrupt: as it came; what is made stays made.
    """
    data = config.folder / QUEUE
    model_hash = content_hash(studio.preset.folder)
    wanted = {entry.job(model_hash): entry for entry in entries}
    with alone(data, "batch"):
        store = Store(data / STORE, lease_s=config.lease_s)
        try:
            batch = _Batch(config, store, Tally(wanted), tell)
            batch.prepare()
            try:
                if batch.open:
                    return batch.tally, batch.make(str(studio.preset.folder))
                return batch.tally, 0
            finally:
                batch.write_results()
        finally:
            store.close()


@dataclass(slots=True)
class _Batch:
    config: BatchConfig
    store: Store
    tally: Tally
    tell: Tell

    @property
    def data(self) -> Path:
        return self.config.folder / QUEUE

    @property
    def open(self) -> set[str]:
        """Films that are still to be made."""
        return {job for job, share in self.tally.shares.items() if share < 1}

    def prepare(self) -> None:
        """Find what is made, refuse what is in the way, and queue the rest.

        Raises:
            BatchError: a file that this batch did not make has the name of a film.
        """
        tidy(self.data)
        known = {job: self.store.find(job, OWNER) for job in self.tally.entries}
        there = {job for job, found in known.items() if found and self._is_there(job, found)}
        for job, entry in self.tally.entries.items():
            film = self._film(entry)
            for path in (film, film.with_suffix(".png"))[: 1 + self.config.sheet]:
                taken = os.path.lexists(path) and not (job in there or self.config.overwrite)
                if taken or path.is_dir():
                    msg = (
                        f"line {entry.line}: {path} exists already, made from something else; "
                        'give the line another "name", choose another -o, or add --overwrite'
                    )
                    raise BatchError(msg)
        with self.store.writing():
            self._withdraw()
            for job, entry in self.tally.entries.items():
                self._queue(job, entry, known[job], is_there=job in there)
        self.tally.begun = time.monotonic()

    def make(self, model: str) -> int:
        """Run a crew until every film has ended; how many workers were lost."""
        engines = self.config.engines
        worker = WorkerConfig(
            name="",
            data=str(self.data.absolute()),
            model=model,
            device=engines.device,
            precision=self.config.precision,
            threads=engines.threads,
            lease_s=self.config.lease_s,
            keep_s=_KEEP_S,
        )
        for job in self.open:
            self._look(job)
        size = min(engines.workers, len(self.open))
        if not size:
            return 0
        with open_engine(engines, self.data.absolute(), self.config.lease_s) as engine:
            crew = Crew(worker, size, self._died, engine)
            asyncio.run(self._run(crew))
        return crew.restarts

    async def _run(self, crew: Crew) -> None:
        crew.start()
        seen, told = self.store.newest_event(), 0.0
        for job in self.open:
            self._look(job)
        try:
            with _wish_to_stop() as wished:
                while self.open and not wished.is_set():
                    await asyncio.sleep(LOOK_EVERY_S)
                    for event in self.store.events(seen):
                        seen = event.seq
                        self._hear(event.job, json.loads(event.data))
                    if not (crew.ready or self.tally.made):
                        self.tally.begun = time.monotonic()
                    if time.monotonic() - told > _TELL_EVERY_S:
                        told = time.monotonic()
                        has_room = reserve.free(self.data) >= reserve.LEAST_FREE
                        self.tally.note = "" if has_room else "no space left; free some"
                        self.tell(self.tally, None, None)
                        self._release_gone(crew)
                    _check_hope(crew)
                if self.open:
                    raise KeyboardInterrupt
        finally:
            await crew.stop()

    def _hear(self, job: str, event: Mapping[str, Any]) -> None:
        if self.tally.shares.get(job, 1.0) >= 1:
            return
        if event["type"] == "progress":
            self.tally.shares[job] = min(event["progress"], 99) / 100
        elif event["type"] == "queued":
            self.tally.shares[job] = 0.0
        else:
            self._look(job)

    def _look(self, job: str) -> None:
        """Take a film that has ended out of the queue."""
        found = self.store.find(job, OWNER)
        if found is None or found.status not in ENDED:
            return
        entry = self.tally.entries[job]
        if found.status == "completed":
            self._publish(found, entry)
            self.tally.made += 1
        else:
            self.tally.failed[job] = (found.error or {}).get("message", found.status)
        self.tally.shares[job] = 1.0
        self.tell(self.tally, entry, found)

    def _died(self, worker: str) -> None:
        # On a full disk: the lease ends by itself.
        with suppress(StoreError):
            self.store.strike_worker(worker)

    def _release_gone(self, crew: Crew) -> None:
        """Take jobs from workers of a run before that are gone without a word."""
        for worker in self.store.holders():
            if worker not in crew.names and is_gone(self.data, worker):
                self.store.release(worker)

    def _queue(self, job: str, entry: Entry, found: Job | None, *, is_there: bool) -> None:
        if is_there:
            self.tally.there += 1
            JobFiles(self.data, job).remove()
            return
        self.tally.shares[job] = 0.0
        if found and found.status in ENDED and not self._unpublished(found):
            self.store.delete(job)
            self.store.forget(job)
            JobFiles(self.data, job).remove()
            found = None
        if found is None:
            self.store.add(OWNER, to_dict(entry.request), job=job, most=10**9)

    def _withdraw(self) -> None:
        """Take out of the queue what an older list wanted."""
        for job in self.store.page(OWNER, after=None, limit=10**9, newest_first=False) or ():
            if job.id not in self.tally.entries and job.status not in ENDED:
                self.store.delete(job.id)

    def _film(self, entry: Entry) -> Path:
        return self.config.folder / f"{entry.name}.mp4"

    def _is_there(self, job: str, found: Job) -> bool:
        film = self._film(self.tally.entries[job])
        if found.status != "completed" or found.result is None:
            return False
        with suppress(OSError):
            return film.lstat().st_size == found.result["bytes"]
        return False

    def _unpublished(self, found: Job | None) -> bool:
        """Whether a film is finished and lies in its job's folder still."""
        if found is None or found.status != "completed" or found.result is None:
            return False
        return JobFiles(self.data, found.id).path(found.result["file"]).is_file()

    def _publish(self, job: Job, entry: Entry) -> None:
        """Give film and sheet their names, and remove the rest of the job."""
        assert job.result is not None
        files, film = JobFiles(self.data, job.id), self._film(entry)
        if self.config.sheet:
            _move(files.path(job.result["pictures"]["contact_sheet"]), film.with_suffix(".png"))
        _move(files.path(job.result["file"]), film)
        files.remove()

    def write_results(self) -> None:
        """Write a line for each film of the list, in its order."""
        results = self.config.folder / RESULTS
        with atomic_write(results) as temp, temp.open("w", encoding="utf-8") as file:
            for job, entry in self.tally.entries.items():
                told = _result(entry, self.store.find(job, OWNER))
                file.write(json.dumps(told, ensure_ascii=False) + "\n")


def _check_hope(crew: Crew) -> None:
    """Give up where no worker can get ready.

    Raises:
        CannotHere: with what the newest said.
    """
    patience = crew.size if crew.problem else _HOPELESS * crew.size
    if not crew.ready and crew.failures >= patience:
        msg = crew.problem or "workers end before they are ready; longtake doctor may tell why"
        raise CannotHere(msg)


@contextmanager
def _wish_to_stop() -> Iterator[asyncio.Event]:
    """Ctrl-C and a polite kill as an event, so that workers can give their films back."""
    wished, loop = asyncio.Event(), asyncio.get_running_loop()
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    for number in before:
        loop.add_signal_handler(number, wished.set)
    try:
        yield wished
    finally:
        for number, handler in before.items():
            loop.remove_signal_handler(number)
            signal.signal(number, handler)


def _move(source: Path, target: Path) -> None:
    """A file under its final name: linked where the disk can, copied where not."""
    temp = target.with_name(f".longtake-{target.name}.part")
    with output_errors(target):
        temp.unlink(missing_ok=True)
        try:
            os.link(source, temp)
        except OSError:
            shutil.copyfile(source, temp)
    rename(temp, target)


def _work(entry: Entry) -> int:
    told = entry.request.settings
    return told.width * told.height * told.frames * told.steps


def _result(entry: Entry, job: Job | None) -> dict[str, Any]:
    """What the results tell of a film."""
    settings = entry.request.settings
    made = job.result if job and job.status == "completed" else None
    return {
        "line": entry.line,
        "name": entry.name,
        "status": job.status if job else "queued",
        "film": f"{entry.name}.mp4" if made else None,
        "prompt": entry.request.prompt,
        "seed": settings.seed,
        "frames": settings.frames,
        "size": f"{settings.width}x{settings.height}",
        "sha256": made["sha256"] if made else None,
        "bytes": made["bytes"] if made else None,
        "inference_time_s": made["inference_time_s"] if made else None,
        "notices": made["notices"] if made else [],
        "attempts": job.attempt if job else 0,
        "error": (job.error or {}).get("message") if job else None,
    }
