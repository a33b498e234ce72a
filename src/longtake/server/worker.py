"""A worker: one process with one model that makes jobs, one after the other.

It talks to its desk alone: what it is to do it reads from the store, what it did it writes there.
As a process it gets one line of JSON with its settings, and a pipe whose end means: stop; it prints
lines of JSON: that it is ready, or why it cannot be. `fleet.rays` runs it on other machines.
"""

import errno
import json
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from types import FrameType
from typing import TypeVar

import torch

from longtake import __version__
from longtake.config import from_dict
from longtake.errors import (
    CannotHere,
    LongtakeError,
    OutputError,
    PromptError,
    SettingError,
    StateError,
)
from longtake.pipeline import Border, Event, Frames, Notice, Pipeline, Progress, load
from longtake.server.desk import Desk, Jobs, Place, local_desk
from longtake.server.jobs import FilmRequest, Json, Lease, LeaseLost
from longtake.server.log import log
from longtake.server.look import look
from longtake.server.making import Kept, make
from longtake.server.schema import StoreError
from longtake.server.settings import WorkerConfig

TELL_EVERY_S = 0.1
"""Shortest time between two events of one stage; borders are always told."""
LOOK_FRAMES = 8
"""Frames of a film in one pass of which is told together how they look."""
PAUSE_S = 5.0
"""A job that found the disk full is tried again after this time."""
_NO_SPACE = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_MEMORY = ("out of memory", "can't allocate memory", "not enough memory")
_MOST_OUT_OF_MEMORY = 2
_Result = TypeVar("_Result")


class _Stopped(Exception):  # noqa: N818 - no error
    """The process is to end; the job goes on elsewhere or later."""


class _Cancelled(Exception):  # noqa: N818
    """Nobody wants the film any more."""


class Worker:
    """Takes jobs as long as it is wanted."""

    def __init__(
        self, config: WorkerConfig, pipe: Pipeline, stop: threading.Event, desk: Desk
    ) -> None:
        """Open the store.

        Raises:
            LongtakeError: it cannot be opened.
        """
        self.config, self.pipe, self.stop, self.desk = config, pipe, stop, desk
        self.place, self.store = desk.place, desk.open()

    def run(self) -> None:
        """Make jobs until told to stop."""
        while not self.stop.is_set():
            if not self.place.has_room():
                self.stop.wait(1.0)
                continue
            lease = self._insist(lambda: self.store.claim(self.config.name))
            if lease is None:
                self.stop.wait(self.config.poll_s)
            else:
                self._work(lease)

    def _work(self, lease: Lease) -> None:
        try:
            with _beating(self.desk, self.config, lease):
                request = from_dict(FilmRequest, lease.job.request)
                chunked = bool(self.pipe.config.chunk)
                telling = _Telling(self.store, self.place, lease, request, self.stop, chunked)
                files = self.place.files(lease)
                made = make(self.pipe, request, files, lease.attempt, telling.hear)
                self._hand_in(lease)
            self._insist(
                lambda: self.store.complete(lease, asdict(made), keep_s=self.config.keep_s)
            )
        except LeaseLost:
            _log("lease lost", lease)
        except Exception as error:  # noqa: BLE001 - the edge of a job: the worker goes on
            self._account(lease, error)
        finally:
            self.place.leave(lease)

    def _hand_in(self, lease: Lease) -> None:
        def stored() -> bool:
            self.place.hand_in(lease)
            return True

        if not self._insist(stored):
            raise _Stopped

    def _account(self, lease: Lease, error: Exception) -> None:
        """Write down what became of an attempt that made no film."""
        try:
            self._insist(lambda: self._judge(lease, error))
        except LeaseLost:
            _log("lease lost", lease)

    def _judge(self, lease: Lease, error: Exception) -> None:
        """Write down what became of an attempt that made no film."""
        store = self.store
        match error:
            case _Cancelled():
                store.drop(lease)
                self.place.clear(lease)
            case _Stopped():
                store.park(lease)
            case CannotHere() | OutputError() | StoreError() if _is_disk(error):
                text = "no space left on the server's disk; the job goes on when there is"
                store.pause(lease, "insufficient_storage", text, PAUSE_S)
            case MemoryError() | CannotHere() | RuntimeError() if _is_memory(error):
                text = "not enough memory on the server; try fewer seconds or a smaller size"
                store.strike(lease, "out_of_memory", text, _MOST_OUT_OF_MEMORY)
            case StateError():
                text = "the take was begun by another model or release, or is damaged; make it anew"
                store.fail(lease, "state_error", text)
            case PromptError() | SettingError():
                store.fail(lease, "invalid_request", str(error))
            case _:
                _log(f"{type(error).__name__}", lease)
                text = "the server failed at this video; its log tells more"
                store.strike(lease, "internal_error", text)

    def _insist(self, call: Callable[[], _Result]) -> _Result | None:
        """Write to the store, and wait as long as its disk is full."""
        while True:
            try:
                return call()
            except StoreError:
                if not self.place.make_room() and self.stop.wait(1.0):
                    return None


@dataclass(slots=True)
class _Telling:
    """Passes a job's progress on, and notices after each step whether it is still wanted."""

    store: Jobs
    place: Place
    lease: Lease
    request: FilmRequest
    stop: threading.Event
    chunked: bool
    """Whether the film comes in chunks, each of which ends with a border."""
    _stage: str = ""
    _told: float = 0.0
    _began: tuple[float, int] = (0.0, 0)

    def hear(self, event: Event | Kept, ready: int) -> None:
        """Take an event of the pipeline, or a block that is there already.

        Raises:
            _Cancelled: the owner wished it away.
            _Stopped: the process is to end.
            LeaseLost: another worker has the job.
        """
        if self.store.wished_away(self.lease):
            raise _Cancelled
        if self.stop.is_set():
            raise _Stopped
        match event:
            case Notice():
                self._tell({"type": "notice", "text": event.text})
            case Border():
                frames = {"frames_ready": ready, "block": event.snapshot.chunk}
                seen = {"look": look(event.pixels)}
                self._tell({"type": "border", **frames, **seen}, better=True)
            case Kept():
                # A worker killed between storing a block and telling of it left this to us.
                if ready > self.lease.job.progress.get("frames_ready", 0):
                    self._tell({"type": "border", "frames_ready": ready, "block": event.block})
            case Frames() if not self.chunked:
                ready -= len(event.pixels)
                for piece in event.pixels.split(LOOK_FRAMES):
                    ready += len(piece)
                    self._tell({"type": "frames", "frames_ready": ready, "look": look(piece)})
            case Progress():
                self._progress(event, ready)

    def _progress(self, event: Progress, ready: int) -> None:
        now = time.monotonic()
        if event.stage != self._stage:
            self._stage, self._began, self._told = event.stage, (now, event.step), 0.0
        last = event.step == event.total
        if now - self._told < TELL_EVERY_S and not last:
            return
        self._told = now
        since, first = self._began
        done = event.step - first
        eta = round((now - since) / done * (event.total - event.step), 2) if done else None
        self._tell(
            {
                "type": "progress",
                "progress": percent(event),
                "eta_s": eta,
                "frames_ready": ready,
                **numbers(event, self.request.settings.steps),
            }
        )

    def _tell(self, event: Json, *, better: bool = False) -> None:
        try:
            if better:
                self.place.hand_in(self.lease)
            self.store.tell(self.lease, event, better=better)
        except StoreError:
            # An event less; the film does not wait for it.
            _log("an event could not be stored", self.lease)


def numbers(event: Progress, steps: int) -> dict[str, int | str]:
    """Where a stage is, in the words of the API.

    Args:
        event: Of the pipeline.
        steps: Sampler steps of a chunk, or of a film in one pass.
    """
    if event.stage != "denoise":
        return {"stage": event.stage, "step": event.step, "steps_total": event.total}
    block, step = divmod(max(event.step - 1, 0), steps)
    total = max(event.total // steps, 1)
    return {
        "stage": event.stage,
        "step": step + 1,
        "steps_total": steps,
        "block": block,
        "blocks_total": total,
    }


def percent(event: Progress) -> int:
    """How much of a film is made; 100 only when it is whole."""
    share = event.step / max(event.total, 1)
    match event.stage:
        case "text":
            return 0
        case "denoise":
            return min(int(90 * share), 90)
        case "decode":
            return min(90 + int(9 * share), 99)


@contextmanager
def _beating(desk: Desk, config: WorkerConfig, lease: Lease) -> Iterator[None]:
    """Give signs of life from a thread, for a step may take longer than a lease."""
    done = threading.Event()

    def beat() -> None:
        store = desk.open()
        while not done.wait(config.lease_s / 3):
            try:
                store.beat(lease)
            except StoreError:
                continue
            except LeaseLost:
                break
        store.close()

    thread = threading.Thread(target=beat, daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


def _is_disk(error: LongtakeError) -> bool:
    cause = error.__cause__
    if isinstance(cause, OSError):
        return cause.errno in _NO_SPACE
    full = isinstance(error, CannotHere) and "of disk" in str(error)
    return full or isinstance(error, StoreError)


def _is_memory(error: Exception) -> bool:
    return isinstance(error, MemoryError) or any(part in str(error) for part in _MEMORY)


def _log(what: str, lease: Lease) -> None:
    """Tell the server's log; never a prompt, never a path."""
    log(f"worker: {lease.job.id} attempt {lease.attempt}: {what}")


def work(
    config: WorkerConfig,
    open_desk: Callable[[], Desk],
    stop: threading.Event,
    say: Callable[[Json], None],
) -> int:
    """Load the model and make jobs until told to stop.

    Args:
        config: What it is told.
        open_desk: Makes its desk.
        stop: Set when it is to end.
        say: Hears that it is ready, or why it cannot be.

    Returns:
        An exit code.
    """
    try:
        if config.threads:
            torch.set_num_threads(config.threads)
        pipe = load(config.model, device=config.device, precision=config.precision)
        worker = Worker(config, pipe, stop, open_desk())
    except LongtakeError as error:
        say({"error": str(error)})
        return error.exit_code
    about = {"model_hash": pipe.model_hash, "precision": pipe.precision}
    say({"ready": True, **about, "device": str(pipe.device), "version": __version__})
    worker.run()
    return 0


def _say(line: Json) -> None:
    print(json.dumps(line), flush=True)  # noqa: T201 - the wire to the server


def main() -> None:
    """Run the worker of this process."""
    stop = threading.Event()

    def wish(_signal: int, _frame: FrameType | None) -> None:
        stop.set()

    signal.signal(signal.SIGTERM, wish)
    # Ctrl-C reaches the whole group; the server then tells its workers what to do.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    config = from_dict(WorkerConfig, json.loads(sys.stdin.readline()))

    def watch() -> None:
        sys.stdin.read()
        stop.set()

    threading.Thread(target=watch, daemon=True).start()
    data = Path(config.data)
    sys.exit(work(config, lambda: local_desk(data, config.name, config.lease_s), stop, _say))


if __name__ == "__main__":
    main()
