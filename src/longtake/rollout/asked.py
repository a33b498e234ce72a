"""Whether a film can be made, found out before any work, and without torch."""

from collections.abc import Sequence
from itertools import pairwise

from longtake.config import FPS, MAX_PROMPT, Cue, ModelConfig, SampleConfig
from longtake.errors import PromptError, SettingError
from longtake.rollout.grid import Grid


def check_film(
    name: str,
    model: ModelConfig,
    prompt: str,
    settings: SampleConfig,
    *,
    cues: Sequence[Cue] = (),
    picture: tuple[int, int] | None = None,
) -> None:
    """Prove that a model can make a film.

    Args:
        name: Of the model, for messages.
        model: Its shapes.
        prompt: What to show.
        settings: Everything else that decides the pixels.
        cues: How the prompt goes on.
        picture: Width and height of what it begins with.

    Raises:
        PromptError: an empty or oversized prompt.
        SettingError: a film longer than the model makes, or what it was not trained for.
    """
    _check_prompt(prompt, cues)
    if cues:
        check_chunks(name, model, "change the prompt inside a take")
        check_cues(cues, Grid(model.chunk), settings.frames)
    if picture is not None:
        check_chunks(name, model, "begin with a picture")
        if picture != (settings.width, settings.height):
            width, height = picture
            msg = (
                f"the picture is {width}x{height} and the film "
                f"{settings.width}x{settings.height}; give the picture the film's size"
            )
            raise SettingError(msg)
    if settings.frames > model.max_frames and not model.chunk:
        longest = (model.max_frames - 1) / FPS
        msg = (
            f"{name} makes films of up to {longest:g} seconds "
            f"({model.max_frames} frames), got {settings.frames} frames; "
            f"try --seconds {longest:g}"
        )
        raise SettingError(msg)


def check_chunks(name: str, model: ModelConfig, what: str) -> None:
    """Prove that a model goes on by chunks.

    Raises:
        SettingError: it makes films in one pass.
    """
    if not model.chunk:
        msg = f"{name} was not trained to {what}; it makes films in one pass"
        raise SettingError(msg)


def _check_prompt(prompt: str, cues: Sequence[Cue]) -> None:
    if not prompt.strip():
        msg = 'the prompt is empty; say what to show, e.g. "a red ball bounces"'
        raise PromptError(msg)
    length = len(prompt) + sum(len(cue.text) for cue in cues)
    if length > MAX_PROMPT:
        msg = f"the prompt has {length:,} characters; the most is {MAX_PROMPT:,}"
        raise PromptError(msg)


def check_cues(cues: Sequence[Cue], grid: Grid, frames: int) -> None:
    """Prove that every cue takes effect inside the take, in the order given.

    Raises:
        SettingError: a time beyond the end, or before the time of the cue before.
    """
    for one, other in pairwise(cues):
        if other.at_s < one.at_s:
            msg = (
                f"prompts must come in the order of their times, got {one.at_s:g} s before "
                f"{other.at_s:g} s; give the earlier one first"
            )
            raise SettingError(msg)
    for cue in cues:
        if grid.frames(grid.chunk_at(cue.at_s)).start >= frames:
            last = grid.begins_s(grid.chunks(frames) - 1)
            msg = (
                f"a prompt at {cue.at_s:g} s comes too late: the take ends at {frames / FPS:g} s "
                f"and its last chunk begins at {last:g} s; give an earlier time or more --seconds"
            )
            raise SettingError(msg)
