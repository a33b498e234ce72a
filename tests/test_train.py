import csv
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from longtake.config import TrainConfig
from longtake.errors import SettingError
from longtake.train.data import Ring, generator_for
from longtake.train.loop import Stage, Trainer
from longtake.train.losses import autoencoder_loss, flow_loss, psnr
from longtake.train.optim import Ema, Optimiser, learning_rate_scale, orthogonalise

CONFIG = TrainConfig(
    steps=12, batch=4, pool=8, render_batch=4, refresh_every=3, log_every=4, checkpoint_every=5,
    warmup=2, compile=False, precision="fp32",
)  # fmt: skip


def numbered(number):
    generator = torch.Generator().manual_seed(number)
    return (torch.randn(4, 32, generator=generator), torch.full((4,), number))


def stage(ring=None):
    torch.manual_seed(3)
    module = nn.Sequential(nn.Linear(32, 24), nn.SiLU(), nn.Linear(24, 32))

    def prepare(batch, generator):
        return batch[0], batch[0] + 0.1 * torch.randn(batch[0].shape, generator=generator)

    def loss(clean, x):
        error = (module(x) - clean).square().mean()
        return error, error.detach()

    return Stage(
        name="toy", module=module, outer=("2",), ring=ring or Ring(numbered, 2), fill=2,
        prepare=prepare, loss=loss, metric="error",
        preview=lambda path: Path(path).write_text("seen"),
    )  # fmt: skip


def weights(trainer):
    return torch.cat([p.detach().flatten() for p in trainer.stage.module.parameters()])


def run(folder, config=CONFIG, ring=None):
    trainer = Trainer(stage(ring), config, folder)
    trainer.run()
    return trainer


@pytest.mark.parametrize("optimiser", ["muon", "adamw"])
@pytest.mark.parametrize("killed_at", [6, 11])
def test_a_killed_run_resumes_to_the_same_bytes(tmp_path, optimiser, killed_at):
    config = replace(CONFIG, optimiser=optimiser)
    whole = weights(run(tmp_path / "whole", config))

    trainer = Trainer(stage(), config, tmp_path / "killed")
    one_step = trainer._one_step

    def dies():
        if trainer.step == killed_at:
            raise KeyboardInterrupt
        return one_step()

    trainer._one_step = dies
    with pytest.raises(KeyboardInterrupt):
        trainer.run()
    again = Trainer(stage(), config, tmp_path / "killed")
    assert again.step == killed_at // 5 * 5
    again.run()
    assert torch.equal(weights(again), whole)


def test_a_checkpoint_of_other_settings_is_refused(tmp_path):
    run(tmp_path)
    with pytest.raises(SettingError, match="other settings"):
        Trainer(stage(), replace(CONFIG, learning_rate=0.5), tmp_path)


def test_training_makes_the_loss_smaller_and_logs_every_line(tmp_path):
    run(tmp_path, replace(CONFIG, steps=80, learning_rate=1e-2, muon_learning_rate=1e-2))
    rows = list(csv.DictReader((tmp_path / "toy.csv").read_text().splitlines()))
    assert [int(row["step"]) for row in rows] == list(range(4, 81, 4))
    assert float(rows[-1]["loss"]) < 0.7 * float(rows[0]["loss"])
    assert list((tmp_path / "tensorboard" / "toy").glob("events*"))
    assert (tmp_path / "toy.png").read_text() == "seen"


def test_a_loss_that_is_not_a_number_ends_the_run_and_keeps_the_checkpoint(tmp_path):
    def poisoned(number):
        x, y = numbered(number)
        return (x * float("nan"), y) if number >= 4 else (x, y)

    with pytest.raises(SettingError, match="the loss became nan"):
        run(tmp_path, replace(CONFIG, steps=40, log_every=1), ring=Ring(poisoned, 2))
    assert Trainer(stage(), replace(CONFIG, steps=40, log_every=1), tmp_path).step == 5


def test_a_run_in_minutes_sets_its_number_of_steps_from_the_measured_time(tmp_path):
    config = replace(CONFIG, steps=10**6, minutes=0.02, log_every=10, checkpoint_every=10**6)
    trainer = run(tmp_path, config)
    assert 80 < trainer.step < 10**5
    assert trainer.step == trainer.steps


def test_a_ring_is_the_same_however_it_was_filled():
    slow, fast = Ring(numbered, 3), Ring(numbered, 3)
    for target in range(1, 8):
        slow.advance(target)
    fast.advance(7)
    generator = generator_for(0, 5, torch.device("cpu"))
    a = slow.draw(50, generator)
    b = fast.draw(50, generator_for(0, 5, torch.device("cpu")))
    assert torch.equal(a[0], b[0])
    assert set(a[1].tolist()) == {4, 5, 6}


def test_steps_have_their_own_random_numbers():
    device = torch.device("cpu")
    draws = [torch.rand(3, generator=generator_for(1, step, device)) for step in (4, 5, 4)]
    assert torch.equal(draws[0], draws[2])
    assert not torch.equal(draws[0], draws[1])


def test_newton_schulz_brings_singular_values_near_one():
    for shape in ((3, 20, 32), (3, 32, 20)):
        values = torch.linalg.svdvals(orthogonalise(torch.randn(shape)))
        assert values.min() > 0.5
        assert values.max() < 1.4


def test_muon_takes_hidden_matrices_and_leaves_outer_layers_and_vectors():
    module = stage().module
    optimiser = Optimiser(module.named_parameters(), CONFIG, ("2",))
    assert [s.names for s in optimiser.stacks] == [["0.weight"]]
    assert sorted(name for name, _ in optimiser.rest) == ["0.bias", "2.bias", "2.weight"]


def test_the_learning_rate_warms_up_stays_and_decays():
    scales = [learning_rate_scale(step, 100, 10, 0.4) for step in range(100)]
    assert scales[0] == pytest.approx(0.1)
    assert scales[10:60] == [1.0] * 50
    assert scales[80] == pytest.approx(0.5)
    assert scales[99] == pytest.approx(0.025)


def test_swapping_the_average_twice_changes_nothing():
    module = stage().module
    ema = Ema(module.named_parameters(), 0.9)
    with torch.no_grad():
        module[0].weight.add_(1.0)
    before = module[0].weight.detach().clone()
    ema.swap()
    assert not torch.equal(module[0].weight, before)
    ema.swap()
    assert torch.equal(module[0].weight, before)


def test_a_perfect_reconstruction_costs_only_the_kl_term():
    video, mean = torch.rand(1, 5, 16, 16, 3), torch.zeros(1, 2, 2, 1, 1)
    loss, squared = autoencoder_loss(
        video, video, mean, torch.zeros_like(mean), torch.ones(1, 5, 16, 16),
        kl_weight=1.0, squared_weight=1.0,
    )  # fmt: skip
    assert loss == 0
    assert squared == 0


def test_an_error_costs_more_where_a_pixel_weighs_more_and_the_squared_error_stays():
    video, mean = torch.zeros(1, 5, 16, 16, 3), torch.zeros(1, 2, 2, 1, 1)
    wrong, weight = video.clone(), torch.ones(1, 5, 16, 16)
    wrong[:, :, 4:8, 4:8] = 0.5
    heavy = weight.clone()
    heavy[:, :, 4:8, 4:8] = 3
    cost = [
        autoencoder_loss(video, wrong, mean, mean, w, kl_weight=0.0, squared_weight=1.0)
        for w in (weight, heavy)
    ]
    assert cost[1][0] == pytest.approx(3 * cost[0][0].item())
    assert cost[1][1] == cost[0][1]


def test_flow_loss_is_one_number_a_sample():
    target = torch.zeros(3, 2, 1, 1, 1)
    predicted = torch.tensor([0.0, 1.0, 2.0]).view(3, 1, 1, 1, 1).expand(3, 2, 1, 1, 1)
    assert flow_loss(target, predicted).tolist() == [0.0, 1.0, 4.0]


def test_psnr_of_one_byte_of_error_is_48_db():
    clean = torch.zeros(1, 1, 8, 8, 3)
    assert psnr(clean, clean + 2 / 255).item() == pytest.approx(48.13, abs=0.01)
