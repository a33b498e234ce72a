"""Pictures and truth of the previz world."""

import json
from dataclasses import asdict, replace

import numpy as np
import pytest
import torch

from longtake.kernels.reference.raycast import raycast
from longtake.world.camera import move_camera
from longtake.world.cast import KINDS, MOTIONS, Kind, allowed_motions
from longtake.world.choreography import frame_times, track
from longtake.world.geometry import build, parts_per_subject, place, project
from longtake.world.level import FIRST, WHOLE
from longtake.world.render import render, render_ids, render_with_mask
from longtake.world.sampling import sample_scenes
from longtake.world.scene import WORLD_VERSION, Scenes, Subject
from longtake.world.truth import truth, with_visibility
from longtake.world.written import scene_of

SMALL = {"height": 64, "width": 112}
CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def _one_thread():
    # Pictures this small lose more to waiting threads than they gain.
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def one(kind: str = "cube", colour: str = "red", **rest: str) -> Scenes:
    where = {key: rest.pop(key) for key in ("ground", "light", "camera") if key in rest}
    return scene_of([Subject(kind=kind, colour=colour, **rest)], seed=7, **where)


def allowed(kind: Kind) -> set[str]:
    return {MOTIONS[i].name for i in allowed_motions(kind)}


def prop_columns(camera: str) -> tuple[np.ndarray, np.ndarray]:
    """Where mid and far props stand on the view plane in the first and in the last frame."""
    scenes = one(camera=camera)
    times = frame_times(1, 2, 1 / 5, 0.0, CPU)
    path = move_camera(scenes, times)
    first = scenes.kind.shape[1] * parts_per_subject(scenes)
    centres = place(scenes, track(scenes, times)).centre[:, :, first:]
    u, _, _ = project(path, centres[:, :, :, None])
    u = u[0, :, :, 0].numpy()
    return u[:, 2:6], u[:, 6:]


def test_the_same_scene_gives_the_same_pixels():
    scenes = sample_scenes(3, np.random.default_rng(0))
    again = sample_scenes(3, np.random.default_rng(0))
    assert torch.equal(render(scenes, frames=2, **SMALL), render(again, frames=2, **SMALL))


def test_a_clip_looks_the_same_alone_and_in_a_batch():
    scenes = sample_scenes(4, np.random.default_rng(1))
    batch = render(scenes, frames=2, **SMALL)
    alone = render(scenes.select(2), frames=2, **SMALL)
    assert (batch[2].int() - alone[0].int()).abs().max() <= 1


def test_a_clip_started_later_shows_the_later_frames():
    scenes = sample_scenes(2, np.random.default_rng(2))
    whole = render(scenes, frames=9, **SMALL)
    start = np.array([0.25, 0.25], dtype=np.float32)
    later = render(scenes, frames=5, start_s=start, **SMALL)
    assert (whole[:, 4:].int() - later.int()).abs().max() <= 1


@pytest.mark.parametrize(("height", "width"), [(32, 64), (96, 32), (37, 53)])
def test_any_size_can_be_rendered(height, width):
    film = render(one(), frames=2, height=height, width=width, samples=1)
    assert film.shape == (1, 2, height, width, 3)
    assert film.dtype == torch.uint8


def test_the_vertical_field_of_view_is_the_same_at_any_size():
    low = render_ids(one(size="large"), frames=1, height=64, width=112)[0, 0] == 0
    high = render_ids(one(size="large"), frames=1, height=128, width=96)[0, 0] == 0
    assert low.any(1).sum() * 2 == pytest.approx(int(high.any(1).sum()), abs=2)


def test_more_samples_change_edges_only():
    scenes = one(size="large")
    few = render(scenes, frames=1, samples=2, **SMALL).int()
    many = render(scenes, frames=1, samples=4, **SMALL).int()
    assert (few - many).abs().float().mean() < 1.5


def test_night_is_darker_and_bluer_than_day():
    day = render(one(light="day"), frames=1, **SMALL).float().mean((0, 1, 2, 3))
    night = render(one(light="night"), frames=1, **SMALL).float().mean((0, 1, 2, 3))
    assert night.mean() < 0.5 * day.mean()
    assert night[2] / night.mean() > day[2] / day.mean()


@pytest.mark.parametrize("light", ["day", "sunset", "night"])
@pytest.mark.parametrize(("colour", "channel"), [("red", 0), ("green", 1), ("blue", 2)])
def test_subjects_keep_their_colour_in_any_light(light, colour, channel):
    scenes = one("sphere", colour, size="large", light=light)
    pixels = render(scenes, frames=1, **SMALL)[0, 0][render_ids(scenes, frames=1)[0, 0] == 0]
    mean = pixels.float().mean(0)
    assert mean.argmax() == channel
    assert mean[channel] > 60


@pytest.mark.parametrize("kind", [kind.name for kind in KINDS])
def test_every_kind_is_seen_and_casts_a_shadow(kind):
    scenes = one(kind, size="large", ground="snow")
    assert (render_ids(scenes, frames=1)[0, 0] == 0).sum() > 100
    gone = replace(scenes, subject_jitter=scenes.subject_jitter + np.float32(1e4))
    lit, empty = (render(s, frames=1, **SMALL)[0, 0].int() for s in (scenes, gone))
    outside = render_ids(scenes, frames=1)[0, 0] < 0
    assert ((empty - lit).amin(-1) > 25)[outside].sum() > 8


def test_the_hole_of_a_ring_can_be_looked_through():
    seen = render_ids(one("ring", size="large"), frames=1, height=128, width=224)[0, 0] == 0
    rows, columns = seen.nonzero().unbind(-1)
    middle = (rows.min() + rows.max()) // 2, (columns.min() + columns.max()) // 2
    assert not seen[middle]


@pytest.mark.parametrize("kind", [kind.name for kind in KINDS if "spin" in allowed(kind)])
def test_spinning_can_be_seen_on_every_kind(kind):
    scenes = one(kind, size="large", motion="spin")
    film = render(scenes, frames=3, fps=2, **SMALL)[0].int()
    assert ((film[0] - film[1]).abs().amax(-1) > 15).sum() > 40


def test_rolling_wheels_and_walking_legs_move_against_the_body():
    times = frame_times(1, 2, 8.0, 1.0, CPU)
    for kind, part in (("car", 3), ("figure", 2)):
        scenes = one(kind, motion="left_to_right")
        turn = place(scenes, track(scenes, times)).turn[0]
        assert torch.allclose(turn[0, 0], turn[1, 0])
        assert not torch.allclose(turn[0, part], turn[1, part], atol=0.05)


def test_a_pan_moves_near_and_far_alike_and_a_truck_does_not():
    mid, far = prop_columns("pan_right")
    assert (mid[1] < mid[0]).all()
    turned = np.arctan(np.concatenate([mid, far], axis=1))
    assert np.ptp(turned[1] - turned[0]) < 0.02
    mid, far = prop_columns("truck_right")
    shift_mid, shift_far = mid[0] - mid[1], far[0] - far[1]
    assert (shift_mid > 0).all()
    assert shift_mid.min() > 1.3 * shift_far.max()


def test_a_pan_moves_the_horizon_hills_and_a_truck_does_not():
    def changed(camera: str) -> float:
        film = render(one(size="small", camera=camera), frames=2, fps=1 / 5, **SMALL)[0, :, 10:20]
        return float(((film[0].int() - film[1].int()).abs().amax(-1) > 8).float().mean())

    assert changed("pan_right") > 4 * changed("truck_right")


def test_dolly_in_enlarges_near_things_more_than_far_ones():
    mid, far = prop_columns("dolly_in")
    assert (np.abs(mid[1]) > 1.2 * np.abs(mid[0])).all()
    assert np.median(mid[1] / mid[0]) > 1.1 * np.median(far[1] / far[0])


@pytest.mark.parametrize(
    ("camera", "axis", "sign"),
    [
        ("truck_left", 0, -1),
        ("truck_right", 0, 1),
        ("dolly_in", 2, 1),
        ("dolly_out", 2, -1),
        ("crane_up", 1, 1),
    ],
)
def test_the_camera_travels_the_way_the_word_says(camera, axis, sign):
    eye = move_camera(one(camera=camera), frame_times(1, 81, 16.0, 0.0, CPU)).eye[0]
    gone = eye[-1] - eye[0]
    assert gone[axis] * sign > 3
    assert gone.abs().argmax() == axis


def test_an_orbit_keeps_its_distance_and_its_aim():
    path = move_camera(one(camera="orbit"), frame_times(1, 81, 16.0, 0.0, CPU))
    distance = path.eye[0][:, [0, 2]].norm(dim=-1)
    assert torch.allclose(distance, distance[:1].expand_as(distance), atol=1e-3)
    assert (path.eye[0, -1] - path.eye[0, 0]).norm() > 6


def test_a_static_camera_does_not_move_at_all():
    path = move_camera(one(), frame_times(1, 81, 16.0, 0.0, CPU))
    assert torch.equal(path.eye[0, 0], path.eye[0, -1])
    assert torch.equal(path.forward[0, 0], path.forward[0, -1])


@pytest.mark.parametrize(("level", "num"), [(FIRST, 6), (WHOLE, 16)], ids=["first", "whole"])
def test_rectangles_hold_every_pixel_they_stand_for(level, num):
    scenes = sample_scenes(num, np.random.default_rng(6), level=level)
    times = frame_times(num, 2, 0.3, 0.5, CPU)
    scene = build(scenes, times)
    # Absent subjects have no parts, so that they stay absent.
    everything = torch.tensor([-1e3, 1e3] * 4).expand_as(scene.groups)
    cut = raycast(scene.frame, scene.parts, scene.groups, scene.spans, 24, 40, 1)
    whole = raycast(scene.frame, scene.parts, everything, scene.spans, 24, 40, 1)
    assert ((cut.int() - whole.int()).abs() > 1).float().mean() == 0


@pytest.mark.parametrize("level", [FIRST, WHOLE], ids=["first", "whole"])
def test_boxes_hold_the_pixels_of_their_subject(level):
    scenes = sample_scenes(12, np.random.default_rng(9), level=level)
    told = truth(scenes, frames=5, fps=1, height=96, width=168)
    ids = render_ids(scenes, frames=5, fps=1, height=96, width=168).numpy()
    tight = []
    for clip, seen in zip(told, ids, strict=True):
        for i, subject in enumerate(clip.subjects):
            for box, inside, frame in zip(subject.boxes, subject.in_frame, seen, strict=True):
                rows, columns = np.nonzero(frame == i)
                if not len(rows):
                    continue
                assert box is not None
                left, top, right, bottom = box
                assert left <= columns.min() + 0.5
                assert columns.max() + 0.5 <= right
                assert top <= rows.min() + 0.5
                assert rows.max() + 0.5 <= bottom
                if inside == 1.0:
                    tight.append((bottom - top) / (rows.max() - rows.min() + 1))
    assert np.median(tight) < 1.1


def test_truth_is_json_and_complete():
    scenes = sample_scenes(2, np.random.default_rng(3))
    for clip in truth(scenes, frames=3):
        assert json.loads(json.dumps(asdict(clip)))["version"] == WORLD_VERSION
        assert len(clip.poses) == 3
        for subject in clip.subjects:
            assert len(subject.track) == len(subject.boxes) == len(subject.in_frame) == 3


def test_a_bouncing_subject_touches_the_ground_when_the_truth_says():
    scenes = one("sphere", motion="bounce")
    (clip,) = truth(scenes, frames=81)
    contacts = [event.time_s for event in clip.subjects[0].events if event.what == "contact"]
    assert len(contacts) >= 4
    for moment in contacts:
        height = track(scenes, torch.tensor([[moment]])).position[0, 0, 0, 1]
        assert height < 0.02


def test_a_subject_out_of_frame_leaves_and_is_not_visible():
    scenes = one("cube", size="large", motion="right_to_left", camera="pan_right")
    (clip,) = with_visibility(truth(scenes, frames=6, fps=1), scenes)
    subject = clip.subjects[0]
    assert "leaves" in {event.what for event in subject.events}
    assert subject.visible is not None
    assert subject.visible[-1] < 0.5
    assert max(subject.visible) == 1.0


def test_a_hidden_subject_is_less_visible():
    front = Subject(kind="cube", colour="red", size="large", slot="centre")
    back = Subject(kind="sphere", colour="blue", size="small", slot="centre")
    scenes = scene_of([front, back])
    scenes = replace(
        scenes,
        row=np.array([[0, 2]]),
        subject_jitter=np.full_like(scenes.subject_jitter, 0.5),
    )
    (clip,) = with_visibility(truth(scenes, frames=1), scenes)
    seen = [subject.visible[0] for subject in clip.subjects if subject.visible]
    assert seen[0] == 1.0
    assert seen[1] < 0.2


def test_the_mask_is_where_a_film_changes_when_its_subjects_are_taken_away():
    scenes = sample_scenes(3, np.random.default_rng(4), level=WHOLE)
    size = {"frames": 2, "height": 64, "width": 112}
    film, mask = render_with_mask(scenes, **size)
    assert torch.equal(film, render(scenes, **size))
    seen = render_ids(scenes, **size) >= 0
    assert (mask & seen).sum() > 0.9 * seen.sum()
    assert mask.float().mean() < 0.6
