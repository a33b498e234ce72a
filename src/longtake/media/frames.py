"""Films from anywhere, frame by frame in constant memory: format by content, size before decode."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import torch
from av.container import InputContainer
from jaxtyping import UInt8
from torch import Tensor

from longtake.errors import MediaError
from longtake.media.video import reason, to_rgb

Frame = UInt8[Tensor, "1 height width 3"]
_MAGIC = ((4, b"ftyp", "mov"), (4, b"moov", "mov"), (0, b"\x1a\x45\xdf\xa3", "matroska"))
"""Where which bytes stand; any other file is not opened, for a playlist could lead elsewhere."""


@dataclass(frozen=True, slots=True)
class Looks:
    """What a film's header says."""

    width: int
    height: int
    fps: Fraction


def looks_of(path: Path) -> Looks:
    """Size and rate, without decoding anything.

    Raises:
        MediaError: not a readable mp4, mov, mkv or webm film.
    """
    with opened(path) as container:
        stream = container.streams.video[0]
        width, height = stream.codec_context.width, stream.codec_context.height
        if stream.average_rate is None or not width or not height:
            msg = f"{path} does not tell its size and rate"
            raise MediaError(msg)
        return Looks(width, height, stream.average_rate)


def frames_of(path: Path) -> Iterator[Frame]:
    """Decode one frame after the other.

    Raises:
        MediaError: not a readable film, or damaged inside.
    """
    with opened(path) as container:
        for frame in container.decode(video=0):
            yield torch.from_numpy(to_rgb(frame))[None]


def pick(path: Path, numbers: Sequence[int]) -> list[UInt8[Tensor, "height width 3"]]:
    """Some frames of a film, by their numbers in rising order.

    Raises:
        MediaError: not a readable film, or shorter.
    """
    wanted, found = set(numbers), []
    with opened(path) as container:
        for number, frame in enumerate(container.decode(video=0)):
            if number in wanted:
                found.append(torch.from_numpy(to_rgb(frame)))
    if len(found) != len(wanted):
        msg = f"{path} ends before frame {max(numbers)}"
        raise MediaError(msg)
    return found


@contextmanager
def opened(path: Path) -> Iterator[InputContainer]:
    """An mp4, mov, mkv or webm film, told by its first bytes and opened as nothing else.

    Raises:
        MediaError: anything else, or damaged.
    """
    try:
        with path.open("rb") as file:
            head = file.read(16)
        for offset, magic, kind in _MAGIC:
            if head[offset : offset + len(magic)] == magic:
                with av.open(str(path.absolute()), format=kind) as container:
                    yield container
                return
    except (av.error.FFmpegError, IndexError, OSError) as error:
        msg = f"cannot read {path} as a film: {reason(error)}"
        raise MediaError(msg) from error
    msg = f"cannot read {path} as a film: it is no mp4, mov, mkv or webm"
    raise MediaError(msg)
