"""Chunks made in a thread of their own are the same chunks, and decoded they are the same bytes."""

import threading
import time
from contextlib import closing
from dataclasses import replace

import pytest
import torch

from longtake.config import SampleConfig
from longtake.parallel import ALL, Roles, Team
from longtake.pipeline import Border, Frames, Pipeline, build
from longtake.rollout.ahead import ahead
from longtake.rollout.film import half_of
from longtake.rollout.heap import share_heap

CPU = torch.device("cpu")


@pytest.mark.parametrize("most", [1, 3])
def test_the_items_are_the_same_in_the_same_order(most):
    assert list(ahead(iter(range(20)), CPU, most)) == list(range(20))


def test_items_are_made_while_earlier_ones_are_used():
    made = []

    def items():
        for number in range(4):
            made.append(number)
            yield number

    with closing(ahead(items(), CPU)) as asked:
        assert next(asked) == 0
        last = time.monotonic() + 5
        while len(made) < 3 and time.monotonic() < last:
            time.sleep(0.01)
        # One waits and one more is in the making.
        assert made == [0, 1, 2]


def test_what_the_maker_raises_is_raised_where_items_are_used():
    def items():
        yield 1
        msg = "no more"
        raise ValueError(msg)

    asked = ahead(items(), CPU)
    assert next(asked) == 1
    with pytest.raises(ValueError, match="no more"):
        next(asked)


def test_who_stops_asking_leaves_no_thread_behind():
    before = threading.active_count()
    with closing(ahead(iter(range(100)), CPU)) as asked:
        next(asked)
    assert threading.active_count() == before


def test_gradients_are_off_in_the_makers_thread_where_they_are_off_here():
    with torch.no_grad():
        assert list(ahead((torch.is_grad_enabled() for _ in range(2)), CPU)) == [False, False]


@pytest.fixture
def chunked(tiny):
    torch.manual_seed(0)
    config = replace(tiny, chunk=2)
    parts = build(config)
    torch.nn.init.normal_(parts[1].head.weight, std=0.1)
    for part in parts:
        part.eval().requires_grad_(False)
    return Pipeline(name="tiny", model_hash="", config=config, parts=parts)


def test_a_take_decoded_meanwhile_has_the_same_bytes_and_the_same_borders(chunked):
    settings = SampleConfig(width=64, height=64, frames=25, steps=2)
    films = []
    for team in (ALL, Team(roles=Roles(decodes=True))):
        pipe = chunked.spread(team, CPU)
        films.append(list(pipe.stream("a red ball", settings)))
    pixels = [torch.cat([e.pixels for e in film if isinstance(e, Frames)]) for film in films]
    assert torch.equal(*pixels)
    alone, meanwhile = ([e.snapshot for e in film if isinstance(e, Border)] for film in films)
    assert len(alone) == 3
    for a, b in zip(alone, meanwhile, strict=True):
        assert a.chunk == b.chunk
        for x, y in zip(a.state.layers, b.state.layers, strict=True):
            assert torch.equal(x.frame, y.frame)
            assert torch.equal(x.memory.sums, y.memory.sums)
        for x, y in zip(a.decoder.blocks, b.decoder.blocks, strict=True):
            assert torch.equal(x, y)


@pytest.mark.parametrize(("threads", "half"), [(1, 0), (2, 1), (3, 0), (4, 2), (6, 0), (8, 4)])
def test_threads_are_halved_where_their_number_does_not_show(threads, half):
    assert half_of(threads) == half


def test_on_a_cpu_the_next_chunk_is_made_meanwhile_and_the_threads_come_back(chunked):
    settings = SampleConfig(width=64, height=64, frames=25, steps=2)
    before, films, makers = torch.get_num_threads(), [], []
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            most = threading.active_count()
            film = []
            for event in chunked.stream("a red ball", settings):
                film.append(event)
                most = max(most, threading.active_count())
            makers.append(most)
            assert torch.get_num_threads() == threads
            films.append(torch.cat([e.pixels for e in film if isinstance(e, Frames)]))
            # Who leaves in the middle leaves no maker and no halved threads behind.
            alone = threading.active_count()
            with closing(chunked.stream("a red ball", settings)) as left:
                while not isinstance(next(left), Frames):
                    pass
            assert threading.active_count() == alone
            assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(before)
    assert makers[1] == makers[0] + 1
    assert torch.equal(*films)


@pytest.mark.parametrize(("platform", "asked"), [("linux", [(-8, 1)]), ("darwin", [])])
def test_one_heap_is_asked_for_once_and_only_where_glibc_may_be(monkeypatch, platform, asked):
    calls = []

    class Library:
        def __init__(self, _):
            self.mallopt = lambda *given: calls.append(given)

    monkeypatch.setattr("ctypes.CDLL", Library)
    monkeypatch.setattr("sys.platform", platform)
    share_heap.cache_clear()
    share_heap()
    share_heap()
    share_heap.cache_clear()
    assert calls == asked
