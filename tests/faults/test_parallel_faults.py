"""A process that fails ends the run with its own word, soon, and leaves nothing half-written."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from sharding_work import write_clips
from training_help import save_model

from longtake.cli import main
from longtake.cli.several import told
from longtake.parallel import LIFELINE, LOST_CODE, run_together
from longtake.parallel.checkpoint import states

SOON_S = 30
TALK = """
import os, sys, time, torch
from longtake.cli import main
from longtake.errors import CannotHere
from longtake.parallel import Roles, assemble, join

def work():
    _, device = join(torch.device("cpu"))
    team = assemble(Roles(shards=int(os.environ["WORLD_SIZE"])))
    part = torch.ones(1)
    for step in range(100_000):
        {fault}
        (part,) = team.total([part])
        part = part / team.roles.shards
        time.sleep(0.001)

import longtake.cli.app as app
app.dispatch = lambda _: work()
main.main()
"""
RAISES = """
        if step == 20 and team.rank == 1:
            raise CannotHere("the card is on fire")
"""
DIES = """
        if step == 20 and team.rank == 1:
            os.kill(os.getpid(), 9)
"""
DONE = """
        if step == 20:
            return
"""
HANGS = """
        if step == 20 and team.rank == 0:
            time.sleep(1000)
        if step == 20 and team.rank == 1:
            raise CannotHere("the card is on fire")
"""


def ended(fault, count=2):
    started = time.monotonic()
    command = [sys.executable, "-c", TALK.replace("        {fault}", fault)]
    ending = run_together(command, count)
    return ending, time.monotonic() - started


@pytest.mark.slow
def test_a_process_that_raises_ends_the_run_with_its_own_error():
    ending, took_s = ended(RAISES)
    assert (ending.rank, ending.code, ending.word) == (1, 3, "error: the card is on fire")
    assert told(1, 3, ending.word) == "process 1: the card is on fire"
    assert took_s < SOON_S


@pytest.mark.slow
def test_a_process_killed_outright_ends_the_run_and_is_named(capfd):
    ending, took_s = ended(DIES, 3)
    assert (ending.rank, ending.code) == (1, -signal.SIGKILL)
    assert "process 1 was killed by signal 9" in told(1, -9, "")
    assert took_s < SOON_S
    assert capfd.readouterr().err == ""


@pytest.mark.slow
def test_a_process_that_waits_for_something_else_is_ended_too():
    ending, took_s = ended(HANGS)
    assert (ending.rank, ending.word) == (1, "error: the card is on fire")
    assert took_s < SOON_S


@pytest.mark.slow
def test_a_run_without_faults_ends_well():
    ending, _ = ended(DONE, 4)
    assert (ending.rank, ending.code) == (0, 0)


@pytest.mark.slow
def test_torchrun_ends_a_run_whose_process_fails(tmp_path):
    script = tmp_path / "talk.py"
    script.write_text(TALK.replace("        {fault}", RAISES))
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    started = time.monotonic()
    done = subprocess.run([*command, str(script)], check=False, capture_output=True, text=True)
    assert done.returncode != 0
    assert "error: the card is on fire" in done.stderr
    assert time.monotonic() - started < SOON_S + 10


def test_a_film_begun_by_torchrun_is_refused_with_the_way_that_works(monkeypatch, capsys):
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "x")
    assert main.run(["generate", "a red ball"]) == 2
    assert "longtake generate ... --gpus 2" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("gpus", "complaint"),
    [
        ("0", "--gpus must be at least 1, got 0"),
        ("99", "by chunks has work for 2 GPUs, got --gpus 99; use"),
    ],
)
def test_a_number_of_gpus_that_cannot_be_is_refused(gpus, complaint, capsys, tmp_path):
    asked = ["generate", "a red ball", "-o", str(tmp_path / "a.mp4"), "--device", "cpu"]
    assert main.run([*asked, "--gpus", gpus]) in (2, 3)
    assert complaint in capsys.readouterr().err


def test_the_command_line_knows_the_names_of_the_launcher():
    assert (main.LOST, main._LIFELINE) == (LOST_CODE, LIFELINE)


TRAIN = """
import os, sys, torch
from pathlib import Path
sys.path.insert(0, "tests")
from sharding_work import CONFIG, SHAPE
from longtake.cli import main
from longtake.errors import CannotHere
from longtake.model import Transformer
from longtake.parallel.sharding import join_sharded
from longtake.train.latents import LatentFolder
from longtake.train.sharded import ShardedTrainer

folder = Path(sys.argv[1])

def work():
    workers, device = join_sharded(torch.device("cpu"))
    clips = LatentFolder(folder / "clips", 0)

    def clip(number, device):
        if number == 9 and workers.rank == 1:
            os.kill(os.getpid(), 9)
        return clips.clip(number, device)

    ShardedTrainer(Transformer(SHAPE), clip, CONFIG, folder / "run", workers, device).run()

import longtake.cli.app as app
app.dispatch = lambda _: work()
main.main()
"""


@pytest.mark.slow
def test_training_whose_process_is_killed_ends_soon_and_keeps_its_last_state(tmp_path):
    write_clips(tmp_path / "clips")
    started = time.monotonic()
    ending = run_together([sys.executable, "-c", TRAIN, str(tmp_path)], 2)
    assert (ending.rank, ending.code) == (1, -signal.SIGKILL)
    assert time.monotonic() - started < SOON_S
    assert [path.name for path in states(tmp_path / "run" / "states")] == ["step-00000002"]
    assert not list((tmp_path / "run" / "states").glob(".longtake-*"))


FILM = (
    "generate", "a red ball bounces on grass", "--device", "cpu", "--size", "96x64",
    "--frames", "9", "--steps", "1000", "--precision", "fp32", "--gpus", "2",
)  # fmt: skip


def children(pid):
    found = subprocess.run(
        ["ps", "-o", "pid=", "--ppid", str(pid)], capture_output=True, text=True, check=False
    )
    return [int(word) for word in found.stdout.split()]


def filming(tmp_path, tiny):
    """A film of one pass in the making by two processes, and those processes."""
    film, model = tmp_path / "film.mp4", save_model(tmp_path / ".longtake-model", tiny)
    making = subprocess.Popen(
        [sys.executable, "-m", "longtake", *FILM, "--model", str(model), "-o", str(film)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    told_so = ""
    while "reading the prompt" not in told_so:
        line = making.stderr.readline()
        assert line, told_so
        told_so += line
    return film, making, sorted(children(making.pid))


def left(tmp_path):
    return [path.name for path in tmp_path.iterdir() if not path.name.startswith(".longtake-")]


@pytest.mark.slow
@pytest.mark.parametrize("victim", [0, 1])
def test_a_film_whose_process_is_killed_is_not_written(tmp_path, tiny, victim):
    _, making, both = filming(tmp_path, tiny)
    os.kill(both[victim], signal.SIGKILL)
    started = time.monotonic()
    _, err = making.communicate(timeout=60)
    assert making.returncode == 3
    assert err.splitlines()[-1].startswith(f"error: process {victim} was killed by signal 9")
    assert time.monotonic() - started < SOON_S
    assert left(tmp_path) == []


@pytest.mark.slow
def test_ctrl_c_stops_all_processes_and_is_told_once(tmp_path, tiny):
    _, making, both = filming(tmp_path, tiny)
    making.send_signal(signal.SIGINT)
    out, err = making.communicate(timeout=60)
    assert making.returncode == 130
    assert err.count("stopped; nothing was written") == 1
    assert "Traceback" not in out + err
    assert left(tmp_path) == []
    assert not any(Path(f"/proc/{pid}").exists() for pid in both)


@pytest.mark.slow
def test_processes_end_when_what_began_them_is_killed(tmp_path, tiny):
    _, making, both = filming(tmp_path, tiny)
    making.kill()
    making.communicate(timeout=60)
    last = time.monotonic() + SOON_S
    while any(Path(f"/proc/{pid}").exists() for pid in both) and time.monotonic() < last:
        time.sleep(0.1)
    assert not any(Path(f"/proc/{pid}").exists() for pid in both)
    assert left(tmp_path) == []
