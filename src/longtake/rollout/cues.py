"""Prompts that change inside a take: what the model reads in each chunk."""

import json
import math
from collections.abc import Sequence

import torch
from torch.nn.functional import pad

from longtake.config import FPS, TEMPORAL_STRIDE, Cue, SampleConfig, to_dict
from longtake.rollout.grid import Grid
from longtake.rollout.take import Condition
from longtake.world.timing import NUMBERS, resolve, seconds


def texts(
    prompt: str, cues: Sequence[Cue], grid: Grid, *, timed: bool
) -> tuple[tuple[int, str], ...]:
    """What the model reads, each text with the chunk from which on it does.

    A cue is added to what was said before, with its second, as the captions of long clips are
    told: "a red ball on grass. at twenty seconds the sun sets".

    Args:
        prompt: Holds from the start.
        cues: In the order of their times.
        grid: Of the take.
        timed: Whether the model knows seconds; then relative times become absolute ones.
    """
    text = resolve(prompt.lower()) if timed else prompt
    found = [(0, text)]
    for cue in cues:
        at = max(round(cue.at_s), 1)
        if timed and at < len(NUMBERS):
            text = f"{text.rstrip(' .')}. at {seconds(at)} {resolve(cue.text.lower(), at)}"
        else:
            text = f"{text.rstrip(' .')}. {cue.text}"
        found.append((grid.chunk_at(cue.at_s), text))
    return tuple(found)


def told_before(
    chunk: int,
    prompt: str,
    cues: Sequence[Cue],
    settings: SampleConfig,
    grid: Grid,
    given: str,
) -> dict[str, str]:
    """What decided a take before a chunk: takes of which it is equal are equal so far.

    Args:
        chunk: Number of the chunk.
        prompt: Holds from the start.
        cues: Those that take effect before the chunk count.
        settings: All but the length count.
        grid: Of the take.
        given: Checksum of the picture or the frames it began with; empty without.
    """
    early = [
        # Told only where it is, so that states of older takes still prove themselves.
        [cue.at_s, cue.text, *([cue.over_s] if cue.over_s else [])]
        for cue in cues
        if grid.chunk_at(cue.at_s) < chunk
    ]
    counted = {key: value for key, value in to_dict(settings).items() if key != "frames"}
    if not settings.negative:
        del counted["negative"]
    return {
        "prompt": prompt,
        "cues": json.dumps(early),
        "settings": json.dumps(counted, sort_keys=True),
        "given": given,
    }


def faded(
    conditions: Sequence[tuple[int, Condition]], cues: Sequence[Cue], grid: Grid
) -> tuple[tuple[int, Condition], ...]:
    """The encoded prompts, with a blend for each chunk in which one gives way to the next.

    A cue that gains weight over n chunks weighs 1 / (n + 1) in the first and n / (n + 1) in the
    last of them.

    Args:
        conditions: The prompt, then one for each cue, with the chunk from which on it holds.
        cues: In the order of their times.
        grid: Of the take.
    """
    found = [conditions[0]]
    for cue, (chunk, after) in zip(cues, conditions[1:], strict=True):
        before = found[-1][1]
        steps = math.ceil(round(cue.over_s * FPS, 6) / (TEMPORAL_STRIDE * grid.size))
        found += [(chunk + n, _blend(before, after, (n + 1) / (steps + 1))) for n in range(steps)]
        found.append((chunk + steps, after))
    return tuple(found)


def _blend(before: Condition, after: Condition, weight: float) -> Condition:
    """Both prompts at once; what one does not have weighs nothing."""
    length = max(before[0].shape[1], after[0].shape[1])
    texts, masks = [], []
    for text, mask in (before, after):
        more = length - text.shape[1]
        texts.append(pad(text * mask[..., None], (0, 0, 0, more)))
        masks.append(pad(mask, (0, more)))
    return torch.lerp(texts[0], texts[1], weight), masks[0] | masks[1]
