"""Pictures from anywhere at a film's size: measured before a pixel is decoded, without torch."""

import struct
import warnings
from pathlib import Path
from zlib import error as ZlibError

import numpy as np
from PIL import Image, ImageOps

from longtake.errors import MediaError

FORMATS = ("PNG", "JPEG", "WEBP")
"""Told by content; the name does not matter."""
MAX_BYTES = 64 * 2**20
"""Largest file."""
MAX_PIXELS = 64_000_000
"""Largest picture."""
MIN_SIDE = 16
"""Smallest side that shows anything."""
_ORIENTATION = 0x0112
_BROKEN = (OSError, SyntaxError, ValueError, struct.error, EOFError, ZlibError)
_BOMBS = (Image.DecompressionBombError, Image.DecompressionBombWarning)


def read_image(path: Path, width: int, height: int) -> tuple[Image.Image, list[str]]:
    """A picture at this size, in RGB, and what had to be done to it.

    Turned as its EXIF tag says, laid on white where it is transparent, reduced to 8 bits, scaled
    until it covers the frame, and cropped evenly. Of an animation the first picture is taken.

    Raises:
        MediaError: no picture, damaged, of another format, too small or too large.
    """
    try:
        size = path.stat().st_size
        if not path.is_file():
            msg = f"the picture {path} is no file"
            raise MediaError(msg)
        if size > MAX_BYTES:
            msg = f"the picture {path} has {size:,} bytes; the most is {MAX_BYTES:,}"
            raise MediaError(msg)
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(path, formats=FORMATS) as image:
                _check_size(path, *image.size)
                return _fitted(image, width, height)
    except _BOMBS as error:
        msg = f"the picture {path} has more than {MAX_PIXELS:,} pixels; scale it down first"
        raise MediaError(msg) from error
    except _BROKEN as error:
        kinds = "PNG, JPEG or WebP"
        msg = f"cannot read {path} as a {kinds} picture: {_reason(error, path)}"
        raise MediaError(msg) from error


def _check_size(path: Path, width: int, height: int) -> None:
    if width * height > MAX_PIXELS:
        msg = (
            f"the picture {path} is {width}x{height}; the most is {MAX_PIXELS:,} pixels; "
            "scale it down first"
        )
        raise MediaError(msg)
    if min(width, height) < MIN_SIDE:
        msg = f"the picture {path} is {width}x{height}; each side needs {MIN_SIDE} pixels or more"
        raise MediaError(msg)


def _fitted(image: Image.Image, width: int, height: int) -> tuple[Image.Image, list[str]]:
    notes: list[str] = []
    turned = image.getexif().get(_ORIENTATION, 1)
    upright = ImageOps.exif_transpose(image)
    if turned in range(2, 9):
        notes.append("the picture was turned upright as its EXIF tag says")
    if upright.mode.startswith("I"):
        upright = Image.fromarray((np.asarray(upright).astype(np.int64) >> 8).astype(np.uint8))
        notes.append("the picture's 16 bits were reduced to 8")
    if upright.has_transparency_data:
        white = Image.new("RGBA", upright.size, "white")
        upright = Image.alpha_composite(white, upright.convert("RGBA"))
        notes.append("the picture's transparent parts were laid on white")
    rgb = upright.convert("RGB")
    if rgb.size != (width, height):
        notes.append(f"the picture was {_change(rgb.size, (width, height))}")
        rgb = ImageOps.fit(rgb, (width, height), Image.Resampling.LANCZOS)
    return rgb, notes


def _change(old: tuple[int, int], new: tuple[int, int]) -> str:
    scale = max(new[0] / old[0], new[1] / old[1])
    cropped = any(round(scale * a) != b for a, b in zip(old, new, strict=True))
    done = "cropped" if scale == 1 else "enlarged" if scale > 1 else "scaled down"
    also = " and cropped" if cropped and scale != 1 else ""
    return f"{done}{also} from {old[0]}x{old[1]} to {new[0]}x{new[1]}"


def _reason(error: BaseException, path: Path) -> str:
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return str(error).replace(repr(str(path)), "it").replace(str(path), "it") or "it is damaged"
