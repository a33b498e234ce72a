"""The crew: starts workers, notices when one dies, starts another."""

import asyncio
import json
import os
import secrets
import signal
import sys
from collections.abc import Callable
from dataclasses import asdict, replace

from longtake.server.settings import WorkerConfig

STOP_S = 25.0
"""Time a worker has to give its job back."""
_AGAIN_S = (0.2, 1.0, 5.0, 15.0)
"""Waits before a worker is started again, one after the other if none gets ready."""


class Crew:
    """So many workers, always."""

    def __init__(self, config: WorkerConfig, size: int, died: Callable[[str], object]) -> None:
        """Say what they do.

        Args:
            config: Of each; the name is given here.
            size: How many.
            died: Hears the name of a worker that ended by itself.
        """
        self.config, self.size, self.died = config, size, died
        self.ready: dict[str, dict[str, object]] = {}
        """What each worker that is ready said of itself."""
        self.problem = ""
        """Why the newest that did not get ready ended."""
        self.restarts = 0
        """Workers that were started after one had died."""
        self._processes: dict[str, asyncio.subprocess.Process] = {}
        self._tasks: list[asyncio.Task[None]] = []
        self._stopping = False

    def start(self) -> None:
        """Begin; workers get ready by and by."""
        self._tasks = [asyncio.create_task(self._keep_one()) for _ in range(self.size)]

    @property
    def names(self) -> set[str]:
        """Workers whose end is seen here."""
        return set(self._processes)

    @property
    def pids(self) -> list[int]:
        """Processes that run."""
        return [process.pid for process in self._processes.values()]

    async def stop(self) -> None:
        """Let every worker give its job back; one that does not is killed."""
        self._stopping = True
        for process in self._processes.values():
            process.send_signal(signal.SIGTERM)
        _, late = await asyncio.wait(self._tasks, timeout=STOP_S) if self._tasks else ((), ())
        for process in list(self._processes.values()):
            process.kill()
        if late:
            await asyncio.wait(late)

    async def _keep_one(self) -> None:
        failures = 0
        while not self._stopping:
            name = f"worker-{secrets.token_hex(8)}"
            got_ready = await self._run(name)
            if self._stopping:
                return
            self.restarts += 1
            failures = 0 if got_ready else failures + 1
            await asyncio.sleep(_AGAIN_S[min(failures, len(_AGAIN_S) - 1)])

    async def _run(self, name: str) -> bool:
        """One worker from its start to its end; whether it got ready."""
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "longtake.server.worker",
            stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
            env={**os.environ, "OMP_WAIT_POLICY": "passive", "LONGTAKE_TOKENS": ""},
        )  # fmt: skip
        self._processes[name] = process
        try:
            assert process.stdin is not None
            assert process.stdout is not None
            settings = asdict(replace(self.config, name=name))
            process.stdin.write(json.dumps(settings).encode() + b"\n")
            async for line in process.stdout:
                self._hear(name, line)
            await process.wait()
        finally:
            got_ready = self.ready.pop(name, None) is not None
            del self._processes[name]
            self.died(name)
        return got_ready

    def _hear(self, name: str, line: bytes) -> None:
        try:
            said = json.loads(line)
        except ValueError:
            return
        if said.get("ready"):
            self.ready[name], self.problem = said, ""
        elif "error" in said:
            self.problem = str(said["error"])
