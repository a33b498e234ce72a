"""Frames survive the way into an mp4 and back; pictures of films are tidy and reproducible."""

import hashlib
import json
import resource
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from longtake.config import SampleConfig
from longtake.errors import MediaError, OutputError, SettingError
from longtake.media.manifest import TAG, Manifest, from_json, from_tags
from longtake.media.sheet import contact_sheet, film_strips, spread
from longtake.media.video import VideoWriter, clean_tags, read_metadata, read_video

COLOURS = [(255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 0), (0, 255, 255), (255, 0, 255)]
COLOURS += [(255, 255, 255), (0, 0, 0), (128, 128, 128), (220, 60, 30)]
COLOUR_TOLERANCE = 3
"""Largest error of a flat colour after two roundings and crf 18, of 255."""
BT709 = LIMITED = 1


def film(frames: int = 9, height: int = 64, width: int = 96) -> torch.Tensor:
    """A bright square that moves over a slope."""
    pixels = torch.zeros(frames, height, width, 3, dtype=torch.uint8)
    pixels += torch.linspace(20, 180, width).to(torch.uint8)[:, None]
    for number in range(frames):
        pixels[number, 10:30, 4 + 3 * number : 24 + 3 * number] = torch.tensor([240, 40, 40])
    return pixels


def test_card() -> torch.Tensor:
    stripes = [torch.tensor(colour, dtype=torch.uint8).expand(64, 32, 3) for colour in COLOURS]
    return torch.cat(stripes, dim=1)[None].repeat(3, 1, 1, 1)


test_card.__test__ = False


def size_of(path: Path) -> tuple[int, int]:
    with Image.open(path) as image:
        return image.size


def write(path: Path, pixels, **options) -> Path:
    with VideoWriter(path, width=pixels.shape[2], height=pixels.shape[1], **options) as writer:
        writer.write(pixels)
    return path


@contextmanager
def largest_file(limit: int):
    """Make the disk look full after so many bytes of a file."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_saturated_colours_come_back(tmp_path):
    frames, _ = read_video(write(tmp_path / "card.mp4", test_card()))
    for number, colour in enumerate(COLOURS):
        got = frames[1, 32, 32 * number + 16].int()
        assert (got - torch.tensor(colour)).abs().max() <= COLOUR_TOLERANCE, (colour, got)


def test_samples_follow_the_bt709_formula_in_limited_range(tmp_path):
    write(tmp_path / "card.mp4", test_card())
    with av.open(str(tmp_path / "card.mp4")) as container:
        planes = next(container.decode(video=0)).to_ndarray()
    luma, chroma = planes[:64], planes[64:].reshape(2, 32, -1)
    for number, colour in enumerate(COLOURS):
        red, green, blue = (value / 255 for value in colour)
        y = 0.2126 * red + 0.7152 * green + 0.0722 * blue
        cb, cr = (blue - y) / 1.8556, (red - y) / 1.5748
        x = 32 * number + 16
        got = (luma[32, x], chroma[0, 16, x // 2], chroma[1, 16, x // 2])
        wanted = (16 + 219 * y, 128 + 224 * cb, 128 + 224 * cr)
        assert np.abs(np.array(got, float) - wanted).max() <= 1.5, (colour, got, wanted)


def test_stream_says_that_it_is_bt709_in_limited_range(tmp_path):
    write(tmp_path / "card.mp4", test_card())
    with av.open(str(tmp_path / "card.mp4")) as container:
        context = container.streams.video[0].codec_context
        tags = (context.colorspace, context.color_primaries, context.color_trc)
        assert [int(tag) for tag in tags] == [BT709] * 3
        assert int(context.color_range) == LIMITED
        assert (context.name, context.pix_fmt) == ("h264", "yuv420p")


@pytest.mark.parametrize("count", [1, 2, 17, 81])
@pytest.mark.parametrize("fps", [16, 24])
def test_frame_count_and_rate_are_exact(tmp_path, count, fps):
    write(tmp_path / "a.mp4", film(count, 32, 32), fps=fps)
    with av.open(str(tmp_path / "a.mp4")) as container:
        stream = container.streams.video[0]
        times = [float(frame.time) for frame in container.decode(stream)]
        assert stream.average_rate == fps
        assert stream.frames == count
        assert stream.duration * stream.time_base == pytest.approx(count / fps)
    assert times == pytest.approx([n / fps for n in range(count)])


def test_same_frames_give_the_same_bytes_however_they_are_handed_over(tmp_path):
    pixels = film(13)
    tags = {"title": "x", TAG: "{}"}
    write(tmp_path / "a.mp4", pixels, metadata=tags)
    with VideoWriter(tmp_path / "b.mp4", width=96, height=64, metadata=tags) as writer:
        writer.write(pixels[:5])
        writer.write(pixels[5:].numpy())
    one, two = (hashlib.sha256((tmp_path / n).read_bytes()).digest() for n in ("a.mp4", "b.mp4"))
    assert one == two


def test_film_starts_before_it_is_loaded_whole(tmp_path):
    raw = write(tmp_path / "a.mp4", film()).read_bytes()
    assert raw[4:8] == b"ftyp"
    assert raw.index(b"moov") < raw.index(b"mdat")


def test_film_holds_no_date_and_no_tool_versions_in_its_container(tmp_path):
    write(tmp_path / "a.mp4", film(), metadata={"title": "x"})
    assert set(read_metadata(tmp_path / "a.mp4")) == {
        "title", "major_brand", "minor_version", "compatible_brands",
    }  # fmt: skip


def test_moving_film_keeps_its_quality(tmp_path):
    pixels = film(17)
    back, fps = read_video(write(tmp_path / "a.mp4", pixels))
    assert (fps, back.shape) == (16.0, pixels.shape)
    error = (back.float() - pixels.float()).square().mean()
    assert 10 * torch.log10(255**2 / error) > 30


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_interrupted_film_leaves_nothing(tmp_path, error):
    with pytest.raises(error), VideoWriter(tmp_path / "a.mp4", width=96, height=64) as writer:
        writer.write(film())
        raise error
    assert list(tmp_path.iterdir()) == []


def test_interrupted_film_leaves_the_one_before(tmp_path):
    write(tmp_path / "a.mp4", film())
    before = (tmp_path / "a.mp4").read_bytes()
    with pytest.raises(ValueError), VideoWriter(tmp_path / "a.mp4", width=96, height=64):
        raise ValueError
    assert (tmp_path / "a.mp4").read_bytes() == before
    assert len(list(tmp_path.iterdir())) == 1


def test_full_disk_at_any_byte_is_one_error_and_no_file(tmp_path):
    noise = torch.randint(0, 256, (12, 64, 96, 3), dtype=torch.uint8)
    whole = write(tmp_path / "whole.mp4", noise).stat().st_size
    (tmp_path / "whole.mp4").unlink()
    for limit in [0, 1, 40, *np.linspace(100, whole - 1, 24).astype(int).tolist()]:
        with largest_file(limit), pytest.raises(OutputError, match="no space left"):
            write(tmp_path / "a.mp4", noise)
        assert list(tmp_path.iterdir()) == [], limit


def test_writer_refuses_odd_sizes_wrong_frames_and_no_frames(tmp_path):
    with pytest.raises(SettingError, match="nearest is 64x48"):
        VideoWriter(tmp_path / "a.mp4", width=65, height=48)
    with pytest.raises(SettingError, match="fps must be at least 1, got 0"):
        VideoWriter(tmp_path / "a.mp4", width=64, height=48, fps=0)
    writer = VideoWriter(tmp_path / "a.mp4", width=96, height=64)
    with pytest.raises(SettingError, match="96x64, got frames of 32x32"), writer:
        writer.write(film(2, 32, 32))
    with pytest.raises(MediaError, match="no frames"):
        VideoWriter(tmp_path / "a.mp4", width=96, height=64).__enter__().__exit__(None, None, None)
    assert list(tmp_path.iterdir()) == []


def test_folder_with_a_colon_is_no_protocol(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("http:").mkdir()
    write(Path("http:/a.mp4"), film())
    assert len(read_video(Path("http:/a.mp4"))[0]) == 9


def test_unreadable_films_are_told(tmp_path):
    (tmp_path / "text.mp4").write_text("not a film")
    for name in ("text.mp4", "missing.mp4"):
        with pytest.raises(MediaError, match=name):
            read_video(tmp_path / name)
        with pytest.raises(MediaError, match=name):
            read_metadata(tmp_path / name)


PROMPTS = [
    "a red ball",
    "-i /etc/passwd; title=x % $(id) \\ \"quoted\" 'single'",
    "ünïcødé 狐 🎈 עברית",
    "[x]\n;comment\n#=",
    "x" * 10_000,
]


def manifest(prompt: str) -> Manifest:
    settings = SampleConfig(seed=2**64 - 1, frames=33, guidance=4.5)
    return Manifest(
        prompt=prompt,
        model="previz",
        model_hash="ab" * 32,
        version="0.1.0",
        settings=settings,
        precision="bf16",
    )


@pytest.mark.parametrize("prompt", PROMPTS)
def test_manifest_comes_back_out_of_the_film(tmp_path, prompt):
    made = manifest(prompt)
    write(tmp_path / "a.mp4", film(2), metadata=made.tags())
    tags = read_metadata(tmp_path / "a.mp4")
    assert from_tags(tags) == made
    assert tags["comment"].startswith("Longtake 0.1.0")
    assert json.loads(tags[TAG])["settings"]["seed"] == 2**64 - 1


def test_tags_lose_control_characters_and_excess():
    cleaned = clean_tags({"a": "x\0\x1b[2J\ny\ud800", "b": "z" * 100_000})
    assert cleaned["a"] == "x[2Jy"
    assert len(cleaned["b"]) == 65_536


@pytest.mark.parametrize(
    "text", ["", "[]", "null", '"x"', "{}", '{"prompt":1}', "[" * 100_000, '{"class":"os.system"}']
)
def test_damaged_manifest_is_told(text):
    with pytest.raises(MediaError, match="not a Longtake record"):
        from_json(text)


def test_film_without_manifest_is_told():
    with pytest.raises(MediaError, match="no 'longtake' tag"):
        from_tags({"title": "x"})


@given(st.integers(1, 2000), st.integers(1, 30))
def test_spread_is_even_and_takes_first_and_last(frames, count):
    numbers = spread(frames, count)
    assert len(numbers) == min(frames, count)
    assert numbers[0] == 0
    assert count == 1 or numbers[-1] == frames - 1
    steps = {b - a for a, b in pairwise(numbers)}
    assert not steps or max(steps) - min(steps) <= 1


def test_contact_sheet_shows_every_frame_where_it_belongs():
    frames = [torch.full((32, 48, 3), 20 * n, dtype=torch.uint8) for n in range(1, 8)]
    times = [n / 2 for n in range(7)]
    sheet = np.asarray(contact_sheet(frames, times, "a prompt", columns=4))
    for n in range(1, 8):
        assert (sheet == 20 * n).all(axis=2).sum() >= 32 * 48
    assert (sheet == contact_sheet(frames, times, "a prompt", columns=4)).all()


@pytest.mark.parametrize("caption", ["", "w " * 5000, "x" * 10_000, "two\nlines", "狐 🎈"])
def test_contact_sheet_keeps_any_caption_in_bounds(caption):
    frames = [torch.zeros(32, 200, 3, dtype=torch.uint8)] * 2
    sheet = contact_sheet(frames, [0.0, 0.1], caption)
    assert sheet.width == 2 * 200 + 8 + 2 * 16
    assert sheet.height < 32 + 16 + 150


def test_contact_sheet_without_frames_is_told():
    with pytest.raises(SettingError, match="at least one frame"):
        contact_sheet([], [], "x")


def test_film_strips_have_a_row_for_each_clip_of_any_length_and_size(tmp_path):
    clips = [film(9), film(3, 48, 48).numpy(), film(1)]
    film_strips(tmp_path / "plain.png", clips, columns=4, cell_width=60)
    film_strips(tmp_path / "named.png", clips, ["one " * 99, "two", ""], columns=4, cell_width=60)
    (plain_width, plain_height), (named_width, named_height) = (
        size_of(tmp_path / f"{name}.png") for name in ("plain", "named")
    )
    assert plain_height == named_height == 40 + 60 + 40 + 2 * 8 + 2 * 16
    assert named_width - plain_width == 60 + 8
    assert len(list(tmp_path.iterdir())) == 2


def test_film_strips_refuse_no_clips_and_missing_labels(tmp_path):
    with pytest.raises(SettingError, match="at least one clip"):
        film_strips(tmp_path / "a.png", [])
    with pytest.raises(SettingError, match="2 clips need as many labels"):
        film_strips(tmp_path / "a.png", [film(), film()], ["one"])
    with pytest.raises(OutputError, match="mkdir"):
        film_strips(tmp_path / "x" / "a.png", [film()])


@pytest.mark.parametrize("width, height", [(96, 64), (448, 256)])
def test_same_frames_give_the_same_bytes_whatever_lay_in_memory_before(tmp_path, width, height):
    rng = np.random.default_rng(0)
    frames = np.cumsum(rng.integers(0, 3, (17, height, width, 3)), axis=1).astype(np.uint8)
    seen, used = set(), []
    for run in range(25):
        used = [*used[-20:], np.full(int(rng.integers(1, 100_000)), run, dtype=np.uint8)]
        with VideoWriter(tmp_path / "film.mp4", width=width, height=height) as writer:
            writer.write(frames)
        seen.add((tmp_path / "film.mp4").read_bytes())
    assert len(seen) == 1
