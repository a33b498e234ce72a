"""Load on one server and its client on the same machine: a JSON line each for what was measured.

python benchmarks/bench_server.py --seconds 20 --listeners 1000

The model is tiny and random: it is the server that is measured. One worker runs beside it, so the
figures are those of a machine that also makes films. Every figure stands with its target.
"""

import argparse
import asyncio
import json
import os
import platform
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import httpx
from soak_takes import write_model

FILM = {"prompt": "a red ball", "size": "64x64", "frames": 5, "steps": 1}
LONG = {"prompt": "a red ball", "size": "64x64", "frames": 9601, "steps": 12}


def tell(what: str, target: str, **figures: object) -> None:
    print(json.dumps({"what": what, "target": target, **figures}), flush=True)


def percentile(values: list[float], share: float) -> float:
    return sorted(values)[min(int(len(values) * share), len(values) - 1)] if values else 0.0


def ms(values: list[float], share: float) -> float:
    return round(percentile(values, share) * 1e3, 1)


class Server:
    def __init__(self, folder: Path, model: Path) -> None:
        self.data, self.model = folder / "data", model
        self.start()

    def start(self) -> float:
        began = time.perf_counter()
        command = [
            sys.executable, "-m", "longtake", "serve", "--port", "0", "--threads", "1",
            "--data", str(self.data), "--model", str(self.model),
        ]  # fmt: skip
        self.process = subprocess.Popen(
            command, stderr=subprocess.PIPE, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"}
        )
        assert self.process.stderr is not None
        for line in self.process.stderr:
            if match := re.search(r"listens on (\S+)", line):
                self.url = match[1]
                break
        while httpx.get(f"{self.url}/health").status_code != 200:
            time.sleep(0.05)
        return time.perf_counter() - began

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait(60)

    def rss_bytes(self) -> int:
        text = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(re.search(r"VmRSS:\s+(\d+)", text)[1]) << 10  # type: ignore[index]


class Lines:
    """Open lines to the server; a client light enough not to be what is measured."""

    def __init__(self, url: str) -> None:
        self.host, self.port = url[7:].split(":")
        self.free: list[tuple[float, asyncio.StreamReader, asyncio.StreamWriter]] = []

    async def ask(self, method: str, path: str, body: object = None) -> tuple[int, bytes]:
        # The server closes lines that are idle for 5 s.
        if self.free and time.perf_counter() - self.free[-1][0] < 3:
            _, reader, writer = self.free.pop()
        else:
            reader, writer = await asyncio.open_connection(self.host, int(self.port))
        raw = b"" if body is None else json.dumps(body).encode()
        head = f"{method} {path} HTTP/1.1\r\nHost: {self.host}:{self.port}\r\n"
        if raw:
            head += f"Content-Type: application/json\r\nContent-Length: {len(raw)}\r\n"
        writer.write(f"{head}\r\n".encode() + raw)
        answer = await reader.readuntil(b"\r\n\r\n")
        length = re.search(rb"content-length: (\d+)", answer)
        found = await reader.readexactly(int(length[1])) if length else b""
        self.free.append((time.perf_counter(), reader, writer))
        return int(answer[9:12]), found

    def close(self) -> None:
        for _, _, writer in self.free:
            writer.close()


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


async def requests(url: str, seconds: float) -> None:
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


async def listen(url: str, count: int, seconds: float, server: Server) -> None:
    """Listeners at one film; how late each event comes, by the clock both share."""
    limits = httpx.Limits(max_connections=count + 10)
    async with httpx.AsyncClient(base_url=url, timeout=60, limits=limits) as client:
        job = (await client.post("/v1/videos", json=LONG)).json()["id"]
        before, firsts, ready = server.rss_bytes(), {}, asyncio.Event()
        lags: list[float] = []
        opened = 0

        async def one() -> None:
            nonlocal opened
            async with client.stream("GET", f"/v1/videos/{job}/events") as answer:
                opened += 1
                if opened == count:
                    ready.set()
                async for line in answer.aiter_lines():
                    if line.startswith("id: ") and ready.is_set():
                        now = time.perf_counter()
                        lags.append(now - firsts.setdefault(line, now))

        tasks = [asyncio.create_task(one()) for _ in range(count)]
        try:
            await asyncio.wait_for(ready.wait(), 120)
            await asyncio.sleep(seconds)
            each = (server.rss_bytes() - before) / count
            tell("events to listeners, the last behind the first", "1,000 at p99 250 ms, 150 KB",
                 listeners=opened, events=len(firsts), p99_ms=ms(lags, 0.99),
                 kb_each=round(each / 1e3, 1))  # fmt: skip
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await client.delete(f"/v1/videos/{job}")


async def cancels(url: str, rounds: int) -> None:
    times = []
    async with httpx.AsyncClient(base_url=url, timeout=60) as client:
        for _ in range(rounds):
            job = (await client.post("/v1/videos", json=LONG)).json()["id"]
            while not (await client.get(f"/v1/videos/{job}")).json()["step"]:
                await asyncio.sleep(0.02)
            began = time.perf_counter()
            await client.post(f"/v1/videos/{job}/cancel")
            while (await client.get(f"/v1/videos/{job}")).json()["status"] != "cancelled":
                await asyncio.sleep(0.005)
            times.append(time.perf_counter() - began)
    tell("cancel", "95 % within a step + 200 ms", rounds=rounds, p95_ms=ms(times, 0.95))


async def fill(server: Server, count: int) -> None:
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
    known, after = set(), None
    async with httpx.AsyncClient(base_url=server.url, timeout=60) as client:
        while True:
            query = {"limit": 100, **({"after": after} if after else {})}
            page = (await client.get("/v1/videos", params=query)).json()
            known |= {job["id"] for job in page["data"]}
            after = page["last_id"]
            if not page["has_more"]:
                break
    times, _, _ = await paced(server.url, "GET", "/v1/videos?limit=20", 50, 5)
    tell("jobs accepted, three kill -9 amid them", "10,000 in 120 s, none lost",
         accepted=len(ids), seconds=round(took, 1), lost=len(set(ids) - known))  # fmt: skip
    tell("a page of the list then", "p99 50 ms", jobs=len(known), p99_ms=ms(times, 0.99))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=20)
    parser.add_argument("--listeners", type=int, default=1000)
    parser.add_argument("--jobs", type=int, default=10_000)
    parser.add_argument("--cancels", type=int, default=20)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_model(folder / "tiny")
        tell("machine", "", processor=platform.processor() or platform.machine(),
             cores=os.cpu_count(), load=round(os.getloadavg()[0], 1))  # fmt: skip
        server = Server(folder, folder / "tiny")
        try:
            asyncio.run(requests(server.url, asked.seconds))
            server.stop()
            server.data = folder / "second"
            server.start()
            asyncio.run(cancels(server.url, asked.cancels))
            asyncio.run(listen(server.url, asked.listeners, asked.seconds, server))
            asyncio.run(fill(server, asked.jobs))
        finally:
            server.stop()


if __name__ == "__main__":
    main()
