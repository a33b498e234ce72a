"""From a prompt back to the facts it states: the captions read backwards, phrase by phrase."""

import itertools
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from functools import cache
from typing import Any, get_args

from longtake.world.captions import Attribute, Fact, phrases, vocabulary, words_of
from longtake.world.cast import COLOURS, KINDS, MATERIALS, MOTIONS, SIZES
from longtake.world.level import WHOLE
from longtake.world.scene import SLOTS
from longtake.world.stage import CAMERAS, GROUNDS, LIGHTS, SHOTS
from longtake.world.timing import resolve
from longtake.world.wording import KIND_WORDS, PARAGRAPH

LATEST_S = 60
"""Latest second that a prompt can name."""
_SECONDS = tuple(str(second) for second in range(LATEST_S + 1))
VALUES: Mapping[str, tuple[str, ...]] = {
    "kind": tuple(entry.name for entry in KINDS),
    "colour": tuple(entry.name for entry in COLOURS),
    "size": tuple(entry.name for entry in SIZES),
    "material": tuple(entry.name for entry in MATERIALS),
    "motion": WHOLE.motions,
    "start_s": _SECONDS,
    "then": WHOLE.motions,
    "change_s": _SECONDS,
    "slot": SLOTS,
    "ground": tuple(entry.name for entry in GROUNDS),
    "light": tuple(entry.name for entry in LIGHTS),
    "camera": tuple(entry.name for entry in CAMERAS),
    "shot": tuple(entry.name for entry in SHOTS),
}
"""What each attribute can be."""
OF_SCENE = ("ground", "light", "camera", "shot")
"""Attributes that belong to no subject."""
_LOOKS = ("colour", "material")

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
    for word in words_of(resolve(text)):
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
    said = (phrase for second in _SECONDS for phrase in phrases("start_s", second))
    return frozenset(vocabulary(WHOLE)) | {word for phrase in said for word in words_of(phrase)}


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
    words = [noun for family in KIND_WORDS.values() for noun in family.train]
    leaders = [f"{colour} {noun}" for colour in VALUES["colour"] for noun in words]
    nouns = ["it", *(f"the {noun}" for noun in words), *(f"the {one}" for one in leaders)]
    for attribute in get_args(Attribute):
        for value in VALUES[attribute]:
            for phrase in phrases(attribute, value):
                said = nouns if "{it}" in phrase else leaders if "{leader}" in phrase else ("",)
                for noun in said:
                    told = phrase.replace("{it}", noun).replace("{leader}", noun)
                    # A motion is one, whether it comes first or second.
                    meant: Attribute = "motion" if attribute == "then" else attribute
                    found.setdefault(tuple(words_of(told)), {})[meant, value] = None
    meanings = {words: tuple(kept) for words, kept in found.items() if words}
    # What a paragraph is padded with says nothing.
    for phrase in itertools.chain.from_iterable(family.train for family in PARAGRAPH):
        if "{" not in phrase:
            meanings[tuple(words_of(phrase))] = ()
    return meanings, max(map(len, meanings))


@dataclass(slots=True)
class _Listener:
    """Facts so far, and whom the next words are about."""

    facts: list[Fact] = field(default_factory=list)
    who: list[str] = field(default_factory=list)
    """Kind of each subject."""
    about: int = -1
    """Number of the subject that the next words are about."""
    pending: dict[Attribute, str] = field(default_factory=dict)
    wearing: bool = False
    """Whether the next colour is that of a person's clothes."""
    changing: bool = False
    """Whether the next motion is the subject's second."""
    following: list[tuple[int, tuple[Meaning, ...]]] = field(default_factory=list)
    """Clauses that say the camera goes along, and where they stand among the facts."""

    def hear(self, meaning: Meaning, before: str) -> None:
        """Take in a phrase; `before` is the word that leads to it."""
        attribute, value = meaning
        self.wearing = self.wearing or (before == "in" and bool(self.who))
        if attribute in OF_SCENE:
            self.facts.append(Fact(None, attribute, value))
        elif attribute == "kind":
            self._meet(value, known=before == "the")
        elif not self.who or attribute == "size" or (attribute in _LOOKS and not self.wearing):
            self.pending[attribute] = value
        else:
            second = attribute == "motion" and self.changing
            self._state("then" if second else attribute, value)
            self.changing = attribute == "change_s"
        if attribute != "material":
            self.wearing = False

    def _meet(self, kind: str, *, known: bool) -> None:
        """Somebody new, or the last one of that kind once more."""
        alike = [n for n, other in enumerate(self.who) if other == kind]
        self.changing = False
        if known and alike:
            self.about = alike[-1]
            return
        self.who.append(kind)
        self.about = len(self.who) - 1
        self._state("kind", kind)
        for name, kept in self.pending.items():
            self._state(name, kept)
        self.pending = {}

    def _state(self, attribute: Attribute, value: str) -> None:
        self.facts.append(Fact(self.about, attribute, value))

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
    listener, at, before = _Listener(), 0, ""
    while at < len(words):
        for length in range(min(longest, len(words) - at), 0, -1):
            meant = meanings.get(tuple(words[at : at + length]))
            if meant is None:
                continue
            if len(meant) == 1:
                listener.hear(meant[0], before)
            elif meant:
                listener.following.append((len(listener.facts), meant))
            before = ""
            at += length
            break
        else:
            before = words[at]
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
