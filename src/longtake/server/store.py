"""The store: jobs, leases, attempts and events in one SQLite file; what was committed is kept.

Leases are counted in the machine's monotonic clock and named by its boot, so that no change of the
wall clock ends or prolongs one. Every lease of a job has a higher number than the one before, and
a write that brings an older number is refused: a worker that slept through its lease cannot end
what another has taken up.
"""

import json
from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from longtake.server.clocks import Clocks
from longtake.server.jobs import (
    ENDED,
    LIVE,
    AlreadyEnded,
    Job,
    Json,
    Key,
    KeyReused,
    Lease,
    LeaseLost,
    QueueFull,
    Status,
    StoredEvent,
    new_id,
)
from longtake.server.schema import connect, immediate

MOST_STRIKES = 3
"""Workers that a job may take down."""
MOST_ATTEMPTS = 100
"""Times a job is taken up at all; power cuts are not its fault, but there is an end."""
_COLUMNS = (
    "id, owner, status, request, created_at, started_at, finished_at, expires_at, "
    "attempt, progress, error, result, deleted"
)
_HELD = "id = ? AND attempt = ? AND worker = ? AND status = 'in_progress'"


class Store:
    """One connection to the store; a thread or process has its own."""

    def __init__(self, path: Path, *, lease_s: float = 30.0, clocks: Clocks | None = None) -> None:
        """Open the store, made if it is missing.

        Args:
            path: The file.
            lease_s: How long a worker holds a job without a sign of life.
            clocks: Where it reads time.

        Raises:
            OutputError: it cannot be made or written.
            StateError: not a store, or one of a newer release.
        """
        self.lease_s, self.clocks = lease_s, clocks or Clocks()
        self._db = connect(path)

    def writing(self) -> AbstractContextManager[None]:
        """Make several writes durable together."""
        return immediate(self._db)

    def hasten(self) -> None:
        """Let writes survive kills but not power cuts, all but the end of a job."""
        self._db.execute("PRAGMA synchronous = NORMAL")

    def close(self) -> None:
        """Let go of the file."""
        self._db.close()

    # What clients ask for.

    def add(
        self, owner: str, request: Json, *, job: str = "", key: Key | None = None, most: int = 10**6
    ) -> tuple[Job, bool]:
        """Put a job in the queue; the job, and whether it is new.

        Jobs of one owner keep their order; owners take turns.

        Args:
            owner: Whose it is.
            request: A `FilmRequest`.
            job: Its id, if files wait for it already.
            key: The same key and request give the same job.
            most: Jobs that may wait.

        Raises:
            KeyReused: the key stands for another request.
            QueueFull: as many wait already.
            StoreError: it cannot be kept.
        """
        with self.writing():
            if key is not None and (found := self._by_key(owner, key)):
                return found, False
            if self.waiting() >= most:
                msg = f"{most} jobs are waiting"
                raise QueueFull(msg)
            job = job or new_id()
            turn = max(self._turn(owner) + 1, self._turn(""))
            self._set_turn(owner, turn)
            self._db.execute(
                "INSERT INTO jobs (id, owner, turn, status, request, created_at) "
                "VALUES (?, ?, ?, 'queued', ?, ?)",
                (job, owner, turn, _text(request), self._now()),
            )
            if key is not None:
                self._db.execute(
                    "INSERT INTO keys VALUES (?, ?, ?, ?, ?)",
                    (owner, key.route, key.key, key.digest, job),
                )
            self._tell(job, {"type": "queued"})
            return self._get(job), True

    def find(self, job: str, owner: str) -> Job | None:
        """A job that its owner may see."""
        where = "id = ? AND owner = ? AND NOT deleted"
        row = self._one(f"SELECT {_COLUMNS} FROM jobs WHERE {where}", (job, owner))
        return _job(row) if row else None

    def page(
        self, owner: str, *, after: str | None, limit: int, newest_first: bool
    ) -> Sequence[Job] | None:
        """Jobs after another one; the cost does not depend on how many come before.

        Returns:
            None if the owner has no job of the id `after`.
        """
        compare, order = ("<", "DESC") if newest_first else (">", "ASC")
        seq = 2**62 if newest_first else -1
        if after is not None:
            row = self._one("SELECT seq FROM jobs WHERE id = ? AND owner = ?", (after, owner))
            if row is None:
                return None
            (seq,) = row
        rows = self._db.execute(
            f"SELECT {_COLUMNS} FROM jobs WHERE owner = ? AND deleted = 0 AND seq {compare} ? "
            f"ORDER BY seq {order} LIMIT ?",
            (owner, seq, limit),
        )
        return [_job(row) for row in rows]

    def cancel(self, job: str) -> Job:
        """End a job that waits; ask the worker of a running one to stop. A second time is as one.

        Raises:
            AlreadyEnded: completed or failed.
        """
        with self.writing():
            status = self._get(job).status
            if status in ("completed", "failed"):
                msg = f"the video is {status} and cannot be cancelled"
                raise AlreadyEnded(msg)
            if status in ("queued", "paused"):
                self._end(job, "cancelled")
            elif status == "in_progress":
                self._db.execute("UPDATE jobs SET cancel = 1 WHERE id = ?", (job,))
            return self._get(job)

    def delete(self, job: str) -> None:
        """Hide a job from now on; one that is running is cancelled."""
        with self.writing():
            if self._get(job).status in LIVE:
                self.cancel(job)
            self._db.execute("UPDATE jobs SET deleted = 1 WHERE id = ?", (job,))
            self._db.execute("DELETE FROM keys WHERE job = ?", (job,))
            self._tell(job, {"type": "deleted"})

    def events(self, after: int, *, job: str | None = None, limit: int = 1000) -> list[StoredEvent]:
        """What happened after an event, to one job or to all."""
        where, values = ("", ()) if job is None else ("job = ? AND ", (job,))
        rows = self._db.execute(
            f"SELECT seq, job, data FROM events WHERE {where}seq > ? ORDER BY seq LIMIT ?",
            (*values, after, limit),
        )
        return [StoredEvent(*row) for row in rows]

    def ended(self, job: str) -> bool:
        """Whether nothing will happen to a job any more."""
        row = self._one("SELECT status FROM jobs WHERE id = ?", (job,))
        return row is None or row[0] in ENDED

    def newest_event(self) -> int:
        """Number of the last event; 0 before the first."""
        return self._number("SELECT coalesce(max(seq), 0) FROM events")

    def changed(self) -> int:
        """A number that another one's writes change."""
        return self._number("PRAGMA data_version")

    def waiting(self) -> int:
        """Jobs in the queue."""
        return self._number("SELECT count(*) FROM jobs WHERE status = 'queued'")

    def counts(self) -> dict[str, int]:
        """Jobs in each state."""
        rows = self._db.execute("SELECT status, count(*) FROM jobs GROUP BY status")
        found = dict(rows.fetchall())
        return {status: found.get(status, 0) for status in (*LIVE, *ENDED)}

    # What workers do.

    def claim(self, worker: str) -> Lease | None:
        """Take the next job, if there is one.

        Raises:
            StoreError: it cannot be written down.
        """
        if not self._work():
            return None
        with self.writing():
            self.release_dead()
            row = self._one(f"SELECT id, turn FROM jobs WHERE {_READY} LIMIT 1", self._clock())
            row = row or self._one(
                "SELECT id, turn FROM jobs WHERE status = 'queued' ORDER BY turn, seq LIMIT 1"
            )
            if row is None:
                return None
            job, turn = row
            self._set_turn("", max(turn, self._turn("")))
            self._db.execute(
                "UPDATE jobs SET status = 'in_progress', attempt = attempt + 1, worker = ?, "
                "boot = ?, until = ?, error = NULL, started_at = coalesce(started_at, ?) "
                "WHERE id = ?",
                (worker, self.clocks.boot, self._until(), self._now(), job),
            )
            lease = Lease(self._get(job), worker)
            self._tell(job, {"type": "started", "attempt": lease.attempt})
            return lease

    def beat(self, lease: Lease) -> bool:
        """Hold a job longer; whether it should be cancelled.

        Raises:
            LeaseLost: it is no longer this worker's.
        """
        with self.writing():
            self._hold(lease, "until = ?", self._until())
        return self.wished_away(lease)

    def wished_away(self, lease: Lease) -> bool:
        """Whether someone wants the job cancelled; a read, cheap enough for every step."""
        row = self._one(f"SELECT cancel FROM jobs WHERE {_HELD}", _holder(lease))
        if row is None:
            msg = f"{lease.job.id} is no longer this worker's"
            raise LeaseLost(msg)
        return bool(row[0])

    def tell(self, lease: Lease, event: Json, *, better: bool = False) -> None:
        """Write down how far a job is, and hold it longer.

        Args:
            lease: The right to do so.
            event: Its type and numbers.
            better: Whether work is now stored that a next attempt will not repeat.

        Raises:
            LeaseLost: it is no longer this worker's.
        """
        with self.writing():
            # What this event does not tell stays as it was told before.
            change = "until = ?, progress = json_patch(progress, ?)"
            self._hold(lease, change, self._until(), _text(event))
            if better:
                self._hold(lease, "strikes = 0")
            self._tell(lease.job.id, {**event, "attempt": lease.attempt})

    def complete(self, lease: Lease, result: Json, *, keep_s: int) -> None:
        """End a job with its film; durable when this returns.

        Raises:
            LeaseLost: another attempt has begun; this one's film counts for nothing.
        """
        (level,) = self._db.execute("PRAGMA synchronous").fetchone()
        self._db.execute("PRAGMA synchronous = FULL")
        with self.writing():
            expires = self._now() + keep_s
            self._hold(lease, "result = ?, expires_at = ?", _text(result), expires)
            self._end(lease.job.id, "completed")
        self._db.execute(f"PRAGMA synchronous = {level}")

    def fail(self, lease: Lease, code: str, message: str) -> None:
        """End a job that no further attempt would mend.

        Raises:
            LeaseLost: it is no longer this worker's.
        """
        with self.writing():
            self._hold(lease, "strikes = strikes")
            self._end(lease.job.id, "failed", {"code": code, "message": message})

    def strike(self, lease: Lease, code: str, message: str, most: int = MOST_STRIKES) -> None:
        """Count a failed attempt; the job waits again, or has failed at the last one."""
        with self.writing():
            self._hold(lease, "strikes = strikes + 1")
            self._again(lease.job.id, code, message, most)

    def strike_worker(self, worker: str) -> None:
        """A worker has died: what it held waits again, or has failed at the last strike."""
        with self.writing():
            held = "worker = ? AND status = 'in_progress'"
            for (job,) in self._all(f"SELECT id FROM jobs WHERE {held}", (worker,)):
                self._db.execute("UPDATE jobs SET strikes = strikes + 1 WHERE id = ?", (job,))
                text = "the worker that made it died; the same request may do so again"
                self._again(job, "worker_died", text, MOST_STRIKES)

    def holders(self) -> list[str]:
        """Workers that hold a job."""
        held = "status = 'in_progress'"
        return [name for (name,) in self._all(f"SELECT DISTINCT worker FROM jobs WHERE {held}")]

    def release(self, worker: str) -> None:
        """A worker is gone and nobody saw why: what it held waits again, no strike."""
        with self.writing():
            held = "worker = ? AND status = 'in_progress'"
            for (job,) in self._all(f"SELECT id FROM jobs WHERE {held}", (worker,)):
                self._again(job, "worker_gone", "its worker is gone", MOST_STRIKES)

    def park(self, lease: Lease) -> None:
        """Give a job back as it stands, no strike."""
        with self.writing():
            self._hold(lease, "worker = NULL")
            self._again(lease.job.id, "parked", "", MOST_STRIKES)

    def pause(self, lease: Lease, code: str, message: str, wait_s: float) -> None:
        """Give a job back that cannot go on now; it is tried again after a while."""
        error = {"code": code, "message": message}
        with self.writing():
            until = self.clocks.steady() + wait_s
            self._hold(lease, "status = 'paused', until = ?, error = ?", until, _text(error))
            self._tell(lease.job.id, {"type": "paused", **error})

    def drop(self, lease: Lease) -> None:
        """End a job whose owner wished it away."""
        with self.writing():
            self._hold(lease, "strikes = strikes")
            self._end(lease.job.id, "cancelled")

    def release_dead(self) -> None:
        """Put jobs back in the queue whose workers gave no sign of life."""
        with self.writing():
            for (job,) in self._all(f"SELECT id FROM jobs WHERE {_DEAD}", self._clock()):
                self._again(job, "worker_lost", "its worker gave no sign of life", MOST_STRIKES)

    # What the house does.

    def expire(self) -> None:
        """Delete jobs whose time is over."""
        with self.writing():
            due = "expires_at <= ? AND NOT deleted"
            for (job,) in self._all(f"SELECT id FROM jobs WHERE {due}", (self._now(),)):
                self.delete(job)

    def forgotten(self) -> list[str]:
        """Deleted jobs that nobody holds: their files can go."""
        ended = "status IN ('completed', 'failed', 'cancelled')"
        return [job for (job,) in self._all(f"SELECT id FROM jobs WHERE deleted AND {ended}")]

    def forget(self, job: str) -> None:
        """Remove what is left of a deleted job."""
        with self.writing():
            self._db.execute("DELETE FROM events WHERE job = ?", (job,))
            self._db.execute("DELETE FROM jobs WHERE id = ? AND deleted", (job,))

    def known(self) -> set[str]:
        """All ids, deleted ones among them."""
        return {job for (job,) in self._all("SELECT id FROM jobs")}

    # Parts of the above; each inside a transaction.

    def _work(self) -> bool:
        return bool(
            self._one("SELECT 1 FROM jobs WHERE status = 'queued' LIMIT 1")
            or self._one(f"SELECT 1 FROM jobs WHERE {_READY} LIMIT 1", self._clock())
            or self._one(f"SELECT 1 FROM jobs WHERE {_DEAD} LIMIT 1", self._clock())
        )

    def _hold(self, lease: Lease, change: str, *values: object) -> None:
        done = self._db.execute(
            f"UPDATE jobs SET {change} WHERE {_HELD}", (*values, *_holder(lease))
        )
        if done.rowcount != 1:
            msg = f"{lease.job.id} is no longer this worker's"
            raise LeaseLost(msg)

    def _again(self, job: str, code: str, message: str, most: int) -> None:
        strikes, attempt, cancel = self._one(
            "SELECT strikes, attempt, cancel FROM jobs WHERE id = ?", (job,)
        ) or (0, 0, 0)
        if cancel:
            self._end(job, "cancelled")
        elif strikes >= most or attempt >= MOST_ATTEMPTS:
            self._end(job, "failed", {"code": code, "message": message})
        else:
            self._db.execute(
                "UPDATE jobs SET status = 'queued', worker = NULL, until = NULL WHERE id = ?",
                (job,),
            )
            self._tell(job, {"type": "queued", "reason": code})

    def _end(self, job: str, status: Status, error: Json | None = None) -> None:
        self._db.execute(
            "UPDATE jobs SET status = ?, finished_at = ?, worker = NULL, until = NULL, error = ? "
            "WHERE id = ?",
            (status, self._now(), _text(error) if error else None, job),
        )
        self._tell(job, {"type": status, **({"error": error} if error else {})})

    def _tell(self, job: str, event: Json) -> None:
        self._db.execute("INSERT INTO events (job, data) VALUES (?, ?)", (job, _text(event)))

    def _by_key(self, owner: str, key: Key) -> Job | None:
        row = self._one(
            "SELECT digest, job FROM keys WHERE owner = ? AND route = ? AND key = ?",
            (owner, key.route, key.key),
        )
        if row is None:
            return None
        digest, job = row
        if digest != key.digest:
            msg = "this Idempotency-Key was used for another request; use a new one"
            raise KeyReused(msg)
        return self._get(job)

    def _turn(self, owner: str) -> int:
        row = self._one("SELECT turn FROM owners WHERE owner = ?", (owner,))
        return row[0] if row else 0

    def _set_turn(self, owner: str, turn: int) -> None:
        self._db.execute("INSERT OR REPLACE INTO owners VALUES (?, ?)", (owner, turn))

    def _get(self, job: str) -> Job:
        row = self._one(f"SELECT {_COLUMNS} FROM jobs WHERE id = ?", (job,))
        if row is None:
            msg = f"{job} is gone"
            raise LeaseLost(msg)
        return _job(row)

    def _clock(self) -> tuple[str, float]:
        return self.clocks.boot, self.clocks.steady()

    def _until(self) -> float:
        return self.clocks.steady() + self.lease_s

    def _now(self) -> int:
        return int(self.clocks.wall())

    def _one(self, query: str, values: tuple[object, ...] = ()) -> tuple | None:
        return self._db.execute(query, values).fetchone()

    def _all(self, query: str, values: tuple[object, ...] = ()) -> list[tuple]:
        return self._db.execute(query, values).fetchall()

    def _number(self, query: str) -> int:
        (number,) = self._db.execute(query).fetchone()
        return number


_READY = "status = 'paused' AND (boot IS NOT ? OR until <= ?)"
_DEAD = "status = 'in_progress' AND (boot IS NOT ? OR until <= ?)"


def _holder(lease: Lease) -> tuple[str, int, str]:
    return lease.job.id, lease.attempt, lease.worker


def _text(data: Json) -> str:
    return json.dumps(data, ensure_ascii=False, separators=(",", ":"))


def _job(row: tuple) -> Job:
    names = [name.strip() for name in _COLUMNS.split(",")]
    values: dict[str, Any] = dict(zip(names, row, strict=True))
    for name in ("request", "progress", "error", "result"):
        values[name] = None if values[name] is None else json.loads(values[name])
    values["deleted"] = bool(values["deleted"])
    return Job(**values)
