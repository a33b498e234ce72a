"""Captions: a scene as clauses, clauses in an order, and the facts that the text states."""

import random
import re
from collections.abc import Collection, Iterable, Iterator

from longtake.world.level import FIRST, LATE_S, Level, Style
from longtake.world.scene import Scenes
from longtake.world.speaker import Attribute, Caption, Fact, Slot, Speaker, Wording
from longtake.world.stage import SHOTS
from longtake.world.timing import AT, THEN, seconds
from longtake.world.wording import (
    CAMERA_JOINS,
    COLOUR_WORDS,
    GROUND_WORDS,
    JOINS,
    KIND_WORDS,
    LEADS,
    LIGHT_WORDS,
    MATERIAL_WORDS,
    PARAGRAPH,
    SIZE_WORDS,
    SLOT_WORDS,
    Family,
)
from longtake.world.wording_camera import CAMERA_WORDS, SHOT_WORDS
from longtake.world.wording_motion import MOTION_WORDS

__all__ = ["Attribute", "Caption", "Fact", "Style", "Wording", "caption", "phrases", "vocabulary"]

_PARAGRAPH_WORDS = 75
_NOISE = 0.02

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


def caption(
    scenes: Scenes,
    index: int,
    rng: random.Random,
    wording: Wording = "train",
    *,
    noise: bool = False,
    style: Style = "plain",
    colours: bool = True,
) -> Caption:
    """Describe one scene.

    In plain style left out are at most sizes, positions, that a thing stands still, daylight and a
    static camera.

    Args:
        scenes: Scenes to describe.
        index: Which of them.
        rng: Chooses order and words.
        wording: `train` never uses held-out phrases and orders, `held_out` uses them wherever a
            family has them, `any` uses both.
        noise: Misspell about 2% of the words.
        style: `plain` sentences or tags, `tags` alone, `short` for subjects alone, a line of a
            `screenplay`, or a `paragraph` of about 80 words that says all there is.
        colours: Whether to name the colours of subjects, where kinds tell them apart.
    """
    speaker = Speaker(scenes, index, rng, wording, colours=colours)
    text = _tell(speaker, style)
    if noise:
        text = _misspell(text, rng)
    return Caption(text, tuple(dict.fromkeys(speaker.facts)))


def _tell(speaker: Speaker, style: Style) -> str:
    match style:
        case "plain":
            return _plain(speaker)
        case "tags":
            return _arrange(speaker, ORDERS[-1])
        case "short":
            return _arrange(speaker, (("", S.SENTENCE),))
        case "screenplay":
            return _screenplay(speaker)
        case "paragraph":
            return _paragraph(speaker)


def _plain(speaker: Speaker) -> str:
    pool = {"train": ORDERS, "held_out": HELD_OUT_ORDERS, "any": ORDERS + HELD_OUT_ORDERS}
    text = _arrange(speaker, speaker.rng.choice(pool[speaker.wording]))
    if speaker.shot != SHOTS[0].name:
        mark = speaker.rng.choice((", ", ": "))
        text = f"{speaker.say_shot()}{mark}{text}"
    if speaker.rng.random() < 0.5:
        text = _capitals(text)
    return text + "." if speaker.rng.random() < 0.5 else text


def _arrange(speaker: Speaker, order: Order) -> str:
    text = ""
    for mark, slot in order:
        said = speaker.say(slot)
        text += (mark if text and said else "") + said
    return text


def _capitals(text: str) -> str:
    return re.sub(r"(^|\. )([a-z])", lambda m: m[1] + m[2].upper(), text)


def _screenplay(speaker: Speaker) -> str:
    """Shot and place in capitals, then what happens."""
    place = f"{speaker.say_ground(tag=True)}, {speaker.name_light(tag=True)}"
    lines = [speaker.say_shot().upper(), place.upper(), speaker.say(S.SENTENCE)]
    camera = speaker.say(S.CAMERA)
    return _capitals(". ".join([*lines, camera] if camera else lines)) + "."


def _paragraph(speaker: Speaker) -> str:
    """One thing after another, padded with what is true of every scene."""
    opening, place, intro, *fillers = PARAGRAPH
    shot = speaker.say_shot()
    article = "an" if shot[0] in "aeiou" else "a"
    sentences = [speaker.choose(opening).format(shot=f"{article} {shot}")]
    ground = speaker.say_ground(tag=False)
    where = speaker.choose(place)
    sentences.append(where.format(ground=ground, light=speaker.name_light(tag=False)))
    for i in speaker.subjects:
        phrase = speaker.noun_phrase(i)
        article = "an" if phrase[0] in "aeiou" else "a"
        said = f"{speaker.choose(intro)} {article} {phrase} {speaker.say_slot(i)}".strip()
        sentences += [said, f"the {speaker.noun} {speaker.say_motion(i, finite=True)}"]
    sentences.append(speaker.name_camera())
    for filler in fillers:
        if sum(len(sentence.split()) for sentence in sentences) < _PARAGRAPH_WORDS:
            sentences.append(speaker.choose(filler))
    return _capitals(". ".join(sentences)) + "."


def _misspell(text: str, rng: random.Random) -> str:
    """Swap two inner letters of some words."""
    words = text.split(" ")
    for i, word in enumerate(words):
        if len(word) > 4 and rng.random() < _NOISE:
            at = rng.randrange(1, len(word) - 2)
            words[i] = word[:at] + word[at + 1] + word[at] + word[at + 2 :]
    return " ".join(words)


_PLAIN = {
    "kind": KIND_WORDS,
    "colour": COLOUR_WORDS,
    "size": SIZE_WORDS,
    "material": MATERIAL_WORDS,
    "slot": SLOT_WORDS,
    "shot": SHOT_WORDS,
}


def phrases(attribute: Attribute, value: str) -> tuple[str, ...]:
    """Everything that can state a fact, in lower case; {it} stands for the subject."""
    families: list[Family]
    match attribute:
        case "kind" | "colour" | "size" | "material" | "slot" | "shot":
            families = [_PLAIN[attribute][value]]
        case "start_s" | "change_s":
            families = [AT if attribute == "start_s" else THEN]
            return tuple(
                phrase.replace("{n}", seconds(int(value)))
                for phrase in families[0].train + families[0].held_out
            )
        case "motion" | "then":
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


def _motion_phrases(name: str, kinds: Collection[str] = KIND_WORDS) -> Iterator[str]:
    """Everything that can state a motion of one of the kinds."""
    words = MOTION_WORDS[name]
    for verb in words.verbs:
        if verb.kinds and not set(verb.kinds) & set(kinds):
            continue
        family = words.complements if verb.takes is None else verb.takes
        for complement in family.train + family.held_out:
            for form in (verb.finite, verb.participle):
                yield f"{form} {complement}".strip()
    yield from words.tags.train + words.tags.held_out


def vocabulary(level: Level = FIRST) -> tuple[str, ...]:
    """Every word the captions of a level can use, in lower case and sorted."""
    tables: tuple[tuple[Attribute, Iterable[str]], ...] = (
        ("kind", level.kinds),
        ("colour", level.colours),
        ("size", SIZE_WORDS),
        ("slot", SLOT_WORDS),
        ("ground", level.grounds),
        ("light", level.lights),
        ("camera", level.cameras),
        # What goes without saying is said by some styles only.
        ("material", level.materials[1:]),
        ("shot", level.shots if "screenplay" in level.styles else level.shots[1:]),
    )
    said = [
        phrase
        for attribute, table in tables
        for value in table
        for phrase in phrases(attribute, value)
    ]
    for name in level.motions:
        said.extend(_motion_phrases(name, level.kinds))
    for family in (LEADS, JOINS, CAMERA_JOINS):
        said.extend(family.train + family.held_out)
    said.append("a an and in while as the it")
    if level.timing:
        said.extend(phrase for second in LATE_S for phrase in phrases("change_s", str(second)))
        said.extend(phrase for second in LATE_S for phrase in phrases("start_s", str(second)))
    if "paragraph" in level.styles:
        said.extend(phrase for family in PARAGRAPH for phrase in family.train)
    words = {word for phrase in said for word in words_of(re.sub(r"{\w+}", "it", phrase))}
    return tuple(sorted(words))


def words_of(text: str) -> list[str]:
    """The words of a text in lower case, hyphens kept."""
    return re.findall(r"[a-z]+(?:-[a-z]+)*", text.lower())
