"""Kill server and workers with kill -9 at random moments, start them again, and look what is lost.

python benchmarks/faults_server.py --rounds 100

In each round a film is made while requests come in; worker, server or both are killed amid it. Then
the film must have the bytes of the undisturbed one, every accepted job must be there, nothing
half-written must lie about, and the store must be whole. Prints one JSON line; leaves with 1 if
anything is otherwise.
"""

import argparse
import json
import os
import random
import signal
import sqlite3
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
from collections import Counter
from contextlib import closing, suppress
from pathlib import Path

from server_load import FILM, Server
from soak_takes import write_model

from longtake.server.settings import STORE

TAKE = {"prompt": "a red ball", "size": "64x64", "frames": 97, "steps": 6, "seed": 3}
SMALL_EVERY_S = 0.05
VICTIMS = ("worker", "server", "both")


def ask(server: Server, method: str, path: str, body: object = None) -> dict:
    data = None if body is None else json.dumps(body).encode()
    head = {"Content-Type": "application/json"}
    request = urllib.request.Request(server.url + path, data, head, method=method)
    with urllib.request.urlopen(request, timeout=30) as answer:
        return json.load(answer)


def made(server: Server, job: str) -> dict:
    while True:
        found = ask(server, "GET", f"/v1/videos/{job}")
        if found["status"] in ("completed", "failed", "cancelled"):
            return found
        time.sleep(0.05)


class Asking(threading.Thread):
    """Asks for small films until told to stop, and keeps the ids that were accepted."""

    def __init__(self, server: Server) -> None:
        super().__init__(daemon=True)
        self.server, self.accepted, self.done = server, list[str](), threading.Event()

    def run(self) -> None:
        while not self.done.wait(SMALL_EVERY_S):
            with suppress(OSError, ValueError, urllib.error.URLError):
                self.accepted.append(ask(self.server, "POST", "/v1/videos", FILM)["id"])


def kill(pids: list[int]) -> None:
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def play_round(server: Server, wanted: str, length_s: float, dice: random.Random) -> list[str]:
    """What is wrong after one round; nothing if all is well."""
    server.wait_for_worker()
    victim, asking = dice.choice(VICTIMS), Asking(server)
    job = ask(server, "POST", "/v1/videos", TAKE)["id"]
    asking.start()
    time.sleep(dice.uniform(0, 1.2 * length_s))
    workers = server.workers()
    if victim != "worker":
        server.kill()
    if victim != "server":
        kill(workers)
    if victim != "worker":
        server.start()
    asking.done.set()
    asking.join()
    wrong = []
    for one in asking.accepted:
        try:
            ask(server, "DELETE", f"/v1/videos/{one}")
        except urllib.error.HTTPError as error:
            wrong.append(f"{victim}: accepted and then {error.code}")
    film = made(server, job)
    if (film["status"], film["sha256"]) != ("completed", wanted):
        wrong.append(f"{victim}: {film['status']}, {film['error']}, bytes differ")
    folder = server.data / "jobs" / job
    if len(films := [*folder.glob("*.mp4")]) != 1 or [*folder.rglob(".longtake-*")]:
        wrong.append(f"{victim}: {len(films)} films, or half-written files")
    with closing(sqlite3.connect(server.data / STORE)) as db:
        if db.execute("PRAGMA integrity_check").fetchone() != ("ok",):
            wrong.append(f"{victim}: the store is damaged")
    ask(server, "DELETE", f"/v1/videos/{job}")
    return wrong


def soak(rounds: int, seed: int) -> dict[str, object]:
    dice, began, wrong = random.Random(seed), time.perf_counter(), list[str]()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_model(folder / "tiny")
        server = Server(folder / "data", folder / "tiny")
        try:
            server.wait_for_worker()
            start = time.perf_counter()
            wanted = made(server, ask(server, "POST", "/v1/videos", TAKE)["id"])["sha256"]
            length_s = time.perf_counter() - start
            for number in range(rounds):
                print(f"round {number + 1} of {rounds}", file=sys.stderr)
                wrong += play_round(server, wanted, length_s, dice)
        finally:
            server.stop()
    return {
        "what": "kill -9 of server and workers", "rounds": rounds, "wrong": Counter(wrong),
        "film_s": round(length_s, 2), "seed": seed,
        "elapsed_s": round(time.perf_counter() - began, 1),
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    result = soak(asked.rounds, asked.seed)
    print(json.dumps(result))
    sys.exit(bool(result["wrong"]))


if __name__ == "__main__":
    main()
