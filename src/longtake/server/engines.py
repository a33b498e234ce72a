"""Engines: what runs the workers, processes of this machine or actors of a Ray cluster."""

import asyncio
import json
import os
import secrets
import signal
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Protocol, runtime_checkable

from longtake.errors import CannotHere
from longtake.server.settings import EngineConfig, WorkerConfig

_OWN_RAY = {
    # So Ray binds to loopback, as it does on macOS; on Linux it takes all interfaces.
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
    "RAY_AUTH_MODE": "token",
    # Handed to all its workers, which Ray starts and not we.
    "OMP_WAIT_POLICY": "passive",
    # Workers are what the machine is for; Ray would let everything else go first.
    "RAY_worker_niceness": "0",
}
"""Environment of a Ray of our own."""


@runtime_checkable
class Hand(Protocol):
    """A worker that runs somewhere."""

    def lines(self) -> AsyncIterator[str | bytes]:
        """The lines of JSON it says, up to its end."""
        ...

    def stop(self) -> None:
        """Ask it to give its job back and to end."""
        ...

    def kill(self) -> None:
        """End it."""
        ...


@runtime_checkable
class Engine(Protocol):
    """Starts workers."""

    async def start(self, config: WorkerConfig) -> Hand:
        """Start one; it says by and by that it is ready."""
        ...


class Processes:
    """Workers as processes of this machine."""

    async def start(self, config: WorkerConfig) -> Hand:
        """Start one."""
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "longtake.server.worker",
            stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
            env={**os.environ, "OMP_WAIT_POLICY": "passive", "LONGTAKE_TOKENS": ""},
        )  # fmt: skip
        assert process.stdin is not None
        process.stdin.write(json.dumps(asdict(config)).encode() + b"\n")
        return _Process(process)


class _Process:
    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process

    async def lines(self) -> AsyncIterator[bytes]:
        assert self.process.stdout is not None
        async for line in self.process.stdout:
            yield line
        await self.process.wait()

    def stop(self) -> None:
        self.process.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.process.kill()


@contextmanager
def open_engine(config: EngineConfig, data: Path, lease_s: float) -> Iterator[Engine]:
    """The engine that is asked for, as long as the block lasts.

    Args:
        config: Which, and how many workers it is to hold.
        data: The data folder.
        lease_s: How long a worker holds a job without a sign of life.

    Raises:
        CannotHere: Ray is not installed, or the cluster cannot be reached.
    """
    match config.engine:
        case "local":
            yield Processes()
        case "ray":
            _prepare(own=not config.ray_address)
            try:
                from longtake.server.fleet.rays import connected  # noqa: PLC0415 - heavy
            except ModuleNotFoundError as error:
                msg = f"the engine ray needs {error.name}; run: pip install 'longtake[fleet]'"
                raise CannotHere(msg) from error
            with connected(config, data, lease_s) as engine:
                yield engine


def _prepare(*, own: bool) -> None:
    """Say what Ray reads when it is imported."""
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    if own:
        # A token for this run alone: else Ray writes one into the user's home.
        os.environ.update(_OWN_RAY, RAY_AUTH_TOKEN=secrets.token_hex(32))
