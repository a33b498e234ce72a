"""Clips of a folder, encoded once by a public model, for its further training.

python -m longtake.recipes.encode MODEL CLIPS --out FOLDER [--size 832x480] [--frames 81]

CLIPS holds an mp4 of that size and a txt of the same name for each clip: what it shows.
"""

import argparse
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch

from longtake.checkpoints import save_state
from longtake.errors import LongtakeError, MediaError
from longtake.media.video import read_video
from longtake.official.folder import read_model
from longtake.official.pipeline import OfficialPipeline, Running
from longtake.official.settings import OfficialConfig
from longtake.pipeline import device_of
from longtake.pipeline.precision import arithmetic_for


@dataclass(frozen=True, slots=True)
class Encoded:
    """A clip is encoded, or was before."""

    file: Path
    number: int
    total: int


@torch.no_grad()
def encode_clips(
    pipe: OfficialPipeline, clips: Path, out: Path, settings: OfficialConfig
) -> Iterator[Encoded]:
    """Encode what is not encoded yet; a run that was stopped goes on.

    Args:
        pipe: The model whose VAE and text encoder are used.
        clips: Folder of mp4 and txt files.
        out: Folder of the encoded clips, made if it is not there.
        settings: Size, frames and motion score of the clips.

    Raises:
        MediaError: no clips, a clip of another size or too short, or without a text.
    """
    films = sorted(clips.glob("*.mp4"))
    if not films:
        msg = f"{clips} has no mp4 files"
        raise MediaError(msg)
    out.mkdir(parents=True, exist_ok=True)
    for number, film in enumerate(films, start=1):
        file = out / f"{film.stem}.safetensors"
        if not file.exists():
            frames, _ = read_video(film)
            wanted = (settings.frames, settings.height, settings.width)
            if len(frames) < wanted[0] or tuple(frames.shape[1:3]) != wanted[1:]:
                found = "x".join(map(str, (frames.shape[2], frames.shape[1], len(frames))))
                msg = f"{film} is {found}; it must be {wanted[2]}x{wanted[1]}x{wanted[0]} or longer"
                raise MediaError(msg)
            ((text, mask), *_), _ = pipe.condition(_text_of(film), settings)
            latents = pipe.latents_of(frames[: settings.frames])
            parts = {"latents": latents[0], "text": text[0], "mask": mask[0].to(torch.uint8)}
            save_state(file, parts, {})
        yield Encoded(file, number, len(films))


def _text_of(film: Path) -> str:
    try:
        return film.with_suffix(".txt").read_text("utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        msg = f"{film.with_suffix('.txt')} must say what {film.name} shows: {error}"
        raise MediaError(msg) from error


def _main() -> None:
    parser = argparse.ArgumentParser(prog="longtake.recipes.encode")
    parser.add_argument("model", type=Path)
    parser.add_argument("clips", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--size", default="832x480")
    parser.add_argument("--frames", type=int, default=81)
    asked = parser.parse_args()
    try:
        width, height = map(int, asked.size.split("x"))
        settings = OfficialConfig(width=width, height=height, frames=asked.frames, guidance=1.0)
        device = device_of("auto")
        running = Running(device=device, dtype=arithmetic_for("auto", device).dtype, offload="none")
        pipe = OfficialPipeline(read_model(asked.model), running)
        for made in encode_clips(pipe, asked.clips, asked.out, settings):
            sys.stderr.write(f"{made.number} of {made.total}: {made.file.name}\n")
    except LongtakeError as error:
        parser.exit(error.exit_code, f"error: {error}\n")
    except ValueError:
        parser.exit(2, f"error: --size must be as 832x480, got {asked.size}\n")


if __name__ == "__main__":
    _main()
