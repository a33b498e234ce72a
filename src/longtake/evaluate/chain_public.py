"""Clips of public image-to-video checkpoints, as diffusers runs them, on our grid of frames."""

import inspect
import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal, get_args

import torch
from einops import rearrange
from jaxtyping import Float, UInt8
from PIL import Image
from torch import Tensor

from longtake.config import FPS, TEMPORAL_STRIDE
from longtake.errors import CannotHere, ModelError
from longtake.official.parts import library, quiet
from longtake.rollout.grid import Grid

Film = UInt8[Tensor, "frames height width 3"]
Picture = UInt8[Tensor, "height width 3"]
Kind = Literal["WanImageToVideoPipeline", "CogVideoXImageToVideoPipeline"]
KINDS: tuple[Kind, ...] = get_args(Kind)
_INDEX = "model_index.json"
_LIBRARIES = {"diffusers", "transformers"}
_WAN_AREA = 832 * 480


@dataclass(frozen=True, slots=True, kw_only=True)
class Legal:
    """The clips that a checkpoint was trained for."""

    width: int
    height: int
    frames: int
    fps: int


@dataclass(frozen=True, slots=True, kw_only=True)
class PublicClips:
    """A checkpoint with everything that stays the same from clip to clip."""

    name: str
    pipe: Any
    """An image-to-video pipeline of diffusers."""
    legal: Legal
    size: tuple[int, int]
    """Height and width of our films."""
    grid: Grid
    steps: int
    """Of its sampler."""

    @property
    def chunks(self) -> int:
        """Our chunks that come nearest to the length of a clip."""
        chunk_s = TEMPORAL_STRIDE * self.grid.size / FPS
        return max(round((self.legal.frames - 1) / self.legal.fps / chunk_s), 1)

    @property
    def frames(self) -> int:
        """Frames of a clip at our rate, its first among them."""
        return self.grid.frames(self.chunks - 1).stop

    def told(self) -> str:
        """What becomes of a clip on its way to our grid, in a line."""
        legal, (height, width) = self.legal, self.size
        return (
            f"{self.name} makes {legal.frames} frames of {legal.width}x{legal.height} at "
            f"{legal.fps} a second in {self.steps} steps; each clip is scaled to {width}x{height} "
            f"and laid on {self.frames} frames at {FPS} a second"
        )

    def clip(self, text: str, picture: Picture, seed: int) -> Film:
        """One clip that begins with a picture, on our grid.

        Raises:
            CannotHere: the memory does not suffice, or the library fails at it.
        """
        legal = self.legal
        given = Image.fromarray(picture.cpu().numpy()).resize(
            (legal.width, legal.height), Image.Resampling.LANCZOS
        )
        try:
            with torch.no_grad(), quiet():
                made = self.pipe(
                    image=given, prompt=text, height=legal.height, width=legal.width,
                    num_frames=legal.frames, num_inference_steps=self.steps, output_type="np",
                    generator=torch.Generator("cpu").manual_seed(seed),
                ).frames[0]  # fmt: skip
        except (RuntimeError, MemoryError, ValueError, TypeError, ImportError) as error:
            msg = f"{self.name} failed at a clip: {_first_line(error)}"
            raise CannotHere(msg) from error
        return on_grid(torch.as_tensor(made), self.frames, self.size)


def chained_public(
    clips: PublicClips, texts: Sequence[str], picture: Picture, seed: int
) -> Iterator[Film]:
    """A chain of clips, each of which begins with the last frame of the one before.

    Args:
        clips: What makes them.
        texts: The caption in force in each of our chunks; a clip is told all that fall into it.
        picture: The frame with which the first clip begins.
        seed: Of the first clip; each later one has the next.
    """
    left = clips.grid.frames(len(texts) - 1).stop
    for number, first in enumerate(range(0, len(texts), clips.chunks)):
        said = ". ".join(dict.fromkeys(texts[first : first + clips.chunks]))
        film = clips.clip(said, picture, seed + number)
        new = (film if number == 0 else film[1:])[:left]
        left, picture = left - len(new), film[-1]
        yield new


def on_grid(
    made: Float[Tensor, "made tall wide 3"], frames: int, size: tuple[int, int]
) -> UInt8[Tensor, "frames height width 3"]:
    """Scale frames in [0, 1] to a size, and spread them evenly over a number of frames."""
    small = torch.nn.functional.interpolate(
        rearrange(made.float(), "f h w c -> f c h w"), size, mode="bilinear", antialias=True
    )
    at = torch.linspace(0, len(made) - 1, frames)
    below = at.floor().long().clamp(max=len(made) - 1)
    above = (below + 1).clamp(max=len(made) - 1)
    mixed = torch.lerp(small[below], small[above], (at - below)[:, None, None, None])
    return rearrange((255 * mixed).round().clamp(0, 255).byte(), "f c h w -> f h w c")


def load_clips(
    folder: Path,
    *,
    size: tuple[int, int],
    grid: Grid,
    device: torch.device | str = "cpu",
    steps: int | None = None,
) -> PublicClips:
    """Open a folder as diffusers saves it; nothing is fetched, and only safetensors are read.

    Args:
        folder: With a `model_index.json` of an image-to-video pipeline.
        size: Height and width of our films.
        grid: Our chunks.
        device: Where it runs.
        steps: Sampler steps; None: as many as the pipeline takes on its own.

    Raises:
        ModelError: the folder is missing, damaged or of another kind.
        CannotHere: what the pipeline needs is not installed.
    """
    kind = kind_of(folder)
    _check_needed(kind)
    diffusers = library("diffusers")
    diffusers.utils.logging.disable_progress_bar()
    theirs = getattr(diffusers, kind)
    dtype = torch.bfloat16 if torch.device(device).type == "cuda" else torch.float32
    try:
        with quiet():
            pipe = theirs.from_pretrained(
                folder, torch_dtype=dtype, local_files_only=True, use_safetensors=True
            ).to(device)
    except (OSError, ValueError, TypeError, KeyError, RuntimeError, ImportError) as error:
        msg = f"{folder} cannot be loaded as {kind}: {_first_line(error)}"
        raise ModelError(msg) from error
    return clips_of(pipe, kind, folder.resolve().name, size=size, grid=grid, steps=steps)


def clips_of(
    pipe: Any,  # noqa: ANN401 - an image-to-video pipeline of diffusers
    kind: Kind,
    name: str,
    *,
    size: tuple[int, int],
    grid: Grid,
    steps: int | None = None,
) -> PublicClips:
    """The clips of a pipeline that is loaded; the rest as in `load_clips`."""
    pipe.set_progress_bar_config(disable=True)
    own = inspect.signature(type(pipe).__call__).parameters["num_inference_steps"].default
    return PublicClips(
        name=name, pipe=pipe, legal=legal_of(kind, pipe, size), size=size, grid=grid,
        steps=steps or own,
    )  # fmt: skip


def kind_of(folder: Path) -> Kind:
    """Which pipeline a folder holds.

    Raises:
        ModelError: none that makes clips from a picture, or one that wants foreign code.
    """
    wanted = "a diffusers folder of Wan 2.1 or CogVideoX image-to-video"
    try:
        index = json.loads((folder / _INDEX).read_text("utf-8"))
    except (OSError, ValueError) as error:
        what = f"has no readable {_INDEX}" if folder.is_dir() else "is not a folder"
        msg = f"{folder} {what}; give {wanted}"
        raise ModelError(msg) from error
    name = index.get("_class_name") if isinstance(index, dict) else None
    for kind in KINDS:
        if name == kind:
            break
    else:
        msg = f"{folder} is of kind {name}; give {wanted} ({' or '.join(KINDS)})"
        raise ModelError(msg)
    # The library imports whatever a part names, so only its own two are let through.
    parts = [part for part in index.values() if isinstance(part, list) and part[:1] != [None]]
    foreign = [part[0] for part in parts if part and part[0] not in _LIBRARIES]
    if foreign:
        msg = f"{folder}: {_INDEX} names code of {foreign[0]!r}, which is not run; give {wanted}"
        raise ModelError(msg)
    return kind


def legal_of(kind: Kind, pipe: Any, size: tuple[int, int]) -> Legal:  # noqa: ANN401
    """The size and length a checkpoint was trained for that come nearest to our films."""
    height, width = size
    config = pipe.transformer.config
    match kind:
        case "WanImageToVideoPipeline":
            # Any shape of its area will do, in whole patches of latents.
            step = pipe.vae_scale_factor_spatial * config.patch_size[1]
            tall = math.sqrt(_WAN_AREA * height / width)
            sides = [max(round(side / step), 1) * step for side in (tall, tall * width / height)]
            return Legal(width=sides[1], height=sides[0], frames=81, fps=16)
        case "CogVideoXImageToVideoPipeline":
            # 1.0 has learned places, so no other size; 1.5 packs frames and runs at 16 a second.
            stride = pipe.vae_scale_factor_spatial
            return Legal(
                width=config.sample_width * stride,
                height=config.sample_height * stride,
                frames=config.sample_frames,
                fps=8 if config.patch_size_t is None else 16,
            )


def _check_needed(kind: Kind) -> None:
    # Found before gigabytes are read: without ftfy the library fails at the first prompt only.
    needed = {"WanImageToVideoPipeline": ("accelerate", "ftfy")}.get(kind, ())
    missing = [name for name in needed if find_spec(name) is None]
    if missing:
        msg = f"{kind} needs {' and '.join(missing)}: pip install {' '.join(missing)}"
        raise CannotHere(msg)


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return lines[0][:160]
