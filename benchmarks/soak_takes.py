"""Kill takes with kill -9 at random moments, resume them with other thread counts, compare bytes.

python benchmarks/soak_takes.py --rounds 100 --kills 2

Prints one JSON line; leaves with 1 if a single film differs.
"""

import argparse
import hashlib
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import torch

from longtake.checkpoints import save_tensors
from longtake.config import (
    AutoencoderConfig,
    ModelConfig,
    TextConfig,
    TransformerConfig,
    to_dict,
)
from longtake.pipeline import build
from longtake.presets import PARTS

LONGTAKE = (sys.executable, "-m", "longtake")
FILM = ("--size", "64x64", "--seconds", "5.9", "--steps", "6")
CONFIG = ModelConfig(
    autoencoder=AutoencoderConfig(
        latent_channels=8, widths=(16, 24, 32), encoder_blocks=(1, 1, 1), decoder_blocks=(1, 1, 1)
    ),
    transformer=TransformerConfig(
        latent_channels=8, width=48, depth=2, heads=2, text_width=24, segment=2
    ),
    text=TextConfig(width=24, depth=1, heads=2, max_tokens=12),
    words=("a", "red", "ball", "bounces"),
    max_frames=2000,
    chunk=2,
)
"""A model so small that its takes last about a second."""


def write_model(folder: Path, chunk: int = CONFIG.chunk) -> None:
    """Random weights; everything runs that runs with trained ones."""
    folder.mkdir(parents=True)
    torch.manual_seed(0)
    parts = build(CONFIG)
    torch.nn.init.normal_(parts[1].head.weight, std=0.1)
    for name, part in zip(PARTS, parts, strict=True):
        save_tensors(folder / f"{name}.safetensors", part.state_dict())
    (folder / "model.json").write_text(json.dumps(to_dict(replace(CONFIG, chunk=chunk))))


def start(folder: Path, arguments: list[str], threads: int) -> subprocess.Popen[str]:
    """A run whose stderr tells how far it is."""
    environment = os.environ | {"OMP_NUM_THREADS": str(threads)}
    return subprocess.Popen(
        [*LONGTAKE, *arguments], cwd=folder, env=environment, text=True,
        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
    )  # fmt: skip


def wait_for(process: subprocess.Popen[str], word: str) -> bool:
    """Read until a line tells of it; False if the run ended before."""
    assert process.stderr is not None
    return any(word in line for line in process.stderr)


def calm(folder: Path, precision: str) -> tuple[str, float]:
    """Checksum of a film that nothing disturbs, and the seconds that the take itself needs."""
    name = f"calm-{precision}.mp4"
    process = start(folder, arguments(name, precision), threads=1)
    wait_for(process, "reading the prompt")
    began = time.perf_counter()
    process.communicate()
    assert process.returncode == 0
    return checksum(folder / name), time.perf_counter() - began


def arguments(name: str, precision: str) -> list[str]:
    return [
        "generate", "a red ball", "--model", "model", *FILM, "--precision", precision,
        "--no-sheet", "-o", name,
    ]  # fmt: skip


def checksum(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def play_round(folder: Path, precision: str, length_s: float, most: int, rng: random.Random) -> int:
    """One take, killed until it is finished or has been killed often enough; tell the kills."""
    begin = arguments("take.mp4", precision)
    asked, kills = begin, 0
    while True:
        process = start(folder, asked, threads=rng.choice((1, 2, 3, 4)))
        if kills < most and wait_for(process, "reading the prompt"):
            time.sleep(rng.uniform(0, length_s))
            process.send_signal(signal.SIGKILL)
            kills += 1
        _, told = process.communicate()
        if process.returncode == 0:
            return kills
        if process.returncode != -signal.SIGKILL:
            raise RuntimeError(told)
        begun = (folder / "take.longtake" / "take.json").exists()
        asked = ["resume", "take.longtake"] if begun else [*begin, "--overwrite"]


def soak(rounds: int, most: int, seed: int) -> dict[str, object]:
    """Play rounds, in fp32 and bf16 by turns."""
    rng, began = random.Random(seed), time.perf_counter()
    same = kills = 0
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_model(folder / "model")
        wanted = {precision: calm(folder, precision) for precision in ("fp32", "bf16")}
        for number in range(rounds):
            precision = ("fp32", "bf16")[number % 2]
            expected, length_s = wanted[precision]
            kills += play_round(folder, precision, length_s, most, rng)
            same += checksum(folder / "take.mp4") == expected
            leftover = sorted(path.name for path in folder.glob("*.longtake"))
            assert not leftover, leftover
            (folder / "take.mp4").unlink()
    return {
        "what": "kill -9 and resume", "rounds": rounds, "kills": kills, "same_bytes": same,
        "seed": seed, "elapsed_s": round(time.perf_counter() - began, 1),
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--kills", type=int, default=1, help="most kills of one take")
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    result = soak(asked.rounds, asked.kills, asked.seed)
    print(json.dumps(result))
    sys.exit(result["same_bytes"] != result["rounds"])


if __name__ == "__main__":
    main()
