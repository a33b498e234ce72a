"""Events from the store to everyone who listens: read and written out once, handed to each."""

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

from longtake.server.jobs import ENDED, StoredEvent
from longtake.server.store import Store

LOOK_EVERY_S = 0.025
"""Time between two looks at the store."""
MOST_BEHIND = 256
"""Events that may wait for a slow listener; then it is let go, and can come again."""
_LAST = frozenset({*ENDED, "deleted"})


class TooSlow(Exception):  # noqa: N818 - no error of ours
    """A listener did not read for too long."""


@dataclass(frozen=True, slots=True)
class Told:
    """An event as every listener gets it."""

    seq: int
    lines: bytes
    """Id, kind and data as server-sent events have them."""
    last: bool
    """Whether nothing comes after it."""


class Hub:
    """One reader of the store's events."""

    def __init__(self, store: Store) -> None:
        """Begin after the newest event."""
        self._store = store
        self._seq = store.newest_event()
        self._version = -1
        self._listeners: dict[str, set[asyncio.Queue[Told]]] = {}

    async def run(self) -> None:
        """Look for events for ever."""
        while True:
            self.look()
            await asyncio.sleep(LOOK_EVERY_S)

    def look(self) -> None:
        """Hand out what is new."""
        if (version := self._store.changed()) == self._version:
            return
        self._version = version
        while found := self._store.events(self._seq):
            for event in found:
                if listeners := self._listeners.get(event.job):
                    self._hand_out(told(event), listeners)
            self._seq = found[-1].seq

    @staticmethod
    def _hand_out(event: Told, listeners: "set[asyncio.Queue[Told]]") -> None:
        for waiting in listeners:
            if waiting.qsize() <= MOST_BEHIND:
                waiting.put_nowait(event)

    @asynccontextmanager
    async def listening(self, job: str) -> "AsyncIterator[asyncio.Queue[Told]]":
        """A queue of what happens to a job from now on."""
        waiting: asyncio.Queue[Told] = asyncio.Queue()
        self._listeners.setdefault(job, set()).add(waiting)
        try:
            yield waiting
        finally:
            self._listeners[job].discard(waiting)
            if not self._listeners[job]:
                del self._listeners[job]

    async def events(self, job: str, after: int, wait_s: float) -> AsyncIterator[Sequence[Told]]:
        """What happened to a job after an event and what happens then, up to its end.

        Events that came while the listener was busy come together, so that a crowd of listeners
        is served in larger parts and not ever later. None at all come when nothing has happened
        for a while.

        Raises:
            TooSlow: the listener let too many events wait.
        """
        async with self.listening(job) as waiting:
            ended = self._store.ended(job)
            # Listening began before the past is read: nothing falls between the two.
            while past := [told(event) for event in self._store.events(after, job=job)]:
                yield past
                after = past[-1].seq
                ended = ended or past[-1].last
            while not ended:
                fresh = [event for event in await _next(waiting, wait_s) if event.seq > after]
                yield fresh
                if fresh:
                    after, ended = fresh[-1].seq, fresh[-1].last


async def _next(waiting: "asyncio.Queue[Told]", wait_s: float) -> list[Told]:
    """Everything that waits, as soon as there is something; nothing if nothing comes in time.

    Raises:
        TooSlow: too much waits.
    """
    try:
        async with asyncio.timeout(wait_s):
            found = [await waiting.get()]
    except TimeoutError:
        return []
    if waiting.qsize() >= MOST_BEHIND:
        raise TooSlow
    while not waiting.empty():
        found.append(waiting.get_nowait())
    return found


def told(event: StoredEvent) -> Told:
    """An event as it is sent."""
    kind = json.loads(event.data)["type"]
    lines = f"id: {event.seq}\nevent: {kind}\ndata: {event.data}\n\n".encode()
    return Told(event.seq, lines, kind in _LAST)
