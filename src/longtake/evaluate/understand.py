"""From a prompt back to the facts it states: the captions read backwards, phrase by phrase."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from functools import cache
from typing import Any, get_args

from longtake.evaluate.scope import CAMERAS, COLOURS, GROUNDS, KINDS, LIGHTS, MOTIONS, SIZES
from longtake.world.captions import Attribute, Fact, phrases, vocabulary, words_of
from longtake.world.scene import SLOTS
from longtake.world.wording import KIND_WORDS

VALUES: Mapping[str, tuple[str, ...]] = {
    "kind": tuple(entry.name for entry in KINDS),
    "colour": tuple(entry.name for entry in COLOURS),
    "size": tuple(entry.name for entry in SIZES),
    "motion": tuple(entry.name for entry in MOTIONS),
    "slot": SLOTS,
    "ground": tuple(entry.name for entry in GROUNDS),
    "light": tuple(entry.name for entry in LIGHTS),
    "camera": tuple(entry.name for entry in CAMERAS),
}
"""What each attribute can be."""
OF_SCENE = ("ground", "light", "camera")
"""Attributes that belong to no subject."""

Meaning = tuple[Attribute, str]
Words = tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Understood:
    """What a prompt says."""

    facts: tuple[Fact, ...]
    """Subjects are numbered as they are mentioned."""
    unknown: tuple[str, ...]
    """Words the world does not have."""


def understand(text: str) -> Understood:
    """Read a prompt; what means nothing in the world is left out and named."""
    known = _known_words()
    unknown, words = [], []
    for word in words_of(text):
        # Between closing and opening marks nothing is lost: no phrase spans a sentence.
        right = word if word in known else _repaired(word)
        if right is None:
            unknown.append(word)
        words.append(right or "")
    return Understood(facts=_facts(words), unknown=tuple(dict.fromkeys(unknown)))


def renumbered(facts: Iterable[Fact]) -> tuple[Fact, ...]:
    """The same facts with subjects numbered as they are mentioned, each fact once."""
    order: dict[int, int] = {}
    made = []
    for fact in facts:
        number = fact.subject
        if number is not None:
            number = order.setdefault(number, len(order))
        made.append(Fact(number, fact.attribute, fact.value))
    return tuple(dict.fromkeys(made))


@cache
def _known_words() -> frozenset[str]:
    return frozenset(vocabulary())


def _repaired(word: str) -> str | None:
    """The known word one slip away."""
    if len(word) < 5:
        return None
    near = get_close_matches(word, [w for w in _known_words() if w[0] == word[0]], 1, 0.8)
    return near[0] if near else None


@cache
def _meanings() -> tuple[dict[Words, tuple[Meaning, ...]], int]:
    """Every phrase as words, with what it can mean; and the longest one's length."""
    found: dict[Words, dict[Meaning, None]] = {}
    nouns = ["it", *(f"the {noun}" for family in KIND_WORDS.values() for noun in family.train)]
    for attribute in get_args(Attribute):
        for value in VALUES.get(attribute, ()):
            for phrase in phrases(attribute, value):
                said = nouns if "{it}" in phrase else ("",)
                for noun in said:
                    words = tuple(words_of(phrase.replace("{it}", noun)))
                    found.setdefault(words, {})[attribute, value] = None
    meanings = {words: tuple(kept) for words, kept in found.items() if words}
    return meanings, max(map(len, meanings))


@dataclass(slots=True)
class _Listener:
    """Facts so far, and whom the next words are about."""

    facts: list[Fact] = field(default_factory=list)
    subjects: int = 0
    pending: dict[Attribute, str] = field(default_factory=dict)
    following: list[tuple[int, tuple[Meaning, ...]]] = field(default_factory=list)
    """Clauses that say the camera goes along, and where they stand among the facts."""

    def hear(self, meaning: Meaning, before: str) -> None:
        attribute, value = meaning
        if attribute in OF_SCENE:
            self.facts.append(Fact(None, attribute, value))
        elif attribute == "kind":
            self.subjects += 1
            self._state("kind", value)
            for name, kept in self.pending.items():
                self._state(name, kept)
            self.pending = {}
        elif attribute == "colour" and not (before == "in" and self.subjects):
            self.pending["colour"] = value
        elif attribute == "size" or not self.subjects:
            self.pending[attribute] = value
        else:
            self._state(attribute, value)

    def _state(self, attribute: Attribute, value: str) -> None:
        self.facts.append(Fact(self.subjects - 1, attribute, value))

    def settle(self) -> tuple[Fact, ...]:
        """Facts once all is heard; a camera that goes along goes where the subject goes."""
        ways = [
            motion.lateral
            for fact in self.facts
            for motion in MOTIONS
            if fact.attribute == "motion" and motion.name == fact.value and motion.lateral
        ]
        for at, meanings in self.following:
            for camera in CAMERAS:
                way = camera.pan_deg + camera.truck
                if ("camera", camera.name) in meanings and ways and way * ways[0] > 0:
                    self.facts.insert(at, Fact(None, "camera", camera.name))
                    break
        return tuple(dict.fromkeys(self.facts))


def _facts(words: list[str]) -> tuple[Fact, ...]:
    meanings, longest = _meanings()
    listener, at = _Listener(), 0
    while at < len(words):
        for length in range(min(longest, len(words) - at), 0, -1):
            meant = meanings.get(tuple(words[at : at + length]))
            if meant is None:
                continue
            if len(meant) == 1:
                listener.hear(meant[0], words[at - 1] if at else "")
            else:
                listener.following.append((len(listener.facts), meant))
            at += length
            break
        else:
            at += 1
    return listener.settle()


def fact_of(entry: Mapping[str, Any]) -> Fact:
    """A fact from JSON.

    Raises:
        ValueError: an attribute or value the world does not have, or a subject that is no number.
    """
    attribute, value, subject = entry.get("attribute"), entry.get("value"), entry.get("subject")
    if attribute not in VALUES:
        msg = f"attribute must be one of {', '.join(VALUES)}, got {attribute!r}"
        raise ValueError(msg)
    if value not in VALUES[attribute]:
        msg = f"{attribute} must be one of {', '.join(VALUES[attribute])}, got {value!r}"
        raise ValueError(msg)
    if (attribute in OF_SCENE) != (subject is None) or isinstance(subject, bool):
        msg = f"{attribute} belongs to {'the scene' if attribute in OF_SCENE else 'a subject'}"
        raise ValueError(msg)
    if subject is not None and not (isinstance(subject, int) and subject >= 0):
        msg = f"subject must be a number from 0 on, got {subject!r}"
        raise ValueError(msg)
    name = next(known for known in get_args(Attribute) if known == attribute)
    return Fact(subject, name, value)
