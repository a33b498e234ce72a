"""Pictures become the first frame whatever they are, or are refused before a pixel is decoded."""

import io
import struct
import zlib

import numpy as np
import pytest
import torch
from PIL import Image

from longtake.errors import MediaError
from longtake.media.picture import read_picture

SIZE = (96, 64)


def picture(width=96, height=64, mode="RGB"):
    """Red on the left, blue on the right, so that turning shows."""
    image = Image.new("RGB", (width, height), (200, 30, 30))
    image.paste((30, 30, 200), (width // 2, 0, width, height))
    return image.convert(mode)


def read(path, size=SIZE):
    return read_picture(path, *size)


def empty_png(width, height):
    """A PNG of any size in a few bytes: a header and no pixels."""

    def chunk(kind, data):
        body = kind + data
        return struct.pack(">I", len(data)) + body + struct.pack(">I", zlib.crc32(body))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b""))


@pytest.mark.parametrize("kind", ["PNG", "WEBP"])
def test_a_picture_of_the_films_size_is_taken_as_it_is(tmp_path, kind):
    picture().save(tmp_path / "x", format=kind, lossless=True)
    pixels, notes = read(tmp_path / "x")
    assert notes == []
    assert torch.equal(pixels, torch.from_numpy(np.array(picture())))


def test_a_jpeg_is_turned_as_its_exif_tag_says(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 3
    picture().save(tmp_path / "x.jpg", exif=exif, quality=95)
    pixels, notes = read(tmp_path / "x.jpg")
    assert "turned upright" in notes[0]
    assert pixels[32, 8].tolist()[2] > 150  # what was on the right is now on the left


def test_a_turned_picture_is_measured_upright(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    picture(64, 96).save(tmp_path / "x.jpg", exif=exif, quality=95)
    _, notes = read(tmp_path / "x.jpg")
    assert len(notes) == 1  # 96x64 when upright: nothing to crop


def test_transparency_is_laid_on_white(tmp_path):
    image = picture(mode="RGBA")
    image.putalpha(0)
    image.save(tmp_path / "x.png")
    pixels, notes = read(tmp_path / "x.png")
    assert "laid on white" in notes[0]
    assert (pixels == 255).all()


@pytest.mark.parametrize("mode", ["P", "L", "1", "CMYK", "LA"])
def test_other_colour_modes_become_colours(tmp_path, mode):
    kind = "JPEG" if mode == "CMYK" else "PNG"
    picture(mode=mode).save(tmp_path / "x", format=kind)
    pixels, _ = read(tmp_path / "x")
    assert pixels.shape == (64, 96, 3)


def test_16_bits_are_reduced_to_8_and_not_cut_off(tmp_path):
    values = np.full((64, 96), 40_000, dtype=np.uint16)
    Image.fromarray(values).save(tmp_path / "x.png")
    pixels, notes = read(tmp_path / "x.png")
    assert "16 bits were reduced to 8" in notes[0]
    assert (pixels == 40_000 >> 8).all()


@pytest.mark.parametrize(
    ("size", "said"),
    [
        ((192, 128), "scaled down from 192x128 to 96x64"),
        ((48, 32), "enlarged from 48x32 to 96x64"),
        ((96, 80), "cropped from 96x80 to 96x64"),
        ((300, 64), "cropped from 300x64 to 96x64"),
        ((500, 400), "scaled down and cropped from 500x400 to 96x64"),
        ((16, 5000), "enlarged and cropped from 16x5000 to 96x64"),
    ],
)
def test_other_sizes_are_scaled_and_cropped_and_that_is_said(tmp_path, size, said):
    picture(*size).save(tmp_path / "x.png")
    pixels, notes = read(tmp_path / "x.png")
    assert pixels.shape == (64, 96, 3)
    assert notes == [f"the picture was {said}"]


def test_of_an_animation_the_first_picture_is_taken(tmp_path):
    first, second = picture(), Image.new("RGB", SIZE, "green")
    first.save(
        tmp_path / "x.webp", save_all=True, append_images=[second], lossless=True, format="WEBP"
    )
    pixels, _ = read(tmp_path / "x.webp")
    assert torch.equal(pixels, torch.from_numpy(np.array(first)))


@pytest.mark.faults
@pytest.mark.parametrize(
    ("width", "height", "complaint"),
    [
        (20_000, 20_000, "64,000,000 pixels; scale it down first"),
        (30_000, 30_000, "64,000,000 pixels; scale it down first"),
        (13_000, 13_000, "64,000,000 pixels; scale it down first"),
        (8001, 8000, "is 8001x8000; the most is 64,000,000 pixels"),
        (1, 1, "is 1x1; each side needs 16 pixels or more"),
        (5000, 2, "each side needs 16 pixels"),
    ],
)
def test_row_36_sizes_are_judged_by_the_header(tmp_path, width, height, complaint):
    (tmp_path / "x.png").write_bytes(empty_png(width, height))
    with pytest.raises(MediaError, match=complaint):
        read(tmp_path / "x.png")


def saved(kind):
    file = io.BytesIO()
    picture().save(file, format=kind)
    return file.getvalue()


@pytest.mark.faults
@pytest.mark.parametrize(
    "content",
    [
        b"", b"\x89PNG", b"\x89PNG\r\n\x1a\n" + b"\0" * 40, b"<svg xmlns='x'/>", b"%PDF-1.4",
        b"%!PS-Adobe-3.0 EPSF-3.0", saved("GIF"), saved("TIFF"), saved("BMP"), saved("ICO"),
        saved("PNG")[:100], saved("JPEG")[:300], saved("WEBP")[:60], b"\xff\xd8\xff" + b"\0" * 9,
    ],
)  # fmt: skip
def test_row_36_what_is_no_whole_png_jpeg_or_webp_is_refused(tmp_path, content):
    (tmp_path / "x.png").write_bytes(content)
    with pytest.raises(MediaError, match="cannot read .*x.png as a PNG, JPEG or WebP picture"):
        read(tmp_path / "x.png")


def test_a_flood_of_bytes_a_folder_and_nothing_are_refused(tmp_path):
    with (tmp_path / "big.png").open("wb") as file:
        file.truncate(65 * 2**20)
    with pytest.raises(MediaError, match="68,157,440 bytes; the most is 67,108,864"):
        read(tmp_path / "big.png")
    with pytest.raises(MediaError, match="is no file"):
        read(tmp_path)
    with pytest.raises(MediaError, match="No such file"):
        read(tmp_path / "nothing.png")
