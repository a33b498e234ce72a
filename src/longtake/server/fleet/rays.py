"""Workers as actors of a Ray cluster; the only file that knows Ray.

Ray places the workers, carries what they and the clerk say, and notices when one dies. What is to
be made stands in the store, as ever. Ray's own ports are a way into a machine, so a Ray of our own
listens to this machine alone, asks for a token, and has no dashboard.
"""

import json
import logging
import os
import queue
import shutil
import signal
import socket
import tempfile
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout, suppress
from dataclasses import asdict
from io import TextIOBase
from pathlib import Path
from typing import Any

import ray
from ray.exceptions import ActorDiedError, RayError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from longtake.config import from_dict
from longtake.errors import CannotHere, LongtakeError, SettingError
from longtake.server.engines import Hand
from longtake.server.fleet.clerk import Clerk
from longtake.server.fleet.far import far_desk, remove_scratch
from longtake.server.jobs import Json
from longtake.server.log import log
from longtake.server.schema import StoreError
from longtake.server.settings import EngineConfig, WorkerConfig

REACH_S = 5.0
"""Longest wait for a cluster's port to answer."""
STORE_BYTES = 100 * 2**20
"""Ray's memory for objects on this machine; we send parts of a few MB."""
_TRIES = 3
"""Starts of a Ray of our own; on a busy machine its processes miss deadlines that are fixed."""
_HTTP2 = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes([0, 0, 0, 4, 0, 0, 0, 0, 0])
"""How HTTP/2 begins, and with it gRPC: the other side sends its settings, or a TLS alert.

Source: RFC 9113, 3.4 and 6.5.
"""
_QUIET = {"log_to_driver": False, "configure_logging": False}


class RayWire:
    """A clerk that is an actor, as its workers see it."""

    def __init__(self, clerk: Any) -> None:  # noqa: ANN401 - Ray's handles have no type
        """Take its handle."""
        self._clerk = clerk

    def call(self, name: str, text: str) -> str:
        """Ask."""
        return _got(self._clerk.call.remote(name, text))

    def read(self, job: str, name: str, offset: int) -> bytes:
        """Read a part of a file."""
        return _got(self._clerk.read.remote(job, name, offset))

    def put(self, text: str, part: bytes) -> str:
        """Send a part of a file."""
        return _got(self._clerk.put.remote(text, part))


class RayWorker:
    """A worker inside an actor; the settings come as JSON, what it says goes as lines of JSON."""

    def __init__(self) -> None:
        """Wait to be told."""
        self._stop = threading.Event()

    def run(self, settings: str, clerk: Any) -> Iterator[str]:  # noqa: ANN401
        """Make jobs until told to stop; yields what it has to say meanwhile."""
        yield json.dumps({"host": socket.gethostname(), "pid": os.getpid()})
        lines: queue.SimpleQueue[Json | None] = queue.SimpleQueue()

        def run() -> None:
            # Torch is heavy, and the driver imports this file without it.
            from longtake.server.worker import work  # noqa: PLC0415

            config, wire = from_dict(WorkerConfig, json.loads(settings)), RayWire(clerk)
            try:
                with redirect_stderr(_Lines(lines)):
                    work(config, lambda: far_desk(wire, config.name), self._stop, lines.put)
            finally:
                remove_scratch(config.name)
                lines.put(None)

        threading.Thread(target=run, daemon=True).start()
        while (line := lines.get()) is not None:
            yield json.dumps(line)

    def stop(self) -> None:
        """Ask it to give its job back and to end."""
        self._stop.set()


class _Lines(TextIOBase):
    """What the worker writes to its log, as lines for the server's."""

    def __init__(self, lines: "queue.SimpleQueue[Json | None]") -> None:
        self._lines = lines

    def write(self, text: str) -> int:
        if text.strip():
            self._lines.put({"log": text.strip()})
        return len(text)


class _RayHand:
    def __init__(self, actor: Any, said: Any) -> None:  # noqa: ANN401
        self._actor, self._said, self._runs = actor, said, False

    async def lines(self) -> AsyncIterator[str]:
        try:
            async for line in self._said:
                self._runs = True
                yield await line
        except ActorDiedError:
            # Killed, or gone with its machine: its end is all there is to say.
            return
        except RayError as error:
            yield json.dumps({"error": f"a worker cannot run in this cluster: {_last(error)}"})
        finally:
            self.kill()

    def stop(self) -> None:
        if self._runs:
            self._actor.stop.remote()
        else:
            self.kill()  # it waits for a machine, maybe for ever

    def kill(self) -> None:
        with suppress(RayError):
            ray.kill(self._actor)


class RayEngine:
    """Starts workers as actors, and one clerk for them on this machine."""

    def __init__(self, config: EngineConfig, data: Path, lease_s: float) -> None:
        """Start the clerk.

        Args:
            config: What the workers take.
            data: The data folder.
            lease_s: How long a worker holds a job without a sign of life.
        """
        gpus = ray.cluster_resources().get("GPU", 0)
        self._needs = {
            "num_cpus": max(config.threads, 1),
            "num_gpus": int(config.device == "cuda" or (config.device == "auto" and gpus > 0)),
        }
        here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
        self._clerk = ray.remote(Clerk).options(
            num_cpus=0, scheduling_strategy=here, max_restarts=-1, max_task_retries=-1
        ).remote(str(data), lease_s)  # fmt: skip

    async def start(self, config: WorkerConfig) -> Hand:
        """Start one; it runs as soon as a machine has room for it."""
        actor: Any = ray.remote(RayWorker).options(max_concurrency=2, **self._needs).remote()
        said = actor.run.options(num_returns="streaming").remote(
            json.dumps(asdict(config)), self._clerk
        )
        return _RayHand(actor, said)

    def missing(self, workers: int) -> str:
        """Says that the cluster has no room for so many workers; empty where it has."""
        have = ray.cluster_resources()
        for name, each in (("GPU", self._needs["num_gpus"]), ("CPU", self._needs["num_cpus"])):
            if each * workers > have.get(name, 0):
                found = f"{have.get(name, 0):g} {name}s"
                return (
                    f"the cluster has {found} for {workers} workers that take {each} each; "
                    "the rest wait for machines"
                )
        return ""


@contextmanager
def connected(config: EngineConfig, data: Path, lease_s: float) -> Iterator[RayEngine]:
    """Connect to a cluster, or start one on this machine, as long as the block lasts.

    Raises:
        SettingError: an address that is none.
        CannotHere: the cluster cannot be reached, or Ray cannot start.
    """
    with _folder() as folder, redirect_stdout(_Nowhere()):
        try:
            with _signals_kept():
                _connect(config, folder)
            engine = RayEngine(config, data, lease_s)
            if text := engine.missing(config.workers):
                log(f"note: {text}")
            yield engine
        finally:
            ray.shutdown()


def _connect(config: EngineConfig, folder: Path) -> None:
    logging.getLogger("ray").setLevel(logging.ERROR)
    for tries_left in reversed(range(_TRIES)):
        try:
            if config.ray_address:
                _reach(config.ray_address)
                ray.init(address=config.ray_address, **_QUIET)
            else:
                _start_local(config, folder)
        except LongtakeError:
            raise
        except Exception as error:  # Ray raises that very class where a process of its is late
            ray.shutdown()
            if tries_left and not config.ray_address:
                continue
            where = f"at {config.ray_address}" if config.ray_address else "on this machine"
            msg = f"Ray does not run {where}: {_last(error)}; docs/guides/fleet.md tells how"
            raise CannotHere(msg) from error
        return


def _start_local(config: EngineConfig, folder: Path) -> None:
    """A Ray for this run alone, on loopback, that ends with it."""
    ray.init(
        address="local",
        num_cpus=config.workers * max(config.threads, 1),
        include_dashboard=False,
        object_store_memory=STORE_BYTES,
        _node_ip_address="127.0.0.1",
        _temp_dir=str(folder),
        **_QUIET,
    )


def _reach(address: str) -> None:
    """Ask the port itself first: Ray waits for minutes and then ends the whole process.

    Raises:
        SettingError: an address that is none.
        OSError: nobody listens there, or something else.
    """
    if address == "auto":
        return
    host, colon, port = address.rpartition(":")
    if not colon or not host or "/" in address or not port.isdecimal():
        msg = f"--ray-address wants HOST:PORT or auto, got {address!r}; try 127.0.0.1:6379"
        raise SettingError(msg)
    with socket.create_connection((host.strip("[]"), int(port)), timeout=REACH_S) as line:
        line.sendall(_HTTP2)
        answer = line.recv(9)
    is_settings, is_alert = answer[3:4] == b"\x04", answer[:1] == b"\x15"
    if not (is_settings or is_alert):
        msg = "something else than Ray listens there"
        raise OSError(msg)


@contextmanager
def _folder() -> Iterator[Path]:
    """A folder for sockets and logs of our own Ray; its path is short, for sockets have to be."""
    path = Path(tempfile.mkdtemp(prefix="longtake-ray-"))
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


@contextmanager
def _signals_kept() -> Iterator[None]:
    """Ray takes SIGTERM for itself; it stays with the one who has it."""
    numbers = (signal.SIGINT, signal.SIGTERM)
    before = [signal.getsignal(number) for number in numbers]
    try:
        yield
    finally:
        for number, handler in zip(numbers, before, strict=True):
            signal.signal(number, handler)


class _Nowhere(TextIOBase):
    """Ray prints remarks to stdout, which belongs to our report."""

    def write(self, text: str) -> int:
        return len(text)


def _got(answer: Any) -> Any:  # noqa: ANN401
    """What the clerk answered.

    Raises:
        StoreError: it cannot be reached now, or failed.
    """
    try:
        return ray.get(answer)
    except RayError as error:
        msg = f"the clerk does not answer: {_last(error)}"
        raise StoreError(msg) from error


def _last(error: BaseException) -> str:
    """The line of a long error that says most."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1][:200] if lines else type(error).__name__
