"""Tiny models, and a worker in a process of its own."""

import json
import os
import re
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import httpx
import torch

from longtake.checkpoints import save_tensors
from longtake.config import (
    AutoencoderConfig,
    ModelConfig,
    SampleConfig,
    TextConfig,
    TransformerConfig,
    to_dict,
)
from longtake.pipeline import build
from longtake.presets import PARTS
from longtake.server.jobs import FilmRequest
from longtake.server.settings import STORE

PATIENCE_S = 120
ENDED = ("completed", "failed", "cancelled")
FILM = {"prompt": "a red ball", "size": "64x64", "frames": 33, "steps": 2}
CHUNKED = ModelConfig(
    autoencoder=AutoencoderConfig(
        latent_channels=8, widths=(16, 24, 32), encoder_blocks=(1, 1, 1), decoder_blocks=(1, 1, 1)
    ),
    transformer=TransformerConfig(
        latent_channels=8, width=48, depth=2, heads=2, text_width=24, segment=2
    ),
    text=TextConfig(width=24, depth=1, heads=2, max_tokens=12),
    words=("a", "ball", "red"),
    max_frames=2000,
    chunk=2,
)


def write_model(folder: Path, config: ModelConfig) -> Path:
    folder.mkdir(parents=True)
    torch.manual_seed(0)
    parts = build(config)
    torch.nn.init.normal_(parts[1].head.weight, std=0.1)
    for name, part in zip(PARTS, parts, strict=True):
        save_tensors(folder / f"{name}.safetensors", part.state_dict())
    (folder / "model.json").write_text(json.dumps(to_dict(config)))
    return folder


def request(prompt="a red ball", *, frames=33, steps=4, **more) -> dict:
    settings = SampleConfig(width=64, height=64, frames=frames, steps=steps, **more)
    return to_dict(FilmRequest(model="tiny", prompt=prompt, settings=settings))


def start_worker(data: Path, model: Path, name: str, **options) -> subprocess.Popen:
    settings = {"name": name, "data": str(data), "model": str(model), "threads": 1}
    process = subprocess.Popen(
        [sys.executable, "-m", "longtake.server.worker"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        **{k: v for k, v in options.items() if k == "preexec_fn"},
    )
    more = {k: v for k, v in options.items() if k != "preexec_fn"}
    process.stdin.write(json.dumps({**settings, **more}).encode() + b"\n")
    process.stdin.flush()
    said = json.loads(process.stdout.readline())
    assert said.get("ready"), said
    return process


def wait(until, what="it", patience_s=PATIENCE_S):
    deadline = time.monotonic() + patience_s
    while not (found := until()):
        assert time.monotonic() < deadline, f"waited in vain for {what}"
        time.sleep(0.01)
    return found


def end(process: subprocess.Popen) -> int:
    process.kill()
    code = process.wait()
    process.stdin.close()
    process.stdout.close()
    return code


class Server:
    """A server in a process of its own, on a free port."""

    def __init__(self, folder: Path, model: Path, *more: str, **environment: str):
        self.data = folder / "data"
        self.command = [
            sys.executable, "-m", "longtake", "serve", "--port", "0", "--data", str(self.data),
            "--model", str(model), "--threads", "1", *more,
        ]  # fmt: skip
        self.environment = {**os.environ, "OMP_NUM_THREADS": "1", **environment}
        self.log = folder / "server.log"
        self.start()

    def start(self):
        before = self.log.stat().st_size if self.log.exists() else 0
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                self.command,
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stderr=log,
                stdout=log,
                start_new_session=True,
            )

        def told():
            assert self.process.poll() is None, self.log.read_text()[-2000:]
            text = self.log.read_bytes()[before:].decode()
            return re.search(r"listens on (http://\S+)", text)

        self.url = wait(told, "the server")[1]

    def workers(self) -> list[int]:
        found = []
        for path in Path("/proc").glob("[0-9]*/stat"):
            try:
                fields = path.read_text().rpartition(")")[2].split()
            except OSError:
                continue
            if int(fields[1]) == self.process.pid and fields[0] != "Z":
                found.append(int(path.parent.name))
        return found

    def kill(self):
        self.process.kill()
        self.process.wait()

    def stop(self) -> int:
        self.process.terminate()
        return self.process.wait(60)


def post(server, **fields):
    answer = httpx.post(f"{server.url}/v1/videos", json={**FILM, **fields}, timeout=60)
    assert answer.status_code == 202, answer.text
    return answer.json()


def get(server, job):
    answer = httpx.get(f"{server.url}/v1/videos/{job['id']}", timeout=60)
    assert answer.status_code == 200, answer.text
    return answer.json()


def until(server, job, *states):
    def look():
        found = get(server, job)
        return found if found["status"] in states else None

    return wait(look, f"{states} of {job['id']}")


def intact(data: Path):
    with closing(sqlite3.connect(data / STORE)) as db:
        assert db.execute("PRAGMA integrity_check").fetchone() == ("ok",)
