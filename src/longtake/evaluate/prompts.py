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
from longtake.evaluate.understand import fact_of, renumbered, understand
from longtake.world import Fact, Scenes, caption, sample_scenes
from longtake.world.captions import Wording
from longtake.world.level import FIRST, Level
from longtake.world.scene import MAX_SUBJECTS, NEVER, Split, Subject
from longtake.world.written import scene_of

MAX_LINES = 10_000
"""Longest prompts file."""
OWN = "file"
"""Name of the split of prompts from a file."""
CROWDS = {3: "three_subjects", 4: "four_subjects"}
"""Splits of scenes with many subjects."""
HELD_OUT_COUNTS = "held_out_counts"
"""Split of scenes with more subjects than training shows; scored apart from the rest."""


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


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """What the films of one split show, and in which words they are asked for."""

    scenes: Split = "train"
    wording: Wording = "train"
    count: int | None = None
    """Subjects of each scene; None for as many as are drawn."""


def splits(level: Level = FIRST) -> dict[str, Part]:
    """What is asked for at a level, by name of the split.

    One subject more than the level has is a held-out count; three and four that it has are
    splits of their own. Captions name no speeds, so that none is held out.
    """
    found = {"seen": Part()}
    found |= {name: Part(scenes=name) for name in get_args(Split) if name != "train"}
    found["held_out_wordings"] = Part(wording="held_out")
    for count, name in CROWDS.items():
        if count <= level.most_subjects:
            found[name] = Part(count=count)
    if level.most_subjects < MAX_SUBJECTS:
        found[HELD_OUT_COUNTS] = Part(count=level.most_subjects + 1)
    return found


def draw(num: int, seed: int, level: Level = FIRST) -> list[Asked]:
    """Films of every split in equal parts, in turn, so that the first few hold all splits.

    Args:
        num: Films in all.
        seed: Of scenes and wordings.
        level: What can occur.
    """
    parts = list(splits(level).items())
    each = -(-num // len(parts))
    columns = [
        [_worded(scenes, index, name, part.wording, seed, level) for index in range(each)]
        for stream, (name, part) in enumerate(parts)
        for scenes in [_scenes(each, np.random.default_rng([seed, stream]), part, level)]
    ]
    return [asked for row in zip(*columns, strict=True) for asked in row][:num]


def _scenes(num: int, rng: np.random.Generator, part: Part, level: Level) -> Scenes:
    if part.count is None:
        return sample_scenes(num, rng, part.scenes, level)
    wide = replace(level, most_subjects=max(part.count, level.most_subjects))
    # At least 7 % of scenes have the most subjects.
    pool = sample_scenes(40 * num + 200, rng, part.scenes, wide)
    return pool.select(np.flatnonzero(pool.num_subjects == part.count)[:num])


def _worded(
    scenes: Scenes, index: int, name: str, wording: Wording, seed: int, level: Level
) -> Asked:
    rng = random.Random(f"{seed} {name} {index}")
    style = "plain" if len(level.styles) == 1 else rng.choice(level.styles)
    said = caption(scenes, index, rng, wording, style=style)
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
    stated = list(stated_subjects(facts).values())
    if any("kind" not in attributes for attributes in stated):
        return None
    taken = {attributes.get("colour") for attributes in stated}
    free = [colour for colour in reversed(FIRST.colours) if colour not in taken]
    subjects = [
        Subject(
            kind=attributes["kind"],
            colour=attributes.get("colour") or free.pop(),
            size=attributes.get("size", "medium"),
            motion=attributes.get("motion", "still"),
            slot=attributes.get("slot"),
            material=attributes.get("material", "matte"),
            start_s=float(attributes.get("start_s", 0)),
            then=attributes.get("then"),
            change_s=float(attributes.get("change_s", NEVER)),
        )
        for attributes in stated
    ]
    place = {fact.attribute: fact.value for fact in facts if fact.subject is None}
    try:
        return scene_of(subjects, **place)  # pyrefly: ignore - ground, light, camera and shot
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
