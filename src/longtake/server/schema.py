"""The store's file: its tables, how it is opened, and what happens to those of other releases."""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from longtake.errors import LongtakeError, OutputError, StateError

VERSION = 1
"""Layout of the tables; a later release brings older ones up to date, an older one refuses."""
_APPLICATION = 0x4C54414B
_TABLES = """
CREATE TABLE jobs (
  seq INTEGER PRIMARY KEY AUTOINCREMENT,
  id TEXT NOT NULL UNIQUE,
  owner TEXT NOT NULL,
  turn INTEGER NOT NULL,
  status TEXT NOT NULL,
  request TEXT NOT NULL,
  created_at INTEGER NOT NULL,
  started_at INTEGER,
  finished_at INTEGER,
  expires_at INTEGER,
  attempt INTEGER NOT NULL DEFAULT 0,
  strikes INTEGER NOT NULL DEFAULT 0,
  worker TEXT,
  boot TEXT,
  until REAL,
  cancel INTEGER NOT NULL DEFAULT 0,
  deleted INTEGER NOT NULL DEFAULT 0,
  progress TEXT NOT NULL DEFAULT '{}',
  error TEXT,
  result TEXT
);
CREATE INDEX jobs_by_turn ON jobs (status, turn, seq);
CREATE INDEX jobs_by_owner ON jobs (owner, deleted, seq);
CREATE INDEX jobs_by_expiry ON jobs (expires_at) WHERE expires_at IS NOT NULL;
CREATE TABLE owners (owner TEXT PRIMARY KEY, turn INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE keys (
  owner TEXT NOT NULL, route TEXT NOT NULL, key TEXT NOT NULL,
  digest TEXT NOT NULL, job TEXT NOT NULL,
  PRIMARY KEY (owner, route, key)
) WITHOUT ROWID;
CREATE INDEX keys_by_job ON keys (job);
CREATE TABLE events (seq INTEGER PRIMARY KEY AUTOINCREMENT, job TEXT NOT NULL, data TEXT NOT NULL);
CREATE INDEX events_by_job ON events (job, seq);
"""
_NO_ROOM = ("SQLITE_FULL", "SQLITE_IOERR", "SQLITE_READONLY", "SQLITE_CANTOPEN")


class StoreError(LongtakeError):
    """The store cannot be written now; nothing of the attempt is kept."""

    exit_code = 3


def connect(path: Path) -> sqlite3.Connection:
    """Open the store, made if it is missing.

    Raises:
        OutputError: it cannot be made or written.
        StateError: not a store, or one of a newer release.
    """
    try:
        db = sqlite3.connect(path, timeout=10, isolation_level=None, check_same_thread=False)
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("PRAGMA synchronous = FULL")
        with immediate(db):
            _bring_up_to_date(db, path)
    except StoreError as error:
        msg = f"cannot open the store {path}: {error}; free space or give another --data"
        raise OutputError(msg) from error
    except sqlite3.OperationalError as error:
        msg = f"cannot open the store {path}: {error}; give another --data"
        raise OutputError(msg) from error
    except sqlite3.DatabaseError as error:
        msg = f"{path} is not a store of jobs ({error}); move it away or give another --data"
        raise StateError(msg) from error
    return db


def _bring_up_to_date(db: sqlite3.Connection, path: Path) -> None:
    (version,) = db.execute("PRAGMA user_version").fetchone()
    if version > VERSION:
        msg = (
            f"{path} has format {version} of a newer release; this one reads up to {VERSION}; "
            "use that release or give another --data"
        )
        raise StateError(msg)
    if version == 0:
        if db.execute("SELECT count(*) FROM sqlite_master").fetchone() != (0,):
            msg = f"{path} is the database of something else; give another --data"
            raise StateError(msg)
        for statement in _TABLES.split(";\n"):
            if statement.strip():
                db.execute(statement)
        db.execute(f"PRAGMA application_id = {_APPLICATION}")
        db.execute(f"PRAGMA user_version = {VERSION}")


@contextmanager
def immediate(db: sqlite3.Connection) -> Iterator[None]:
    """Write all or nothing; inside another such block, a part of it that can fail on its own.

    Raises:
        StoreError: the disk is full or fails, or another writer does not let go.
    """
    nested = db.in_transaction
    begin, commit, rollback = (
        ("SAVEPOINT part", "RELEASE part", "ROLLBACK TO part; RELEASE part")
        if nested
        else ("BEGIN IMMEDIATE", "COMMIT", "ROLLBACK")
    )
    try:
        db.execute(begin)
        try:
            yield
            db.execute(commit)
        except BaseException:
            # A failed COMMIT may have rolled back by itself.
            with suppress(sqlite3.Error):
                for statement in rollback.split("; "):
                    db.execute(statement)
            raise
    except sqlite3.OperationalError as error:
        name = error.sqlite_errorname or ""
        if name.startswith(_NO_ROOM):
            msg = "no space left for the store"
        elif name.startswith(("SQLITE_BUSY", "SQLITE_LOCKED")):
            msg = "the store is busy"
        else:
            raise
        raise StoreError(msg) from error
