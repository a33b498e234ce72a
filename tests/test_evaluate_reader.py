"""The reader tells what is true of renders, and refuses what is no film of the world."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from longtake.errors import MediaError, ModelError
from longtake.evaluate.reader.background import NUM_FIT, candidates, read_camera
from longtake.evaluate.reader.colours import EXPLAINED, tables, to_lab
from longtake.evaluate.reader.films import FINE, HEIGHT, RATE, look_at, to_height
from longtake.evaluate.reader.finder import NOBODY, SCENE_HEADS, Finder
from longtake.evaluate.reader.network import (
    ALL_NAMES,
    HEADS,
    ReaderNetwork,
    SubjectReader,
    brightening,
    views_of,
)
from longtake.evaluate.reader.parser import parse, place_all
from longtake.evaluate.reader.read import (
    Reader,
    detail_of,
    load_reader,
    lowest_moments,
    slot_places,
    turn_settled,
)
from longtake.evaluate.reader.segments import find_tracks, ranked_pieces, vivid_map
from longtake.evaluate.reader.turning import Turning, circles, turning
from longtake.evaluate.scope import CAMERAS, COLOURS, GROUNDS, LIGHTS, SHOTS, VIVID
from longtake.world import render, sample_scenes
from longtake.world.render import render_ids
from longtake.world.scene import Subject
from longtake.world.written import scene_of

SIZE = {"frames": 9, "fps": RATE, "height": HEIGHT, "width": 224, "samples": 1}


def film_of(scenes, index=0, frames=9):
    return look_at(render(scenes.select(index), **(SIZE | {"frames": frames}))[0], RATE)


def scene(*subjects, **place):
    return scene_of(list(subjects), **place)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("light", "ground"),
    [(LIGHTS[n % len(LIGHTS)].name, entry.name) for n, entry in enumerate(GROUNDS)],
)
def test_parser_tells_light_and_ground(light, ground):
    pair = Subject(kind="cube", colour="red"), Subject(kind="sphere", colour="cyan")
    parsed = parse(film_of(scene(*pair, light=light, ground=ground)))
    assert (parsed.light, parsed.ground) == (light, ground)
    assert sorted(COLOURS[track.colour].name for track in parsed.tracks) == ["cyan", "red"]
    assert parsed.explained


@pytest.mark.parametrize("camera", [entry.name for entry in CAMERAS])
def test_parser_tells_every_camera_move(camera):
    ball = Subject(kind="sphere", colour="red", motion="left_to_right")
    parsed = parse(film_of(scene(ball, camera=camera, light="night"), frames=21))
    # How far off the scene is, and who stays in the middle, is told from elsewhere.
    seen = CAMERAS[candidates().cameras[parsed.camera.best_of(shot=0)]].name
    assert seen == camera or {seen, camera} <= {"follow", "truck_left", "truck_right"}


@pytest.mark.parametrize("colour", [entry.name for entry in COLOURS[:VIVID]])
def test_parser_finds_every_vivid_colour_once(colour):
    parsed = parse(film_of(scene(Subject(kind="cube", colour=colour), light="sunset")))
    assert [COLOURS[track.colour].name for track in parsed.tracks] == [colour]
    assert parsed.colours == (colour,)


@pytest.mark.parametrize("colour", [entry.name for entry in COLOURS])
def test_rules_tell_every_colour_of_a_subject_that_is_found(colour):
    made = scene(Subject(kind="cube", colour=colour, size="large"), ground="grass")
    ids = render_ids(made, frames=9, fps=RATE)[0]
    number = [entry.name for entry in COLOURS].index(colour)
    parsed = parse(film_of(made), torch.where(ids == 0, number, -1))
    assert parsed.colours == (colour,)


@pytest.mark.parametrize(
    ("motion", "sign", "camera"),
    [
        ("left_to_right", (1, 0), "pan_left"),
        ("right_to_left", (-1, 0), "truck_left"),
        ("away", (0, 1), "dolly_in"),
    ],
)
def test_a_way_is_relative_to_the_ground_whatever_the_camera_does(motion, sign, camera):
    ball = Subject(kind="sphere", colour="red", motion=motion)
    film = render(scene(ball, camera=camera), **(SIZE | {"frames": 21}))[0]
    way = Reader(None).read(film, RATE).subjects[0].way_m
    length = math.hypot(*way)
    assert length > 3
    assert (way[0] * sign[0] + way[1] * sign[1]) / length > math.cos(math.radians(30))


def strange_films():
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 256, (33, 128, 224, 3), dtype=np.uint8)
    grey = np.full((33, 128, 224, 3), 128, dtype=np.uint8)
    bars = np.zeros((33, 128, 224, 3), dtype=np.uint8)
    bars[:, :, ::8] = (255, 0, 255)
    cut = np.where(np.arange(33)[:, None, None, None] % 2, noise, grey).astype(np.uint8)
    return {"noise": noise, "black": 0 * grey, "magenta bars": bars, "flicker": cut,
            "white": 0 * grey + 255}  # fmt: skip


@pytest.mark.parametrize("name", list(strange_films()))
def test_what_is_no_film_of_the_world_is_not_explained(name):
    film = torch.from_numpy(strange_films()[name])
    network = ReaderNetwork().eval().requires_grad_(False)
    reading = Reader(network).read(film, 16.0)
    assert not reading.explained
    assert all(s.kind is None and s.motion is None for s in reading.subjects)
    assert all(math.isfinite(v) for row in reading.features for v in row)


def test_upside_down_films_are_not_explained():
    film = render(scene(Subject(kind="cube", colour="red")), **SIZE)[0].flip(1)
    assert not parse(look_at(film, RATE)).explained


def test_a_network_of_nan_answers_nothing():
    network = ReaderNetwork().requires_grad_(False)
    for head in (*network.subject.heads.values(), *network.finder.heads.values()):
        head.bias.fill_(math.nan)
    reading = Reader(network).read(
        render(scene(Subject(kind="cube", colour="red")), **SIZE)[0], RATE
    )
    told = [*(reading.value(name) for name in SCENE_HEADS)]
    told += [one.value(name) for one in reading.subjects for name in HEADS if name != "slot"]
    assert set(told) == {None}


def test_network_is_finite_with_and_without_anything_to_see():
    film = film_of(scene(Subject(kind="cube", colour="red")))
    parsed = parse(film)
    [subject] = place_all(parsed.tracks, parsed.camera.number, film)
    nowhere = replace(subject.track, seen=torch.zeros_like(subject.track.seen))
    for one in (subject, replace(subject, track=nowhere)):
        logits = SubjectReader()(views_of(film.fine, [one]))
        assert {name: logit.shape for name, logit in logits.items()} == {
            name: (1, count) for name, count in HEADS.items()
        }
        assert all(torch.isfinite(logit).all() for logit in logits.values())


def test_finder_answers_for_cells_and_scene_at_any_width():
    finder = Finder()
    for width in (128, 224, 300):
        found = finder(torch.zeros(2, 9, HEIGHT, width, 3, dtype=torch.uint8))
        assert found.cells.shape == (2, 9, NOBODY + 1, HEIGHT // 2, width // 2)
        for fit in (None, torch.zeros(2, NUM_FIT)):
            told = finder.tell(found, fit)
            assert {n: t.shape for n, t in told.items()} == {
                n: (2, count) for n, count in SCENE_HEADS.items()
            }


def test_moments_behind_the_end_of_a_short_film_are_unlikely():
    film = film_of(scene(Subject(kind="cube", colour="red")))
    parsed = parse(film)
    views = views_of(film.fine, place_all(parsed.tracks, parsed.camera.number, film))
    likely = SubjectReader()(views)["start_s"].softmax(-1)
    assert likely[0, 9:].max() < 1e-4


def test_only_what_changes_on_a_subject_brightens():
    pictures = torch.zeros(1, 3, 40, 40, 4, dtype=torch.uint8)
    pictures[..., 10:30, 10:30, 3] = 255
    pictures[0, 1:, :, :20, :3] = 32
    change = brightening(pictures)
    assert change.shape == (1, 3, 1, 40, 40)
    assert change[0, 1, 0, 10:30, 10:20].eq(1).all()
    assert int(change.count_nonzero()) == 20 * 10


def pictures_of(wave):
    """A bright square on every frame, its columns brightened by a wave of time and place."""
    seconds, place = torch.arange(21)[:, None] / RATE, torch.linspace(-1, 1, 20)
    pictures = torch.zeros(1, 21, 40, 40, 4)
    pictures[..., 10:30, 10:30, 3] = 255
    noise = 2 * torch.randn(21, 1, 20, 1, generator=torch.Generator().manual_seed(0))
    pictures[0, :, 10:30, 10:30, :3] = 120 + wave(seconds, place)[:, None, :, None] + noise
    return pictures.to(torch.uint8)


@pytest.mark.parametrize(
    ("wave", "spins", "rests"),
    [
        (lambda t, x: 12 * torch.sin(4 * math.pi * t / 2.6 + math.pi * x), True, False),
        (lambda t, x: 20 * t + 0 * x, False, True),
        (lambda t, x: 12 * torch.sin(4 * math.pi * t + math.pi * x), False, False),
    ],
)
def test_quarters_that_pass_by_tell_who_spins(wave, spins, rests):
    [turn] = turning(pictures_of(wave), torch.ones(1, 21, dtype=torch.bool))
    assert (turn.spins, turn.rests) == (spins, rests)


def test_who_is_hardly_seen_is_not_told_to_spin():
    seen = torch.arange(21)[None] < 8
    assert turning(pictures_of(lambda t, x: t * x), seen) == [None]


def told(motion="still", kind="cone", start_s=0.0, then=None):
    return {"motion": motion, "kind": kind, "start_s": start_s, "then": then}


SPINNING, RESTING = Turning(share=0.7, strength=8.0), Turning(share=0.1, strength=1.0)


@pytest.mark.parametrize(
    ("answer", "turn", "motion"),
    [
        (told("still"), SPINNING, "spin"),
        (told("spin"), RESTING, "still"),
        (told("spin", kind="car"), RESTING, "spin"),
        (told("bounce"), SPINNING, "bounce"),
        (told("still", then="spin"), SPINNING, "still"),
        (told("still", start_s=2.0), SPINNING, "still"),
        (told("still"), None, "still"),
    ],
)
def test_a_rule_settles_who_spins_and_who_stands_all_the_time(answer, turn, motion):
    assert turn_settled(answer, turn)["motion"] == motion


@pytest.mark.parametrize("motion", ["circle", "still", "left_to_right", "toward"])
def test_a_rule_tells_who_goes_in_a_circle(motion):
    film = film_of(scene(Subject(kind="cone", colour="red", motion=motion)), frames=21)
    parsed = parse(film)
    # A camera that stands does not tell how far off it is, and so how wide a circle is.
    [one] = place_all(parsed.tracks, parsed.camera.best_of(shot=0), film)
    assert circles(one) == (motion == "circle")


def test_network_fits_its_budget():
    assert sum(p.numel() for p in ReaderNetwork().parameters()) * 2 <= 2 * 2**20


def test_reader_without_network_says_how_to_train_it(tmp_path):
    with pytest.raises(ModelError, match=r"train it: python -m longtake\.evaluate\.train_reader"):
        load_reader(tmp_path)


def test_network_of_another_world_is_refused(tmp_path):
    (tmp_path / "reader.json").write_text('{"names": {"kind": ["cube"]}}')
    with pytest.raises(ModelError, match="another world"):
        load_reader(tmp_path)


def test_names_are_the_tables():
    assert {name: len(values) for name, values in ALL_NAMES.items()} == {
        **HEADS, **SCENE_HEADS, "colour": len(COLOURS),
    }  # fmt: skip


@pytest.mark.parametrize(
    ("shape", "fps", "said"),
    [
        ((16, 128, 224, 3), 16, "needs 2 seconds"),
        ((33, 32, 56, 3), 16, "at least 64 high"),
        ((33, 256, 128, 3), 16, "1 to 3 times as wide"),
        ((33, 128, 224, 3), math.nan, "frames a second"),
        ((33, 128, 224, 3), 0.0, "frames a second"),
    ],
)
def test_films_that_cannot_be_read_are_refused(shape, fps, said):
    with pytest.raises(MediaError, match=said):
        look_at(torch.zeros(shape, dtype=torch.uint8), fps)


def test_films_of_other_size_rate_and_length_are_brought_to_the_readers():
    looked = look_at(torch.zeros(301, 96, 128, 3, dtype=torch.uint8), 30.0)
    assert looked.frames.shape[:2] == (21, HEIGHT)
    assert ["re-timed", "enlarged", "not 7:4", "first 5 s"] == [
        next(w for w in ("re-timed", "enlarged", "not 7:4", "first 5 s") if w in note)
        for note in looked.notes
    ]


def test_a_native_film_is_taken_as_it_is():
    looked = look_at(torch.zeros(81, 256, 448, 3, dtype=torch.uint8), 16.0)
    assert looked.notes == ()
    assert looked.frames.shape == (21, HEIGHT, 224, 3)
    assert looked.fine.shape == (21, FINE, 448, 3)
    assert looked.times_s[-1] == 5.0


def test_scaling_averages_pixels():
    film = torch.tensor([0, 200], dtype=torch.uint8).view(1, 2, 1, 1).expand(1, 2, 2, 3)
    assert to_height(film, 1).flatten().tolist() == [100, 100, 100]


def test_lab_of_white_black_and_red_are_the_books():
    rgb = torch.tensor([[1.0, 1, 1], [0, 0, 0], [1, 0, 0]])
    expected = torch.tensor([[100.0, 0, 0], [0, 0, 0], [53.2, 80.1, 67.2]])
    assert torch.allclose(to_lab(rgb), expected, atol=0.2)


def test_every_paint_of_a_light_is_near_a_colour_of_its_table():
    for light, table in zip(LIGHTS, tables(), strict=True):
        for number, colour in enumerate(COLOURS):
            lit = torch.tensor(colour.rgb) * (
                torch.tensor(light.ambient) + 0.5 * torch.tensor(light.sun)
            )
            pixel = (lit.clamp(0, 1) * 255).to(torch.uint8)
            assert number >= VIVID or int(table.nearest_colour(pixel)) == number
            assert float(table.look_up(pixel)[1]) < EXPLAINED


def test_pieces_bridge_small_gaps_and_come_by_size():
    mask = torch.zeros(1, 40, 60, dtype=torch.bool)
    mask[0, 10:20, 10:14] = mask[0, 10:20, 15:20] = True
    mask[0, 30:33, 50:53] = True
    assert [int(piece.sum()) for piece in ranked_pieces(mask)] == [90, 9, 0, 0]


def test_two_alike_subjects_are_two_tracks():
    picture = torch.full((5, 64, 112), -1)
    picture[:, 20:40, 10:30] = 2
    picture[:, 20:40, 70:88] = 2
    assert [track.colour for track in find_tracks(picture)] == [2, 2]


def test_a_subject_behind_a_post_is_one():
    picture = torch.full((5, 64, 112), -1)
    picture[:, 20:40, 10:30] = 2
    picture[1:3, 20:40, 18:22] = -1
    [track] = find_tracks(picture)
    assert track.box[1].tolist() == track.box[0].tolist()


def test_what_touches_a_surer_subject_is_a_part_of_it_and_what_is_unsure_is_nobody():
    colours = torch.full((4, 40, 60), -1)
    sure = torch.full(colours.shape, 0.9)
    colours[:, 10:20, 10:20] = 0
    colours[:, 20:24, 10:20], sure[:, 20:24, 10:20] = 1, 0.6
    colours[:, 10:14, 40:50], sure[:, 10:14, 40:50] = 2, 0.3
    colours[:, 30:34, 40:50], sure[:, 30:34, 40:50] = 3, 0.6
    assert {track.colour for track in find_tracks(colours)} == {0, 1, 2, 3}
    one, other = find_tracks(colours, sure)
    assert (one.colour, other.colour) == (0, 3)
    assert torch.allclose(one.box, torch.tensor([10 / 60, 10 / 40, 20 / 60, 24 / 40]))


def test_thin_rims_are_no_subjects():
    picture = torch.full((5, 128, 224), -1)
    picture[:, 20:22, 10:200] = 3
    assert (vivid_map(picture) == -1).all()
    picture[:, 20:26, 10:200] = 3
    assert (vivid_map(picture)[:, 10:13, 5:100] == 3).all()


def test_candidates_hold_every_move_in_every_shot_it_suits():
    table = candidates()
    assert set(table.cameras) == set(range(len(CAMERAS)))
    names = {
        (SHOTS[shot].name, CAMERAS[camera].name)
        for shot, camera in zip(table.shots, table.cameras, strict=True)
    }
    assert len(names) == 2 * len(CAMERAS) + 2 * (len(CAMERAS) - 3)
    assert ("close", "truck_left") not in names


@pytest.mark.slow
@pytest.mark.parametrize("shot", [entry.name for entry in SHOTS])
def test_moves_are_told_in_every_shot(shot):
    cone = Subject(kind="cone", colour="red", size="medium")
    number = [entry.name for entry in SHOTS].index(shot)
    for camera in ("dolly_in", "zoom_in", "pedestal_up", "crane_up", "tilt_down"):
        parsed = parse(film_of(scene(cone, camera=camera, shot=shot), frames=21))
        best = parsed.camera.best_of(shot=number)
        assert CAMERAS[candidates().cameras[best]].name == camera
        assert candidates().shots[best] == number


def test_only_what_undoes_the_background_best_is_not_doubted():
    ball = scene(Subject(kind="sphere", colour="red"), camera="pan_left")
    camera = parse(film_of(ball, frames=21)).camera
    doubts = dict(zip((entry.name for entry in CAMERAS), camera.doubts(), strict=True))
    assert min(doubts, key=doubts.get) == "pan_left"
    assert doubts["pan_left"] == 0
    assert doubts["pan_right"] > 4


def test_a_still_picture_is_a_static_camera():
    film = film_of(scene(Subject(kind="cube", colour="red")))
    still = to_height(film.frames[:1], 64).expand(11, -1, -1, -1).float() / 255
    seen = read_camera(still, torch.ones(11, 64, 112, dtype=torch.bool), torch.arange(11) / 2)
    assert seen.camera == "static"
    assert min(seen.errors) == 0


def test_contacts_of_a_bouncing_ball_are_at_most_two_frames_off():
    times = torch.arange(81) / 16
    hop = (times / 1.1 + 0.3) % 1
    bottom = 0.7 - 0.2 * 4 * hop * (1 - hop)
    found = lowest_moments(bottom, torch.ones(81, dtype=torch.bool), 16.0)
    true = [(n - 0.3) * 1.1 for n in range(1, 5)]
    assert found == pytest.approx(true, abs=1 / 16)


def test_slots_lie_from_left_to_right():
    places = slot_places()
    assert list(places) == sorted(places)


def test_detail_of_a_flat_still_film_is_nothing_and_grows_with_noise():
    flat = torch.full((33, 64, 112, 3), 90, dtype=torch.uint8)
    noisy = flat + torch.randint(0, 20, flat.shape, dtype=torch.uint8)
    assert (detail_of(flat).space, detail_of(flat).time) == (0.0, 0.0)
    assert detail_of(noisy).space > 1
    assert detail_of(noisy).time > 1


def test_parser_is_right_on_scenes_drawn_at_random():
    scenes = sample_scenes(3, np.random.default_rng(99))
    for index in range(len(scenes)):
        parsed = parse(film_of(scenes, index))
        assert parsed.light == LIGHTS[scenes.light[index]].name
        assert parsed.camera.camera == CAMERAS[scenes.camera[index]].name
