"""Films larger than a model was trained on are made over small ones."""

from dataclasses import replace

import pytest
import torch

from longtake.config import Refine, SampleConfig
from longtake.errors import SettingError
from longtake.evaluate.round_trip import round_trip
from longtake.pipeline import Border, Frames, Pipeline, Progress, build
from longtake.rollout.cascade import Cascade, resized
from longtake.rollout.disk import HEADER_BYTES, state_bytes
from longtake.rollout.pixels import cut, from_bytes, padded, to_bytes
from longtake.rollout.snapshot import load_snapshot, save_snapshot

LARGE = SampleConfig(width=160, height=120, frames=30, steps=4, seed=7)
"""Made at 160x128, over a film of 96x64."""
PROMPT = "a red ball bounces"
PICTURE = torch.randint(
    0, 256, (120, 160, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(3)
)


def pipeline(tiny, level=0.5):
    torch.manual_seed(0)
    config = replace(tiny, chunk=2, max_frames=200, refine=Refine(width=96, height=64, level=level))
    parts = build(config)
    torch.nn.init.normal_(parts[1].head.weight, std=0.1)
    for part in parts:
        part.eval().requires_grad_(False)
    return Pipeline(name="tiny", model_hash="0" * 64, config=config, parts=parts)


@pytest.fixture
def pipe(tiny):
    return pipeline(tiny)


def film(pipe, picture=None, start=None, **changes):
    events = pipe.stream(PROMPT, replace(LARGE, **changes), picture=picture, start=start)
    return torch.cat([event.pixels for event in events if isinstance(event, Frames)])


def borders(pipe, **changes):
    events = pipe.stream(PROMPT, replace(LARGE, **changes))
    return [event for event in events if isinstance(event, Border)]


def test_a_film_hardly_noised_is_the_small_one_enlarged(tiny):
    pipe, noisier = pipeline(tiny, level=0.01), pipeline(tiny, level=0.9)
    small = pipe.generate(PROMPT, settings=replace(LARGE, width=96, height=64)).frames
    coder = pipe.autoencoder
    enlarged = resized(from_bytes(small[:25])[None], 128, 160)
    wanted = cut(coder.decode(coder.encode(enlarged))[0], 160, 120)
    off, more = (
        (from_bytes(film(one, frames=25)) - wanted).abs().mean() for one in (pipe, noisier)
    )
    assert 20 * off < more


def test_steps_of_both_sizes_are_counted(pipe):
    told = [e for e in pipe.stream(PROMPT, LARGE) if isinstance(e, Progress) and e.total > 1]
    assert [event.step for event in told] == list(range(1, 21))
    assert told[-1].total == 20


def test_a_small_film_is_made_as_without_a_cascade(tiny, pipe):
    plain = pipeline(tiny)
    plain.config = replace(plain.config, refine=None)
    same = {"width": 96, "height": 88}
    assert torch.equal(film(pipe, **same), film(plain, **same))
    assert not torch.equal(film(pipe), film(plain))
    assert borders(pipe, **same)[0].snapshot.sketch is None


@pytest.mark.parametrize("frames", [9, 17, 25])
def test_a_shorter_large_film_is_the_beginning_of_a_longer_one(pipe, frames):
    assert torch.equal(film(pipe, frames=frames), film(pipe)[:frames])


def test_a_large_film_goes_on_from_the_file_of_any_border_to_the_same_bytes(pipe, tmp_path):
    whole = film(pipe)
    for border in borders(pipe)[:-1]:
        path = tmp_path / "state.safetensors"
        save_snapshot(path, border.snapshot, pipe.identity)
        read = load_snapshot(path, pipe.identity)
        rest = film(pipe, start=read)
        assert len(rest) == 30 - (1 + 8 * read.chunk)
        assert torch.equal(rest, whole[-len(rest) :])


def test_only_states_of_large_films_need_the_newer_format(pipe, tmp_path, monkeypatch):
    plain, large = tmp_path / "plain", tmp_path / "large"
    save_snapshot(plain, borders(pipe, width=96, height=64)[0].snapshot, pipe.identity)
    save_snapshot(large, borders(pipe)[0].snapshot, pipe.identity)
    monkeypatch.setattr("longtake.rollout.snapshot.FORMAT", 1)
    assert load_snapshot(plain, pipe.identity).chunk == 1
    with pytest.raises(Exception, match="format 2 of a newer release"):
        load_snapshot(large, pipe.identity)


def test_the_bytes_do_not_depend_on_the_number_of_threads(pipe):
    before, films = torch.get_num_threads(), []
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            films.append(film(pipe))
    finally:
        torch.set_num_threads(before)
    assert torch.equal(*films)


@pytest.mark.parametrize("side", [704, 736])
def test_frames_are_enlarged_to_the_same_bytes_on_any_number_of_threads(side):
    before, made = torch.get_num_threads(), []
    frames = torch.rand(1, 5, 256, 448, 3, generator=torch.Generator().manual_seed(1))
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            made.append(resized(frames, side, 1280))
    finally:
        torch.set_num_threads(before)
    assert torch.equal(made[0], made[1])
    assert torch.equal(made[0], made[2])


def test_a_picture_stays_frame_0_of_a_large_film(pipe):
    made, coder = film(pipe, PICTURE), pipe.autoencoder
    whole = padded(from_bytes(PICTURE)[None], 160, 128)[None]
    given = to_bytes(cut(coder.decode(coder.encode(whole))[0], 160, 120))
    assert (made[0].int() - given[0].int()).abs().max() <= 1
    first = next(e for e in pipe.stream(PROMPT, LARGE, picture=PICTURE) if isinstance(e, Border))
    assert torch.equal(film(pipe, start=first.snapshot), made[9:])
    assert not torch.equal(made[1:], film(pipe)[1:])


def test_a_large_film_of_any_frames_is_gone_on_from(pipe):
    known = film(pipe, frames=17)
    border = pipe.remember(known, PROMPT, LARGE)
    assert border.sketch is not None
    assert border.sketch.state.latent_frames == border.state.latent_frames == 5
    after = film(pipe, start=border)
    assert after.shape == (13, 120, 160, 3)
    # The small film below has seen the frames too, so that it does not begin anew.
    anew = replace(border, sketch=borders(pipe, seed=9)[1].snapshot.sketch)
    assert not torch.equal(film(pipe, start=anew), after)


def test_a_state_of_a_large_film_is_as_large_as_told(pipe, tmp_path):
    path = tmp_path / "state.safetensors"
    save_snapshot(path, borders(pipe)[1].snapshot, pipe.identity)
    told = state_bytes(pipe.config, LARGE, 4)
    assert told - 2 * HEADER_BYTES < path.stat().st_size <= told


@pytest.mark.parametrize(
    ("large", "small"),
    [
        ((1280, 736), (448, 256)), ((1280, 704), (448, 256)), ((736, 1280), (256, 448)),
        ((832, 480), (448, 256)), ((1024, 1024), (352, 352)), ((4096, 64), (2720, 64)),
        ((448, 256), None), ((512, 320), None), ((320, 192), None),
    ],
)  # fmt: skip
def test_the_small_film_has_the_pixels_it_was_trained_on_in_the_large_ones_shape(large, small):
    assert Refine(width=448, height=256).small(*large) == small


@pytest.mark.parametrize(
    "change", [{"level": 0}, {"level": 1.1}, {"above": 0.5}, {"width": 450}, {"height": 0}]
)
def test_a_cascade_that_cannot_be_is_refused(change):
    with pytest.raises(SettingError, match=next(iter(change))):
        Refine(**{"width": 448, "height": 256} | change)


def test_a_film_between_two_cells_is_the_middle_of_what_was_made(pipe):
    wide = film(pipe, width=96, height=64, frames=9)
    narrow = film(pipe, width=88, height=64, frames=9)
    assert torch.equal(narrow, wide[:, :, 4:92])


@pytest.mark.parametrize(("width", "height"), [(160, 120), (152, 128), (160, 128), (136, 104)])
def test_what_is_put_around_frames_is_cut_off_again(width, height):
    frames = torch.rand(2, height, width, 3)
    whole = padded(frames, 160, 128)
    assert whole.shape == (2, 128, 160, 3)
    assert torch.equal(cut(whole, width, height), frames)
    assert torch.equal(whole[:, 0, 80], frames[:, 0, 80 - (160 - width) // 2])


def test_true_films_between_two_cells_go_through_the_autoencoder_too(pipe):
    clips = torch.randint(0, 256, (2, 9, 120, 160, 3), dtype=torch.uint8)
    made = round_trip(pipe.autoencoder, clips)
    assert made.shape == clips.shape
    whole = torch.stack([padded(from_bytes(clip), 160, 128) for clip in clips])
    back = to_bytes(pipe.autoencoder.decode(pipe.autoencoder.encode(whole)))
    assert (back[:, :, 4:124].int() - made.int()).abs().max() <= 1


def test_a_take_is_a_cascade_only_above_the_size_it_was_trained_on(pipe):
    assert isinstance(pipe._take(LARGE, ()), Cascade)
    assert not isinstance(pipe._take(replace(LARGE, width=96, height=64), ()), Cascade)
