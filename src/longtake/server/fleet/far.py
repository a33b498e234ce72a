"""A desk far from store and data folder: it asks the clerk, and sends files as they get ready."""

import json
import os
import shutil
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from longtake.errors import OutputError
from longtake.server import reserve
from longtake.server.desk import Desk
from longtake.server.files import JobFiles
from longtake.server.fleet.clerk import LIVE, PART_BYTES, Wire, names_of
from longtake.server.jobs import Job, Json, Lease, LeaseLost
from longtake.server.presence import WORKERS, appear, is_gone
from longtake.server.schema import StoreError
from longtake.server.store import MOST_STRIKES

ASK_EVERY_S = 0.1
"""Shortest time between two questions whether a film is still wanted."""
_Mark = tuple[int, int, int]


@dataclass(frozen=True, slots=True)
class _Line:
    """The wire with answers as values and errors."""

    wire: Wire

    def ask(self, name: str, **values: object) -> Any:  # noqa: ANN401 - JSON
        return _value(self.wire.call(name, json.dumps(values, ensure_ascii=False)))

    def put(self, lease: Lease, name: str, offset: int, part: bytes, *, grows: bool) -> None:
        text = {"lease": _told(lease), "name": name, "offset": offset, "grows": grows}
        _value(self.wire.put(json.dumps(text), part))


class FarJobs:
    """The store through the clerk."""

    def __init__(self, line: _Line) -> None:
        """Take the line; it may be shared by threads."""
        self._line = line
        self._asked = 0.0

    def claim(self, worker: str) -> Lease | None:
        """Take the next job."""
        job = self._line.ask("claim", worker=worker)
        return Lease(Job(**job), worker) if job else None

    def beat(self, lease: Lease) -> bool:
        """Hold a job longer."""
        return self._line.ask("beat", lease=_told(lease))

    def wished_away(self, lease: Lease) -> bool:
        """Whether someone wants the job cancelled; asked at most ten times a second."""
        now = time.monotonic()
        if now - self._asked < ASK_EVERY_S:
            return False
        self._asked = now
        return self._line.ask("wished_away", lease=_told(lease))

    def tell(self, lease: Lease, event: Json, *, better: bool = False) -> None:
        """Write down how far a job is."""
        self._line.ask("tell", lease=_told(lease), event=event, better=better)

    def complete(self, lease: Lease, result: Json, *, keep_s: int) -> None:
        """End a job with its film."""
        self._line.ask("complete", lease=_told(lease), result=result, keep_s=keep_s)

    def fail(self, lease: Lease, code: str, message: str) -> None:
        """End a job that no further attempt would mend."""
        self._line.ask("fail", lease=_told(lease), code=code, message=message)

    def strike(self, lease: Lease, code: str, message: str, most: int = MOST_STRIKES) -> None:
        """Count a failed attempt."""
        self._line.ask("strike", lease=_told(lease), code=code, message=message, most=most)

    def park(self, lease: Lease) -> None:
        """Give a job back as it stands."""
        self._line.ask("park", lease=_told(lease))

    def pause(self, lease: Lease, code: str, message: str, wait_s: float) -> None:
        """Give a job back for a while."""
        self._line.ask("pause", lease=_told(lease), code=code, message=message, wait_s=wait_s)

    def drop(self, lease: Lease) -> None:
        """End a job whose owner wished it away."""
        self._line.ask("drop", lease=_told(lease))

    def close(self) -> None:
        """Nothing is held."""


class FarPlace:
    """A folder of the worker's own; files come from the clerk and go to the clerk."""

    def __init__(self, line: _Line, scratch: Path) -> None:
        """Name the folder."""
        self._line, self._scratch = line, scratch
        self._stored: dict[str, _Mark] = {}

    def has_room(self) -> bool:
        """Whether there is disk enough to begin a job; the clerk looks at its own disk."""
        return reserve.free(self._scratch) >= reserve.LEAST_FREE

    def make_room(self) -> bool:
        """Give free what was kept back for a full disk."""
        return self._line.ask("make_room")

    def files(self, lease: Lease) -> JobFiles:
        """The job's folder with all that attempts before have stored, and its parent's beside it.

        Raises:
            StoreError: the clerk cannot read them now.
        """
        if parent := lease.job.request.get("parent"):
            self._bring(parent)
        files = self._bring(lease.job.id)
        self._stored = {name: _mark(told) for name, told in names_of(files.folder).items()}
        return files

    def hand_in(self, lease: Lease) -> None:
        """Send what is new since the last time.

        Raises:
            LeaseLost: the job is no longer this worker's.
            StoreError: it cannot be stored now.
        """
        folder = JobFiles(self._scratch, lease.job.id).folder
        found = {name: _mark(told) for name, told in names_of(folder).items()}
        whole = []
        for name, mark in found.items():
            before = self._stored.get(name, (0, 0, 0))
            if mark == before:
                continue
            grows = bool(LIVE.fullmatch(name)) and mark[0] == before[0] and mark[1] > before[1]
            self._send(lease, folder / name, name, (before[1] if grows else 0, mark[1]))
            if not grows:
                whole.append(name)
        self._line.ask("settle", lease=_told(lease), new=whole, all=list(found))
        self._stored = found

    def leave(self, lease: Lease) -> None:
        """Remove the folders; what was handed in is with the clerk."""
        for job in (lease.job.id, lease.job.request.get("parent")):
            if job:
                JobFiles(self._scratch, job).remove()

    def clear(self, lease: Lease) -> None:
        """Remove the files of a job that was wished away."""
        self._line.ask("clear", job=lease.job.id)

    def _bring(self, job: str) -> JobFiles:
        files = JobFiles(self._scratch, job)
        files.remove()
        files.folder.mkdir(parents=True)
        for name, size in self._line.ask("files", job=job).items():
            path = files.folder / name
            path.parent.mkdir(exist_ok=True)
            with path.open("wb") as file:
                while file.tell() < size and (part := self._line.wire.read(job, name, file.tell())):
                    file.write(part)
        return files

    def _send(self, lease: Lease, path: Path, name: str, span: tuple[int, int]) -> None:
        offset, end = span
        grows = offset > 0
        with path.open("rb") as file:
            while True:
                file.seek(offset)
                part = file.read(min(PART_BYTES, end - offset))
                self._line.put(lease, name, offset, part, grows=grows)
                offset += len(part)
                if offset >= end or not part:
                    return


def far_desk(wire: Wire, worker: str) -> Desk:
    """The desk of a worker that has nothing but a wire to the clerk.

    Raises:
        OutputError: there is no folder for its files.
    """
    root = _root()
    for path in root.glob("worker-*"):
        if is_gone(root, path.name):
            shutil.rmtree(path, ignore_errors=True)
            (root / WORKERS / path.name).unlink(missing_ok=True)
    appear(root, worker)
    scratch = root / worker
    scratch.mkdir(mode=0o700)
    line = _Line(wire)
    return Desk(lambda: FarJobs(line), FarPlace(line, scratch))


def remove_scratch(worker: str) -> None:
    """Remove a worker's folder; one that is killed leaves it to the next on its machine."""
    shutil.rmtree(_root() / worker, ignore_errors=True)


def _root() -> Path:
    """A folder of this user alone, below the machine's folder for such things."""
    root = Path(tempfile.gettempdir()) / f"longtake-{os.getuid()}"
    try:
        root.mkdir(mode=0o700, exist_ok=True)
        told = root.lstat()
    except OSError as error:
        msg = f"cannot make {root} for a worker's files: {error.strerror}; set TMPDIR"
        raise OutputError(msg) from error
    if root.is_symlink() or told.st_uid != os.getuid():
        msg = f"{root} belongs to someone else; set TMPDIR to another folder"
        raise OutputError(msg)
    return root


def _told(lease: Lease) -> list[object]:
    return [lease.job.id, lease.attempt, lease.worker]


def _mark(told: os.stat_result) -> _Mark:
    return told.st_ino, told.st_size, told.st_mtime_ns


def _value(text: str) -> Any:  # noqa: ANN401 - JSON
    answer = json.loads(text)
    if "lost" in answer:
        raise LeaseLost(answer["lost"])
    if "full" in answer:
        raise StoreError(answer["full"])
    return answer["value"]
