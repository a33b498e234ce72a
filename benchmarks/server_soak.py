"""A server used by many for long: films asked for, watched, fetched, cancelled and deleted."""

import asyncio
import random
import time
from dataclasses import dataclass, field

from server_load import FILM, Lines, Server, listeners, open_files, rss_bytes, tell

LOOK_EVERY_S = 5.0
WARM = 0.2
"""Share of the time that is not judged: caches fill."""


@dataclass(slots=True)
class Seen:
    """What happened."""

    codes: dict[int, int] = field(default_factory=dict)
    broken: int = 0
    ended: dict[str, int] = field(default_factory=dict)
    bytes: int = 0
    samples: list[tuple[float, int, int, int, int]] = field(default_factory=list)
    """Seconds, then memory and open files of the server and of its worker."""


async def soak(server: Server, seconds: float) -> None:
    """Mixed load, and how memory and open files go on under it."""
    seen, dice = Seen(), random.Random(0)
    stop = time.perf_counter() + seconds
    lines = Lines(server.url)
    users = [_user(lines, seen, random.Random(n), stop) for n in range(3)]
    await asyncio.gather(
        *users,
        _ask(lines, seen, dice, stop),
        _listen(server.url, lines, seen, dice, stop),
        _look(server, seen, stop),
    )
    lines.close()
    _tell(seen, seconds)


async def _send(lines: Lines, seen: Seen, method: str, path: str, body: object = None) -> bytes:
    try:
        status, found = await lines.ask(method, path, body)
    except (OSError, EOFError):
        seen.broken += 1
        return b"{}"
    seen.codes[status] = seen.codes.get(status, 0) + 1
    return found


async def _user(lines: Lines, seen: Seen, dice: random.Random, stop: float) -> None:
    """Asks for a film, waits, fetches it and deletes it; sometimes changes his mind."""
    while time.perf_counter() < stop:
        job = (await lines.json("POST", "/v1/videos", {**FILM, "frames": 33}))["id"]
        path = f"/v1/videos/{job}"
        if dice.random() < 0.2:
            await _send(lines, seen, "POST", f"{path}/cancel")
        status = "queued"
        while status in ("queued", "in_progress", "paused"):
            await asyncio.sleep(0.2)
            status = (await lines.json("GET", path))["status"]
        seen.ended[status] = seen.ended.get(status, 0) + 1
        if status == "completed":
            for variant in ("video", "thumbnail", "manifest"):
                found = await _send(lines, seen, "GET", f"{path}/content?variant={variant}")
                seen.bytes += len(found)
        await _send(lines, seen, "DELETE", path)


async def _ask(lines: Lines, seen: Seen, dice: random.Random, stop: float) -> None:
    """Looks at lists, plans, health and numbers, and makes mistakes."""
    asked = (
        ("GET", "/v1/videos?limit=20", None), ("GET", "/health", None), ("GET", "/metrics", None),
        ("GET", "/v1/models", None), ("POST", "/v1/videos/plan", FILM),
        ("POST", "/v1/videos", {**FILM, "seed": -1}), ("GET", f"/v1/videos/video_{'0' * 32}", None),
    )  # fmt: skip
    while time.perf_counter() < stop:
        await _send(lines, seen, *dice.choice(asked))
        await asyncio.sleep(0.05)


async def _listen(url: str, lines: Lines, seen: Seen, dice: random.Random, stop: float) -> None:
    """Twenty listeners at a time, who come and leave."""
    while time.perf_counter() < stop:
        job = (await lines.json("POST", "/v1/videos", {**FILM, "frames": 33}))["id"]
        crowd = await listeners(url, job, 20, lambda *_: None)
        await asyncio.sleep(dice.uniform(0, 3))
        for listener in crowd:
            listener.transport.close()
        await _send(lines, seen, "DELETE", f"/v1/videos/{job}")


async def _look(server: Server, seen: Seen, stop: float) -> None:
    began = time.perf_counter()
    (worker,) = server.workers()
    while time.perf_counter() < stop:
        pids = (server.process.pid, worker)
        sizes = [measure(pid) for pid in pids for measure in (rss_bytes, open_files)]
        seen.samples.append((time.perf_counter() - began, *sizes))
        await asyncio.sleep(LOOK_EVERY_S)


def _tell(seen: Seen, seconds: float) -> None:
    judged = [sample for sample in seen.samples if sample[0] >= WARM * seconds]
    times = [sample[0] for sample in judged]
    server, files, worker, worker_files = ([sample[n] for sample in judged] for n in range(1, 5))
    tell("soak", "memory grows under 1 %/h, no more open files, no answer of 5xx",
         seconds=round(seconds), answers=sum(seen.codes.values()), ended=seen.ended,
         answers_5xx=sum(n for code, n in seen.codes.items() if code >= 500), broken=seen.broken,
         server_mb=round(server[-1] / 1e6, 1), server_percent_per_h=_slope(times, server),
         worker_mb=round(worker[-1] / 1e6, 1), worker_percent_per_h=_slope(times, worker),
         server_files=[files[0], files[-1]], worker_files=[worker_files[0], worker_files[-1]],
         downloaded_mb=round(seen.bytes / 1e6, 1))  # fmt: skip


def _slope(times: list[float], values: list[int]) -> float:
    """Growth of the straight line through the points, in percent of their mean an hour."""
    mean_t, mean_v = sum(times) / len(times), sum(values) / len(values)
    over = sum((t - mean_t) * (v - mean_v) for t, v in zip(times, values, strict=True))
    return round(over / sum((t - mean_t) ** 2 for t in times) / mean_v * 3600 * 100, 2)
