"""How a batch grows with its workers, and what the death of one costs: a JSON line a run.

python benchmarks/bench_fleet.py --films 200 --rounds 3 --engine ray

The model is tiny and random: what is measured is the queue, the wire and the files beside it. Runs
with one worker and with two take turns, each worker on one thread. Films a second are counted from
the first tenth on, when all workers have their model; the whole command is told as well. At the end
one more run in which a worker is killed with kill -9: its films must all be there, byte for byte.
"""

import argparse
import json
import os
import platform
import re
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from soak_takes import write_model


def write_list(path: Path, films: int, frames: int, steps: int) -> None:
    lines = (
        {"prompt": "a red ball", "seed": n, "size": "64x64", "frames": frames, "steps": steps}
        for n in range(films)
    )
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))


def workers_of(parent: int) -> list[int]:
    """Processes that make films below this one, a Ray's among them."""
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        try:
            words = (path / "cmdline").read_bytes()
            above = int(re.search(r"PPid:\s+(\d+)", (path / "status").read_text())[1])  # type: ignore[index]
        except OSError:
            continue
        is_local = b"longtake.server.worker" in words and above == parent
        if is_local or words.startswith(b"ray::RayWorker"):
            found.append(int(path.name))
    return found


def run(folder: Path, engine: str, workers: int, films: int, *, kill: bool = False) -> dict:
    """One batch from the command to its end."""
    out = folder / f"{engine}-{workers}-{time.time_ns()}"
    command = [
        sys.executable, "-m", "longtake", "batch", str(folder / "list.jsonl"), "-o", str(out),
        "--model", str(folder / "tiny"), "--threads", "1", "--workers", str(workers),
        "--engine", engine, "--json", "--no-sheet",
    ]  # fmt: skip
    began, begins = time.perf_counter(), max(films // 10, 1)
    process = subprocess.Popen(
        command, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert process.stderr is not None
    assert process.stdout is not None
    first, killed = began, 0
    for line in process.stderr:
        done = re.match(r"(\d+) of", line)
        if done and int(done[1]) == begins:
            first = time.perf_counter()
        if kill and done and int(done[1]) >= films // 2 and not killed:
            killed = workers_of(process.pid)[0]
            os.kill(killed, signal.SIGKILL)
        if done and int(done[1]) == films:
            last = time.perf_counter()
    report = json.loads(process.stdout.read())
    assert process.wait() == 0
    results = [json.loads(line) for line in (out / "results.jsonl").read_text().splitlines()]
    return {
        "engine": engine,
        "workers": workers,
        "films": report["made"],
        "films_per_s": round((films - begins) / (last - first), 3),
        "command_s": round(time.perf_counter() - began, 1),
        "workers_lost": report["workers_lost"],
        "killed": bool(killed),
        "load": round(os.getloadavg()[0], 1),
        "hashes": [made["sha256"] for made in results],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--engine", default="ray", choices=("ray", "local"))
    parser.add_argument("--films", type=int, default=200)
    parser.add_argument("--frames", type=int, default=33)
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--rounds", type=int, default=3, help="0: only the run with a death")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_model(folder / "tiny", 0)
        write_list(folder / "list.jsonl", asked.films, asked.frames, asked.steps)
        machine = {"processor": platform.processor() or platform.machine(), "cores": os.cpu_count()}
        best: dict[int, float] = {}
        same: list[str] = []
        for turn in range(asked.rounds):
            for workers in (1, 2) if turn % 2 == 0 else (2, 1):
                found = run(folder, asked.engine, workers, asked.films)
                hashes = found.pop("hashes")
                same = same or hashes
                best[workers] = max(best.get(workers, 0), found["films_per_s"])
                told = {"round": turn, **found, "same_bytes": hashes == same}
                print(json.dumps({**told, **machine}), flush=True)
        if best:
            ratio = round(best[2] / best[1], 2)
            told = {"what": "two workers against one", "target": 1.8, "ratio": ratio}
            print(json.dumps(told), flush=True)
        found = run(folder, asked.engine, 2, asked.films, kill=True)
        hashes = found.pop("hashes")
        lost = asked.films - found["films"]
        print(json.dumps({**found, "lost": lost, "same_bytes": hashes == same if same else None}))


if __name__ == "__main__":
    main()
