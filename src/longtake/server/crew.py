"""The crew: starts workers, notices when one dies, starts another."""

import asyncio
import json
import secrets
from collections.abc import Callable
from dataclasses import replace

from longtake.server.engines import Engine, Hand
from longtake.server.log import log
from longtake.server.settings import WorkerConfig

STOP_S = 25.0
"""Time a worker has to give its job back."""
_AGAIN_S = (0.2, 1.0, 5.0, 15.0)
"""Waits before a worker is started again, one after the other if none gets ready."""
_ALIKE = ("model_hash", "version")
"""What all workers have in common, or the same request would give other films."""


class Crew:
    """So many workers, always."""

    def __init__(
        self, config: WorkerConfig, size: int, died: Callable[[str], object], engine: Engine
    ) -> None:
        """Say what they do.

        Args:
            config: Of each; the name is given here.
            size: How many.
            died: Hears the name of a worker that ended by itself.
            engine: Starts them.
        """
        self.config, self.size, self.died, self.engine = config, size, died, engine
        self.ready: dict[str, dict[str, object]] = {}
        """What each worker that is ready said of itself."""
        self.problem = ""
        """Why the newest that did not get ready ended."""
        self.restarts = 0
        """Workers that were started after one had died."""
        self.failures = 0
        """Workers that ended since one got ready."""
        self._hands: dict[str, Hand] = {}
        self._tasks: list[asyncio.Task[None]] = []
        self._stopping = False

    def start(self) -> None:
        """Begin; workers get ready by and by."""
        self._tasks = [asyncio.create_task(self._keep_one()) for _ in range(self.size)]

    @property
    def names(self) -> set[str]:
        """Workers whose end is seen here."""
        return set(self._hands)

    async def stop(self) -> None:
        """Let every worker give its job back; one that does not is killed."""
        self._stopping = True
        for hand in self._hands.values():
            hand.stop()
        _, late = await asyncio.wait(self._tasks, timeout=STOP_S) if self._tasks else ((), ())
        for hand in list(self._hands.values()):
            hand.kill()
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
            self.failures += not got_ready
            failures = 0 if got_ready else failures + 1
            await asyncio.sleep(_AGAIN_S[min(failures, len(_AGAIN_S) - 1)])

    async def _run(self, name: str) -> bool:
        """One worker from its start to its end; whether it got ready."""
        hand = self._hands[name] = await self.engine.start(replace(self.config, name=name))
        try:
            async for line in hand.lines():
                self._hear(name, line)
        finally:
            got_ready = self.ready.pop(name, None) is not None
            del self._hands[name]
            self.died(name)
        return got_ready

    def _hear(self, name: str, line: str | bytes) -> None:
        try:
            said = json.loads(line)
        except ValueError:
            return
        if said.get("ready"):
            self._greet(name, said)
        elif "error" in said:
            self.problem = str(said["error"])
        elif "log" in said:
            log(f"{name}: {said['log']}")

    def _greet(self, name: str, said: dict[str, object]) -> None:
        """Take a worker in, unless it would make other films than the rest."""
        for other in self.ready.values():
            for what in _ALIKE:
                if said.get(what) != other.get(what):
                    self.problem = f"{name} has another {what} ({said.get(what)}) than the rest"
                    log(self.problem)
                    self._hands[name].kill()
                    return
        self.ready[name], self.problem, self.failures = said, "", 0
