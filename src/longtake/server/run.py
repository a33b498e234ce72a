"""The server's process: what is checked before it starts, and how it ends."""

import resource
import signal
import socket
from asyncio import TimerHandle, Transport
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import FrameType

import h11
import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from longtake.errors import CannotHere, OutputError
from longtake.server.app import create_app
from longtake.server.engines import open_engine
from longtake.server.house import open_house
from longtake.server.log import log
from longtake.server.presence import alone
from longtake.server.settings import ServeConfig
from longtake.server.studio import open_studio

_HEAD_BYTES = 32_768
_SPARE_FILES = 64
_BACKLOG = 2048


def serve(config: ServeConfig) -> None:
    """Run until told to stop; jobs that are not finished go on at the next start.

    Raises:
        LongtakeError: it cannot start here, said before anything is answered.
    """
    studio = open_studio(config.model, config.limits)
    with (
        alone(config.data, "server"),
        _listening(config) as listener,
        open_engine(config.engines, config.data, config.lease_s) as engine,
    ):
        house = open_house(config, studio, engine)
        address = listener.getsockname()
        house = replace(house, config=replace(config, port=address[1]))
        server = _Server(
            uvicorn.Config(
                create_app(house),
                http=type("Timed", (_Timed,), {"header_s": config.limits.header_s}),
                ws="none",
                log_config=None,
                access_log=False,
                proxy_headers=False,
                server_header=False,
                h11_max_incomplete_event_size=_HEAD_BYTES,
                limit_concurrency=_most_connections(),
                timeout_graceful_shutdown=3,
                backlog=_BACKLOG,
            )
        )
        shown = f"[{config.host}]" if ":" in config.host else config.host
        log(f"longtake listens on http://{shown}:{address[1]} and keeps films in {config.data}")
        server.run(sockets=[listener])


class _Server(uvicorn.Server):
    """Ends with exit code 0 when told to, where uvicorn dies of the signal once more."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        def stop(number: int, frame: FrameType | None) -> None:
            self.handle_exit(number, frame)

        before = {s: signal.signal(s, stop) for s in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


class _Timed(H11Protocol):
    """HTTP whose heads have to come in time: a connection without one is closed."""

    header_s = 10.0
    _timer: TimerHandle | None = None

    def connection_made(self, transport: Transport) -> None:
        super().connection_made(transport)
        self._wait()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self.conn.their_state is h11.IDLE and not self.transport.is_closing():
            self._wait()
        else:
            self._done()

    def connection_lost(self, exc: Exception | None) -> None:
        self._done()
        super().connection_lost(exc)

    def _wait(self) -> None:
        # The first byte starts the clock, the next ones do not start it anew.
        if self._timer is None:
            self._timer = self.loop.call_later(self.header_s, self._late)

    def _done(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _late(self) -> None:
        self._timer = None
        if self.conn.their_state is h11.IDLE:
            self.transport.close()


@contextmanager
def _listening(config: ServeConfig) -> Iterator[socket.socket]:
    """Take the port before the workers are started.

    Raises:
        CannotHere: it is taken, or not ours to take.
    """
    family = socket.AF_INET6 if ":" in config.host else socket.AF_INET
    with socket.socket(family) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((config.host, config.port))
            listener.listen(_BACKLOG)
        except OSError as error:
            msg = (
                f"cannot listen on {config.host} port {config.port}: {error.strerror}; "
                "give another --port"
            )
            raise CannotHere(msg) from error
        yield listener


def _most_connections() -> int:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < hard:
        soft = hard if hard != resource.RLIM_INFINITY else 65_536
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    return max(soft - _SPARE_FILES, 8)


def read_tokens(path: Path) -> tuple[str, ...]:
    """Tokens from a file, one a line.

    Raises:
        OutputError: it cannot be read.
    """
    try:
        lines = path.read_text("utf-8").splitlines()
    except (OSError, ValueError) as error:
        msg = f"cannot read the tokens in {path}: {error}"
        raise OutputError(msg) from error
    return tuple(line.strip() for line in lines if line.strip())
