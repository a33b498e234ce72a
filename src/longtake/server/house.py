"""Everything a running server has: store, writer, hub, workers; and what it does by itself."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import TypeVar

from longtake.server import reserve
from longtake.server.crew import Crew
from longtake.server.engines import Engine
from longtake.server.files import JobFiles, strays
from longtake.server.hub import Hub
from longtake.server.log import log
from longtake.server.metrics import Metrics
from longtake.server.presence import is_gone, tidy
from longtake.server.schema import StoreError
from longtake.server.settings import STORE, ServeConfig, WorkerConfig
from longtake.server.store import Store
from longtake.server.studio import Studio
from longtake.server.writer import Writer

SWEEP_EVERY_S = 5.0
"""Time between two looks for what is deleted or expired."""
_Result = TypeVar("_Result")


@dataclass(frozen=True, slots=True)
class House:
    """One server."""

    config: ServeConfig
    studio: Studio
    store: Store
    """For reading."""
    writer: Writer
    hub: Hub
    crew: Crew
    metrics: Metrics

    async def write(self, call: Callable[[Store], _Result]) -> _Result:
        """Write; durable when this returns.

        Raises:
            StoreError: the disk is full.
        """
        return await self.writer.run(call)

    def files(self, job: str) -> JobFiles:
        """The folder of a job."""
        return JobFiles(self.config.data, job)

    @contextlib.asynccontextmanager
    async def open(self) -> AsyncIterator[None]:
        """Run workers, hub and sweeper as long as the block lasts."""
        for stray in strays(self.config.data, self.store.known()):
            stray.remove()
        tidy(self.config.data)
        self.crew.start()
        tasks = [asyncio.create_task(self.hub.run()), asyncio.create_task(self._sweep())]
        try:
            yield
        finally:
            await self.crew.stop()
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            self.writer.close()
            self.store.close()

    async def _sweep(self) -> None:
        while True:
            reserve.keep(self.config.data)
            try:
                await self.write(Store.expire)
                await self.write(Store.release_dead)
                for worker in self.store.holders():
                    if is_gone(self.config.data, worker) and worker not in self.crew.names:
                        await self.write(lambda store, worker=worker: store.release(worker))
                for job in self.store.forgotten():
                    await asyncio.to_thread(self.files(job).remove)
                    await self.write(lambda store, job=job: store.forget(job))
            except StoreError as error:
                log(f"server: {error}")
            await asyncio.sleep(SWEEP_EVERY_S)


def open_house(config: ServeConfig, studio: Studio, engine: Engine) -> House:
    """Open the store and make everything ready; nothing runs before `House.open`.

    Raises:
        LongtakeError: the store cannot be opened.
    """
    path = config.data / STORE
    store = Store(path, lease_s=config.lease_s)
    writer = Writer(path, config.lease_s)
    worker = WorkerConfig(
        name="",
        data=str(config.data),
        model=str(studio.preset.folder) if studio.preset.name != config.model else config.model,
        device=config.device,
        precision=config.precision,
        threads=config.threads,
        lease_s=config.lease_s,
        keep_s=int(config.keep_days * 86_400),
    )

    def died(name: str) -> object:
        return writer.submit(lambda store: store.strike_worker(name))

    crew = Crew(worker, config.workers, died, engine)
    return House(config, studio, store, writer, Hub(store), crew, Metrics())
