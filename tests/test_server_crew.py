"""Crews and their engines: workers are started, missed, started again, and all of one kind."""

import asyncio
import json
import sys
from pathlib import Path

import pytest

from longtake.errors import CannotHere, SettingError
from longtake.server import crew as crew_module
from longtake.server.crew import Crew
from longtake.server.engines import Processes, open_engine
from longtake.server.settings import EngineConfig, ServeConfig, WorkerConfig

READY = {"ready": True, "model_hash": "m", "version": "1"}
CONFIG = WorkerConfig(name="", data="data", model="tiny")


class Hand:
    """A worker that says what it was told to say, and ends when asked to."""

    def __init__(self, said):
        self.said, self.over, self.killed = said, asyncio.Event(), False

    async def lines(self):
        for line in self.said:
            yield json.dumps(line)
        if not self.said or "error" not in self.said[-1]:
            await self.over.wait()

    def stop(self) -> None:
        self.over.set()

    def kill(self) -> None:
        self.killed = True
        self.over.set()


class Engine:
    """Starts one hand after the other; the last one's words are said again."""

    def __init__(self, *said):
        self.said, self.hands, self.names = list(said), [], []

    async def start(self, config: WorkerConfig) -> Hand:
        said = self.said.pop(0) if len(self.said) > 1 else self.said[0]
        self.names.append(config.name)
        self.hands.append(Hand(said))
        return self.hands[-1]


def play(engine, size, scene, monkeypatch):
    """Run a scene with a crew; returns the names that were told dead."""
    died = []
    monkeypatch.setattr(crew_module, "_AGAIN_S", (0.0,))

    async def run():
        crew = Crew(CONFIG, size, died.append, engine)
        crew.start()
        try:
            await scene(crew)
        finally:
            await crew.stop()

    asyncio.run(asyncio.wait_for(run(), 20))
    return died


async def until(told):
    while not told():
        await asyncio.sleep(0.001)


def test_a_worker_that_dies_is_told_and_another_takes_its_place(monkeypatch):
    engine = Engine([READY])

    async def scene(crew):
        await until(lambda: len(crew.ready) == 2)
        assert crew.names == set(engine.names)
        engine.hands[0].over.set()
        await until(lambda: crew.restarts == 1 and len(crew.ready) == 2)

    died = play(engine, 2, scene, monkeypatch)
    assert died[0] == engine.names[0]
    assert sorted(died) == sorted(engine.names)
    assert len(set(engine.names)) == 3


def test_a_worker_with_another_model_or_release_is_sent_away(monkeypatch, capfd):
    engine = Engine([READY], [{**READY, "model_hash": "other"}], [READY])

    async def scene(crew):
        await until(lambda: len(crew.ready) == 2)
        assert crew.restarts == 1

    play(engine, 2, scene, monkeypatch)
    assert [hand.killed for hand in engine.hands] == [False, True, False]
    assert "another model_hash (other)" in capfd.readouterr().err


def test_why_no_worker_gets_ready_is_kept_and_counted(monkeypatch, capfd):
    engine = Engine([{"log": "a remark"}, {"error": "no such model"}])

    async def scene(crew):
        await until(lambda: crew.failures >= 3)
        assert crew.problem == "no such model"

    play(engine, 1, scene, monkeypatch)
    assert "a remark" in capfd.readouterr().err


def test_the_engine_local_runs_processes_of_this_machine():
    with open_engine(EngineConfig(), Path("data"), 30.0) as engine:
        assert isinstance(engine, Processes)


@pytest.mark.parametrize("address", ["", "127.0.0.1:6379"])
def test_ray_that_is_not_installed_is_said_with_the_command(monkeypatch, address):
    monkeypatch.setitem(sys.modules, "ray", None)
    monkeypatch.delitem(sys.modules, "longtake.server.fleet.rays", raising=False)
    for name in ("RAY_USAGE_STATS_ENABLED", "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "RAY_AUTH_MODE",
                 "RAY_AUTH_TOKEN", "OMP_WAIT_POLICY", "RAY_worker_niceness"):  # fmt: skip
        monkeypatch.setenv(name, "")
    config = EngineConfig(engine="ray", ray_address=address)
    with (
        pytest.raises(CannotHere, match=r"needs ray; run: pip install 'longtake\[fleet\]'"),
        open_engine(config, Path("data"), 30.0),
    ):
        pass


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"ray_address": "10.0.0.1:6379"}, "is for --engine ray"),
        ({"workers": 0}, "workers must be 1 to"),
        ({"threads": 2000}, "threads must be 0 to"),
    ],
)
def test_engines_that_cannot_be_are_refused_for_a_server_too(settings, said):
    for make in (EngineConfig, lambda **more: ServeConfig(data=Path("data"), **more)):
        with pytest.raises(SettingError, match=said):
            make(**settings)
