"""Captions: a scene as clauses, clauses in an order, and the facts that the text states."""

import random
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import Enum, auto
from typing import Literal

from longtake.world.cast import COLOURS, KINDS, MOTIONS, SIZES
from longtake.world.scene import SLOTS, Scenes
from longtake.world.stage import CAMERAS, GROUNDS, LIGHTS
from longtake.world.wording import (
    CAMERA_JOINS,
    CAMERA_WORDS,
    COLOUR_WORDS,
    GROUND_WORDS,
    JOINS,
    KIND_WORDS,
    LEADS,
    LIGHT_WORDS,
    MOTION_WORDS,
    SIZE_WORDS,
    SLOT_WORDS,
    Family,
    Verb,
)

Wording = Literal["train", "held_out", "any"]
Attribute = Literal["kind", "colour", "size", "motion", "slot", "ground", "light", "camera"]


@dataclass(frozen=True, slots=True)
class Fact:
    """One thing a caption states."""

    subject: int | None
    """Number of the subject, None for the scene."""
    attribute: Attribute
    value: str


@dataclass(frozen=True, slots=True)
class Caption:
    """A text and exactly the facts it states."""

    text: str
    facts: tuple[Fact, ...]


class Slot(Enum):
    """What can stand at one place of a sentence."""

    SENTENCE = auto()
    """Subjects with finite verbs: a red ball rolls right."""
    SCENE = auto()
    """Subjects with participles: a red ball rolling right."""
    LEAD = auto()
    """The same after "a video of"."""
    TAGS = auto()
    GROUND = auto()
    GROUND_TAG = auto()
    LIGHT = auto()
    LIGHT_TAG = auto()
    CAMERA = auto()
    """A clause that may refer to a subject named before."""
    CAMERA_FIRST = auto()
    """A clause that stands before the subjects."""
    CAMERA_LABEL = auto()


Order = tuple[tuple[str, Slot], ...]
"""What is said when, each with the mark before it; what is left unsaid takes its mark along."""
S = Slot
ORDERS: tuple[Order, ...] = (
    (("", S.SENTENCE), (" ", S.GROUND), (" ", S.LIGHT), (". ", S.CAMERA)),
    (("", S.SENTENCE), (" ", S.GROUND), (" ", S.LIGHT), (", ", S.CAMERA)),
    (("", S.SCENE), (" ", S.GROUND), (" ", S.LIGHT), (", ", S.CAMERA)),
    (("", S.SCENE), (" ", S.GROUND), (" ", S.LIGHT), (", ", S.CAMERA_LABEL)),
    (("", S.SCENE), (" ", S.GROUND), (", ", S.LIGHT), (", ", S.CAMERA)),
    (("", S.LIGHT), (", ", S.SENTENCE), (" ", S.GROUND), (". ", S.CAMERA)),
    (("", S.LIGHT), (", ", S.SCENE), (" ", S.GROUND), (", ", S.CAMERA_LABEL)),
    (("", S.CAMERA_LABEL), (": ", S.SCENE), (" ", S.GROUND), (" ", S.LIGHT)),
    (("", S.CAMERA_LABEL), (", ", S.SCENE), (" ", S.GROUND), (", ", S.LIGHT)),
    (("", S.CAMERA_FIRST), (" while ", S.SENTENCE), (" ", S.GROUND), (" ", S.LIGHT)),
    (("", S.CAMERA_FIRST), (" as ", S.SENTENCE), (" ", S.GROUND), (" ", S.LIGHT)),
    (("", S.LEAD), (" ", S.GROUND), (" ", S.LIGHT), (", ", S.CAMERA)),
    (("", S.LEAD), (" ", S.GROUND), (" ", S.LIGHT), (". ", S.CAMERA)),
    (("", S.TAGS), (", ", S.GROUND_TAG), (", ", S.LIGHT_TAG), (", ", S.CAMERA_LABEL)),
)
HELD_OUT_ORDERS: tuple[Order, ...] = (
    (("", S.LIGHT), (", ", S.CAMERA_FIRST), (" while ", S.SENTENCE), (" ", S.GROUND)),
    (("", S.GROUND), (" ", S.LIGHT), (", ", S.SENTENCE), (". ", S.CAMERA)),
    (("", S.CAMERA_FIRST), (". ", S.SENTENCE), (" ", S.GROUND), (" ", S.LIGHT)),
)

_SAY_SIZE = 0.7
_SAY_MEDIUM = 0.25
_SAY_DAY = 0.4
_SAY_STATIC = 0.5
_SAY_STILL = 0.7
_SAY_SLOT = {"left": 0.4, "centre": 0.1, "right": 0.4}
_SAY_FOLLOWING = 0.5
_WEARS = 0.3
_NOISE = 0.02


def caption(
    scenes: Scenes,
    index: int,
    rng: random.Random,
    wording: Wording = "train",
    *,
    noise: bool = False,
) -> Caption:
    """Describe one scene.

    Left out are at most sizes, positions, that a thing stands still, daylight and a static camera.

    Args:
        scenes: Scenes to describe.
        index: Which of them.
        rng: Chooses order and words.
        wording: `train` never uses held-out phrases and orders, `held_out` uses them wherever a
            family has them, `any` uses both.
        noise: Misspell about 2% of the words.
    """
    speaker = _Speaker(scenes, index, rng, wording)
    text = speaker.speak()
    if noise:
        text = _misspell(text, rng)
    return Caption(text, tuple(dict.fromkeys(speaker.facts)))


class _Speaker:
    """Says one scene and remembers which facts it stated."""

    def __init__(self, scenes: Scenes, index: int, rng: random.Random, wording: Wording) -> None:
        self.rng, self.wording = rng, wording
        self.facts: list[Fact] = []
        self.ground = GROUNDS[scenes.ground[index]].name
        self.light = LIGHTS[scenes.light[index]].name
        self.camera = CAMERAS[scenes.camera[index]].name
        self.subjects = list(range(int(scenes.num_subjects[index])))
        rng.shuffle(self.subjects)
        self.kind = [KINDS[i].name for i in scenes.kind[index]]
        self.colour = [COLOURS[i].name for i in scenes.colour[index]]
        self.size = [SIZES[i].name for i in scenes.size[index]]
        self.slot = [SLOTS[i] for i in scenes.slot[index]]
        self.motion = [MOTIONS[i] for i in scenes.motion[index]]
        self.noun = ""
        self.moves_said = False

    def speak(self) -> str:
        pool = {"train": ORDERS, "held_out": HELD_OUT_ORDERS, "any": ORDERS + HELD_OUT_ORDERS}
        text = ""
        for mark, slot in self.rng.choice(pool[self.wording]):
            said = self.say(slot)
            text += (mark if text and said else "") + said
        if self.rng.random() < 0.5:
            text = re.sub(r"(^|\. )([a-z])", lambda m: m[1] + m[2].upper(), text)
        return text + "." if self.rng.random() < 0.5 else text

    def choose(self, family: Family) -> str:
        """A phrase of the family on the wanted side of the hold-out."""
        if self.wording == "any":
            return self.rng.choice(family.train + family.held_out)
        if self.wording == "held_out" and family.held_out:
            return self.rng.choice(family.held_out)
        return self.rng.choice(family.train)

    def state(self, subject: int | None, attribute: Attribute, value: str) -> None:
        self.facts.append(Fact(subject, attribute, value))

    def say(self, slot: Slot) -> str:
        match slot:
            case Slot.SENTENCE:
                said = self.say_subjects(finite=True)
            case Slot.SCENE:
                said = self.say_subjects(finite=False)
            case Slot.LEAD:
                said = f"{self.choose(LEADS)} {self.say_subjects(finite=False)}"
            case Slot.TAGS:
                said = self.say_tags()
            case Slot.GROUND | Slot.GROUND_TAG:
                said = self.say_ground(tag=slot is Slot.GROUND_TAG)
            case Slot.LIGHT | Slot.LIGHT_TAG:
                said = self.say_light(tag=slot is Slot.LIGHT_TAG)
            case Slot.CAMERA | Slot.CAMERA_FIRST | Slot.CAMERA_LABEL:
                said = self.say_camera(slot)
        return said

    def say_subjects(self, *, finite: bool) -> str:
        clauses = [self.say_subject(i, finite=finite) for i in self.subjects]
        join = self.choose(JOINS) if finite else " and "
        return join.join(clauses)

    def say_subject(self, i: int, *, finite: bool) -> str:
        phrase = self.noun_phrase(i)
        article = "an" if phrase[0] in "aeiou" else "a"
        said = [article, phrase, self.say_slot(i), self.say_motion(i, finite=finite)]
        return " ".join(filter(None, said))

    def noun_phrase(self, i: int) -> str:
        self.noun = self.choose(KIND_WORDS[self.kind[i]])
        colour = self.choose(COLOUR_WORDS[self.colour[i]])
        self.state(i, "kind", self.kind[i])
        self.state(i, "colour", self.colour[i])
        size = ""
        if self.rng.random() < (_SAY_MEDIUM if self.size[i] == "medium" else _SAY_SIZE):
            size = self.choose(SIZE_WORDS[self.size[i]])
            self.state(i, "size", self.size[i])
        if self.kind[i] == "figure" and self.rng.random() < _WEARS:
            return " ".join(filter(None, [size, self.noun, "in", colour]))
        return " ".join(filter(None, [size, colour, self.noun]))

    def say_slot(self, i: int) -> str:
        # Where a thing that crosses the frame is depends on when one looks.
        if self.motion[i].lateral or self.rng.random() >= _SAY_SLOT[self.slot[i]]:
            return ""
        self.state(i, "slot", self.slot[i])
        return self.choose(SLOT_WORDS[self.slot[i]])

    def say_motion(self, i: int, *, finite: bool) -> str:
        name = self.motion[i].name
        self.moves_said = bool(self.motion[i].lateral or self.motion[i].depth)
        if name == "still" and not finite and self.rng.random() >= _SAY_STILL:
            return ""
        self.state(i, "motion", name)
        words = MOTION_WORDS[name]
        verb = self.rng.choice([v for v in words.verbs if not v.kinds or self.kind[i] in v.kinds])
        if self.wording == "held_out" and words.complements.held_out:
            # Only verbs that take the motion's complements can say a held-out one.
            verb = self.rng.choice([v for v in words.verbs if _suits(v, self.kind[i])])
        complement = self.choose(words.complements if verb.takes is None else verb.takes)
        return f"{verb.finite if finite else verb.participle} {complement}".strip()

    def say_tags(self) -> str:
        tags: list[str] = []
        for i in self.subjects:
            tags.append(self.noun_phrase(i))
            name = self.motion[i].name
            if name != "still" or self.rng.random() < _SAY_STILL:
                tags.append(self.choose(MOTION_WORDS[name].tags))
                self.state(i, "motion", name)
        return ", ".join(tags)

    def say_ground(self, *, tag: bool) -> str:
        words = GROUND_WORDS[self.ground]
        self.state(None, "ground", self.ground)
        if tag:
            return self.choose(words.tags)
        across = self.moves_said and self.rng.random() < 0.5 and self.wording != "held_out"
        return self.choose(words.across if across else words.on)

    def say_light(self, *, tag: bool) -> str:
        if self.light == "day" and self.rng.random() >= _SAY_DAY:
            return ""
        self.state(None, "light", self.light)
        words = LIGHT_WORDS[self.light]
        return self.choose(words.tags if tag else words.phrases)

    def say_camera(self, slot: Slot) -> str:
        if self.camera == "static" and self.rng.random() >= _SAY_STATIC:
            return ""
        self.state(None, "camera", self.camera)
        words = CAMERA_WORDS[self.camera]
        if slot is Slot.CAMERA_LABEL:
            return self.choose(words.labels)
        if slot is Slot.CAMERA and self.goes_along() and self.rng.random() < _SAY_FOLLOWING:
            it = f"the {self.noun}" if self.kind[self.subjects[0]] == "figure" else "it"
            return self.choose(words.following).replace("{it}", it)
        return self.choose(words.clauses)

    def goes_along(self) -> bool:
        """Whether the camera moves the way the only subject goes."""
        if len(self.subjects) != 1 or not CAMERA_WORDS[self.camera].following.train:
            return False
        way = 1.0 if self.camera.endswith("right") else -1.0
        return self.motion[self.subjects[0]].lateral == way


def _suits(verb: Verb, kind: str) -> bool:
    return verb.takes is None and (not verb.kinds or kind in verb.kinds)


def _misspell(text: str, rng: random.Random) -> str:
    """Swap two inner letters of some words."""
    words = text.split(" ")
    for i, word in enumerate(words):
        if len(word) > 4 and rng.random() < _NOISE:
            at = rng.randrange(1, len(word) - 2)
            words[i] = word[:at] + word[at + 1] + word[at] + word[at + 2 :]
    return " ".join(words)


def phrases(attribute: Attribute, value: str) -> tuple[str, ...]:
    """Everything that can state a fact, in lower case; {it} stands for the subject."""
    families: list[Family]
    match attribute:
        case "kind":
            families = [KIND_WORDS[value]]
        case "colour":
            families = [COLOUR_WORDS[value]]
        case "size":
            families = [SIZE_WORDS[value]]
        case "slot":
            families = [SLOT_WORDS[value]]
        case "motion":
            return tuple(_motion_phrases(value))
        case "ground":
            ground = GROUND_WORDS[value]
            families = [ground.on, ground.across, ground.tags]
        case "light":
            families = [LIGHT_WORDS[value].phrases, LIGHT_WORDS[value].tags]
        case "camera":
            camera = CAMERA_WORDS[value]
            families = [camera.clauses, camera.labels, camera.following]
    return tuple(phrase for family in families for phrase in family.train + family.held_out)


def _motion_phrases(name: str) -> Iterator[str]:
    words = MOTION_WORDS[name]
    for verb in words.verbs:
        family = words.complements if verb.takes is None else verb.takes
        for complement in family.train + family.held_out:
            for form in (verb.finite, verb.participle):
                yield f"{form} {complement}".strip()
    yield from words.tags.train + words.tags.held_out


def vocabulary() -> tuple[str, ...]:
    """Every word the captions can use, in lower case and sorted."""
    tables: tuple[tuple[Attribute, Iterable[str]], ...] = (
        ("kind", KIND_WORDS),
        ("colour", COLOUR_WORDS),
        ("size", SIZE_WORDS),
        ("slot", SLOT_WORDS),
        ("motion", MOTION_WORDS),
        ("ground", GROUND_WORDS),
        ("light", LIGHT_WORDS),
        ("camera", CAMERA_WORDS),
    )
    said = [
        phrase
        for attribute, table in tables
        for value in table
        for phrase in phrases(attribute, value)
    ]
    for family in (LEADS, JOINS, CAMERA_JOINS):
        said.extend(family.train + family.held_out)
    said.append("a an and in while as the it")
    return tuple(sorted({word for phrase in said for word in words_of(phrase)}))


def words_of(text: str) -> list[str]:
    """The words of a text in lower case, hyphens kept."""
    return re.findall(r"[a-z]+(?:-[a-z]+)*", text.lower())
