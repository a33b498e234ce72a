"""Load on one server and its client on the same machine: a JSON line each for what was measured.

python benchmarks/bench_server.py
python benchmarks/bench_server.py --only soak --seconds 7200

The model is tiny and random: it is the server that is measured. One worker of one thread runs
beside it, so the figures are those of a machine that also makes films. Every figure stands with its
target. All parts but the soak take about five minutes.
"""

import argparse
import asyncio
import io
import multiprocessing
import os
import platform
import resource
import socket
import statistics
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractContextManager, asynccontextmanager, contextmanager
from pathlib import Path

from PIL import Image
from server_load import (
    FILM,
    LONG,
    Lines,
    Listener,
    Server,
    listeners,
    ms,
    paced,
    percentile,
    rss_bytes,
    tell,
)
from server_soak import soak
from soak_takes import write_model

from longtake.server.presence import appear
from longtake.server.settings import STORE
from longtake.server.store import Store

PARTS = (
    "requests", "cancels", "listeners", "slowdown", "downloads", "uploads", "queue", "soak",
)  # fmt: skip
PAIRS, WINDOW_S = 4, 4.0
"""Windows with and without load by turns, and how long each is."""
BIG = 256 * 2**20
"""Bytes of the film that is downloaded."""


async def requests(server: Server, seconds: float) -> None:
    url = server.url
    began = time.perf_counter()
    times, ids, failed = await paced(url, "POST", "/v1/videos", 150, seconds, FILM)
    rate = len(times) / (time.perf_counter() - began)
    tell("durable POST at 150/s", "150/s, p99 250 ms", per_s=round(rate, 1),
         p50_ms=ms(times, 0.5), p99_ms=ms(times, 0.99), failed=failed)  # fmt: skip
    began = time.perf_counter()
    times, _, failed = await paced(url, "GET", f"/v1/videos/{ids[0]}", 800, min(seconds, 10))
    rate = len(times) / (time.perf_counter() - began)
    tell("GET status at 800/s", "800/s, p99 100 ms", per_s=round(rate, 1),
         p50_ms=ms(times, 0.5), p99_ms=ms(times, 0.99), failed=failed)  # fmt: skip
    times, _, failed = await paced(url, "GET", "/v1/videos?limit=20", 50, 5)
    tell("a page of the list", "p99 50 ms", jobs=len(ids), p99_ms=ms(times, 0.99))
    times, _, failed = await paced(url, "GET", "/health", 50, 5)
    tell("health while films are made", "p99 50 ms", p99_ms=ms(times, 0.99), failed=failed)


async def cancels(server: Server, rounds: int) -> None:
    lines, times = Lines(server.url), []
    for _ in range(rounds):
        job = (await lines.json("POST", "/v1/videos", LONG))["id"]
        while not (await lines.json("GET", f"/v1/videos/{job}"))["step"]:
            await asyncio.sleep(0.02)
        began = time.perf_counter()
        await lines.json("POST", f"/v1/videos/{job}/cancel")
        while (await lines.json("GET", f"/v1/videos/{job}"))["status"] != "cancelled":
            await asyncio.sleep(0.005)
        times.append(time.perf_counter() - began)
    lines.close()
    tell("cancel", "95 % within a step + 200 ms", rounds=rounds, p95_ms=ms(times, 0.95))


@asynccontextmanager
async def film_in_the_making(server: Server) -> AsyncIterator[str]:
    """A long film that keeps the worker busy as long as the block lasts."""
    lines = Lines(server.url)
    job = (await lines.json("POST", "/v1/videos", LONG))["id"]
    while not (await lines.json("GET", f"/v1/videos/{job}"))["step"]:
        await asyncio.sleep(0.02)
    try:
        yield job
    finally:
        await lines.json("DELETE", f"/v1/videos/{job}")
        lines.close()


async def listen(server: Server, count: int, rate: float, seconds: float) -> None:
    """How late listeners hear of a film that tells of itself at a rate, from the commit on.

    The worker makes another film meanwhile; this one's events are written here, so that it is known
    when each was.
    """
    lines = Lines(server.url)
    async with film_in_the_making(server):
        job = (await lines.json("POST", "/v1/videos", LONG))["id"]
        present, store = appear(server.data, "bench"), Store(server.data / STORE)
        store.hasten()
        written: dict[int, float] = {}
        lags: list[float] = []

        def heard(number: int, now: float, _data: bytes) -> None:
            if number in written:
                lags.append(now - written[number])

        before = rss_bytes(server.process.pid)
        crowd = await listeners(server.url, job, count, heard)
        lease = store.claim("bench")
        assert lease is not None
        assert lease.job.id == job
        await asyncio.sleep(1)
        for step in range(int(rate * seconds)):
            told = {"type": "progress", "progress": 0, "stage": "denoise", "step": step}
            store.tell(lease, told)
            written[store.newest_event()] = time.perf_counter()
            await asyncio.sleep(1 / rate)
        await asyncio.sleep(1)
        each = (rss_bytes(server.process.pid) - before) / count
        gone = sum(listener.lost for listener in crowd)
        store.drop(lease)
        store.close()
        os.close(present)
        lines.close()
    tell(f"events to listeners at {rate:g}/s, after their commit", "1,000: p99 250 ms, 150 KB",
         listeners=count, events=len(written), p50_ms=ms(lags, 0.5), p99_ms=ms(lags, 0.99),
         missing=count * len(written) - len(lags), lines_lost=gone,
         kb_each=round(each / 1e3, 1))  # fmt: skip


class Pace:
    """How many steps of a film are made in a window, by its own events."""

    def __init__(self) -> None:
        self.seen: list[tuple[float, int]] = []

    def heard(self, _number: int, now: float, data: bytes) -> None:
        block, step = (data.rfind(name) for name in (b'"block":', b'"step":'))
        if min(block, step) >= 0 and b'"type":"progress"' in data:
            numbers = (int(data[at:].split(b":", 1)[1].split(b",")[0]) for at in (block, step))
            self.seen.append((now, next(numbers) * LONG["steps"] + next(numbers)))

    def between(self, start: float, stop: float) -> float:
        """Steps a second."""
        inside = [point for point in self.seen if start <= point[0] < stop]
        (first, before), (last, after) = inside[0], inside[-1]
        return (after - before) / (last - first)


Load = Callable[[Server, str], AbstractContextManager[None]]


async def slowed(server: Server, what: str, load: Load) -> None:
    """What a load takes from the worker: windows with and without it by turns, in one run."""
    pace, quiet, loaded = Pace(), list[float](), list[float]()
    async with film_in_the_making(server) as job:
        (ear,) = await listeners(server.url, job, 1, pace.heard)
        await asyncio.sleep(1)
        for _ in range(PAIRS):
            quiet.append(await _window(pace))
            with load(server, job):
                await asyncio.sleep(0.5)
                loaded.append(await _window(pace))
            await asyncio.sleep(0.5)
        ear.transport.close()
    shares = [1 - with_load / without for without, with_load in zip(quiet, loaded, strict=True)]
    tell(what, "the worker loses 5 % at most",
         lost_percent=round(statistics.median(shares) * 100, 1),
         windows=[round(share * 100, 1) for share in shares],
         steps_per_s=round(statistics.median(quiet), 1))  # fmt: skip


async def _window(pace: Pace) -> float:
    start = time.perf_counter()
    await asyncio.sleep(WINDOW_S)
    return pace.between(start, time.perf_counter())


@contextmanager
def crowd(server: Server, job: str) -> Iterator[None]:
    """200 listeners and 50 questions a second, from a process of their own."""
    with _beside(_crowd, server.url, job):
        yield


def _crowd(url: str, job: str) -> None:
    async def run() -> None:
        kept: list[Listener] = await listeners(url, job, 200, lambda *_: None)
        while kept:
            await paced(url, "GET", f"/v1/videos/{job}", 50, 60)

    asyncio.run(run())


@contextmanager
def downloads(server: Server, _job: str) -> Iterator[None]:
    """Four downloads at full rate, from a process that takes only what the others leave."""
    with _beside(_download, server.url, _finished(server)):
        yield


def _download(url: str, path: str) -> None:
    os.nice(19)
    host, _, port = url.removeprefix("http://").partition(":")
    head = f"GET {path} HTTP/1.1\r\nHost: {host}:{port}\r\n\r\n".encode()
    lines = [socket.create_connection((host, int(port))) for _ in range(4)]
    left, room = [0] * 4, bytearray(2**18)
    while True:
        for number, line in enumerate(lines):
            if left[number] <= 0:
                line.sendall(head)
                left[number] = BIG
            left[number] -= line.recv_into(room)


def _finished(server: Server) -> str:
    """A finished film, made large: what is in it does not matter to the one who sends it."""
    films = sorted(server.data.glob("jobs/video_*/video-*.mp4"))
    with films[0].open("rb+") as file:
        file.truncate(BIG)
    return f"/v1/videos/{films[0].parent.name}/content"


@contextmanager
def _beside(run: Callable[[str, str], None], *arguments: str) -> Iterator[None]:
    process = multiprocessing.get_context("fork").Process(target=run, args=arguments)
    process.start()
    try:
        yield
    finally:
        process.kill()
        process.join()


async def one_film(server: Server) -> None:
    lines = Lines(server.url)
    job = (await lines.json("POST", "/v1/videos", FILM))["id"]
    while (await lines.json("GET", f"/v1/videos/{job}"))["status"] != "completed":
        await asyncio.sleep(0.05)
    lines.close()


async def uploads(server: Server, count: int = 20) -> None:
    """Large pictures at the same time, and what they take of the server's memory."""
    file = io.BytesIO()
    Image.new("RGB", (64, 64), "red").save(file, "PNG")
    parts = {name: str(value) for name, value in FILM.items()}
    body = "".join(
        f'--b\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'
        for name, value in parts.items()
    )
    body += '--b\r\nContent-Disposition: form-data; name="input_reference"; filename="x"\r\n\r\n'
    raw = body.encode() + file.getvalue().ljust(25 * 2**20, b"\0") + b"\r\n--b--\r\n"
    before = most = rss_bytes(server.process.pid)
    lines, began = Lines(server.url), time.perf_counter()
    kind = "multipart/form-data; boundary=b"
    sent = [asyncio.create_task(lines.ask("POST", "/v1/videos", raw, kind)) for _ in range(count)]
    while not all(task.done() for task in sent):
        most = max(most, rss_bytes(server.process.pid))
        await asyncio.sleep(0.01)
    lines.close()
    tell("uploads of 25 MB at the same time", "20: memory grows by less than 100 MB",
         uploads=count, accepted=sum(task.result()[0] == 202 for task in sent),
         grown_mb=round((most - before) / 1e6, 1),
         seconds=round(time.perf_counter() - began, 1))  # fmt: skip


async def queue(server: Server, count: int) -> None:
    """Accept many jobs with kill -9 amid them; count what is lost."""
    ids: list[str] = []
    began = time.perf_counter()
    for part in range(3):
        _, found, _ = await paced(server.url, "POST", "/v1/videos", 190, count / 3 / 190, LONG)
        ids += found
        server.kill()
        again_s = server.start()
        tell("restart after kill -9", "5 s", part=part, seconds=round(again_s, 2))
    took = time.perf_counter() - began
    known, after, lines = set(), "", Lines(server.url)
    while True:
        page = await lines.json("GET", f"/v1/videos?limit=100{after}")
        known |= {job["id"] for job in page["data"]}
        after = f"&after={page['last_id']}"
        if not page["has_more"]:
            break
    lines.close()
    times, _, _ = await paced(server.url, "GET", "/v1/videos?limit=20", 50, 5)
    tell("jobs accepted, three kill -9 amid them", "10,000 in 120 s, none lost",
         accepted=len(ids), seconds=round(took, 1), lost=len(set(ids) - known))  # fmt: skip
    tell("a page of the list then", "p99 50 ms", jobs=len(known), p99_ms=ms(times, 0.99))
    tell("claim from a full queue", "p99 20 ms", **claims(server.data / STORE))


def claims(path: Path) -> dict[str, float]:
    """Times to claim a job, measured on the store of a server that is stopped or busy."""
    store, times = Store(path), list[float]()
    for _ in range(100):
        began = time.perf_counter()
        lease = store.claim("bench")
        times.append(time.perf_counter() - began)
        if lease is not None:
            store.park(lease)
    waiting = store.waiting()
    store.close()
    return {"waiting": waiting, "p99_ms": round(percentile(times, 0.99) * 1e3, 1)}


async def run(part: str, server: Server, asked: argparse.Namespace) -> None:
    match part:
        case "requests":
            await requests(server, asked.seconds or 20)
        case "cancels":
            await cancels(server, asked.cancels)
        case "listeners":
            await listen(server, asked.listeners, 1, asked.seconds or 20)
            await listen(server, 2 * asked.listeners, 1, 10)
            await listen(server, asked.listeners, 10, 10)
        case "slowdown":
            await slowed(server, "200 listeners and 50 GET/s", crowd)
        case "downloads":
            await one_film(server)
            await slowed(server, "4 downloads at full rate", downloads)
        case "uploads":
            await uploads(server)
        case "queue":
            await queue(server, asked.jobs)
        case "soak":
            await soak(server, asked.seconds or 600)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", nargs="+", choices=PARTS, default=PARTS[:-1])
    parser.add_argument("--seconds", type=float, help="of requests, listeners and soak")
    parser.add_argument("--listeners", type=int, default=1000)
    parser.add_argument("--jobs", type=int, default=10_000)
    parser.add_argument("--cancels", type=int, default=20)
    asked = parser.parse_args()
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_model(folder / "tiny")
        tell("machine", "", processor=platform.processor() or platform.machine(),
             cores=os.cpu_count(), load=round(os.getloadavg()[0], 1))  # fmt: skip
        for part in asked.only:
            # Each on a store of its own, so that none has to wait for another's queue.
            server = Server(folder / part, folder / "tiny")
            try:
                server.wait_for_worker()
                asyncio.run(run(part, server, asked))
            finally:
                server.stop()


if __name__ == "__main__":
    main()
