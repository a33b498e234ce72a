"""How the Studio feels in Chromium on this machine: a JSON line each for what was measured.

python benchmarks/bench_studio.py [--only paint,latency,list,memory] [--minutes 2]

The model is tiny and random: it is the page that is measured, while a worker films beside it.
"""

import argparse
import itertools
import json
import os
import shutil
import signal
import statistics
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import numpy as np
from bench_fleet import workers_of
from bench_server import Server, percentile
from playwright.sync_api import Browser, CDPSession, Page, sync_playwright
from soak_takes import write_model

ARGUMENTS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
    "--enable-precise-memory-info",
)  # fmt: skip
NAMES = ("paint", "latency", "list", "memory")
FILM = {"prompt": "a red ball", "size": "64x64", "steps": 2}
READY = "#model[data-status=ok]"
VISITS, KEYS, JOBS = 10, 60, 1000
LONGEST_S, FPS = 590, 16
"""A film nearly as long as a server makes them."""
PAINTS = """() => {
  const painted = performance.getEntriesByName('first-contentful-paint')[0];
  return painted ? painted.startTime : null;
}"""
WATCH = """() => {
  self.slow = [];
  new PerformanceObserver((list) => self.slow.push(...list.getEntries().map((one) => one.duration)))
    .observe({type: 'event', durationThreshold: 16});
}"""
SCROLL = """() => new Promise((done) => {
  const place = document.getElementById('scroller');
  const times = [];
  const began = performance.now();
  const next = (now) => {
    times.push(now);
    place.scrollTop += 120;
    if (now - began < 4000) requestAnimationFrame(next);
    else done({times, rows: document.querySelectorAll('#list li').length, top: place.scrollTop});
  };
  requestAnimationFrame(next);
})"""


def tell(what: str, target: str, **figures: object) -> None:
    load = round(os.getloadavg()[0], 1)
    line = {"what": what, "target": target, **figures, "load": load, "cores": os.cpu_count()}
    print(json.dumps(line), flush=True)


def paint(browser: Browser, server: Server) -> None:
    """Time to the first words, nothing in the cache, and with the cache."""
    for kind in ("cold", "warm"):
        times = []
        context = browser.new_context()
        for _ in range(VISITS):
            if kind == "cold":
                context.close()
                context = browser.new_context()
            page = context.new_page()
            page.goto(server.url)
            page.wait_for_timeout(300)
            times.append(page.evaluate(PAINTS))
            page.close()
        context.close()
        middle, worst = round(statistics.median(times)), round(max(times))
        tell(f"first paint, {kind}", "300 ms", median_ms=middle, worst_ms=worst, visits=VISITS)


def latency(browser: Browser, server: Server) -> None:
    """From a key or a click to the next picture while a film is made, watched and listened to."""
    page = _watching(browser, server, seconds=60)
    page.evaluate(WATCH)
    page.focus("#text")
    for _ in range(KEYS):
        page.keyboard.type("b")
        page.wait_for_timeout(40)
    for _ in range(KEYS // 4):
        page.focus("#track")
        page.keyboard.press("ArrowLeft")
        page.click("#play")
        page.wait_for_timeout(60)
    page.wait_for_timeout(500)
    slow = page.evaluate("self.slow")
    figures = {
        "p50_ms": percentile(slow, 0.5),
        "p95_ms": percentile(slow, 0.95),
        "worst_ms": max(slow, default=0),
        "over_16_ms": len(slow),
    }
    tell("latency of keys and clicks while a film is made", "100 ms", **figures)
    _leave(page, server)


def scrolling(browser: Browser, server: Server) -> None:
    """A list of a thousand films, scrolled by a page a frame."""
    with httpx.Client(base_url=server.url, timeout=60) as client:
        for seed in range(JOBS):
            body = {**FILM, "frames": 5, "seed": seed}
            while client.post("/v1/videos", json=body).status_code == 429:
                time.sleep(0.5)
    page = browser.new_page(viewport={"width": 1280, "height": 800})
    page.goto(server.url)
    page.wait_for_selector("#list li")
    for _ in range(JOBS // 100 + 2):
        page.evaluate("document.getElementById('scroller').scrollTop = 1e9")
        page.wait_for_timeout(300)
    page.evaluate("document.getElementById('scroller').scrollTop = 0")
    page.wait_for_timeout(300)
    found = page.evaluate(SCROLL)
    times = found["times"]
    gaps = [after - before for before, after in itertools.pairwise(times)]
    tell(
        "1,000 films scrolled", "16.7 ms a frame", films=page.inner_text("#count"),
        rows_in_page=found["rows"], pixels=round(found["top"]),
        median_ms=round(statistics.median(gaps), 1), p95_ms=round(percentile(gaps, 0.95), 1),
        worst_ms=round(max(gaps), 1), frames=len(gaps),
    )  # fmt: skip
    page.close()


def memory(browser: Browser, server: Server, minutes: float) -> None:
    """Heap and memory of the page while a film grows, the first half minute left out.

    The film is as long as a server makes them, and its worker is held back so that it is being
    made, blocks and events one by one, for as long as this is measured.
    """
    page = _watching(browser, server, seconds=LONGEST_S)
    inspector = page.context.new_cdp_session(page)
    address = f"{server.url}/v1/videos/{page.evaluate('location.hash.slice(1)')}"
    heap, whole, shown = [], [], []
    begins = time.monotonic()
    with _held_back(server, address, minutes * 60 * 1.05):
        page.wait_for_timeout(30_000)
        while time.monotonic() < begins + minutes * 60:
            inspector.send("HeapProfiler.collectGarbage")
            heap.append(page.evaluate("performance.memory.usedJSHeapSize"))
            whole.append(_renderers(browser))
            shown.append(page.evaluate("document.querySelector('video').currentTime"))
            page.wait_for_timeout(10_000)
        ready = httpx.get(address, timeout=60).json()
    mib = [round(value / 2**20, 1) for value in (heap[0], heap[-1], whole[0], whole[-1])]
    tell(
        "page memory over a stream", "flat", minutes=minutes, samples=len(heap),
        heap_first_mib=mib[0], heap_last_mib=mib[1],
        renderers_first_mib=mib[2], renderers_last_mib=mib[3],
        heap_mib=_tenths(heap), renderers_mib=_tenths(whole),
        shown_s=[round(part[-1]) for part in np.array_split(np.array(shown), min(10, len(shown)))],
        film=ready["status"], frames_ready=ready["frames_ready"],
        blocks_drawn=page.evaluate("document.querySelector('#drift').ariaLabel.length > 40"),
    )  # fmt: skip
    _leave(page, server)


@contextmanager
def _held_back(server: Server, address: str, whole_s: float) -> Iterator[None]:
    """Let the worker go on only as far as the film should be by now, to be whole after so long."""
    (worker,) = workers_of(server.process.pid)
    over, begins = threading.Event(), time.monotonic()

    def hold() -> None:
        while not over.wait(0.2):
            due = LONGEST_S * FPS * (time.monotonic() - begins) / whole_s
            ready = httpx.get(address, timeout=60).json()["frames_ready"]
            os.kill(worker, signal.SIGSTOP if ready > due else signal.SIGCONT)
            if ready > due and over.wait(2.0):
                break
            # Now and then it says that it is alive.
            os.kill(worker, signal.SIGCONT)

    thread = threading.Thread(target=hold)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def _tenths(values: list[int]) -> list[float]:
    """Mean MiB of each tenth of the time: growth that ends looks other than one that goes on."""
    parts = np.array_split(np.array(values) / 2**20, min(10, len(values)))
    return [round(float(part.mean()), 1) for part in parts]


def _renderers(browser: Browser) -> int:
    inspector: CDPSession = browser.new_browser_cdp_session()
    found = inspector.send("SystemInfo.getProcessInfo")["processInfo"]
    inspector.detach()
    total = 0
    for process in found:
        if process["type"] == "renderer":
            pages = Path(f"/proc/{process['id']}/statm").read_text().split()[1]
            total += int(pages) * os.sysconf("SC_PAGE_SIZE")
    return total


def _watching(browser: Browser, server: Server, seconds: float) -> Page:
    body = {**FILM, "seconds": seconds}
    made = httpx.post(f"{server.url}/v1/videos", json=body).json()
    page = browser.new_page(viewport={"width": 1280, "height": 800})
    page.goto(f"{server.url}/#{made['id']}")
    page.wait_for_selector(READY, timeout=120_000)
    deadline = time.monotonic() + 120
    while not page.evaluate("document.querySelector('video')?.currentTime > 0.3"):
        assert time.monotonic() < deadline, "no picture came"
        page.wait_for_timeout(100)
    return page


def _leave(page: Page, server: Server) -> None:
    httpx.delete(f"{server.url}/v1/videos/{page.evaluate('location.hash.slice(1)')}")
    page.close()


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--only", default=",".join(NAMES))
    parser.add_argument("--minutes", type=float, default=2.0)
    arguments = parser.parse_args()
    wanted = arguments.only.split(",")
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        model = Path(folder) / "tiny"
        write_model(model)
        browser = playwright.chromium.launch(
            executable_path=shutil.which("chromium"), args=ARGUMENTS
        )
        server = Server(Path(folder), model)
        if "paint" in wanted:
            paint(browser, server)
        if "latency" in wanted:
            latency(browser, server)
        if "memory" in wanted:
            memory(browser, server, arguments.minutes)
        if "list" in wanted:
            scrolling(browser, server)
        browser.close()
        server.stop()


if __name__ == "__main__":
    main()
