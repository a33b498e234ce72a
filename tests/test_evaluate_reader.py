"""The reader tells what is true of renders, and refuses what is no film of the world."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from longtake.errors import MediaError, ModelError
from longtake.evaluate.reader.background import candidates, read_camera
from longtake.evaluate.reader.colours import tables, to_lab
from longtake.evaluate.reader.films import FINE, HEIGHT, RATE, look_at, to_height
from longtake.evaluate.reader.network import HEADS, NAMES, SubjectReader, views_of
from longtake.evaluate.reader.parser import parse
from longtake.evaluate.reader.read import (
    Reader,
    detail_of,
    load_reader,
    lowest_moments,
    slot_places,
)
from longtake.evaluate.reader.segments import find_tracks, largest_piece
from longtake.evaluate.scope import CAMERAS, COLOURS, GROUNDS, LIGHTS
from longtake.world import render, sample_scenes
from longtake.world.scene import Subject
from longtake.world.written import scene_of

SIZE = {"frames": 9, "fps": RATE, "height": HEIGHT, "width": 224, "samples": 1}


def film_of(scenes, index=0):
    return look_at(render(scenes.select(index), **SIZE)[0], RATE)


def scene(*subjects, **place):
    return scene_of(list(subjects), **place)


@pytest.mark.parametrize(
    ("light", "ground"),
    [(LIGHTS[n % len(LIGHTS)].name, entry.name) for n, entry in enumerate(GROUNDS)],
)
def test_parser_tells_light_and_ground(light, ground):
    pair = Subject(kind="cube", colour="red"), Subject(kind="sphere", colour="cyan")
    parsed = parse(film_of(scene(*pair, light=light, ground=ground)))
    assert (parsed.light, parsed.ground) == (light, ground)
    assert sorted(COLOURS[s.track.colour].name for s in parsed.subjects) == ["cyan", "red"]
    assert parsed.explained


@pytest.mark.parametrize("camera", [entry.name for entry in CAMERAS])
def test_parser_tells_every_camera_move(camera):
    ball = Subject(kind="sphere", colour="red", motion="left_to_right")
    assert parse(film_of(scene(ball, camera=camera, light="night"))).camera.camera == camera


@pytest.mark.parametrize("colour", [entry.name for entry in COLOURS])
def test_parser_finds_every_colour_once(colour):
    parsed = parse(film_of(scene(Subject(kind="cube", colour=colour), light="sunset")))
    assert [COLOURS[s.track.colour].name for s in parsed.subjects] == [colour]


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
    network = SubjectReader().eval().requires_grad_(False)
    reading = Reader(network).read(film, 16.0)
    assert not reading.explained
    assert all(s.kind is None and s.motion is None for s in reading.subjects)
    assert all(math.isfinite(v) for row in reading.features for v in row)


def test_upside_down_films_are_not_explained():
    film = render(scene(Subject(kind="cube", colour="red")), **SIZE)[0].flip(1)
    assert not parse(look_at(film, RATE)).explained


def test_a_network_of_nan_answers_nothing():
    network = SubjectReader().requires_grad_(False)
    network.heads["kind"].bias.fill_(math.nan)
    film = render(scene(Subject(kind="cube", colour="red")), **SIZE)[0]
    assert [s.kind for s in Reader(network).read(film, RATE).subjects] == [None]


def test_network_is_finite_with_and_without_anything_to_see():
    film = film_of(scene(Subject(kind="cube", colour="red")))
    [subject] = parse(film).subjects
    nowhere = replace(subject.track, seen=torch.zeros_like(subject.track.seen))
    for one in (subject, replace(subject, track=nowhere)):
        logits = SubjectReader()(views_of(film.fine, [one]))
        assert {name: logit.shape for name, logit in logits.items()} == {
            name: (1, count) for name, count in HEADS.items()
        }
        assert all(torch.isfinite(logit).all() for logit in logits.values())


def test_network_fits_its_budget():
    assert sum(p.numel() for p in SubjectReader().parameters()) * 2 <= 2 * 2**20


def test_reader_without_network_says_how_to_train_it(tmp_path):
    with pytest.raises(ModelError, match=r"train it: python -m longtake\.evaluate\.train_reader"):
        load_reader(tmp_path)


def test_network_of_another_world_is_refused(tmp_path):
    (tmp_path / "reader.json").write_text('{"names": {"kind": ["cube"]}}')
    with pytest.raises(ModelError, match="another world"):
        load_reader(tmp_path)


def test_names_are_the_tables():
    assert {name: len(values) for name, values in NAMES.items()} == HEADS


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
            label, distance = table.look_up(pixel)
            assert (int(label), float(distance) < 10) == (number, True)


def test_the_largest_piece_bridges_small_gaps_and_leaves_the_rest():
    mask = torch.zeros(1, 40, 60, dtype=torch.bool)
    mask[0, 10:20, 10:14] = mask[0, 10:20, 16:20] = True
    mask[0, 30:33, 50:53] = True
    piece = largest_piece(mask)
    assert piece.sum() == 80
    assert not piece[0, 25:].any()


def test_two_alike_subjects_are_two_tracks():
    picture = torch.full((5, 64, 112), -1)
    picture[:, 20:40, 10:30] = 2
    picture[:, 20:40, 70:88] = 2
    assert [track.colour for track in find_tracks(picture)] == [2, 2]


def test_thin_rims_are_no_subjects():
    picture = torch.full((5, 64, 112), -1)
    picture[:, 20:22, 10:100] = 3
    assert find_tracks(picture) == ()


def test_candidates_hold_every_move_both_ways():
    assert len(candidates()) == 2 * len(CAMERAS)


def test_a_still_picture_is_a_static_camera():
    film = film_of(scene(Subject(kind="cube", colour="red")))
    still = film.frames[:1].expand(11, -1, -1, -1).float() / 255
    seen = read_camera(still, torch.ones(11, HEIGHT, 224, dtype=torch.bool), torch.arange(11) / 2)
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
