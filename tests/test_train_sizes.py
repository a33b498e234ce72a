"""One run at several sizes: which step has which, killed and resumed, and recorded on a card."""

from collections import Counter
from dataclasses import replace

import pytest
import torch
from torch import nn

from longtake.config import Bucket, TrainConfig
from longtake.errors import SettingError
from longtake.pipeline import build
from longtake.train import data
from longtake.train.data import Ring, encode_clips, size_of_step
from longtake.train.loop import Size, Stage, Trainer

LARGE = Bucket(width=128, height=96, share=0.3, batch=2)
CONFIG = TrainConfig(
    steps=20, batch=4, pool=8, render_batch=4, refresh_every=3, log_every=4, checkpoint_every=5,
    warmup=2, compile=False, precision="fp32", width=64, height=64, frames=5, sizes=(LARGE,),
    learning_rate=1e-2, muon_learning_rate=1e-2,
)  # fmt: skip


def numbered(rows, cells, device="cpu"):
    """Rows of as many cells as a size has, and what was asked for."""
    asked = []

    def make(number):
        asked.append(number)
        generator = torch.Generator(device).manual_seed(100 * cells + number)
        return (torch.randn(rows, cells, 32, generator=generator, device=device),)

    return make, asked


def stage(device="cpu"):
    torch.manual_seed(3)
    module = nn.Sequential(nn.Linear(32, 24), nn.SiLU(), nn.Linear(24, 32)).to(device)

    def prepare(batch, generator):
        noise = torch.randn(batch[0].shape, generator=generator, device=device)
        return batch[0], batch[0] + 0.1 * noise

    def loss(clean, x):
        error = (module(x) - clean).square().mean()
        return error, error.detach()

    def twice(clean, x):
        return tuple(2 * part for part in loss(clean, x))

    (own, _), (large, asked) = numbered(4, 3, device), numbered(2, 7, device)
    further = Size(
        ring=Ring(large, 2), fill=2, prepare=prepare, loss=twice, held_out=lambda: 0.25
    )  # fmt: skip
    made = Stage(
        name="toy", module=module, outer=("2",), ring=Ring(own, 2), fill=2, prepare=prepare,
        loss=loss, metric="error", preview=lambda path: None, further=(further,),
    )  # fmt: skip
    return made, asked


def weights(trainer):
    return torch.cat([p.detach().flatten().cpu() for p in trainer.stage.module.parameters()])


def test_the_size_of_a_step_follows_from_seed_and_step_alone():
    sizes = [size_of_step(CONFIG, step) for step in range(200)]
    assert [size_of_step(CONFIG, step) for step in reversed(range(200))] == sizes[::-1]
    assert sizes == [size_of_step(replace(CONFIG, steps=7, batch=1), s) for s in range(200)]
    assert sizes != [size_of_step(replace(CONFIG, seed=1), step) for step in range(200)]
    assert {size_of_step(replace(CONFIG, sizes=()), step) for step in range(50)} == {0}


@pytest.mark.parametrize("shares", [(0.3,), (0.25, 0.05), (0.5, 0.0, 0.5), (1.0,)])
@pytest.mark.parametrize("first", [0, 12_345])
def test_every_stretch_of_a_run_has_its_shares(shares, first):
    config = replace(CONFIG, sizes=tuple(replace(LARGE, share=share) for share in shares))
    counted = Counter(size_of_step(config, step) for step in range(first, first + 400))
    for number, share in enumerate((1 - sum(shares), *shares)):
        assert counted[number] == pytest.approx(400 * share, abs=4)


@pytest.mark.parametrize("killed_at", [6, 18])
def test_a_killed_run_at_two_sizes_resumes_to_the_same_bytes(tmp_path, killed_at):
    undisturbed = Trainer(stage()[0], CONFIG, tmp_path / "whole")
    undisturbed.run()

    trainer = Trainer(stage()[0], CONFIG, tmp_path / "killed")
    one_step = trainer._one_step

    def dies():
        if trainer.step == killed_at:
            raise KeyboardInterrupt
        return one_step()

    trainer._one_step = dies
    with pytest.raises(KeyboardInterrupt):
        trainer.run()
    again = Trainer(stage()[0], CONFIG, tmp_path / "killed")
    assert again.step == killed_at // 5 * 5
    again.run()
    assert torch.equal(weights(again), weights(undisturbed))


def test_clips_of_a_size_are_made_when_its_steps_come_due(tmp_path):
    made, asked = stage()
    trainer = Trainer(made, CONFIG, tmp_path)
    one_step, seen = trainer._one_step, []

    def watched():
        seen.append((size_of_step(CONFIG, trainer.step), len(asked)))
        return one_step()

    trainer._one_step = watched
    trainer.run()
    large = [count for size, count in seen if size == 1]
    # The fill, then one more every third step of that size.
    assert large == [2 + step // 3 for step in range(len(large))]
    first = next(place for place, (size, _) in enumerate(seen) if size == 1)
    assert all(count == 0 for _, count in seen[:first])


def test_each_size_is_trained_by_its_own_loss_in_its_own_batches(tmp_path):
    made, _ = stage()
    shapes = Counter()
    for number, size in enumerate((made, *made.further)):

        def watched(batch, generator, prepare=size.prepare, number=number):
            shapes[number, tuple(batch[0].shape)] += 1
            return prepare(batch, generator)

        size.prepare = watched
    Trainer(made, CONFIG, tmp_path).run()
    assert set(shapes) == {(0, (4, 3, 32)), (1, (2, 7, 32))}
    assert shapes[1, (2, 7, 32)] == sum(size_of_step(CONFIG, step) for step in range(20))


def test_sizes_that_a_stage_does_not_have_are_refused(tmp_path):
    made, _ = stage()
    made.further = ()
    with pytest.raises(SettingError, match="stage toy trains at one size; leave out its sizes"):
        Trainer(made, CONFIG, tmp_path)


def test_clips_encoded_by_parts_have_the_latents_of_clips_encoded_whole(tiny, monkeypatch):
    torch.manual_seed(0)
    autoencoder = build(tiny)[2].eval()
    frames = torch.randint(0, 256, (3, 29, 64, 64, 3), dtype=torch.uint8)
    lengths, encode = [], autoencoder.encode

    def watched(part, cache):
        lengths.append((len(part), part.shape[1]))
        return encode(part, cache)

    autoencoder.encode = watched
    whole = encode_clips(autoencoder, frames, "fp32")
    assert lengths == [(3, 29)]
    # Room for 17 frames at once: no clip fits, and its parts are as alike as they can be.
    monkeypatch.setattr(data, "_PIXELS_AT_ONCE", 17 * 64 * 64)
    parts = encode_clips(autoencoder, frames, "fp32")
    assert lengths[1:] == [(1, 17), (1, 12)] * 3
    assert torch.allclose(whole.float(), parts.float(), atol=2e-2)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
def test_steps_recorded_at_two_sizes_train_to_the_weights_of_steps_made_one_by_one(tmp_path):
    config = replace(CONFIG, steps=60, sizes=(replace(LARGE, share=0.4),))
    ended = []
    for recorded in (True, False):
        trainer = Trainer(stage("cuda")[0], config, tmp_path / str(recorded))
        if not recorded:
            for replay in (*trainer._replays, trainer.optimiser._apply):
                replay.stream = None
        trainer.run()
        assert all((replay.graph is not None) == recorded for replay in trainer._replays)
        ended.append(weights(trainer))
    assert torch.allclose(*ended, atol=1e-4)
