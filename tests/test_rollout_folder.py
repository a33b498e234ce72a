"""A take that is killed anywhere goes on to the same bytes."""

import errno
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from longtake import flow
from longtake.config import SampleConfig
from longtake.errors import MediaError, OutputError, StateError
from longtake.media.frames import frames_of
from longtake.media.video import read_metadata, read_video
from longtake.model import Transformer
from longtake.rollout.film import Decoded, film
from longtake.rollout.folder import HEAD, TakeFolder, end_name, segment_name
from longtake.rollout.fork import fork
from longtake.rollout.grid import Grid
from longtake.rollout.manifest import TakeManifest, read_manifest, write_manifest
from longtake.rollout.pixels import to_bytes
from longtake.rollout.recording import Recording
from longtake.rollout.snapshot import Identity
from longtake.rollout.take import Step, Take
from longtake.samplers import sampler_of
from longtake.vae import Autoencoder

FRAMES = 30
CHUNKS = 4
WHO = Identity(
    model_hash="a" * 64, precision="fp32", device="cpu", processor="AVX2", torch="2.0",
    numerics="c" * 64,
)  # fmt: skip
PLAIN = TakeManifest(
    film="film.mp4", model="tiny", identity=WHO, threads=1, version="1", chunk=2, prompt="x",
    settings=SampleConfig(width=96, height=64, frames=FRAMES),
)  # fmt: skip


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


def run(parts, folder, *, manifest=PLAIN, kill_at=None, who=WHO, seen=None):
    """Make the film beside the folder, or go on with it; tell which chunks were made."""
    take, decoder = parts
    made = []
    with Recording(folder, folder.path.with_suffix(".mp4"), manifest, who) as recording:
        events = film(
            take, condition, decoder, manifest.settings.frames, notes=manifest.told_before,
            start=recording.start,
        )  # fmt: skip
        for moment, event in enumerate(events, start=1):
            if moment == kill_at:
                raise Killed
            if isinstance(event, Decoded):
                recording.add(to_bytes(event.pixels), event.snapshot)
                made.append(event.snapshot.chunk - 1)
                if seen is not None:
                    seen.append(len(list(frames_of(recording.film))))
        recording.finish({"title": "x"})
    return made


def film_of(folder):
    return folder.path.with_suffix(".mp4").read_bytes()


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """Where the first test that wants it leaves a take that nothing disturbed."""
    return tmp_path_factory.mktemp("takes")


@pytest.fixture
def calm(parts, undisturbed, tmp_path):
    """A copy of a take that nothing disturbed."""
    if not list(undisturbed.iterdir()):
        run(parts, TakeFolder(undisturbed / "calm"))
    shutil.copytree(undisturbed, tmp_path, dirs_exist_ok=True)
    return TakeFolder(tmp_path / "calm")


def damage(path, at=0.5):
    raw = bytearray(path.read_bytes())
    raw[int(len(raw) * at)] ^= 1
    path.write_bytes(raw)


def test_frames_come_chunk_by_chunk_and_end_with_the_film(parts):
    take, decoder = parts
    events = list(film(take, condition, decoder, FRAMES, notes=lambda _: {}))
    assert [type(event) for event in events] == [Step, Step, Decoded] * CHUNKS
    counts = [(event.wanted, len(event.pixels)) for event in events if isinstance(event, Decoded)]
    assert counts == [(9, 9), (8, 8), (8, 8), (5, 8)]


def test_streamed_decoding_is_decoding_at_once(parts):
    take, decoder = parts
    events = [
        e for e in film(take, condition, decoder, 25, notes=lambda _: {}) if isinstance(e, Decoded)
    ]
    rolled = list(take.roll(condition, range(3)))
    whole = torch.cat([e.latents for e in rolled if not isinstance(e, Step)], dim=2)
    pixels = torch.cat([event.pixels for event in events])
    assert torch.allclose(pixels, decoder.decode(whole)[0], atol=1e-5)


def test_the_film_can_be_watched_while_it_grows(parts, tmp_path):
    seen = []
    run(parts, TakeFolder(tmp_path / "take"), seen=seen)
    # The last frame so far waits for the next, which tells how long it is shown.
    assert seen == [8, 16, 24, 29]


def test_the_finished_film_has_all_frames_and_tells_of_itself(calm):
    pixels, fps = read_video(calm.path.with_suffix(".mp4"))
    assert (len(pixels), fps) == (FRAMES, 16.0)
    assert read_metadata(calm.path.with_suffix(".mp4"))["title"] == "x"


@pytest.mark.parametrize("kill_at", range(1, 3 * CHUNKS + 1))
def test_a_take_killed_at_any_moment_ends_with_the_bytes_of_the_undisturbed_one(
    parts, calm, tmp_path, kill_at
):
    folder = TakeFolder(tmp_path / "rough")
    with pytest.raises(Killed):
        run(parts, folder, kill_at=kill_at)
    assert run(parts, folder) == list(range((kill_at - 1) // 3, CHUNKS))
    assert film_of(folder) == film_of(calm)


@pytest.mark.faults
@pytest.mark.parametrize("write", range(1, 3 * CHUNKS + 4))
def test_row_2_a_kill_between_any_two_files_loses_at_most_a_chunk(
    parts, calm, tmp_path, monkeypatch, write
):
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
            run(parts, folder)
    made = run(parts, folder)
    # Three renames a chunk: the encoder's, the segment's name, the state; the end has two more.
    assert made == list(range(min((write - 1) // 3, CHUNKS - (write <= 14)), CHUNKS))
    assert film_of(folder) == film_of(calm)


def test_the_two_newest_states_stay_and_those_asked_for(parts, calm, tmp_path):
    folder = TakeFolder(tmp_path / "kept")
    # Every half second: the borders at 9 and 17 frames are the first from 0.5 and 1 s on.
    run(parts, folder, manifest=replace(PLAIN, keep_every_s=0.5))
    assert calm.states() == [3, 4]
    assert folder.states() == [1, 2, 3, 4]


@pytest.mark.faults
@pytest.mark.parametrize("sync", range(1, 30, 3))
def test_row_14_a_failing_disk_is_never_taken_for_done(parts, calm, tmp_path, monkeypatch, sync):
    folder = TakeFolder(tmp_path / "rough")
    syncs = []

    def failing(descriptor):
        syncs.append(descriptor)
        if len(syncs) == sync:
            raise OSError(errno.EIO, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr("os.fsync", failing)
        with pytest.raises(OutputError, match="Input/output error"):
            run(parts, folder)
    before = {path: path.read_bytes() for path in folder.path.iterdir()}
    run(parts, folder)
    assert film_of(folder) == film_of(calm)
    # What stood before the failure was whole: nothing of it was made again with other bytes.
    assert all(path.read_bytes() == raw for path, raw in before.items() if path.exists())


@pytest.mark.faults
def test_row_58_the_24th_chunk_needs_no_more_memory_than_the_3rd(parts, tmp_path):
    manifest = replace(PLAIN, settings=replace(PLAIN.settings, frames=1 + 8 * 26))
    pages = []

    def resident(folder, *arguments, **options):
        pages.append(int(Path("/proc/self/statm").read_text().split()[1]))
        return TakeFolder.add(folder, *arguments, **options)

    folder = TakeFolder(tmp_path / "take")
    folder.add = resident.__get__(folder)
    run(parts, folder, manifest=manifest)
    assert len(pages) == 26
    assert pages[23] / pages[2] <= 1.05


def test_row_54_a_damaged_state_costs_a_chunk_and_not_the_bytes(parts, calm):
    before = film_of(calm)
    damage(calm.state(4))
    assert run(parts, calm) == [3]
    assert film_of(calm) == before


def test_row_54_without_any_state_that_can_be_read_the_take_begins_again(parts, calm):
    before = film_of(calm)
    for chunk in calm.states():
        damage(calm.state(chunk))
    assert run(parts, calm) == [0, 1, 2, 3]
    assert film_of(calm) == before


def test_row_54_the_state_of_another_take_is_not_gone_on_from(parts, calm, tmp_path):
    other = TakeFolder(tmp_path / "other")
    manifest = replace(PLAIN, settings=replace(PLAIN.settings, seed=6))
    run(parts, other, manifest=manifest)
    before = film_of(calm)
    shutil.copy(other.state(4), calm.state(4))
    with Recording(calm, tmp_path / "x.mp4", PLAIN, WHO) as recording:
        assert "state-000004.safetensors is the state of another take" in recording.notes[0]
    shutil.copy(calm.state(3), calm.state(4))
    assert run(parts, calm) == [3]
    assert film_of(calm) == before


@pytest.mark.parametrize("harm", ["flip", "cut", "remove"])
@pytest.mark.parametrize("chunk", [0, 2, 3])
def test_row_54_a_damaged_segment_is_noticed_and_made_again(parts, tmp_path, chunk, harm):
    folder = TakeFolder(tmp_path / "take")
    manifest = replace(PLAIN, keep_every_s=0.5)
    run(parts, folder, manifest=manifest)
    before = film_of(folder)
    path = folder.pieces()[segment_name(chunk)]
    if harm == "flip":
        damage(path)
    elif harm == "cut":
        path.write_bytes(path.read_bytes()[:-7])
    else:
        path.unlink()
    with Recording(folder, tmp_path / "other.mp4", manifest, WHO) as recording:
        assert segment_name(chunk) in recording.notes[-1]
    assert run(parts, folder, manifest=manifest) == list(range(chunk, CHUNKS))
    assert film_of(folder) == before


def test_row_54_a_damaged_end_is_made_again(parts, calm):
    before = film_of(calm)
    damage(calm.pieces()[end_name(FRAMES)])
    assert run(parts, calm) == [3]
    assert film_of(calm) == before


@pytest.mark.parametrize(
    ("change", "word"), [({"model_hash": "b" * 64}, "model_hash"), ({"precision": "bf16"}, "bf16")]
)
def test_row_54_other_weights_are_refused_before_anything_is_touched(parts, tmp_path, change, word):
    folder = TakeFolder(tmp_path / "take")
    with pytest.raises(Killed):
        run(parts, folder, kill_at=2)  # not even a state is there
    with pytest.raises(StateError, match=word):
        run(parts, folder, who=replace(WHO, **change))


def test_a_longer_take_begins_with_the_pieces_of_a_shorter_one(parts, calm, tmp_path):
    long = replace(PLAIN, settings=replace(PLAIN.settings, frames=50))
    whole, grown = TakeFolder(tmp_path / "whole"), TakeFolder(tmp_path / "grown")
    run(parts, whole, manifest=long)
    grown.begin()
    assert fork(calm, grown, PLAIN, CHUNKS, WHO) == CHUNKS
    # The frames that the shorter film cut off come first, and nothing is made twice.
    assert run(parts, grown, manifest=long) == [4, 5, 6]
    assert film_of(grown) == film_of(whole)


def test_a_fork_goes_back_to_the_newest_state_before_it(parts, tmp_path):
    old, new = TakeFolder(tmp_path / "old"), TakeFolder(tmp_path / "new")
    run(parts, old, manifest=replace(PLAIN, keep_every_s=1.0))
    assert old.states() == [2, 3, 4]
    new.begin()
    assert fork(old, new, PLAIN, 1, WHO) == 0
    assert fork(old, new, PLAIN, 3, WHO) == 3
    assert set(new.pieces()) == {segment_name(n) for n in range(3)}
    assert run(parts, new) == [3]
    assert film_of(new) == film_of(old)


def test_a_take_after_another_film_needs_that_film_and_its_first_state(parts, tmp_path):
    folder = TakeFolder(tmp_path / "after")
    folder.begin()
    folder.store(HEAD, [torch.zeros(5, 64, 96, 3, dtype=torch.uint8)])
    folder.state(2).write_bytes(b"")
    manifest = replace(PLAIN, begins=2, before=5)
    assert (manifest.frames, manifest.made_s(2)) == (30 - 17 + 5, 5 / 16)
    with pytest.raises(StateError, match="nothing older is left to go on from"):
        run(parts, folder, manifest=manifest)
    damage(folder.pieces()[HEAD])
    with pytest.raises(StateError, match="head.*damaged"):
        run(parts, folder, manifest=manifest)


def test_a_folder_is_removed_with_what_is_its_own_and_nothing_else(calm):
    write_manifest(calm.path, PLAIN)
    (calm.path / "mine.txt").write_text("keep")
    calm.remove()
    assert [path.name for path in calm.path.iterdir()] == ["mine.txt"]
    (calm.path / "mine.txt").unlink()
    calm.remove()
    assert not calm.path.exists()


@pytest.mark.parametrize(
    ("every", "kept"),
    [(0, []), (0.5, [1, 2, 3, 4]), (1.0, [2, 4]), (1.5, [3]), (1e-6, [1, 2, 3, 4]), (90, [])],
)
def test_states_stay_at_the_first_border_at_or_after_each_so_many_seconds(every, kept):
    assert sorted(replace(PLAIN, keep_every_s=every).kept) == kept


def test_a_manifest_comes_back_as_it_was(tmp_path):
    write_manifest(tmp_path, PLAIN)
    assert read_manifest(tmp_path) == PLAIN


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "damaged"),
        ("[]", "no format number"),
        ("{}", "no format number"),
        ('{"format": 2}', "of a newer release; this one reads format 1"),
        ('{"format": 1}', "lacks the setting"),
        ('{"format": 1, "__class__": "os.system"}', "unknown setting"),
        ("[" * 100_000, "damaged"),
    ],
)
def test_row_54_a_damaged_manifest_is_refused_by_name(tmp_path, text, complaint):
    (tmp_path / "take.json").write_text(text)
    with pytest.raises(StateError, match=f"take.json.*{complaint}"):
        read_manifest(tmp_path)


def test_a_manifest_cannot_lead_out_of_its_folder(tmp_path):
    write_manifest(tmp_path, replace(PLAIN, film="../film.mp4"))
    with pytest.raises(StateError, match="leads elsewhere"):
        read_manifest(tmp_path)


def test_a_folder_without_a_take_is_told(tmp_path):
    with pytest.raises(StateError, match="there is no take in"):
        read_manifest(tmp_path)


def test_a_playlist_is_not_opened_as_a_film(tmp_path, calm):
    path = tmp_path / "x.mp4"
    path.write_text(f"ffconcat version 1.0\nfile {calm.path.with_suffix('.mp4')}\n")
    with pytest.raises(MediaError, match="no mp4, mov, mkv or webm"):
        next(frames_of(path))
