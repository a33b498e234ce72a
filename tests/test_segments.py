"""Segments joined without encoding anything again."""

import av
import numpy as np
import pytest
import torch

from longtake.errors import MediaError, OutputError
from longtake.media.segments import LiveFilm, join_segments
from longtake.media.video import VideoWriter, read_metadata, read_video

FPS = 16


def frames(count, start=0, height=64, width=96):
    pixels = torch.zeros(count, height, width, 3, dtype=torch.uint8)
    pixels += torch.linspace(20, 180, width).to(torch.uint8)[:, None]
    for number in range(count):
        left = 2 * (start + number) % 60
        pixels[number, 10:30, left : left + 20] = torch.tensor([240, 40, 40])
    return pixels


def segment(path, pixels):
    with VideoWriter(path, width=pixels.shape[2], height=pixels.shape[1], fps=FPS) as writer:
        writer.write(pixels)
    return path


@pytest.fixture
def segments(tmp_path):
    counts = (21, 20, 20)
    starts = np.cumsum([0, *counts[:-1]])
    return [
        segment(tmp_path / f"{n}.mp4", frames(count, int(start)))
        for n, (count, start) in enumerate(zip(counts, starts, strict=True))
    ]


def test_a_joined_film_shows_exactly_the_frames_of_its_segments(segments, tmp_path):
    join_segments(segments, tmp_path / "film.mp4", fps=FPS, metadata={"title": "three"})
    film, rate = read_video(tmp_path / "film.mp4")
    parts = torch.cat([read_video(path)[0] for path in segments])
    assert rate == FPS
    assert torch.equal(film, parts)
    assert read_metadata(tmp_path / "film.mp4")["title"] == "three"


def test_times_of_a_joined_film_have_no_gap_and_never_go_back(segments, tmp_path):
    join_segments(segments, tmp_path / "film.mp4", fps=FPS)
    with av.open(str(tmp_path / "film.mp4")) as container:
        video = container.streams.video[0]
        packets = [packet for packet in container.demux(video) if packet.dts is not None]
        times = sorted(packet.pts * video.time_base * FPS for packet in packets)
        assert times == list(range(61))
        assert (np.diff([packet.dts for packet in packets]) > 0).all()


def test_the_same_segments_give_the_same_bytes(segments, tmp_path):
    for name in ("one.mp4", "two.mp4"):
        join_segments(segments, tmp_path / name, fps=FPS)
    assert (tmp_path / "one.mp4").read_bytes() == (tmp_path / "two.mp4").read_bytes()


def test_one_segment_is_enough(segments, tmp_path):
    join_segments(segments[:1], tmp_path / "film.mp4", fps=FPS)
    assert torch.equal(read_video(tmp_path / "film.mp4")[0], read_video(segments[0])[0])


def test_a_live_film_plays_up_to_its_last_segment_while_it_is_still_open(segments, tmp_path):
    live = tmp_path / "live.mp4"
    with LiveFilm(live, fps=FPS) as film:
        film.append(segments[0])
        assert len(read_video(live)[0]) >= 20
        film.append(segments[1])
        assert len(read_video(live)[0]) >= 40
        film.append(segments[2])
    parts = torch.cat([read_video(path)[0] for path in segments])
    assert torch.equal(read_video(live)[0], parts)


def test_a_live_film_cut_anywhere_still_plays(segments, tmp_path):
    live = tmp_path / "live.mp4"
    with LiveFilm(live, fps=FPS) as film:
        for path in segments:
            film.append(path)
    raw = live.read_bytes()
    live.write_bytes(raw[: len(raw) * 2 // 3])
    with av.open(str(live)) as container:
        seen = 0
        try:
            for _ in container.decode(video=0):
                seen += 1
        except av.error.FFmpegError:
            pass
    assert seen > 20


def test_a_segment_of_another_size_is_refused_and_leaves_no_film(segments, tmp_path):
    other = segment(tmp_path / "other.mp4", frames(4, height=32))
    with pytest.raises(MediaError, match=r"other\.mp4 has another size"):
        join_segments([segments[0], other], tmp_path / "film.mp4", fps=FPS)
    assert not (tmp_path / "film.mp4").exists()
    assert not list(tmp_path.glob(".longtake-*"))


@pytest.mark.parametrize("damage", ["missing", "text", "cut"])
def test_a_damaged_segment_is_named(segments, tmp_path, damage):
    raw = segments[1].read_bytes()
    segments[1].unlink()
    if damage != "missing":
        segments[1].write_bytes(b"no film" if damage == "text" else raw[:100])
    with pytest.raises(MediaError, match=r"segment .*1\.mp4"):
        join_segments(segments, tmp_path / "film.mp4", fps=FPS)


def test_a_missing_folder_is_told_in_one_line(segments, tmp_path):
    with pytest.raises(OutputError, match="does not exist; make it"):
        join_segments(segments, tmp_path / "no" / "film.mp4", fps=FPS)
    with (
        pytest.raises(OutputError, match="does not exist; make it"),
        LiveFilm(tmp_path / "no" / "live.mp4", fps=FPS),
    ):
        pass


def test_short_segments_leave_no_jump(tmp_path):
    parts = [segment(tmp_path / f"{n}.mp4", frames(n)) for n in (1, 2, 9, 1, 3)]
    join_segments(parts, tmp_path / "film.mp4", fps=FPS)
    with av.open(str(tmp_path / "film.mp4")) as container:
        video = container.streams.video[0]
        shown = [frame.pts * frame.time_base * FPS for frame in container.decode(video)]
    assert shown == list(range(16))
