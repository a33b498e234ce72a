"""Time from the command to the closed file for a 5 s film; prints one JSON line.

python benchmarks/bench_film.py [--runs 3] [-- more options of `longtake generate`]
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

PROMPT = "a red car drives left to right across a desert at sunset, the camera pans with it"


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("options", nargs="*")
    arguments = parser.parse_args()
    times, report = [], {}
    with tempfile.TemporaryDirectory() as folder:
        for run in range(arguments.runs):
            output = Path(folder) / f"{run}.mp4"
            command = [sys.executable, "-m", "longtake", "generate", PROMPT, "-o", str(output)]
            start = time.perf_counter()
            done = subprocess.run(
                [*command, "--json", "--quiet", *arguments.options],
                check=True, capture_output=True, text=True,
            )  # fmt: skip
            times.append(time.perf_counter() - start)
            report = json.loads(done.stdout)
    print(
        json.dumps(
            {
                "what": "5 s film, command to closed file",
                "median_s": round(statistics.median(times), 2),
                "fastest_s": round(min(times), 2),
                "slowest_s": round(max(times), 2),
                "runs": arguments.runs,
                "frames": report["frames"],
                "peak_memory_bytes": report["peak_memory_bytes"],
                "options": arguments.options,
            }
        )
    )


if __name__ == "__main__":
    main()
