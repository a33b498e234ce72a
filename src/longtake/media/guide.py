"""A guide track under a film: the picture is copied, the sound encoded, the length stays."""

from collections.abc import Iterator, Mapping
from fractions import Fraction
from itertools import chain
from pathlib import Path

import av
import numpy as np
from av.audio.frame import AudioFrame
from av.audio.resampler import AudioResampler
from av.audio.stream import AudioStream

from longtake.errors import MediaError
from longtake.media.video import clean_tags, closing, open_mp4, reason
from longtake.storage import atomic_write, output_errors

_SAMPLES = 48_000
"""Samples a second, as editors want them."""
_BITS = 192_000
_PIECE = 1024
_MAGIC = (
    (0, b"RIFF", "wav"),
    (0, b"FORM", "aiff"),
    (0, b"fLaC", "flac"),
    (0, b"OggS", "ogg"),
    (0, b"ID3", "mp3"),
    (0, b"\xff\xfb", "mp3"),
    (4, b"ftyp", "mov"),
    (0, b"\x1a\x45\xdf\xa3", "matroska"),
)
"""Where which bytes stand; any other file is not opened, for a playlist could lead elsewhere."""


def add_guide(
    film: Path,
    sound: Path,
    path: Path,
    *,
    fps: int | Fraction,
    tags: Mapping[str, str],
    late_s: Fraction = Fraction(0),
) -> float:
    """Write the film with the sound under it.

    Args:
        film: Picture; its packets are copied.
        sound: A file with a sound track; what goes beyond the film is cut off.
        path: The new mp4.
        fps: Frames per second.
        tags: Container tags.
        late_s: Seconds of the film before the sound begins.

    Returns:
        Seconds by which the sound is longer than the film; below 0 if it is shorter.

    Raises:
        MediaError: no sound can be read.
        OutputError: the folder is missing or not writable, or the disk is full.
    """
    with atomic_write(path) as temp, av.open(str(film.absolute())) as source:
        video = source.streams.video[0]
        assert video.duration is not None, "our own film"
        assert video.time_base is not None, "our own film"
        seconds = video.duration * video.time_base
        with output_errors(path):
            container = open_mp4(temp, clean_tags(tags), fps)
        with closing(container, path), output_errors(path):
            picture = container.add_stream_from_template(video)
            guide = container.add_stream("aac", rate=_SAMPLES)
            assert isinstance(guide, AudioStream), "a sound codec"
            guide.bit_rate, guide.layout = _BITS, "stereo"
            guide.codec_context.thread_count = 1
            for packet in source.demux(video):
                if packet.dts is not None:
                    packet.stream = picture
                    container.mux(packet)
            most, heard = int(seconds * _SAMPLES), 0
            for frame in chain(_silence(int(late_s * _SAMPLES)), _sound(sound)):
                if heard < most:
                    container.mux(guide.encode(_first(frame, most - heard, heard)))
                heard += frame.samples
            container.mux(guide.encode(None))
    return (heard - most) / _SAMPLES


def check_sound(path: Path) -> None:
    """Prove that a file has a sound track.

    Raises:
        MediaError: it has none, or cannot be read.
    """
    next(_sound(path), None)


def has_sound(film: Path) -> bool:
    """Whether a film of ours has a guide track."""
    with av.open(str(film.absolute())) as container:
        return bool(container.streams.audio)


def _sound(path: Path) -> Iterator[AudioFrame]:
    resampler = AudioResampler(format="fltp", layout="stereo", rate=_SAMPLES)
    try:
        with av.open(str(path.absolute()), format=_kind(path)) as container:
            for frame in container.decode(container.streams.audio[0]):
                yield from resampler.resample(frame)
            yield from resampler.resample(None)
    except (av.error.FFmpegError, OSError) as error:
        msg = f"cannot read the sound of {path}: {reason(error)}"
        raise MediaError(msg) from error
    except IndexError as error:
        msg = f"{path} has no sound track"
        raise MediaError(msg) from error


def _kind(path: Path) -> str:
    with path.open("rb") as file:
        head = file.read(16)
    for offset, magic, kind in _MAGIC:
        if head[offset : offset + len(magic)] == magic:
            return kind
    msg = f"cannot read the sound of {path}: it is no WAV, AIFF, FLAC, Ogg, MP3, mp4, mov or mkv"
    raise MediaError(msg)


def _silence(samples: int) -> Iterator[AudioFrame]:
    for begin in range(0, samples, _PIECE):
        piece = np.zeros((2, min(_PIECE, samples - begin)), np.float32)
        frame = AudioFrame.from_ndarray(piece, "fltp", "stereo")
        frame.sample_rate = _SAMPLES
        yield frame


def _first(frame: AudioFrame, most: int, at: int) -> AudioFrame:
    """The first samples of a frame, with their time."""
    if frame.samples > most:
        frame = AudioFrame.from_ndarray(frame.to_ndarray()[:, :most], "fltp", "stereo")
        frame.sample_rate = _SAMPLES
    frame.pts, frame.time_base = at, Fraction(1, _SAMPLES)
    return frame
