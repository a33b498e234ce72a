"""A denoiser in parts on several processes trains as it does on one."""

import os
import warnings
from dataclasses import replace

import pytest
import torch
import torch.multiprocessing as mp
from sharding_work import CONFIG, CPU, SHAPE, spawned, write_clips

from longtake.errors import SettingError, WeightsError
from longtake.model import Transformer
from longtake.parallel import checkpoint
from longtake.parallel.checkpoint import MANIFEST, states
from longtake.parallel.sharding import own_values
from longtake.train.latents import LatentFolder
from longtake.train.sharded import ShardedTrainer

FP32, BF16 = 1e-5, 5e-3
"""Largest difference of a loss, relative: sums in another order; bfloat16 between."""


@pytest.fixture
def folder(tmp_path):
    write_clips(tmp_path / "clips")
    return tmp_path


def trainer(workers, folder, config):
    torch.manual_seed(0)
    model = Transformer(SHAPE)
    torch.nn.init.normal_(model.head.weight, std=0.1)
    clips = LatentFolder(folder / "clips", config.seed).clip
    return ShardedTrainer(model, clips, config, folder / "run", workers, CPU)


def losses(workers, folder, config, steps):
    """Loss and gradient of each step, and how many weights lie here."""
    run = trainer(workers, folder, config)
    held = sum(own_values(p).numel() for p in run.model.parameters())
    told = []
    for _ in range(steps):
        told.append(run.one_step())
        run.step += 1
    return told, held


def compiled_losses(workers, folder, config, steps):
    # From inside the compiler.
    warnings.filterwarnings("ignore", "The .grad attribute")
    return losses(workers, folder, config, steps)


def whole_run(workers, folder, config):
    run = trainer(workers, folder, config)
    first = run.step
    run.run()
    return first, run.weights()


@pytest.mark.compile
@pytest.mark.parametrize("lora", [0, 2])
def test_compiled_layers_have_the_same_losses(folder, lora):
    config = replace(CONFIG, lora=lora, learning_rate=1e-3)
    ((plain, _),) = spawned(losses, 1, folder, config, 3)
    ((compiled, _),) = spawned(compiled_losses, 1, folder, replace(config, compile=True), 3)
    for (one, gradient), (other, same) in zip(plain, compiled, strict=True):
        assert other == pytest.approx(one, rel=1e-4)
        assert same == pytest.approx(gradient, rel=1e-3)


@pytest.mark.slow
@pytest.mark.parametrize("chunk", [0, 2])
@pytest.mark.parametrize(("precision", "near"), [("fp32", FP32), ("bf16", BF16)])
def test_losses_are_those_of_one_process(folder, chunk, precision, near):
    config = replace(CONFIG, chunk=chunk, precision=precision)
    ((alone, every),) = spawned(losses, 1, folder, config, 4)
    both = spawned(losses, 2, folder, config, 4)
    assert both[0][0] == both[1][0]
    for one, two in zip(alone, both[0][0], strict=True):
        assert two == pytest.approx(one, rel=near)
    assert sum(held for _, held in both) == every
    assert max(held for _, held in both) < 0.6 * every


def losses_on_machines(workers, folder, config, steps):
    os.environ["LOCAL_WORLD_SIZE"] = "2"
    told = losses(workers, folder, config, steps)
    trainer(workers, folder, replace(config, steps=1)).run()
    return told


@pytest.mark.slow
def test_two_machines_hold_all_weights_each_and_have_the_losses_of_one_process(folder):
    ((alone, every),) = spawned(losses, 1, folder, CONFIG, 2)
    made = spawned(losses_on_machines, 4, folder, CONFIG, 2)
    for told, held in made:
        for one, several in zip(alone, told, strict=True):
            assert several == pytest.approx(one, rel=FP32)
        assert 0.4 * every < held < 0.6 * every
    first, *_ = spawned(whole_run, 1, folder, CONFIG)
    assert first[0] == 1


@pytest.mark.slow
def test_running_layers_again_changes_nothing(folder):
    ((kept, _),) = spawned(losses, 1, folder, replace(CONFIG, recompute=False), 2)
    ((again, _),) = spawned(losses, 1, folder, CONFIG, 2)
    ((one_kept, _),) = spawned(losses, 1, folder, replace(CONFIG, keep_layers=1), 2)
    assert kept == again == one_kept


@pytest.mark.slow
@pytest.mark.parametrize(("before", "after"), [(2, 1), (1, 3)])
def test_a_run_goes_on_with_any_number_of_processes(folder, before, after):
    config = replace(CONFIG, batch=6)
    ((_, undisturbed),) = spawned(whole_run, 1, folder, config)
    for old in states(folder / "run" / "states"):
        for file in old.iterdir():
            file.unlink()
    spawned(whole_run, before, folder, replace(config, steps=2))
    first, *_ = spawned(whole_run, after, folder, config)
    assert first[0] == 2
    for name, weight in undisturbed.items():
        assert torch.allclose(first[1][name], weight, atol=FP32), name


@pytest.mark.slow
def test_a_state_is_safetensors_and_checksums_and_a_damaged_one_is_refused(folder):
    spawned(whole_run, 2, folder, replace(CONFIG, steps=6))
    found = states(folder / "run" / "states")
    assert [path.name for path in found] == ["step-00000004", "step-00000006"]
    names = {path.suffix for path in found[-1].iterdir()}
    assert names == {".safetensors", ".json"}
    shard = next(found[-1].glob("*.safetensors"))
    raw = bytearray(shard.read_bytes())
    raw[-5] ^= 1
    shard.write_bytes(raw)
    assert spawned(refused, 2, folder, replace(CONFIG, steps=8)) == [True, True]
    (found[-1] / MANIFEST).unlink()
    first, *_ = spawned(whole_run, 2, folder, replace(CONFIG, steps=6))
    assert first[0] == 4


def refused(workers, folder, config):
    try:
        trainer(workers, folder, config)
    except WeightsError as error:
        return "does not have its checksum" in str(error)
    return False


def killed_while_saving(workers, folder, config):
    def die(*_):
        if workers.rank == 1:
            os._exit(9)
        msg = "the other one is gone"
        raise RuntimeError(msg)

    run = trainer(workers, folder, config)
    run.run()
    checkpoint._sums = die
    run.step += 1
    run.save()


@pytest.mark.slow
def test_a_run_killed_while_it_saves_keeps_the_state_before(folder):
    with pytest.raises((mp.ProcessRaisedException, mp.ProcessExitedException)):
        spawned(killed_while_saving, 2, folder, replace(CONFIG, steps=2))
    found = states(folder / "run" / "states")
    assert [path.name for path in found] == ["step-00000002"]
    first, *_ = spawned(whole_run, 1, folder, CONFIG)
    assert first[0] == 2


@pytest.mark.slow
def test_other_settings_and_an_uneven_batch_are_refused(folder):
    spawned(whole_run, 1, folder, replace(CONFIG, steps=2))
    assert spawned(complaint, 1, folder, replace(CONFIG, shift=5.0)) == ["other settings"]
    assert spawned(complaint, 3, folder, CONFIG) == ["try 6"] * 3


def complaint(workers, folder, config):
    try:
        trainer(workers, folder, config)
    except SettingError as error:
        return next(part for part in ("other settings", "try 6") if part in str(error))
    return ""


def test_every_pass_over_a_folder_has_all_clips_in_an_order_of_its_own(folder):
    clips = LatentFolder(folder / "clips", 3)
    passes = [
        [clips.clip(5 * epoch + n, CPU).latents[0, 0, 0, 0, 0].item() for n in range(5)]
        for epoch in range(3)
    ]
    assert {tuple(sorted(values)) for values in passes} == {tuple(sorted(passes[0]))}
    assert len(set(map(tuple, passes))) > 1
    with pytest.raises(SettingError, match="--data wants a folder"):
        LatentFolder(folder, 3)
    (folder / "clips" / "0.safetensors").write_bytes(b"no")
    with pytest.raises(WeightsError, match="is no clip"):
        [clips.clip(n, CPU) for n in range(5)]
