"""What the table of memory against length measures is what it says."""

import importlib
import json
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from einops import rearrange

from longtake.kernels import ops
from longtake.kernels.reference.attention import rotate
from longtake.model import Transformer

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))
bench = importlib.import_module("bench_memory")

CASE = bench.Case(
    what="layer", mode="cache", seconds=5, size=(2, 3), chunk=2, window=4, samples=3, depth=2,
    width=16, heads=2,
)  # fmt: skip


def test_the_cache_gives_what_softmax_under_a_causal_mask_gives():
    layer = bench.network(CASE)
    x = torch.randn(1, 5 * 6, 16)
    turns = bench.turns_of(CASE, 5, 0)
    with torch.no_grad():
        first, cache = layer.advance(x[:, :18], bench.turns_of(CASE, 3, 0), (18,), None)
        room = bench.Cache(*(F.pad(part, (0, 0, 0, 12)) for part in cache))
        rest, _ = layer.advance(x[:, 18:], bench.turns_of(CASE, 2, 3), (12,), room)
        q, k, v = ops.packed_heads(layer.qkv(x), layer.norm_q, layer.norm_k, layer.heads)
        mask = torch.ones(30, 30, dtype=torch.bool)
        mask[:18, 18:] = False
        y = F.scaled_dot_product_attention(rotate(q, *turns), rotate(k, *turns), v, attn_mask=mask)
        whole = layer.out(rearrange(y, "b heads n k -> b n (heads k)"))
    assert torch.allclose(torch.cat([first, rest], dim=1), whole, atol=1e-5)


@pytest.mark.parametrize("what", ["layer", "denoiser"])
@pytest.mark.parametrize("mode", ["cache", "window", "block", "linear"])
def test_what_is_carried_on_grows_with_the_cache_alone(what, mode):
    rows = [
        bench.run(replace(CASE, what=what, mode=mode, seconds=seconds), 1) for seconds in (5, 20)
    ]
    short, long = (row["state_bytes"] for row in rows)
    assert (long > 3 * short) == (mode == "cache")
    assert (long == short) == (mode != "cache")
    assert all(row["time_s"] > 0 for row in rows)


@pytest.mark.parametrize("what", ["layer", "denoiser"])
def test_softmax_over_the_whole_film_is_measured(what):
    row = bench.run(replace(CASE, what=what, mode="flash"), 1)
    assert row["how"] == "measured"
    assert row["time_s"] > 0


def test_the_state_has_the_size_of_the_real_one():
    case = replace(CASE, what="denoiser", mode="linear")
    model = bench.network(case)
    assert isinstance(model, Transformer)
    with torch.no_grad():
        _, real = model.advance(*bench.inputs(case, 3), (3,))
    assert bench.bytes_of(bench.state(case, 3, 2)) == bench.bytes_of(real)


def test_stored_scores_are_computed_as_the_square_of_the_tokens():
    rows = [bench.computed(replace(CASE, seconds=seconds)) for seconds in (5, 20)]
    assert rows[0]["peak_bytes"] == 2 * (21 * 6) ** 2 * 4
    assert rows[1]["peak_bytes"] / rows[0]["peak_bytes"] == pytest.approx((81 / 21) ** 2)


def test_what_would_take_too_long_is_reckoned_and_says_so(monkeypatch):
    monkeypatch.setattr(bench, "get_context", Here)
    cases = [replace(CASE, mode="flash", seconds=seconds) for seconds in (5, 20)]
    first, second = bench.measured(cases, 0.0, 1)
    assert first["how"] == "measured"
    assert second["how"] == "reckoned from 5 s, not 20 s"
    assert second["time_s"] == pytest.approx(first["time_s"] * (81 / 21) ** 2)


class Here:
    """A pool that works in this process."""

    def __init__(self, *_):
        self.Pool = lambda _: self

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    def apply(self, work, arguments):
        return work(*arguments)


def test_the_plot_shows_every_mode(tmp_path):
    rows = [
        {"what": what, "mode": mode, "seconds": seconds, "time_s": seconds, "peak_bytes": 2**20}
        for what in ("layer", "denoiser") for mode in bench.MODES for seconds in (5, 60)
    ]  # fmt: skip
    bench.plot(json.loads(json.dumps({"rows": rows})), tmp_path / "m.png")
    assert (tmp_path / "m.png").stat().st_size > 10_000
