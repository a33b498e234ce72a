"""The desk: where a worker gets its jobs and hands in what it made, here or on another machine."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable

from longtake.server import reserve
from longtake.server.files import JobFiles
from longtake.server.jobs import Json, Lease
from longtake.server.presence import appear
from longtake.server.settings import STORE
from longtake.server.store import MOST_STRIKES, Store


@runtime_checkable
class Jobs(Protocol):
    """What a worker asks of a store; `Store` says more on each."""

    def claim(self, worker: str) -> Lease | None:
        """Take the next job."""
        ...

    def beat(self, lease: Lease) -> bool:
        """Hold a job longer."""
        ...

    def wished_away(self, lease: Lease) -> bool:
        """Whether someone wants the job cancelled."""
        ...

    def tell(self, lease: Lease, event: Json, *, better: bool = False) -> None:
        """Write down how far a job is."""
        ...

    def complete(self, lease: Lease, result: Json, *, keep_s: int) -> None:
        """End a job with its film."""
        ...

    def fail(self, lease: Lease, code: str, message: str) -> None:
        """End a job that no further attempt would mend."""
        ...

    def strike(self, lease: Lease, code: str, message: str, most: int = MOST_STRIKES) -> None:
        """Count a failed attempt."""
        ...

    def park(self, lease: Lease) -> None:
        """Give a job back as it stands."""
        ...

    def pause(self, lease: Lease, code: str, message: str, wait_s: float) -> None:
        """Give a job back for a while."""
        ...

    def drop(self, lease: Lease) -> None:
        """End a job whose owner wished it away."""
        ...

    def close(self) -> None:
        """Let go."""
        ...


@runtime_checkable
class Place(Protocol):
    """Where a worker keeps the files of its job, and where they have to be in the end."""

    def has_room(self) -> bool:
        """Whether there is disk enough to begin a job."""
        ...

    def make_room(self) -> bool:
        """Give free what was kept back for a full disk; whether there was any."""
        ...

    def files(self, lease: Lease) -> JobFiles:
        """The job's folder with all that attempts before have stored."""
        ...

    def hand_in(self, lease: Lease) -> None:
        """Store what lies in the folder, so that another worker could go on from it.

        Raises:
            LeaseLost: the job is no longer this worker's.
            StoreError: it cannot be stored now.
        """
        ...

    def leave(self, lease: Lease) -> None:
        """The job is no longer this worker's: remove what is of no use to others."""
        ...

    def clear(self, lease: Lease) -> None:
        """Remove all files of a job that was wished away."""
        ...


@dataclass(frozen=True, slots=True)
class Desk:
    """What a worker is given."""

    open: Callable[[], Jobs]
    """A way to the store; each thread opens its own."""
    place: Place


class Here:
    """Files of jobs in the data folder itself."""

    def __init__(self, data: Path) -> None:
        """Name the folder."""
        self.data = data

    def has_room(self) -> bool:
        """Whether there is disk enough to begin a job."""
        return reserve.free(self.data) >= reserve.LEAST_FREE

    def make_room(self) -> bool:
        """Give free what was kept back for a full disk."""
        return reserve.use(self.data)

    def files(self, lease: Lease) -> JobFiles:
        """The job's folder."""
        return JobFiles(self.data, lease.job.id)

    def hand_in(self, lease: Lease) -> None:
        """They lie where they have to be."""

    def leave(self, lease: Lease) -> None:
        """They stay."""

    def clear(self, lease: Lease) -> None:
        """Remove the job's folder."""
        self.files(lease).remove()


def local_desk(data: Path, worker: str, lease_s: float) -> Desk:
    """The desk of a worker on the machine of the data folder, seen there from now on.

    Raises:
        LongtakeError: the folder cannot be written.
    """
    appear(data, worker)

    def opened() -> Store:
        store = Store(data / STORE, lease_s=lease_s)
        store.hasten()
        return store

    return Desk(opened, Here(data))
