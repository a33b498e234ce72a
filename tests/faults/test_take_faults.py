"""Takes as processes: killed, short of disk, memory and files, on other threads, for minutes.

Rows 1, 10, 12, 13, 15, 16, 54, 57 and 58 of the fault matrix; rows 2, 14 and most of 54 are in
tests/test_rollout_folder.py, at every single file that is written.
"""

import importlib
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from longtake.media.video import read_video
from longtake.rollout.folder import TakeFolder

pytestmark = pytest.mark.faults

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
sys.path.insert(0, str(BENCHMARKS))
soak_takes = importlib.import_module("soak_takes")

LONGTAKE = (sys.executable, "-m", "longtake")
PATIENCE_S = 120


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("chunked") / "tiny"
    soak_takes.write_model(folder)
    return folder


def film(model: Path, *more: str, seconds: str = "2") -> list[str]:
    size = ["--size", "64x64", "--steps", "2", "--seconds", seconds, "--no-sheet"]
    return ["generate", "a red ball", "--model", str(model), *size, *more]


def start(arguments: list[str], folder: Path, **options) -> subprocess.CompletedProcess:
    return subprocess.run(
        [*LONGTAKE, *arguments],
        cwd=folder,
        stdin=subprocess.DEVNULL,
        capture_output="stderr" not in options,
        timeout=PATIENCE_S,
        check=False,
        **options,
    )


def last_line(process: subprocess.CompletedProcess, code: int) -> str:
    lines = process.stderr.decode().splitlines()
    assert process.returncode == code, lines
    assert "Traceback" not in process.stderr.decode()
    return lines[-1]


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.fixture
def killed(tmp_path, model) -> Path:
    """The folder of a take that was killed with kill -9 after some chunks."""
    command = [*LONGTAKE, *film(model, "-o", "take.mp4", seconds="60")]
    process = subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.DEVNULL)
    folder = TakeFolder(tmp_path / "take.longtake")
    deadline = time.monotonic() + PATIENCE_S
    while len(folder.states()) < 2 or max(folder.states()) < 4:
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    return folder.path


def test_row_1_a_killed_film_can_be_watched_up_to_where_it_was_killed(killed):
    pixels, fps = read_video(killed.with_suffix(".mp4"))
    # Three chunks of eight frames; of the fourth the state may be there before its last fragment.
    assert len(pixels) >= 24
    assert fps == 16


@pytest.mark.slow
def test_row_1_takes_killed_at_random_moments_end_with_the_bytes_of_the_undisturbed_one():
    command = [sys.executable, str(BENCHMARKS / "soak_takes.py"), "--rounds", "10"]
    result = json.loads(subprocess.run(command, capture_output=True, check=True).stdout)
    assert (result["rounds"], result["same_bytes"]) == (10, 10)
    assert result["kills"] >= 8  # a take may be finished before its kill


_TMPFS = """
set -e
mount -t tmpfs -o size={size} none .
cd "$PWD"
cp -r "$MODEL" model
set +e
"$@"
echo "code $?" >&2
mount -o remount,size=64m .
"$PYTHON" -m longtake resume take.longtake --quiet
echo "code $?" >&2
cp take.mp4 "$OUT"
ls -A >&2
"""


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("unshare") is None, reason="needs its own mounts")
def test_row_10_a_full_disk_pauses_the_take_and_resume_ends_it_when_there_is_room(tmp_path, model):
    arguments = film(Path("model"), "-o", "take.mp4", "--no-metadata", seconds="6")
    (tmp_path / "calm").mkdir()
    shutil.copytree(model, tmp_path / "calm" / "model")
    assert start(arguments, tmp_path / "calm").returncode == 0
    (tmp_path / "small").mkdir()
    out = tmp_path / "resumed.mp4"
    used = sum(path.stat().st_size for path in model.iterdir())
    script = _TMPFS.format(size=used + 600_000)
    environment = os.environ | {"MODEL": str(model), "OUT": str(out), "PYTHON": sys.executable}
    command = ["unshare", "-rm", "sh", "-c", script, "sh", *LONGTAKE, *arguments]
    process = subprocess.run(
        command, cwd=tmp_path / "small", env=environment, capture_output=True, check=False
    )
    told = process.stderr.decode()
    if "unshare:" in told or "mount:" in told:
        pytest.skip("may not mount here")
    paused = next(line for line in told.splitlines() if line.startswith("error:"))
    assert paused.startswith("error: paused: no space left to write take.")
    assert "longtake resume take.longtake goes on from" in paused
    assert told.split("code ")[1].startswith("3")
    assert told.split("code ")[2].startswith("0")
    assert out.read_bytes() == (tmp_path / "calm" / "take.mp4").read_bytes()
    assert told.splitlines()[-2:] == ["model", "take.mp4"]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_row_12_a_log_that_takes_nothing_does_not_stop_a_take(tmp_path, model):
    with Path("/dev/full").open("wb") as full:
        process = start(
            film(model, "-o", "take.mp4"), tmp_path, stderr=full, stdout=subprocess.DEVNULL
        )
    assert process.returncode == 0
    assert len(read_video(tmp_path / "take.mp4")[0]) == 33


@pytest.mark.skipif(sys.platform != "linux", reason="needs a folder even root cannot write")
def test_row_13_a_folder_that_cannot_be_written_is_told_at_once(tmp_path, model):
    line = last_line(start(film(model, "-o", "/sys/take.mp4"), tmp_path), 2)
    assert "cannot write in the folder /sys" in line


@pytest.mark.skipif(shutil.which("unshare") is None, reason="needs its own mounts")
def test_row_13_a_take_that_became_read_only_is_told_and_stays_as_it_is(killed):
    before = {path.name: path.read_bytes() for path in killed.iterdir()}
    script = 'mount --bind -o ro . . && mount -o remount,bind,ro . && cd "$PWD" && "$@"'
    command = ["unshare", "-rm", "sh", "-c", script, "sh", *LONGTAKE, "resume", killed.name]
    process = subprocess.run(command, cwd=killed.parent, capture_output=True, check=False)
    if b"unshare:" in process.stderr or b"mount:" in process.stderr:
        pytest.skip("may not mount here")
    assert "cannot write in the folder" in last_line(process, 2)
    assert {path.name: path.read_bytes() for path in killed.iterdir()} == before


@pytest.mark.slow
def test_row_15_a_take_needs_few_open_files_however_many_chunks_it_has(tmp_path, model):
    def few():
        resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))

    process = start(film(model, "-o", "t.mp4", seconds="40"), tmp_path, preexec_fn=few)
    assert process.returncode == 0, process.stderr
    assert len(read_video(tmp_path / "t.mp4")[0]) == 641


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="memory limits need Linux")
def test_row_16_too_little_memory_is_told_and_leaves_nothing(tmp_path, model):
    def little():
        resource.setrlimit(resource.RLIMIT_AS, (3 * 2**30, 3 * 2**30))

    arguments = film(model, "-o", "t.mp4")
    arguments[arguments.index("64x64")] = "4096x4096"
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    process = start(arguments, tmp_path, preexec_fn=little, env=environment)
    assert "not enough memory; try" in last_line(process, 3)
    assert names(tmp_path) == []


def test_row_54_a_changed_bit_of_the_weights_is_refused_on_resume(killed, model, tmp_path):
    mine = shutil.copytree(model, tmp_path / "mine")
    path = mine / "transformer.safetensors"
    raw = bytearray(path.read_bytes())
    raw[-1] ^= 1
    path.write_bytes(raw)
    line = last_line(start(["resume", killed.name, "--model", "mine"], killed.parent), 2)
    assert "checksum" in line
    for index in mine.glob("*.index.json"):
        index.unlink()  # now nothing but the take itself knows that they are others
    line = last_line(start(["resume", killed.name, "--model", "mine"], killed.parent), 2)
    assert "take.longtake was made with model_hash" in line
    assert "use what made it" in line


def test_row_54_another_precision_is_refused_on_resume(killed):
    made = json.loads((killed / "take.json").read_text())["identity"]["precision"]
    other = "fp32" if made == "bf16" else "bf16"
    arguments = ["resume", killed.name, "--precision", other, "--allow-different"]
    line = last_line(start(arguments, killed.parent), 2)
    assert f"was made with precision {made}, this is {other}; use --precision {made}" in line


def test_row_54_a_model_that_has_moved_is_told(killed):
    path = killed / "take.json"
    path.write_text(path.read_text().replace("/tiny", "/gone"))
    line = last_line(start(["resume", killed.name], killed.parent), 2)
    assert "no model named" in line


@pytest.mark.slow
def test_row_57_any_number_of_threads_gives_the_same_bytes(tmp_path, model):
    made = set()
    for threads in ("1", "2", "3", "4"):
        environment = os.environ | {"OMP_NUM_THREADS": threads}
        arguments = film(model, "-o", f"{threads}.mp4", "--precision", "fp32")
        assert start(arguments, tmp_path, env=environment).returncode == 0
        made.add((tmp_path / f"{threads}.mp4").read_bytes())
    assert len(made) == 1


@pytest.mark.slow
def test_row_58_a_minute_needs_no_more_memory_than_ten_seconds(tmp_path, model):
    peaks = []
    for seconds in ("10", "60"):
        arguments = film(model, "-o", f"{seconds}.mp4", "--json", "--quiet", seconds=seconds)
        environment = os.environ | {"OMP_NUM_THREADS": "1"}
        report = json.loads(start(arguments, tmp_path, env=environment).stdout)
        assert report["frames"] == int(seconds) * 16 + 1
        peaks.append(report["peak_memory_bytes"])
    assert peaks[1] / peaks[0] <= 1.05
    assert (peaks[1] - peaks[0]) / 50 <= 64 * 1024
