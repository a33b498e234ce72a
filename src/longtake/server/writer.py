"""Writes that share a commit: each is answered when it is durable, many at once."""

import asyncio
import queue
import threading
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from typing import Any, TypeVar

from longtake.server.schema import StoreError
from longtake.server.store import Store

MOST = 256
"""Writes of one commit."""
_Result = TypeVar("_Result")
_Item = tuple[Callable[[Store], Any], "Future[Any]"]


class Writer:
    """One thread with a connection of its own."""

    def __init__(self, path: Path, lease_s: float) -> None:
        """Open the store and begin.

        Raises:
            LongtakeError: it cannot be opened.
        """
        self._store = Store(path, lease_s=lease_s)
        self._items: queue.SimpleQueue[_Item | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="writer", daemon=True)
        self._thread.start()

    async def run(self, call: Callable[[Store], _Result]) -> _Result:
        """Run a write; it is on the disk when this returns.

        Raises:
            StoreError: it is not, nothing of it.
        """
        return await asyncio.wrap_future(self.submit(call))

    def submit(self, call: Callable[[Store], _Result]) -> "Future[_Result]":
        """Begin a write and do not wait."""
        future: Future[Any] = Future()
        self._items.put((call, future))
        return future

    def close(self) -> None:
        """Finish what is begun."""
        self._items.put(None)
        self._thread.join()
        self._store.close()

    def _run(self) -> None:
        while (first := self._items.get()) is not None:
            batch, last = [first], False
            while len(batch) < MOST and not self._items.empty():
                item = self._items.get()
                if item is None:
                    last = True
                    break
                batch.append(item)
            self._commit(batch)
            if last:
                return

    def _commit(self, batch: list[_Item]) -> None:
        answers: list[Callable[[], None]] = []
        try:
            with self._store.writing():
                for call, future in batch:
                    answers.append(self._part(call, future))
        except StoreError as error:
            for _, future in batch:
                future.set_exception(error)
            return
        for answer in answers:
            answer()

    def _part(self, call: Callable[[Store], Any], future: "Future[Any]") -> Callable[[], None]:
        try:
            with self._store.writing():
                result = call(self._store)
        except StoreError:
            # A full disk may have ended the whole transaction, not this part alone.
            raise
        except Exception as error:  # noqa: BLE001 - handed to the one who asked
            failure = error
            return lambda: future.set_exception(failure)
        return lambda: future.set_result(result)
