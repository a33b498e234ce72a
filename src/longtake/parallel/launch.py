"""Processes of one run on one machine: begun together, and ended together when one fails."""

import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import torch.distributed as dist

LIFELINE = "LONGTAKE_LIFELINE"
"""Environment variable: number of a pipe that closes when the process that began this one ends."""
LOST_CODE = 74
"""Exit code of a process that ended because another one did."""
GRACE_S = 2.0
"""How long the others may say why they end, after the first has ended badly."""
PATIENCE_S = 5.0
"""How long a process may take to end when it is asked to, before it is killed."""
_TICK_S = 0.05
_ENDED = signal.SIGTERM
"""The wish that a process ends."""


@dataclass(frozen=True, slots=True)
class Ending:
    """How a run ended."""

    rank: int
    """The process that ended it; 0 if all is well."""
    code: int
    """Its exit code; below 0 the signal that killed it."""
    word: str
    """The last line it wrote to stderr; that of process 0 the user has seen."""


def run_together(command: Sequence[str], count: int, said: bytes = b"") -> Ending:
    """Run a command as several processes, which find each other with `join`.

    Process 0 has the terminal. When one fails, the others may end by themselves for a moment and
    are ended then, so that none waits for one that is gone.

    Args:
        command: Program and arguments.
        count: Processes.
        said: What each reads from stdin.
    """
    store = dist.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    reads, writes = os.pipe()
    with tempfile.TemporaryDirectory() as folder:
        words = [Path(folder) / f"{rank}.txt" for rank in range(count)]
        processes = []
        try:
            for rank, word in enumerate(words):
                place = _place(rank, count, store.port, reads)
                processes.append(_begin(command, place, word, reads))
            for process in processes:
                _say(process, said)
            rank, code = _watch(processes)
        finally:
            _end(processes)
            os.close(reads)
            os.close(writes)
        return Ending(rank, code, _last_line(words[rank]))


def hold_on() -> None:
    """End this process when the one that began it is gone; does nothing without one."""
    if LIFELINE not in os.environ:
        return
    pipe = int(os.environ[LIFELINE])

    def listen() -> None:
        os.read(pipe, 1)
        os._exit(LOST_CODE)

    threading.Thread(target=listen, daemon=True).start()


def _place(rank: int, count: int, port: int, pipe: int) -> dict[str, str]:
    """The environment of a process, as torchrun makes it."""
    place = os.environ | {
        "TORCHELASTIC_RUN_ID": "longtake",
        "TORCHELASTIC_USE_AGENT_STORE": "True",
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "RANK": str(rank),
        "LOCAL_RANK": str(rank),
        "WORLD_SIZE": str(count),
        "LOCAL_WORLD_SIZE": str(count),
        LIFELINE: str(pipe),
    }
    # Else each takes all cores of the machine.
    place.setdefault("OMP_NUM_THREADS", str(max((os.cpu_count() or 1) // count, 1)))
    if sys.platform == "linux":
        place.setdefault("GLOO_SOCKET_IFNAME", "lo")
    return place


def _begin(
    command: Sequence[str], place: dict[str, str], word: Path, pipe: int
) -> "subprocess.Popen[bytes]":
    first = place["RANK"] == "0"
    with word.open("wb") as file:
        quiet: IO[bytes] | int | None = None if first else file
        return subprocess.Popen(
            command,
            env=place,
            stdin=subprocess.PIPE,
            stdout=None if first else subprocess.DEVNULL,
            stderr=quiet,
            pass_fds=(pipe,),
            # Ctrl-C reaches the one that began them, which tells them once.
            start_new_session=True,
        )


def _say(process: "subprocess.Popen[bytes]", said: bytes) -> None:
    assert process.stdin is not None
    with suppress(OSError):
        process.stdin.write(said)
        process.stdin.close()


def _watch(processes: Sequence["subprocess.Popen[bytes]"]) -> tuple[int, int]:
    """Who decided how the run ends, and its code; waits until it is known."""
    failed: list[int] = []
    last = float("inf")
    while time.monotonic() < last:
        codes = [process.poll() for process in processes]
        news = [rank for rank, code in enumerate(codes) if code and rank not in failed]
        if news and not failed:
            last = time.monotonic() + GRACE_S
        failed += news
        if all(code is not None for code in codes) or (codes[0] == 0 and not failed):
            break
        time.sleep(_TICK_S)
    if not failed:
        return 0, 0
    ends = {rank: processes[rank].returncode for rank in failed}
    own = [rank for rank in failed if ends[rank] != LOST_CODE] or failed
    # What stops all of them, as a wrong setting, the first says best.
    rank = 0 if 0 in own and ends[own[0]] > 0 else own[0]
    return rank, ends[rank]


def _end(processes: Sequence["subprocess.Popen[bytes]"]) -> None:
    """Ask those that still run to end, and kill those that do not."""
    with _unheard():
        for process in processes:
            if process.poll() is None:
                process.send_signal(_ENDED)
        last = time.monotonic() + PATIENCE_S
        for process in processes:
            with suppress(subprocess.TimeoutExpired):
                process.wait(max(last - time.monotonic(), 0))
            if process.poll() is None:
                process.kill()
            process.wait()


@contextmanager
def _unheard() -> Iterator[None]:
    """A second Ctrl-C does not leave processes behind."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _last_line(file: Path) -> str:
    lines = file.read_text("utf-8", errors="replace").strip().splitlines()
    return lines[-1] if lines else ""
