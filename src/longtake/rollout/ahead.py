"""Work that goes on in a thread of its own while what it has made is used."""

import threading
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from queue import Empty, Full, Queue
from typing import TypeVar

import torch

Item = TypeVar("Item")
_TICK_S = 0.1


@dataclass(frozen=True, slots=True)
class _Over:
    """The work is done, or has failed."""

    error: BaseException | None = None


class Counted(Iterator[Item]):
    """Passes items on and counts them."""

    def __init__(self, items: Iterator[Item]) -> None:
        """Nothing has come yet."""
        self.items, self.count = items, 0

    def __next__(self) -> Item:
        """The next item."""
        item = next(self.items)
        self.count += 1
        return item


def ahead(items: Iterator[Item], device: torch.device, most: int = 1) -> Iterator[Item]:
    """Yield the same items in the same order, each made while earlier ones are used.

    What the maker raises is raised here. Who stops asking ends the maker at its next item.

    Args:
        items: Made in a thread of its own.
        device: Where they are made.
        most: How many may wait; one more is in the making.
    """
    waiting: Queue[Item | _Over] = Queue(most)
    left = threading.Event()
    grads = torch.is_grad_enabled()

    def make() -> None:
        # Both hold for one thread only.
        torch.set_grad_enabled(grads)
        if device.type == "cuda" and device.index is not None:
            torch.cuda.set_device(device)
        for item in _with_end(items):
            _put(waiting, item, left)
            if left.is_set():
                return

    maker = threading.Thread(target=make, daemon=True)
    maker.start()
    try:
        while not isinstance(item := _get(waiting), _Over):
            yield item
        if item.error is not None:
            raise item.error
    finally:
        left.set()
        # What nobody holds any more may be tidied up in any thread, the maker's own as well.
        if threading.current_thread() is not maker:
            maker.join()


def _with_end(items: Iterator[Item]) -> Iterator[Item | _Over]:
    try:
        yield from items
    except Exception as error:  # noqa: BLE001 - raised again where the items are used
        yield _Over(error)
    else:
        yield _Over()


def _put(waiting: Queue[Item], item: Item, left: threading.Event) -> None:
    """Put an item, unless nobody waits for it any more."""
    while not left.is_set():
        with suppress(Full):
            waiting.put(item, timeout=_TICK_S)
            return


def _get(waiting: Queue[Item]) -> Item:
    """The next item; Ctrl-C is heard meanwhile."""
    while True:
        with suppress(Empty):
            return waiting.get(timeout=_TICK_S)
