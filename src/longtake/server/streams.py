"""Events as a stream that a browser or a script reads: id, kind, data."""

import asyncio
import contextlib

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from longtake.server.hub import Hub, TooSlow
from longtake.server.metrics import Metrics

SIGN_OF_LIFE_S = 15.0
"""A comment is sent when nothing happens, so that a broken line is noticed."""
SEND_S = 30.0
"""A client that takes nothing for so long is let go."""
_NOTHING = b": \n\n"


class EventStream(Response):
    """What happens to a job, up to its end."""

    def __init__(self, hub: Hub, job: str, after: int, metrics: Metrics) -> None:
        """Say what is wanted.

        Args:
            hub: Hands events out.
            job: The job.
            after: The last event that the client has.
            metrics: Counts listeners.
        """
        super().__init__(media_type="text/event-stream", headers={"x-accel-buffering": "no"})
        del self.headers["content-length"]
        self._hub, self._job, self._after, self._metrics = hub, job, after, metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002
        """Send until the job ends, the client leaves, or it reads too slowly."""
        await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
        sending = asyncio.create_task(self._send(send))
        leaving = asyncio.create_task(_left(receive))
        self._metrics.listeners.inc()
        try:
            await asyncio.wait({sending, leaving}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            self._metrics.listeners.dec()
            for task in (sending, leaving):
                task.cancel()
            await asyncio.gather(sending, leaving, return_exceptions=True)

    async def _send(self, send: Send) -> None:
        with contextlib.suppress(TooSlow, TimeoutError):
            async for events in self._hub.events(self._job, self._after, SIGN_OF_LIFE_S):
                body = b"".join(event.lines for event in events) or _NOTHING
                async with asyncio.timeout(SEND_S):
                    await send({"type": "http.response.body", "body": body, "more_body": True})
            async with asyncio.timeout(SEND_S):
                await send({"type": "http.response.body", "body": b""})


async def _left(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
