"""A take that is killed anywhere goes on to the same bytes."""

from dataclasses import replace

import pytest
import torch

from longtake import flow
from longtake.errors import StateError
from longtake.media.video import read_metadata, read_video
from longtake.model import Transformer
from longtake.pipeline import to_bytes
from longtake.rollout import Decoded, Grid, Identity, Step, Take, film
from longtake.rollout.folder import TakeFolder
from longtake.samplers import sampler_of
from longtake.vae import Autoencoder

FRAMES = 30
CHUNKS = 4
WHO = Identity(model_hash="a" * 64, precision="fp32", device="cpu", torch="2.0")


class Killed(Exception):  # noqa: N818 - it is no error
    """Stands for a kill at some moment."""


@pytest.fixture
def parts(tiny):
    torch.manual_seed(4)
    model = Transformer(tiny.transformer).eval().requires_grad_(False)
    torch.nn.init.normal_(model.head.weight, std=0.1)
    decoder = Autoencoder(tiny.autoencoder).eval().requires_grad_(False)
    take = Take(
        transformer=model, grid=Grid(2), sampler=sampler_of("euler"), guidance=2.0, seed=5,
        sigmas=flow.schedule(2, 3.0), size=(2, 3),
    )  # fmt: skip
    return take, decoder


def condition(_):
    text = torch.randn(2, 4, 24, generator=torch.Generator().manual_seed(0))
    return text, torch.ones(2, 4, dtype=torch.bool)


def run(parts, folder, out, *, kill_at=None, keep=frozenset(), who=WHO):
    """Make the film, or go on with it; tell which chunks were made."""
    take, decoder = parts
    folder.begin()
    start = folder.newest(who)
    made = []
    events = film(take, condition, decoder, FRAMES, notes={"prompt": "x"}, start=start)
    for moment, event in enumerate(events, start=1):
        if moment == kill_at:
            raise Killed
        if isinstance(event, Decoded):
            folder.add(to_bytes(event.pixels), event.snapshot, who, keep=keep)
            made.append(event.snapshot.chunk - 1)
    folder.join(out, take.grid.chunks(FRAMES), {"title": "x"})
    return made


def test_frames_come_chunk_by_chunk_and_end_with_the_film(parts):
    take, decoder = parts
    events = list(film(take, condition, decoder, FRAMES, notes={}))
    assert [type(event) for event in events] == [Step, Step, Decoded] * CHUNKS
    counts = [len(event.pixels) for event in events if isinstance(event, Decoded)]
    assert counts == [9, 8, 8, 5]


def test_streamed_decoding_is_decoding_at_once(parts):
    take, decoder = parts
    events = [e for e in film(take, condition, decoder, 25, notes={}) if isinstance(e, Decoded)]
    rolled = list(take.roll(condition, range(3)))
    whole = torch.cat([e.latents for e in rolled if not isinstance(e, Step)], dim=2)
    pixels = torch.cat([event.pixels for event in events])
    assert torch.allclose(pixels, decoder.decode(whole)[0], atol=1e-5)


@pytest.mark.parametrize("kill_at", range(1, 3 * CHUNKS + 1))
def test_a_take_killed_at_any_moment_ends_with_the_bytes_of_the_undisturbed_one(
    parts, tmp_path, kill_at
):
    run(parts, TakeFolder(tmp_path / "calm"), tmp_path / "calm.mp4")
    folder = TakeFolder(tmp_path / "rough")
    with pytest.raises(Killed):
        run(parts, folder, tmp_path / "rough.mp4", kill_at=kill_at)
    made = run(parts, folder, tmp_path / "rough.mp4")
    assert made == list(range((kill_at - 1) // 3, CHUNKS))
    assert (tmp_path / "rough.mp4").read_bytes() == (tmp_path / "calm.mp4").read_bytes()


@pytest.mark.parametrize("write", range(1, 2 * CHUNKS + 1))
def test_a_kill_between_any_two_files_loses_at_most_a_chunk(parts, tmp_path, monkeypatch, write):
    run(parts, TakeFolder(tmp_path / "calm"), tmp_path / "calm.mp4")
    folder = TakeFolder(tmp_path / "rough")
    writes = []

    def rename(self, target):
        writes.append(target)
        if len(writes) == write:
            raise Killed
        return self.rename(target)

    with monkeypatch.context() as patch:
        patch.setattr("pathlib.Path.replace", rename)
        with pytest.raises(Killed):
            run(parts, folder, tmp_path / "rough.mp4")
    made = run(parts, folder, tmp_path / "rough.mp4")
    assert made == list(range((write - 1) // 2, CHUNKS))
    assert (tmp_path / "rough.mp4").read_bytes() == (tmp_path / "calm.mp4").read_bytes()


def test_only_the_newest_state_is_kept_and_those_asked_for(parts, tmp_path):
    plain, kept = TakeFolder(tmp_path / "plain"), TakeFolder(tmp_path / "kept")
    run(parts, plain, tmp_path / "plain.mp4")
    run(parts, kept, tmp_path / "kept.mp4", keep=frozenset({1, 3}))
    assert plain.states() == [4]
    assert kept.states() == [1, 3, 4]


def test_a_damaged_state_is_passed_over_and_the_bytes_stay_the_same(parts, tmp_path):
    folder = TakeFolder(tmp_path / "take")
    run(parts, folder, tmp_path / "one.mp4", keep=frozenset({2}))
    raw = bytearray(folder.state(4).read_bytes())
    raw[len(raw) // 2] ^= 1
    folder.state(4).write_bytes(raw)
    made = run(parts, folder, tmp_path / "two.mp4", keep=frozenset({2}))
    assert made == [2, 3]
    assert (tmp_path / "two.mp4").read_bytes() == (tmp_path / "one.mp4").read_bytes()


def test_a_state_whose_segment_is_gone_is_passed_over(parts, tmp_path):
    folder = TakeFolder(tmp_path / "take")
    run(parts, folder, tmp_path / "one.mp4", keep=frozenset({1}))
    folder.segment(2).unlink()
    assert folder.newest(WHO).chunk == 1


def test_other_weights_are_refused_and_not_passed_over(parts, tmp_path):
    folder = TakeFolder(tmp_path / "take")
    run(parts, folder, tmp_path / "one.mp4")
    with pytest.raises(StateError, match="model_hash"):
        folder.newest(replace(WHO, model_hash="b" * 64))


def test_the_film_has_every_frame_and_its_tags(parts, tmp_path):
    run(parts, TakeFolder(tmp_path / "take"), tmp_path / "film.mp4")
    frames, rate = read_video(tmp_path / "film.mp4")
    assert (len(frames), rate) == (FRAMES, 16)
    assert read_metadata(tmp_path / "film.mp4")["title"] == "x"


def test_a_folder_is_removed_with_what_is_its_own_and_nothing_else(parts, tmp_path):
    folder = TakeFolder(tmp_path / "take")
    run(parts, folder, tmp_path / "film.mp4")
    folder.write_manifest({"prompt": "x"})
    (folder.path / "mine.txt").write_text("keep")
    folder.remove()
    assert [path.name for path in folder.path.iterdir()] == ["mine.txt"]
    (folder.path / "mine.txt").unlink()
    folder.remove()
    assert not folder.path.exists()
