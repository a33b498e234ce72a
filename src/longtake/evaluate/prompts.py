"""What films are asked for: drawn from the world by split, or read from a file."""

import json
import random
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import get_args

import numpy as np

from longtake.config import MAX_PROMPT
from longtake.errors import PromptError, SettingError
from longtake.evaluate.metrics import stated_subjects
from longtake.evaluate.understand import VALUES, fact_of, renumbered, understand
from longtake.world import Fact, Scenes, caption, sample_scenes
from longtake.world.captions import Wording
from longtake.world.scene import Split, Subject
from longtake.world.written import scene_of

MAX_LINES = 10_000
"""Longest prompts file."""
OWN = "file"
"""Name of the split of prompts from a file."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """One film that is asked for."""

    prompt: str
    facts: tuple[Fact, ...]
    """What the prompt states, subjects numbered as they are mentioned."""
    split: str
    scene: Scenes | None
    """A scene of which all of it is true, if there is one."""
    unknown: tuple[str, ...] = ()
    """Words that the world does not have."""


def splits() -> dict[str, tuple[Split, Wording]]:
    """Name, scenes and wordings of each split."""
    found: dict[str, tuple[Split, Wording]] = {"seen": ("train", "train")}
    found |= {name: (name, "train") for name in get_args(Split) if name != "train"}
    return found | {"held_out_wordings": ("train", "held_out")}


def draw(num: int, seed: int) -> list[Asked]:
    """Films of every split in equal parts, in turn, so that the first few hold all splits.

    Args:
        num: Films in all.
        seed: Of scenes and wordings.
    """
    kinds = list(splits().items())
    each = -(-num // len(kinds))
    columns = [
        [_worded(scenes, index, name, wording, seed) for index in range(each)]
        for stream, (name, (split, wording)) in enumerate(kinds)
        for scenes in [sample_scenes(each, np.random.default_rng([seed, stream]), split)]
    ]
    return [asked for row in zip(*columns, strict=True) for asked in row][:num]


def _worded(scenes: Scenes, index: int, name: str, wording: Wording, seed: int) -> Asked:
    said = caption(scenes, index, random.Random(f"{seed} {name} {index}"), wording)
    return Asked(
        prompt=said.text, facts=renumbered(said.facts), split=name, scene=scenes.select(index)
    )


def read_prompts(path: Path) -> tuple[list[Asked], list[str]]:
    """Prompts of a file, one a line, and notes on what was left out.

    A line is a prompt, or a JSON object with `prompt` and, if the facts should not be read from
    it, `facts`: objects with `subject`, `attribute` and `value`.

    Raises:
        PromptError: not readable, no prompts, too many, or a bad line, by its number.
    """
    try:
        text = path.read_text("utf-8-sig")
    except OSError as error:
        msg = f"cannot read the prompts {path}: {error.strerror}"
        raise PromptError(msg) from error
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        msg = f"{path}, line {line}: not UTF-8 text; save the file as UTF-8"
        raise PromptError(msg) from error
    lines = text.splitlines()
    if len(lines) > MAX_LINES:
        msg = f"{path} has {len(lines):,} lines; the most is {MAX_LINES:,}; split it"
        raise PromptError(msg)
    asked: dict[str, Asked] = {}
    repeated: list[int] = []
    for number, line in enumerate(lines, start=1):
        for entry in _entry(path, number, line.strip()):
            if entry.prompt in asked:
                repeated.append(number)
            asked.setdefault(entry.prompt, entry)
    if not asked:
        msg = f'{path} has no prompts; write one a line, as "a red ball bounces on grass"'
        raise PromptError(msg)
    return list(asked.values()), list(_notes(path, repeated))


def _notes(path: Path, repeated: list[int]) -> Iterator[str]:
    if repeated:
        shown = ", ".join(map(str, repeated[:5])) + (" …" if len(repeated) > 5 else "")
        yield f"{path}: {len(repeated)} prompts were there before and count once (line {shown})"


def _entry(path: Path, number: int, line: str) -> Iterator[Asked]:
    if not line:
        return
    where = f"{path}, line {number}"
    prompt, facts = line, None
    if line.startswith("{"):
        prompt, facts = _from_json(where, line)
    if len(prompt) > MAX_PROMPT:
        msg = f"{where}: the prompt has {len(prompt):,} characters; the most is {MAX_PROMPT:,}"
        raise PromptError(msg)
    read = one_of(prompt)
    yield read if facts is None else replace(read, facts=facts, scene=scene_from(facts))


def _from_json(where: str, line: str) -> tuple[str, tuple[Fact, ...] | None]:
    try:
        data = json.loads(line)
        prompt, facts = data["prompt"], data.get("facts")
        if not isinstance(prompt, str) or not prompt.strip():
            msg = f"the prompt must be text, got {prompt!r}"
            raise PromptError(f"{where}: {msg}")  # noqa: EM102 - named by line
        made = None if facts is None else tuple(fact_of(dict(entry)) for entry in facts)
    except json.JSONDecodeError as error:
        msg = f"{where}: wrong JSON at column {error.colno}: {error.msg}"
        raise PromptError(msg) from error
    except KeyError as error:
        msg = f'{where}: the object lacks {error}; write {{"prompt": "a red ball"}}'
        raise PromptError(msg) from error
    except (ValueError, TypeError, AttributeError, RecursionError) as error:
        msg = f"{where}: {error}"
        raise PromptError(msg) from error
    return prompt.strip(), made


def scene_from(facts: tuple[Fact, ...]) -> Scenes | None:
    """A scene in which the facts are true; None if they name nobody or cannot be shown."""
    subjects = []
    for stated in stated_subjects(facts).values():
        if "kind" not in stated:
            return None
        subjects.append(
            Subject(
                kind=stated["kind"],
                colour=stated.get("colour", ""),
                size=stated.get("size", "medium"),
                motion=stated.get("motion", "still"),
                slot=stated.get("slot"),
            )
        )
    free = [c for c in VALUES["colour"] if c not in {one.colour for one in subjects}]
    subjects = [one if one.colour else replace(one, colour=free.pop()) for one in subjects]
    place = {fact.attribute: fact.value for fact in facts if fact.subject is None}
    try:
        return scene_of(subjects, **place)  # pyrefly: ignore - ground, light and camera
    except SettingError:
        return None


def one_of(prompt: str) -> Asked:
    """A single prompt, its facts read from its words."""
    understood = understand(prompt)
    return Asked(
        prompt=prompt,
        facts=understood.facts,
        split=OWN,
        scene=scene_from(understood.facts),
        unknown=understood.unknown,
    )
