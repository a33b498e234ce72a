"""Events from the store to everyone who listens: read once, handed to each."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from longtake.server.jobs import ENDED, StoredEvent
from longtake.server.store import Store

LOOK_EVERY_S = 0.025
"""Time between two looks at the store."""
MOST_BEHIND = 256
"""Events that may wait for a slow listener; then it is let go, and can come again."""
_LAST = frozenset({*ENDED, "deleted"})


class TooSlow(Exception):  # noqa: N818 - no error of ours
    """A listener did not read for too long."""


class Hub:
    """One reader of the store's events."""

    def __init__(self, store: Store) -> None:
        """Begin after the newest event."""
        self._store = store
        self._seq = store.newest_event()
        self._version = -1
        self._listeners: dict[str, set[asyncio.Queue[StoredEvent]]] = {}

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
                for waiting in self._listeners.get(event.job, ()):
                    if waiting.qsize() <= MOST_BEHIND:
                        waiting.put_nowait(event)
            self._seq = found[-1].seq

    @asynccontextmanager
    async def listening(self, job: str) -> "AsyncIterator[asyncio.Queue[StoredEvent]]":
        """A queue of what happens to a job from now on."""
        waiting: asyncio.Queue[StoredEvent] = asyncio.Queue()
        self._listeners.setdefault(job, set()).add(waiting)
        try:
            yield waiting
        finally:
            self._listeners[job].discard(waiting)
            if not self._listeners[job]:
                del self._listeners[job]

    async def events(
        self, job: str, after: int, wait_s: float
    ) -> AsyncIterator[StoredEvent | None]:
        """What happened to a job after an event and what happens then, up to its end.

        None comes when nothing has happened for a while.

        Raises:
            TooSlow: the listener let too many events wait.
        """
        async with self.listening(job) as waiting:
            ended = self._store.ended(job)
            # Listening began before the past is read: nothing falls between the two.
            while past := self._store.events(after, job=job):
                for event in past:
                    yield event
                    after = event.seq
                    if is_last(event):
                        return
            while not ended:
                try:
                    event = await asyncio.wait_for(waiting.get(), wait_s)
                except TimeoutError:
                    yield None
                    continue
                if waiting.qsize() >= MOST_BEHIND:
                    raise TooSlow
                if event.seq > after:
                    yield event
                    after = event.seq
                    if is_last(event):
                        return


def kind(event: StoredEvent) -> str:
    """What sort of event it is."""
    return json.loads(event.data)["type"]


def is_last(event: StoredEvent) -> bool:
    """Whether nothing comes after it."""
    return kind(event) in _LAST
