"""Takes of chunks on a tiny model with random weights."""

from dataclasses import replace

import pytest
import torch

from longtake import flow
from longtake.checkpoints import save_state
from longtake.config import Cue
from longtake.errors import SettingError, StateError, WeightsError
from longtake.model import Transformer
from longtake.quantize import codec
from longtake.rollout.cues import faded
from longtake.rollout.film import replay
from longtake.rollout.grid import Grid
from longtake.rollout.numerics import numerics_hash
from longtake.rollout.snapshot import Identity, Snapshot, load_snapshot, save_snapshot
from longtake.rollout.take import Committed, Step, Take
from longtake.samplers import sampler_of
from longtake.vae import Autoencoder
from longtake.vae.autoencoder import StreamCache

GRID = Grid(2)
STEPS = 3
WHO = Identity(
    model_hash="a" * 64, precision="fp32", device="cpu", processor="AVX2", torch="2.0",
    numerics="c" * 64,
)  # fmt: skip


@pytest.fixture(params=["linear", "block"])
def transformer(tiny, request):
    model = Transformer(replace(tiny.transformer, attention=request.param)).eval()
    torch.nn.init.normal_(model.head.weight, std=0.1)
    for block in model.blocks:
        torch.nn.init.normal_(block.feed_forward.temporal.weight, std=0.05)
    return model.requires_grad_(False)


def conditions(chunk=0):
    generator = torch.Generator().manual_seed(int(chunk))
    text = torch.randn(2, 4, 24, generator=generator)
    return text, torch.tensor([[True] * 4, [True, False, False, False]])


def make(model, chunks, state=None, seed=3, guidance=2.0, condition=lambda _: conditions()):
    take = Take(
        transformer=model, grid=GRID, sampler=sampler_of("dpm"), sigmas=flow.schedule(STEPS, 3.0),
        guidance=guidance, size=(2, 3), seed=seed,
    )  # fmt: skip
    return list(take.roll(condition, chunks, state))


def finished(events):
    return [event for event in events if isinstance(event, Committed)]


def latents(events):
    return torch.cat([event.latents for event in finished(events)], dim=2)


@pytest.mark.parametrize("size", range(1, 8))
def test_the_grid_covers_every_frame_once(size):
    grid = Grid(size)
    frames = [frame for chunk in range(5) for frame in grid.frames(chunk)]
    assert frames == list(range(1 + 4 * (1 + 5 * size - 1)))
    many = [frame for chunk in range(5) for frame in grid.latent_frames(chunk)]
    assert many == list(range(1 + 5 * size))


@pytest.mark.parametrize("frames", [1, 2, 9, 10, 81, 161, 961])
def test_as_many_chunks_are_made_as_the_frames_need(frames):
    chunks = GRID.chunks(frames)
    assert GRID.frames(chunks - 1).stop >= frames
    assert chunks == 1 or GRID.frames(chunks - 2).stop < frames


@pytest.mark.parametrize("size", range(1, 8))
@pytest.mark.parametrize("seconds", [0.0625, 0.3, 1, 1.25, 4.99, 20, 59.9])
def test_what_is_said_of_a_time_holds_from_the_first_border_at_or_after_it(size, seconds):
    grid = Grid(size)
    chunk = grid.chunk_at(seconds)
    assert grid.begins_s(chunk) >= seconds
    assert grid.begins_s(chunk - 1) < seconds
    assert grid.chunk_at(0) == 0


@pytest.mark.parametrize("size", [0, 8, -1])
def test_a_chunk_of_no_or_too_many_latent_frames_is_refused(size):
    with pytest.raises(SettingError, match=f"1 to 7 latent frames, got {size}"):
        Grid(size)


def test_every_chunk_tells_its_steps_and_then_commits(transformer):
    events = make(transformer, range(2))
    told = [(event.chunk, getattr(event, "step", "done")) for event in events]
    assert told == [(0, 1), (0, 2), (0, 3), (0, "done"), (1, 1), (1, 2), (1, 3), (1, "done")]
    assert isinstance(events[0], Step)
    assert [event.state.latent_frames for event in finished(events)] == [3, 5]


def test_a_shorter_take_is_the_beginning_of_a_longer_one(transformer):
    assert torch.equal(
        latents(make(transformer, range(2))), latents(make(transformer, range(5)))[:, :, :5]
    )


@pytest.mark.parametrize("cut", [1, 2, 3])
def test_a_take_split_anywhere_has_the_same_bytes(transformer, cut):
    whole = make(transformer, range(4))
    first = make(transformer, range(cut))
    rest = make(transformer, range(cut, 4), finished(first)[-1].state)
    assert torch.equal(latents(first + rest), latents(whole))


def test_a_rollout_leaves_the_state_it_started_from_as_it_was(transformer):
    state = finished(make(transformer, range(1)))[-1].state
    before = [layer.memory.sums.clone() for layer in state.layers]
    make(transformer, range(1, 3), state)
    assert all(torch.equal(a, b.memory.sums) for a, b in zip(before, state.layers, strict=True))


def test_another_seed_makes_another_take_and_the_same_seed_the_same(transformer):
    one, same, other = (latents(make(transformer, range(2), seed=s)) for s in (3, 3, 4))
    assert torch.equal(one, same)
    assert not torch.allclose(one, other, atol=0.1)


def test_a_prompt_that_changes_at_a_chunk_changes_nothing_before_it(transformer):
    plain = latents(make(transformer, range(3)))
    changed = latents(make(transformer, range(3), condition=lambda chunk: conditions(chunk >= 2)))
    assert torch.equal(plain[:, :, :5], changed[:, :, :5])
    assert not torch.equal(plain[:, :, 5:], changed[:, :, 5:])


def test_without_guidance_the_state_holds_the_prompt_alone(transformer):
    state = finished(make(transformer, range(1), guidance=1.0))[-1].state
    assert {len(layer.frame) for layer in state.layers} == {1}


@pytest.mark.parametrize("sampler", ["dpm", "euler"])
def test_a_picture_is_kept_exactly_and_changes_what_follows(transformer, sampler):
    picture = torch.randn(1, 8, 1, 2, 3)
    take = Take(
        transformer=transformer, grid=GRID, sampler=sampler_of(sampler), guidance=2.0,
        sigmas=flow.schedule(STEPS, 3.0), size=(2, 3), seed=3, picture=picture,
    )  # fmt: skip
    made = latents(list(take.roll(lambda _: conditions(), range(2))))
    assert torch.equal(made[:, :, :1], picture)
    plain = latents(list(replace(take, picture=None).roll(lambda _: conditions(), range(2))))
    assert not torch.equal(made[:, :, 1:], plain[:, :, 1:])


def test_replayed_history_is_what_a_take_would_remember_of_it(transformer, tiny):
    coder = Autoencoder(tiny.autoencoder).eval().requires_grad_(False)
    pixels = torch.rand(17, 64, 96, 3) * 2 - 1
    take = Take(
        transformer=transformer, grid=GRID, sampler=sampler_of("dpm"), guidance=2.0,
        sigmas=flow.schedule(STEPS, 3.0), size=(2, 3), seed=3,
    )  # fmt: skip
    found = replay(take, conditions(), coder, pixels, notes={})
    whole = coder.encode(pixels[None])
    state = take.commit(whole[:, :, :3], conditions(), None)
    state = take.commit(whole[:, :, 3:], conditions(), state)
    assert (found.chunk, found.state.latent_frames) == (2, 5)
    for one, other in zip(found.state.layers, state.layers, strict=True):
        assert torch.allclose(one.memory.sums, other.memory.sums, atol=1e-4)
    cache = StreamCache()
    coder.decode(whole, cache)
    for one, other in zip(found.decoder.blocks, cache.blocks, strict=True):
        assert torch.allclose(one, other, atol=1e-4)


def snapshot(transformer, tiny, chunks):
    done = finished(make(transformer, range(chunks)))[-1]
    cache = StreamCache()
    decoder = Autoencoder(tiny.autoencoder).eval()
    with torch.no_grad():
        decoder.decode(done.latents, cache)
    return Snapshot(chunk=chunks, state=done.state, decoder=cache, notes={"prompt": "a ball"})


def test_a_take_goes_on_from_a_snapshot_to_the_same_bytes(transformer, tiny, tmp_path):
    kept = snapshot(transformer, tiny, 2)
    save_snapshot(tmp_path / "state.safetensors", kept, WHO)
    found = load_snapshot(tmp_path / "state.safetensors", WHO)
    assert (found.chunk, found.notes) == (2, {"prompt": "a ball"})
    for one, other in zip(found.decoder.blocks, kept.decoder.blocks, strict=True):
        assert torch.equal(one, other)
    rest = make(transformer, range(found.chunk, 4), found.state)
    assert torch.equal(latents(rest), latents(make(transformer, range(4)))[:, :, 5:])


def test_a_snapshot_has_the_same_size_after_one_chunk_as_after_twenty(transformer, tiny, tmp_path):
    sizes = set()
    for chunks in (1, 20):
        path = tmp_path / f"{chunks}.safetensors"
        kept = replace(snapshot(transformer, tiny, chunks), chunk=20)
        state = kept.state._replace(latent_frames=41)
        save_snapshot(path, replace(kept, state=state), WHO)
        sizes.add(path.stat().st_size)
    assert len(sizes) == 1


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"model_hash": "b" * 64}, "made with model_hash aaaa.* this is bbbb"),
        ({"precision": "bf16"}, "made with precision fp32, this is bf16; use --precision fp32"),
        ({"device": "cuda"}, "made with device cpu, this is cuda.*--allow-different"),
        ({"torch": "3.0"}, "made with torch 2.0, this is 3.0.*--allow-different"),
        ({"processor": "AVX512"}, "made with processor AVX2, this is AVX512.*--allow-different"),
        ({"numerics": "d" * 64}, "made with numerics cccc.*this is dddd.*--allow-different"),
    ],
)
def test_a_snapshot_of_another_model_or_arithmetic_is_refused_by_name(
    transformer, tiny, tmp_path, change, complaint
):
    path = tmp_path / "state.safetensors"
    save_snapshot(path, snapshot(transformer, tiny, 1), WHO)
    with pytest.raises(StateError, match=complaint):
        load_snapshot(path, replace(WHO, **change))


def test_other_arithmetic_is_taken_if_it_is_allowed_and_other_weights_never(
    transformer, tiny, tmp_path
):
    path = tmp_path / "state.safetensors"
    save_snapshot(path, snapshot(transformer, tiny, 1), WHO)
    assert load_snapshot(path, replace(WHO, torch="3.0"), allow_different=True).chunk == 1
    with pytest.raises(StateError, match="model_hash"):
        load_snapshot(path, replace(WHO, model_hash="b" * 64), allow_different=True)


@pytest.mark.parametrize("where", [0.1, 0.5, 0.9])
def test_a_flipped_bit_or_a_lost_end_is_refused(transformer, tiny, tmp_path, where):
    path = tmp_path / "state.safetensors"
    save_snapshot(path, snapshot(transformer, tiny, 1), WHO)
    raw = bytearray(path.read_bytes())
    at = int(len(raw) * where)
    path.write_bytes(raw[:at])
    with pytest.raises(WeightsError):
        load_snapshot(path, WHO)
    raw[at] ^= 4
    path.write_bytes(raw)
    with pytest.raises((WeightsError, StateError)):
        load_snapshot(path, WHO)


def test_a_newer_format_is_refused_and_so_is_the_state_of_a_training_run(
    transformer, tiny, tmp_path, monkeypatch
):
    path = tmp_path / "state.safetensors"
    with monkeypatch.context() as patch:
        patch.setattr("longtake.rollout.snapshot.PLAIN", 3)
        save_snapshot(path, snapshot(transformer, tiny, 1), WHO)
    with pytest.raises(StateError, match="format 3 of a newer release; this one reads up to 2"):
        load_snapshot(path, WHO)
    save_state(path, {"x": torch.ones(2)}, {"step": "7"})
    with pytest.raises(StateError, match="the state of something else"):
        load_snapshot(path, WHO)


def test_a_prompt_that_gains_weight_is_blended_chunk_by_chunk():
    def said(value, tokens):
        mask = torch.zeros(2, 6, dtype=torch.bool)
        mask[:, :tokens] = True
        return torch.full((2, 6, 3), value), mask

    before, after = said(1.0, 2), said(3.0, 4)
    cue = Cue(at_s=1, text="blue", over_s=1.5)
    made = faded([(0, before), (2, after)], [cue], Grid(2))
    assert [chunk for chunk, _ in made] == [0, 2, 3, 4, 5]
    weights = [float(text[0, 3, 0]) / 3 for _, (text, _) in made]
    assert weights == pytest.approx([1 / 3, 0.25, 0.5, 0.75, 1])
    assert [float(text[0, 0, 0]) for _, (text, _) in made] == [1, 1.5, 2, 2.5, 3]
    assert all(mask.sum() == 8 for _, (_, mask) in made[1:])


def test_a_prompt_that_gains_no_time_holds_at_once():
    one, other = [(0, (torch.zeros(2, 3, 3), torch.ones(2, 3, dtype=torch.bool)))], []
    assert faded(one, other, Grid(2)) == tuple(one)


def test_a_fingerprint_tells_which_layers_are_in_few_bits_and_how_they_are_rounded(monkeypatch):
    cpu, plain = torch.device("cpu"), torch.float32
    hashes = [numerics_hash(cpu, plain, low) for low in (None, "fp8", "nvfp4", "nvfp4")]
    assert len(set(hashes)) == 3
    monkeypatch.setattr(codec, "STEPS", ())
    assert numerics_hash(cpu, plain, "nvfp4") not in hashes
    assert numerics_hash(cpu, plain) == hashes[0]
