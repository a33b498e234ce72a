"""The clerk: speaks for store and data folder to workers that cannot reach them.

SQLite must not lie on a network drive, and leases count in the clock of one machine; so one
process beside the data folder does what workers elsewhere ask for. What comes and goes is JSON and
the bytes of files, nothing that could become code. Every write brings the number of its attempt and
is refused when a later one has begun.
"""

import json
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from longtake.server import reserve
from longtake.server.desk import Here
from longtake.server.files import ID, JobFiles
from longtake.server.jobs import Job, Json, Lease, LeaseLost
from longtake.server.schema import StoreError
from longtake.server.settings import STORE
from longtake.server.store import Store
from longtake.storage import TEMP_PREFIX, TEMP_SUFFIX, rename

PART_BYTES = 4 * 2**20
"""Most bytes of a file in one message; a sign of life never waits long behind one."""
LIVE = re.compile(r"video-\d+\.mp4")
"""A film: it grows while it is made, and no later attempt has a use for it."""
_NAME = re.compile(r"(?:take\.longtake/)?[A-Za-z0-9][\w.-]{0,120}", re.ASCII)
_HELD: Mapping[str, Callable[..., Any]] = {
    "beat": Store.beat,
    "wished_away": Store.wished_away,
    "tell": Store.tell,
    "complete": Store.complete,
    "fail": Store.fail,
    "strike": Store.strike,
    "park": Store.park,
    "pause": Store.pause,
    "drop": Store.drop,
}


@runtime_checkable
class Wire(Protocol):
    """Carries questions to the clerk and answers back."""

    def call(self, name: str, text: str) -> str:
        """Ask; see `Clerk.call`."""
        ...

    def read(self, job: str, name: str, offset: int) -> bytes:
        """Read a part of a file."""
        ...

    def put(self, text: str, part: bytes) -> str:
        """Send a part of a file."""
        ...


class Clerk:
    """One for all workers; one question at a time, so that check and write are one step."""

    def __init__(self, data: str, lease_s: float) -> None:
        """Open the store.

        Raises:
            LongtakeError: it cannot be opened.
        """
        self.data = Path(data)
        self._place = Here(self.data)
        self._store = Store(self.data / STORE, lease_s=lease_s)
        self._store.hasten()

    def call(self, name: str, text: str) -> str:
        """Do what a worker asks for.

        Args:
            name: What: a method of the store, or `claim`, `files`, `settle`, `clear`, `make_room`.
            text: Its arguments, a JSON object; `lease` is id, attempt and worker.

        Returns:
            JSON: `value`, or why not: `lost` or `full`.
        """
        return _answer(lambda: self._do(name, json.loads(text)))

    def read(self, job: str, name: str, offset: int) -> bytes:
        """A part of a file of a job."""
        with _path(self._files(job), name).open("rb") as file:
            file.seek(offset)
            return file.read(PART_BYTES)

    def put(self, text: str, part: bytes) -> str:
        """Take a part of a file; it counts when it is settled, or at once where a film grows.

        Args:
            text: JSON: `lease`, `name`, `offset`, and whether the file `grows`.
            part: The bytes.
        """
        return _answer(lambda: self._put(part, **json.loads(text)))

    def _do(self, name: str, values: dict[str, Any]) -> Any:  # noqa: ANN401 - JSON
        if name in _HELD:
            return _HELD[name](self._store, _lease(values.pop("lease")), **values)
        match name:
            case "claim":
                lease = self._store.claim(values["worker"]) if self._place.has_room() else None
                return asdict(lease.job) if lease else None
            case "files":
                found = _sizes(self._files(values["job"]).folder)
                return {name: size for name, size in found.items() if not LIVE.fullmatch(name)}
            case "settle":
                return self._settle(_lease(values["lease"]), values["new"], set(values["all"]))
            case "clear":
                return self._clear(values["job"])
            case "make_room":
                return reserve.use(self.data)
            case _:
                msg = f"the clerk does not know {name!r}"
                raise ValueError(msg)

    def _put(self, part: bytes, *, lease: list[Any], name: str, offset: int, grows: bool) -> bool:
        held = _lease(lease)
        self._store.wished_away(held)
        files = self._files(held.job.id)
        path = _path(files, name) if grows else _unsettled(files, held, name)
        files.folder.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW, 0o666)
        with os.fdopen(descriptor, "wb") as file:
            file.seek(offset)
            file.truncate()
            file.write(part)
        return True

    def _settle(self, lease: Lease, new: list[str], all_names: set[str]) -> None:
        """Let files take their names, in this order, and remove those that the worker has not."""
        self._store.wished_away(lease)
        files = self._files(lease.job.id)
        for name in new:
            path = _path(files, name)
            path.parent.mkdir(exist_ok=True)
            rename(_unsettled(files, lease, name), path)
        for name in _sizes(files.folder).keys() - all_names:
            _path(files, name).unlink(missing_ok=True)
        for leftover in files.folder.glob(f"{TEMP_PREFIX}*{TEMP_SUFFIX}"):
            leftover.unlink(missing_ok=True)

    def _clear(self, job: str) -> None:
        if self._store.ended(job):
            self._files(job).remove()

    def _files(self, job: str) -> JobFiles:
        if not ID.fullmatch(job):
            msg = f"no job is called {job!r}"
            raise ValueError(msg)
        return JobFiles(self.data, job)


def names_of(folder: Path) -> dict[str, os.stat_result]:
    """The finished files of a job's folder, by the names that go over the wire, oldest first."""
    found = {}
    for path in (*folder.glob("*"), *folder.glob("take.longtake/*")):
        name = path.relative_to(folder).as_posix()
        if _NAME.fullmatch(name) and path.is_file() and not path.is_symlink():
            found[name] = path.stat()
    return dict(sorted(found.items(), key=lambda item: item[1].st_mtime_ns))


def _sizes(folder: Path) -> dict[str, int]:
    return {name: told.st_size for name, told in names_of(folder).items()}


def _path(files: JobFiles, name: str) -> Path:
    if not _NAME.fullmatch(name):
        msg = f"no file of a job is called {name!r}"
        raise ValueError(msg)
    return files.folder / name


def _unsettled(files: JobFiles, lease: Lease, name: str) -> Path:
    plain = _path(files, name).relative_to(files.folder).as_posix().replace("/", "+")
    return files.folder / f"{TEMP_PREFIX}{lease.attempt}-{plain}{TEMP_SUFFIX}"


def _lease(told: list[Any]) -> Lease:
    """A lease as far as the store compares it."""
    job, attempt, worker = told
    return Lease(
        Job(
            id=job, attempt=attempt, owner="", status="in_progress", request={}, created_at=0,
            started_at=None, finished_at=None, expires_at=None, progress={}, error=None,
            result=None, deleted=False,
        ),
        worker,
    )  # fmt: skip


def _answer(call: Callable[[], Any]) -> str:
    answer: Json
    try:
        answer = {"value": call()}
    except LeaseLost as error:
        answer = {"lost": str(error)}
    except (StoreError, OSError) as error:
        answer = {"full": str(error)}
    return json.dumps(answer, ensure_ascii=False)
