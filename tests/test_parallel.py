"""Workers that train together: real processes that talk over the loopback."""

import subprocess
import sys

import pytest
import torch
from torch import nn

from longtake.config import TrainConfig
from longtake.parallel import ALONE, Workers, join
from longtake.train.data import Ring, generator_for
from longtake.train.optim import Optimiser, learning_rate_scale

TOGETHER = """
import sys, torch
from pathlib import Path
from torch import nn
from longtake.config import TrainConfig
from longtake.parallel import join, leave
from longtake.train.data import Ring
from longtake.train.loop import Stage, Trainer

def numbered(number):
    return (torch.randn(4, 32, generator=torch.Generator().manual_seed(number)),)

folder = Path(sys.argv[1])
torch.set_num_threads(1)
workers, device = join(torch.device("cpu"))
torch.manual_seed(3)
module = nn.Sequential(nn.Linear(32, 24), nn.SiLU(), nn.Linear(24, 32))

def loss(x):
    error = (module(x) - x).square().mean()
    return error, error.detach()

config = TrainConfig(steps=6, batch=4, pool=8, render_batch=4, refresh_every=3, log_every=2,
                     checkpoint_every=100, warmup=2, compile=False, precision="fp32")
stage = Stage(name="toy", module=module, outer=("2",), ring=Ring(numbered, 2, workers), fill=2,
              prepare=lambda batch, _: batch, loss=loss, metric="error",
              preview=lambda path: Path(path).write_text("seen"))
trainer = Trainer(stage, config, folder, workers)
trainer.run()
weights = torch.cat([p.detach().flatten() for p in module.parameters()])
(folder / f"{workers.rank}.txt").write_text(repr(weights.double().tolist()))
workers.wait()
leave()
"""


def numbered(number):
    return (torch.randn(4, 32, generator=torch.Generator().manual_seed(number)),)


def expected():
    """The same training in one process: both workers' gradients, averaged by hand."""
    config = TrainConfig(warmup=2, ema=0.999)
    torch.manual_seed(3)
    module = nn.Sequential(nn.Linear(32, 24), nn.SiLU(), nn.Linear(24, 32))
    optimiser = Optimiser(module.named_parameters(), config, ("2",))
    rings = [Ring(numbered, 2, Workers(rank, 2)) for rank in (0, 1)]
    average = [p.detach().clone() for p in module.parameters()]
    for step in range(6):
        losses = []
        for rank, ring in enumerate(rings):
            ring.advance(2 + step // 3)
            (batch,) = ring.draw(4, generator_for(0, 2 * step + rank, torch.device("cpu")))
            losses.append((module(batch) - batch).square().mean())
        module.zero_grad()
        (sum(losses) / 2).backward()
        optimiser.step(learning_rate_scale(step, 6, 2, 0.35))
        decay = min(0.999, (1 + step) / (10 + step))
        average = [
            a.lerp(p.detach(), 1 - decay) for a, p in zip(average, module.parameters(), strict=True)
        ]
    return torch.cat([a.flatten() for a in average])


@pytest.mark.slow
def test_two_workers_train_as_one_with_both_batches(tmp_path):
    script = tmp_path / "together.py"
    script.write_text(TOGETHER)
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    done = subprocess.run(
        [*command, str(script), str(tmp_path)],
        check=False,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    first, second = (torch.tensor(eval((tmp_path / f"{rank}.txt").read_text())) for rank in (0, 1))
    assert torch.equal(first, second)
    assert torch.allclose(first, expected(), atol=2e-4)
    assert (tmp_path / "toy.csv").read_text().count("\n") == 4
    assert (tmp_path / "toy.png").read_text() == "seen"


def test_without_torchrun_a_process_is_alone_and_averages_nothing():
    workers, device = join(torch.device("cpu"))
    assert (workers, device) == (ALONE, torch.device("cpu"))
    gradient = torch.ones(3)
    workers.average([gradient])
    assert torch.equal(gradient, torch.ones(3))
    assert workers.agree(5.0, device) == 5.0


@pytest.mark.parametrize("size", [2, 3])
def test_workers_render_different_clips(size):
    made = []
    for rank in range(size):
        ring = Ring(
            lambda number: (made.append(number), numbered(number))[1], 2, Workers(rank, size)
        )
        ring.advance(2)
    assert sorted(made) == list(range(2 * size))


@pytest.mark.slow
def test_torchrun_hands_every_option_to_the_recipe_after_two_dashes():
    launcher = (sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "1", "-m", "--")
    command = (*launcher, "longtake.recipes", "--start", "x", "--help")
    told = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)
    assert "usage: longtake.recipes" in told.stdout
