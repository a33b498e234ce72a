"""Clauses about one scene, in chosen words, and a record of the facts they state."""

import math
import random
from dataclasses import dataclass
from enum import Enum, auto
from typing import Literal

from longtake.world.cast import COLOURS, KINDS, MATERIALS, MOTIONS, SIZES
from longtake.world.scene import SLOTS, Scenes
from longtake.world.stage import CAMERAS, GROUNDS, LIGHTS, SHOTS
from longtake.world.timing import AT, THEN, seconds
from longtake.world.wording import (
    COLOUR_WORDS,
    GROUND_WORDS,
    JOINS,
    KIND_WORDS,
    LEADS,
    LIGHT_WORDS,
    MATERIAL_WORDS,
    SIZE_WORDS,
    SLOT_WORDS,
    Family,
    Verb,
)
from longtake.world.wording_camera import CAMERA_WORDS, SHOT_WORDS
from longtake.world.wording_motion import MOTION_WORDS

Wording = Literal["train", "held_out", "any"]
Attribute = Literal[
    "kind",
    "colour",
    "size",
    "material",
    "motion",
    "start_s",
    "then",
    "change_s",
    "slot",
    "ground",
    "light",
    "camera",
    "shot",
]


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


_SAY_SIZE = 0.7
_SAY_MEDIUM = 0.25
_SAY_DAY = 0.4
_SAY_STATIC = 0.5
_SAY_STILL = 0.7
_SAY_SLOT = {"left": 0.4, "centre": 0.1, "right": 0.4}
_SAY_FOLLOWING = 0.5
_WEARS = 0.3


class Speaker:
    """Says one scene and remembers which facts it stated."""

    def __init__(
        self,
        scenes: Scenes,
        index: int,
        rng: random.Random,
        wording: Wording,
        *,
        colours: bool = True,
    ) -> None:
        """Look up everything that can be said of one scene.

        Args:
            scenes: Scenes to describe.
            index: Which of them.
            rng: Chooses words.
            wording: Which of them may be chosen.
            colours: Whether to name them; two of a kind need theirs all the same.
        """
        self.rng, self.wording = rng, wording
        self.facts: list[Fact] = []
        self.ground = GROUNDS[scenes.ground[index]].name
        self.light = LIGHTS[scenes.light[index]].name
        self.camera = CAMERAS[scenes.camera[index]].name
        self.subjects = list(range(int(scenes.num_subjects[index])))
        rng.shuffle(self.subjects)
        self.kind = [KINDS[i].name for i in scenes.kind[index]]
        self.colour = [COLOURS[i].name for i in scenes.colour[index]]
        here = {self.kind[i] for i in self.subjects}
        self.names_colours = colours or len(here) < len(self.subjects)
        self.size = [SIZES[i].name for i in scenes.size[index]]
        self.slot = [SLOTS[i] for i in scenes.slot[index]]
        self.motion = [MOTIONS[i] for i in scenes.motion[index]]
        self.material = [MATERIALS[i].name for i in scenes.material[index]]
        self.shot = SHOTS[scenes.shot[index]].name
        self.framed = SHOTS[scenes.shot[index]].share is not None
        self.start_s = scenes.start_s[index].tolist()
        self.change_s = scenes.change_s[index].tolist()
        self.then = [MOTIONS[i] for i in scenes.then[index]]
        self.noun = ""
        self.moves_said = False

    def choose(self, family: Family) -> str:
        """A phrase of the family on the wanted side of the hold-out."""
        if self.wording == "any":
            return self.rng.choice(family.train + family.held_out)
        if self.wording == "held_out" and family.held_out:
            return self.rng.choice(family.held_out)
        return self.rng.choice(family.train)

    def state(self, subject: int | None, attribute: Attribute, value: str) -> None:
        """Record that a fact was stated."""
        self.facts.append(Fact(subject, attribute, value))

    def say(self, slot: Slot) -> str:
        """Say what stands at one place of a sentence, or nothing."""
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
        """All subjects and what they do."""
        clauses = [self.say_subject(i, finite=finite) for i in self.subjects]
        join = self.choose(JOINS) if finite else " and "
        return join.join(clauses)

    def say_subject(self, i: int, *, finite: bool) -> str:
        """One subject, where it is, and what it does."""
        phrase = self.noun_phrase(i)
        article = "an" if phrase[0] in "aeiou" else "a"
        said = [article, phrase, self.say_slot(i), self.say_motion(i, finite=finite)]
        return " ".join(filter(None, said))

    def noun_phrase(self, i: int) -> str:
        """A subject's size, look and kind."""
        self.noun = self.choose(KIND_WORDS[self.kind[i]])
        self.state(i, "kind", self.kind[i])
        colour = ""
        if self.names_colours:
            colour = self.choose(COLOUR_WORDS[self.colour[i]])
            self.state(i, "colour", self.colour[i])
        size = ""
        # How large a thing is cannot be seen in a shot that is framed on it.
        if not self.framed and self.rng.random() < (
            _SAY_MEDIUM if self.size[i] == "medium" else _SAY_SIZE
        ):
            size = self.choose(SIZE_WORDS[self.size[i]])
            self.state(i, "size", self.size[i])
        if self.material[i] != MATERIALS[0].name:
            colour = f"{self.choose(MATERIAL_WORDS[self.material[i]])} {colour}".strip()
            self.state(i, "material", self.material[i])
        if self.names_colours and self.kind[i] == "figure" and self.rng.random() < _WEARS:
            return " ".join(filter(None, [size, self.noun, "in", colour]))
        return " ".join(filter(None, [size, colour, self.noun]))

    def say_slot(self, i: int) -> str:
        """Where a subject is, sometimes."""
        # Where a thing that crosses the frame is depends on when one looks.
        if self.motion[i].lateral or self.rng.random() >= _SAY_SLOT[self.slot[i]]:
            return ""
        self.state(i, "slot", self.slot[i])
        return self.choose(SLOT_WORDS[self.slot[i]])

    def say_motion(self, i: int, *, finite: bool) -> str:
        """What a subject does, when, and what it does after that."""
        name = self.motion[i].name
        self.moves_said = bool(self.motion[i].lateral or self.motion[i].depth)
        if name == "still" and not finite and self.rng.random() >= _SAY_STILL:
            return ""
        self.state(i, "motion", name)
        said = self.verb_phrase(i, name, finite=finite)
        if self.start_s[i] > 0:
            said = f"{said} {self.say_time(i, AT, 'start_s', self.start_s[i])}"
        if math.isfinite(self.change_s[i]):
            when = self.say_time(i, THEN, "change_s", self.change_s[i])
            self.state(i, "then", self.then[i].name)
            said = f"{said}, {when} {self.verb_phrase(i, self.then[i].name, finite=finite)}"
        return said

    def say_time(self, i: int, family: Family, attribute: Attribute, at_s: float) -> str:
        """A moment in absolute seconds."""
        self.state(i, attribute, str(round(at_s)))
        return self.choose(family).replace("{n}", seconds(round(at_s)))

    def leader(self) -> str:
        """The first subject, as others refer to it."""
        return f"{self.colour[0]} {self.kind[0]}" if self.names_colours else self.kind[0]

    def verb_phrase(self, i: int, name: str, *, finite: bool) -> str:
        """A motion as a verb and what follows it."""
        words = MOTION_WORDS[name]
        verb = self.rng.choice([v for v in words.verbs if not v.kinds or self.kind[i] in v.kinds])
        if self.wording == "held_out" and words.complements.held_out:
            # Only verbs that take the motion's complements can say a held-out one.
            verb = self.rng.choice([v for v in words.verbs if _suits(v, self.kind[i])])
        complement = self.choose(words.complements if verb.takes is None else verb.takes)
        complement = complement.replace("{leader}", self.leader())
        return f"{verb.finite if finite else verb.participle} {complement}".strip()

    def say_tags(self) -> str:
        """Subjects and motions as a list."""
        tags: list[str] = []
        for i in self.subjects:
            tags.append(self.noun_phrase(i))
            name = self.motion[i].name
            if name != "still" or self.rng.random() < _SAY_STILL:
                tags.append(self.tag(name))
                self.state(i, "motion", name)
            if self.start_s[i] > 0:
                tags[-1] += f" {self.say_time(i, AT, 'start_s', self.start_s[i])}"
            if math.isfinite(self.change_s[i]):
                when = self.say_time(i, THEN, "change_s", self.change_s[i])
                self.state(i, "then", self.then[i].name)
                tags.append(f"{when} {self.tag(self.then[i].name)}")
        return ", ".join(tags)

    def tag(self, motion: str) -> str:
        """A motion as a tag."""
        return self.choose(MOTION_WORDS[motion].tags).replace("{leader}", self.leader())

    def say_shot(self) -> str:
        """The size of the shot."""
        self.state(None, "shot", self.shot)
        return self.choose(SHOT_WORDS[self.shot])

    def say_ground(self, *, tag: bool) -> str:
        """Where it plays."""
        words = GROUND_WORDS[self.ground]
        self.state(None, "ground", self.ground)
        if tag:
            return self.choose(words.tags)
        across = self.moves_said and self.rng.random() < 0.5 and self.wording != "held_out"
        return self.choose(words.across if across else words.on)

    def say_light(self, *, tag: bool) -> str:
        """When it plays; daylight goes without saying at times."""
        if self.light == "day" and self.rng.random() >= _SAY_DAY:
            return ""
        self.state(None, "light", self.light)
        words = LIGHT_WORDS[self.light]
        return self.choose(words.tags if tag else words.phrases)

    def name_light(self, *, tag: bool) -> str:
        """The light, even if it goes without saying."""
        self.state(None, "light", self.light)
        words = LIGHT_WORDS[self.light]
        return self.choose(words.tags if tag else words.phrases)

    def name_camera(self) -> str:
        """The camera's move, even if it goes without saying."""
        self.state(None, "camera", self.camera)
        clause = self.choose(CAMERA_WORDS[self.camera].clauses)
        return clause.replace("{it}", f"the {self.leader()}")

    def say_camera(self, slot: Slot) -> str:
        """What the camera does; a static one goes without saying at times."""
        if self.camera == "static" and self.rng.random() >= _SAY_STATIC:
            return ""
        self.state(None, "camera", self.camera)
        words = CAMERA_WORDS[self.camera]
        if slot is Slot.CAMERA_LABEL:
            return self.choose(words.labels)
        if slot is Slot.CAMERA and self.goes_along() and self.rng.random() < _SAY_FOLLOWING:
            it = f"the {self.noun}" if self.kind[self.subjects[0]] == "figure" else "it"
            return self.choose(words.following).replace("{it}", it)
        # Before a subject is named, none can be referred to.
        known = slot is Slot.CAMERA and len(self.subjects) == 1
        it = "it" if known else f"the {self.leader()}"
        return self.choose(words.clauses).replace("{it}", it)

    def goes_along(self) -> bool:
        """Whether the camera moves the way the only subject goes."""
        if len(self.subjects) != 1 or not CAMERA_WORDS[self.camera].following.train:
            return False
        way = 1.0 if self.camera.endswith("right") else -1.0
        return self.motion[self.subjects[0]].lateral == way


def _suits(verb: Verb, kind: str) -> bool:
    return verb.takes is None and (not verb.kinds or kind in verb.kinds)
