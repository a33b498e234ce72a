"""What load on a server is made with: the server as a process, and clients light enough for it."""

import asyncio
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from urllib.request import urlopen

FILM = {"prompt": "a red ball", "size": "64x64", "frames": 5, "steps": 1}
LONG = {"prompt": "a red ball", "size": "64x64", "frames": 9601, "steps": 12}
JSON = "application/json"
_PIECE = 256 * 1024
_ID = re.compile(rb"id: (\d+)\n")


def tell(what: str, target: str, **figures: object) -> None:
    """One line of JSON for what was measured."""
    print(json.dumps({"what": what, "target": target, **figures}), flush=True)


def percentile(values: list[float], share: float) -> float:
    return sorted(values)[min(int(len(values) * share), len(values) - 1)] if values else 0.0


def ms(values: list[float], share: float) -> float:
    return round(percentile(values, share) * 1e3, 1)


class Server:
    """A server in a process of its own, its worker with one thread."""

    def __init__(self, data: Path, model: Path) -> None:
        self.data, self.model = data, model
        self.start()

    def start(self) -> float:
        """Seconds until it answers."""
        began = time.perf_counter()
        command = [
            sys.executable, "-m", "longtake", "serve", "--port", "0", "--threads", "1",
            "--data", str(self.data), "--model", str(self.model),
        ]  # fmt: skip
        log = self.data.with_suffix(".log")
        # A file and no pipe, which would fill up and stop the server.
        with log.open("wb") as file:
            self.process = subprocess.Popen(
                command, stderr=file, env={**os.environ, "OMP_NUM_THREADS": "1"}
            )
        while not (match := re.search(r"listens on (\S+)", log.read_text())):
            assert self.process.poll() is None, log.read_text()
            time.sleep(0.01)
        self.url = match[1]
        self.health()
        return time.perf_counter() - began

    def health(self) -> dict[str, object]:
        with urlopen(f"{self.url}/health", timeout=60) as answer:
            return json.load(answer)

    def wait_for_worker(self) -> None:
        while not self.health()["workers_ready"]:
            time.sleep(0.05)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait(60)

    def workers(self) -> list[int]:
        path = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children")
        return [int(pid) for pid in path.read_text().split()]


def rss_bytes(pid: int) -> int:
    text = Path(f"/proc/{pid}/status").read_text()
    return int(re.search(r"VmRSS:\s+(\d+)", text)[1]) << 10  # type: ignore[index]


def open_files(pid: int) -> int:
    return len(list(Path(f"/proc/{pid}/fd").iterdir()))


class Lines:
    """HTTP over kept lines, with little work of its own: the client shares the machine."""

    def __init__(self, url: str) -> None:
        self.host, _, self.port = url.removeprefix("http://").partition(":")
        self.free: list[tuple[float, asyncio.StreamReader, asyncio.StreamWriter]] = []

    async def ask(
        self, method: str, path: str, body: object = None, kind: str = JSON
    ) -> tuple[int, bytes]:
        """Status and body; a body that is no bytes is sent as JSON."""
        # The server closes lines that are idle for 5 s.
        if self.free and time.perf_counter() - self.free[-1][0] < 3:
            _, reader, writer = self.free.pop()
        else:
            reader, writer = await asyncio.open_connection(self.host, int(self.port))
        if not isinstance(body, bytes):
            body = b"" if body is None else json.dumps(body).encode()
        head = f"{method} {path} HTTP/1.1\r\nHost: {self.host}:{self.port}\r\n"
        if body:
            head += f"Content-Type: {kind}\r\nContent-Length: {len(body)}\r\n"
        writer.write(f"{head}\r\n".encode())
        for start in range(0, len(body), _PIECE):
            writer.write(body[start : start + _PIECE])
            await writer.drain()
        answer = await reader.readuntil(b"\r\n\r\n")
        length = re.search(rb"content-length: (\d+)", answer)
        found = await reader.readexactly(int(length[1])) if length else b""
        self.free.append((time.perf_counter(), reader, writer))
        return int(answer[9:12]), found

    async def json(self, method: str, path: str, body: object = None) -> dict:
        status, found = await self.ask(method, path, body)
        assert status < 400, (method, path, status, found[:200])
        return json.loads(found)

    def close(self) -> None:
        for _, _, writer in self.free:
            writer.close()


class Listener(asyncio.Protocol):
    """Hears the events of one film; tells the number of each and when it came."""

    def __init__(self, url: str, job: str, heard: Callable[[int, float, bytes], None]) -> None:
        self._head = f"GET /v1/videos/{job}/events HTTP/1.1\r\nHost: {url[7:]}\r\n\r\n".encode()
        self._heard = heard
        self.answered = self.lost = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        transport.write(self._head)

    def data_received(self, data: bytes) -> None:
        now = time.perf_counter()
        self.answered = True
        for match in _ID.finditer(data):
            self._heard(int(match[1]), now, data)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002
        self.lost = True


async def listeners(
    url: str, job: str, count: int, heard: Callable[[int, float, bytes], None]
) -> list[Listener]:
    """So many listeners at one film; all hear of it when this returns."""
    host, _, port = url.removeprefix("http://").partition(":")
    loop, found = asyncio.get_running_loop(), list[Listener]()
    while len(found) < count:
        some = [
            loop.create_connection(lambda: Listener(url, job, heard), host, int(port))
            for _ in range(min(100, count - len(found)))
        ]
        found += [listener for _, listener in await asyncio.gather(*some)]
    while not all(listener.answered for listener in found):
        await asyncio.sleep(0.02)
    return found


async def paced(
    url: str, method: str, path: str, rate: float, seconds: float, body: object = None
) -> tuple[list[float], list[str], int]:
    """Requests at a rate, whatever the answers take; their times, ids, and how many failed."""
    times, ids, failed, running, lines = [], [], 0, set(), Lines(url)
    limit = asyncio.Semaphore(64)

    async def one(due: float) -> None:
        nonlocal failed
        async with limit:
            try:
                status, found = await lines.ask(method, path, body)
            except (OSError, EOFError):
                failed += 1
                return
            # From when it was due: a server that stalls is not spared the requests meanwhile.
            times.append(time.perf_counter() - due)
            if status >= 400:
                failed += 1
            elif method == "POST":
                ids.append(json.loads(found)["id"])

    began = time.perf_counter()
    for number in range(int(rate * seconds)):
        due = began + number / rate
        if due > time.perf_counter():
            await asyncio.sleep(due - time.perf_counter())
        task = asyncio.create_task(one(due))
        running.add(task)
        task.add_done_callback(running.discard)
    while running:
        await asyncio.sleep(0.01)
    lines.close()
    return times, ids, failed
