"""A recorded training step does what the step itself does."""

import pytest
import torch
from torch import nn

from longtake.config import TrainConfig
from longtake.train.data import Ring
from longtake.train.loop import Stage, Trainer

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA"),
]
CONFIG = TrainConfig(
    steps=12, batch=4, pool=8, render_batch=4, refresh_every=3, log_every=4, warmup=2,
    compile=False, precision="fp32", learning_rate=1e-2, muon_learning_rate=1e-2,
)  # fmt: skip


def numbered(number):
    generator = torch.Generator("cuda").manual_seed(number)
    return (torch.randn(4, 32, generator=generator, device="cuda"),)


def weights_after(folder, *, recorded):
    torch.manual_seed(3)
    module = nn.Sequential(nn.Linear(32, 24), nn.SiLU(), nn.Linear(24, 32)).cuda()

    def prepare(batch, generator):
        noise = torch.randn(batch[0].shape, generator=generator, device="cuda")
        return batch[0], batch[0] + 0.1 * noise

    def loss(clean, x):
        error = (module(x) - clean).square().mean()
        return error, error.detach()

    stage = Stage(
        name="toy", module=module, outer=("2",), ring=Ring(numbered, 2), fill=2,
        prepare=prepare, loss=loss, metric="error", preview=lambda path: None,
    )  # fmt: skip
    trainer = Trainer(stage, CONFIG, folder)
    if not recorded:
        trainer._gradients.stream = trainer.optimiser._apply.stream = None
    trainer.run()
    assert (trainer._gradients.graph is not None) == recorded
    return torch.cat([p.detach().flatten() for p in module.parameters()])


def test_recorded_steps_train_to_the_weights_of_steps_made_one_by_one(tmp_path):
    pytest.importorskip("tensorboard")
    recorded = weights_after(tmp_path / "recorded", recorded=True)
    one_by_one = weights_after(tmp_path / "plain", recorded=False)
    assert torch.allclose(recorded, one_by_one, atol=1e-4)
