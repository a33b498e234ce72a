"""A confined process that cuts films from anywhere, and the end of the line that waits for it.

python -m longtake.data.child SETTINGS

It reads one JSON object a line, `{"source": …, "target": …}`, and answers each with one.
"""

import json
import select
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from longtake.config import from_dict, to_dict
from longtake.data.rules import PrepareConfig
from longtake.errors import CannotHere

TIMEOUT_S = 1800.0
"""Longest time for one film."""
_POLL_S = 0.5


class Child:
    """Cuts one film after the other; one that kills the process is told, and the next goes on."""

    def __init__(self, config: PrepareConfig, check: Callable[[], None]) -> None:
        """Nothing is started yet.

        Args:
            config: How films are cut.
            check: Called while waiting; it may raise.
        """
        self.config, self.check = config, check
        self._process: subprocess.Popen[str] | None = None

    def cut(self, source: Path, target: Path, timeout_s: float = TIMEOUT_S) -> dict[str, Any]:
        """Clips and drops of a film, as `Found` holds them.

        Raises:
            CannotHere: scenedetect is missing.
        """
        process = self._process or self._start()
        asked = {"source": str(source.absolute()), "target": str(target.absolute())}
        assert process.stdin is not None, "opened as a pipe"
        assert process.stdout is not None, "opened as a pipe"
        try:
            process.stdin.write(json.dumps(asked) + "\n")
            process.stdin.flush()
        except BrokenPipeError:
            return self._lost("the decoder died")
        ends = time.monotonic() + timeout_s
        while not select.select([process.stdout], [], [], _POLL_S)[0]:
            self.check()
            if time.monotonic() > ends:
                return self._lost(f"it took over {timeout_s:.0f} s")
        line = process.stdout.readline()
        if not line:
            return self._lost("the decoder died")
        answer = json.loads(line)
        if "missing" in answer:
            raise CannotHere(answer["missing"])
        return answer

    def close(self) -> None:
        """End the process."""
        if self._process is not None:
            self._process.kill()
            self._process.communicate()
            self._process = None

    def _start(self) -> "subprocess.Popen[str]":
        command = [sys.executable, "-m", "longtake.data.child", json.dumps(to_dict(self.config))]
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        return self._process

    def _lost(self, why: str) -> dict[str, Any]:
        self.close()
        return {"clips": [], "drops": [["unreadable", why]]}


def _main() -> None:
    from longtake.media.confined import confine  # noqa: PLC0415 - the parent needs none of it

    config = from_dict(PrepareConfig, json.loads(sys.argv[1]))
    confine()
    try:
        from longtake.data.film import clips_of  # noqa: PLC0415
    except ImportError as error:
        missing = f"{error.name} is missing; run: pip install 'longtake[data]'"
        print(json.dumps({"missing": missing}), flush=True)  # noqa: T201 - the wire
        return
    for line in sys.stdin:
        asked = json.loads(line)
        found = clips_of(Path(asked["source"]), Path(asked["target"]), config)
        print(json.dumps(asdict(found)), flush=True)  # noqa: T201 - the wire


if __name__ == "__main__":
    _main()
