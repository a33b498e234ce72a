"""The disk a take needs is told before, and states are as large as told."""

from dataclasses import replace

import pytest
import torch

from longtake.config import SampleConfig
from longtake.errors import CannotHere
from longtake.pipeline import Border, Pipeline, build
from longtake.rollout.disk import HEADER_BYTES, check_disk, disk_of, shown, state_bytes
from longtake.rollout.snapshot import save_snapshot

SETTINGS = SampleConfig(width=96, height=64, frames=17, steps=1)


@pytest.mark.parametrize("guidance", [1.0, 3.0])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_state_is_as_large_as_told(tiny, tmp_path, dtype, guidance):
    config = replace(tiny, chunk=2)
    parts = build(config)
    for part in parts:
        part.to(dtype=dtype).eval().requires_grad_(False)
    pipe = Pipeline(name="tiny", model_hash="0" * 64, config=config, parts=parts)
    settings = replace(SETTINGS, guidance=guidance)
    borders = [e for e in pipe.stream("a red ball", settings) if isinstance(e, Border)]
    path = tmp_path / "state.safetensors"
    save_snapshot(path, borders[-1].snapshot, pipe.identity)
    told = state_bytes(config, settings, dtype.itemsize)
    assert told - HEADER_BYTES < path.stat().st_size <= told


def test_the_disk_grows_with_the_film_and_with_the_states_that_stay(tiny):
    one = disk_of(tiny, SETTINGS, bytes_per_value=2, kept_states=0)
    long = disk_of(tiny, replace(SETTINGS, frames=1700), bytes_per_value=2, kept_states=0)
    kept = disk_of(tiny, SETTINGS, bytes_per_value=2, kept_states=10)
    assert long.film - HEADER_BYTES == pytest.approx(100 * (one.film - HEADER_BYTES), rel=0.01)
    assert long.state == one.state
    assert kept.making - one.making == 10 * one.state


def test_a_take_that_does_not_fit_is_refused_with_both_sizes(tiny, tmp_path):
    day = replace(SETTINGS, width=4096, height=4096, frames=1_382_401)
    disk = disk_of(tiny, day, bytes_per_value=4, kept_states=100_000)
    with pytest.raises(CannotHere, match=r"needs [\d,.]+ GiB of disk .* has [\d,.]+ [GM]iB; free"):
        check_disk(disk, tmp_path)


@pytest.mark.parametrize(
    ("count", "text"), [(0, "0.0 MiB"), (5_684_712, "5.4 MiB"), (3 * 2**30, "3.0 GiB")]
)
def test_sizes_are_told_as_people_read_them(count, text):
    assert shown(count) == text
