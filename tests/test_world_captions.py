"""Captions say only what is true, in words of the vocabulary."""

import random
import re

import numpy as np
import pytest

from longtake.world.captions import Caption, Fact, caption, phrases, vocabulary, words_of
from longtake.world.cast import COLOURS, KINDS, MATERIALS, MOTIONS, SIZES
from longtake.world.level import ACTION, FIRST, WHOLE
from longtake.world.sampling import sample_scenes
from longtake.world.scene import SLOTS, Scenes, Subject
from longtake.world.stage import CAMERAS, GROUNDS, LIGHTS, SHOTS
from longtake.world.timing import resolve
from longtake.world.written import scene_of

NUM = 3000
FIRST_WORDS = """
red orange yellow green cyan blue purple pink sphere ball orb cube box cylinder barrel cone
pyramid ring figure person car tree small medium large grass meadow field sand desert beach snow
asphalt road street checkerboard stands still moves left to right rolls slides travels drives
walks heads rightward leftward comes toward away from camera circles bounces spins day daylight
noon sunset dusk night static locked-off does not move pans dollies in out trucks orbits cranes
up
"""


UNSEEN = {"material", "shot"}
"""What the first level has one value of, which it never states."""
FIRST_COLOURS, FIRST_KINDS = COLOURS[: len(FIRST.colours)], KINDS[: len(FIRST.kinds)]


@pytest.fixture(scope="module")
def scenes() -> Scenes:
    return sample_scenes(NUM, np.random.default_rng(8))


def said(scenes: Scenes, wording: str) -> list[Caption]:
    rng = random.Random(1)
    return [caption(scenes, i, rng, wording) for i in range(len(scenes))]


@pytest.fixture(scope="module")
def captions(scenes) -> list[Caption]:
    return said(scenes, "any")


def true_facts(scenes: Scenes, i: int) -> set[Fact]:
    facts = {
        Fact(None, "ground", GROUNDS[scenes.ground[i]].name),
        Fact(None, "light", LIGHTS[scenes.light[i]].name),
        Fact(None, "camera", CAMERAS[scenes.camera[i]].name),
        Fact(None, "shot", SHOTS[scenes.shot[i]].name),
    }
    for s in range(scenes.num_subjects[i]):
        facts |= {
            Fact(s, "kind", KINDS[scenes.kind[i, s]].name),
            Fact(s, "colour", COLOURS[scenes.colour[i, s]].name),
            Fact(s, "size", SIZES[scenes.size[i, s]].name),
            Fact(s, "motion", MOTIONS[scenes.motion[i, s]].name),
            Fact(s, "slot", SLOTS[scenes.slot[i, s]]),
            Fact(s, "material", MATERIALS[scenes.material[i, s]].name),
        }
        if scenes.start_s[i, s] > 0:
            facts.add(Fact(s, "start_s", f"{scenes.start_s[i, s]:.0f}"))
        if np.isfinite(scenes.change_s[i, s]):
            facts.add(Fact(s, "change_s", f"{scenes.change_s[i, s]:.0f}"))
            facts.add(Fact(s, "then", MOTIONS[scenes.then[i, s]].name))
    return facts


def matches(phrase: str, text: str) -> bool:
    pattern = re.escape(phrase).replace(re.escape("{it}"), r"(it|the \w+( \w+)?)")
    pattern = pattern.replace(re.escape("{leader}"), r"\w+ \w+")
    return re.search(rf"\b{pattern}\b", text.lower()) is not None


def test_captions_state_only_true_facts(scenes, captions):
    for i, told in enumerate(captions):
        assert set(told.facts) <= true_facts(scenes, i), told


def test_every_stated_fact_can_be_read_from_the_text(captions):
    for told in captions:
        for fact in told.facts:
            assert any(matches(p, told.text) for p in phrases(fact.attribute, fact.value)), told


def test_no_colour_or_kind_is_named_that_is_not_stated(captions):
    for told in captions:
        words = set(words_of(told.text))
        for attribute, table in (("colour", FIRST_COLOURS), ("kind", FIRST_KINDS)):
            stated = {fact.value for fact in told.facts if fact.attribute == attribute}
            for entry in table:
                if entry.name not in stated:
                    assert not words & set(phrases(attribute, entry.name)), told


def test_only_defaults_go_unsaid(scenes, captions):
    for i, told in enumerate(captions):
        unsaid = true_facts(scenes, i) - set(told.facts)
        for fact in unsaid:
            assert fact.attribute in {"size", "slot", "light", "camera", "motion"} | UNSEEN, told
            if fact.attribute in {"light", "camera", "motion"}:
                assert fact.value in {"day", "static", "still"}, told


@pytest.mark.parametrize(("light", "camera"), [("day", "static"), ("night", "orbit")])
def test_daylight_and_a_static_camera_are_sometimes_left_out_and_nothing_else(light, camera):
    scene = scene_of([Subject(kind="cube", colour="red")], light=light, camera=camera)
    rng = random.Random(0)
    stated = [{fact.attribute for fact in caption(scene, 0, rng).facts} for _ in range(60)]
    for attribute in ("light", "camera"):
        assert any(attribute in facts for facts in stated)
        assert all(attribute in facts for facts in stated) == (light == "night")


def test_the_vocabulary_covers_every_caption(captions):
    known = set(vocabulary())
    for told in captions:
        assert set(words_of(told.text)) <= known, told


def test_the_vocabulary_is_sorted_lower_case_and_holds_the_first_words():
    words = vocabulary()
    assert list(words) == sorted(set(words))
    assert all(word == word.lower() for word in words)
    assert set(FIRST_WORDS.split()) <= set(words)


def test_training_captions_use_the_whole_vocabulary_so_held_out_wording_has_no_new_words():
    scenes = sample_scenes(8000, np.random.default_rng(2))
    used = {word for told in said(scenes, "train") for word in words_of(told.text)}
    assert used == set(vocabulary())


def test_held_out_wording_is_never_heard_in_training(scenes):
    heard = [told.text.lower() for told in said(scenes, "train")]
    for phrase in ("the shot rises", "on a field of snow", "the camera dollies forward"):
        assert not any(phrase in text for text in heard)


def test_held_out_captions_differ_from_all_training_captions(scenes):
    few = scenes.select(slice(0, 200))
    rng = random.Random(3)
    for i in range(len(few)):
        trained = {caption(few, i, rng).text.lower() for _ in range(20)}
        assert caption(few, i, rng, "held_out").text.lower() not in trained


def test_a_camera_follows_only_what_moves_its_way():
    subject = Subject(kind="car", colour="red", motion="left_to_right")
    rng = random.Random(0)

    def texts(camera: str) -> str:
        scene = scene_of([subject], camera=camera)
        return " ".join(caption(scene, 0, rng).text.lower() for _ in range(80))

    assert "pans with it" in texts("pan_right")
    assert "follows it" in texts("pan_right")
    assert "trucks with it" in texts("truck_right")
    for camera in ("pan_left", "truck_left", "orbit"):
        assert " it" not in re.sub(r" it\w", "", texts(camera))


def test_articles_fit_the_next_word(captions):
    for told in captions:
        for article, word in re.findall(r"\b(an?) (\w+)", told.text.lower()):
            assert (article == "an") == (word[0] in "aeiou"), told.text


def test_the_same_generator_says_the_same(scenes):
    assert caption(scenes, 5, random.Random(4)) == caption(scenes, 5, random.Random(4))


def test_noise_misspells_few_words_and_keeps_the_facts(scenes):
    changed = words = 0
    for i in range(1000):
        clean = caption(scenes, i, random.Random(i))
        noisy = caption(scenes, i, random.Random(i), noise=True)
        assert clean.facts == noisy.facts
        pairs = list(zip(clean.text.split(), noisy.text.split(), strict=True))
        changed += sum(a != b for a, b in pairs)
        words += len(pairs)
    assert 0.002 < changed / words < 0.03


@pytest.fixture(scope="module")
def whole() -> Scenes:
    return sample_scenes(600, np.random.default_rng(11), level=WHOLE)


@pytest.mark.parametrize("style", WHOLE.styles)
@pytest.mark.parametrize("wording", ["train", "held_out"])
def test_every_style_states_true_facts_in_known_words(whole, style, wording):
    rng, known = random.Random(5), set(vocabulary(WHOLE))
    for i in range(len(whole)):
        told = caption(whole, i, rng, wording, style=style)
        assert set(told.facts) <= true_facts(whole, i), told
        assert set(words_of(told.text)) <= known, told
        for fact in told.facts:
            assert any(matches(p, told.text) for p in phrases(fact.attribute, fact.value)), (
                told,
                fact,
            )


@pytest.mark.parametrize("style", WHOLE.styles)
def test_colours_are_left_out_on_demand_where_kinds_tell_subjects_apart(whole, style):
    # Paragraphs tell of gray stones.
    rng, known = random.Random(8), {colour.name for colour in COLOURS} - {"gray"}
    left_out = 0
    for i in range(len(whole)):
        told = caption(whole, i, rng, style=style, colours=False)
        assert set(told.facts) <= true_facts(whole, i), told
        kinds = whole.kind[i][: whole.num_subjects[i]].tolist()
        stated = {fact.subject for fact in told.facts if fact.attribute == "colour"}
        if len(set(kinds)) < len(kinds):
            assert stated == set(range(len(kinds)))
        else:
            assert not stated
            assert not known & set(words_of(told.text)), told
            left_out += 1
    assert left_out > 300


def test_styles_say_as_much_as_their_name_promises(whole):
    rng = random.Random(6)
    for i in range(200):
        paragraph = caption(whole, i, rng, style="paragraph")
        assert 70 <= len(paragraph.text.split()) <= 100
        stated = {fact.attribute for fact in paragraph.facts}
        assert {"shot", "ground", "light", "camera", "kind", "colour"} <= stated
        assert {f.subject for f in caption(whole, i, rng, style="short").facts} == set(
            range(whole.num_subjects[i])
        )
        line = caption(whole, i, rng, style="screenplay").text
        assert line.split(".")[0].isupper()
        assert line.split(".")[1].isupper()


def test_a_close_shot_says_nothing_of_size(whole):
    rng = random.Random(7)
    for i in np.flatnonzero(whole.shot >= 2)[:50]:
        told = caption(whole, int(i), rng)
        assert "shot" in {fact.attribute for fact in told.facts}
        assert "size" not in {fact.attribute for fact in told.facts}


@pytest.mark.slow
def test_training_captions_of_each_level_use_its_whole_vocabulary():
    for level in (ACTION, WHOLE):
        scenes = sample_scenes(5000, np.random.default_rng(4), level=level)
        rng = random.Random(9)
        # Verbs of one kind and one motion are rare.
        used: set[str] = set()
        for kind, motion in (
            ("figure", "circle"),
            ("bird", "left_to_right"),
            ("boat", "right_to_left"),
        ):
            rare = [Subject(kind=kind, colour="red", motion=motion)]
            if motion == "left_to_right":
                rare.append(Subject(kind="car", colour="blue", motion="follow"))
            for _ in range(150):
                used |= set(words_of(caption(scene_of(rare), 0, rng).text))
        for i in range(len(scenes)):
            used |= set(words_of(caption(scenes, i, rng, style=rng.choice(level.styles)).text))
        assert used == set(vocabulary(level))


@pytest.mark.parametrize(
    ("said", "meant"),
    [
        ("a red ball spins at once", "a red ball spins"),
        ("a red ball spins after 2 seconds", "a red ball spins at two seconds"),
        ("a car drives right, then spins", "a car drives right, then at two seconds spins"),
        (
            "after 3 seconds a car drives right, then spins",
            "at three seconds a car drives right, then at five seconds spins",
        ),
        ("the ball returns after forty-five seconds", "the ball returns at forty five seconds"),
        ("a cube jumps while a ball spins", "a cube jumps while a ball spins"),
        ("then at four seconds it spins", "then at four seconds it spins"),
    ],
)
def test_relative_times_become_absolute_seconds(said, meant):
    assert resolve(said) == meant


@pytest.mark.parametrize(
    ("said", "start", "meant"),
    [
        ("the ball spins after 2 seconds", 20, "the ball spins at twenty two seconds"),
        ("the ball spins, then jumps", 20, "the ball spins, then at twenty two seconds jumps"),
        ("the ball spins after 5 seconds", 68, "the ball spins after 5 seconds"),
    ],
)
def test_relative_times_count_from_where_the_text_begins(said, start, meant):
    assert resolve(said, start) == meant
