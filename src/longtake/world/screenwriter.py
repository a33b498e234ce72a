"""Scripts drawn from a generator, and how they are told."""

import random
from dataclasses import replace

import numpy as np

from longtake.world.cast import KINDS, MOTIONS, allowed_motions
from longtake.world.level import ACTION, Level
from longtake.world.sampling import numbers, sample_scenes
from longtake.world.scene import Scenes
from longtake.world.script import GAPS_S, SCRIPT_S, Beat, Script
from longtake.world.speaker import Caption, Slot, Speaker
from longtake.world.timing import seconds
from longtake.world.wording import LIGHT_WORDS
from longtake.world.wording_camera import CAMERA_WORDS

BEAT_S = 5
"""Seconds of a beat; moves of subjects and camera take no longer."""
_BEATS = SCRIPT_S // BEAT_S
_LIGHT_CHANGES, _CUTS, _ACTS_OUT = 0.6, 0.4, 0.3
_PAIRS = (("dolly_in", "dolly_out"), ("pedestal_up", "pedestal_down"), ("zoom_in", "zoom_out"))
"""Moves and their way back; none lets the camera see more to the sides than at the start."""
_ON_THE_SPOT = ("spin", "bounce", "jump")
DOES = {
    "still": "stands still",
    "absent": "stays out of the frame",
    "spin": "spins once",
    "bounce": "bounces three times",
    "jump": "jumps once",
    "exit_left": "leaves the frame on the left",
    "exit_right": "leaves the frame on the right",
    "enter_left": "enters the frame from the left",
    "enter_right": "enters the frame from the right",
}
"""What a subject does in a beat."""


def sample_script(rng: np.random.Generator, level: Level = ACTION) -> Script:
    """Draw a script: the first subject leaves and returns, others stay.

    Args:
        rng: Where all randomness comes from.
        level: What can occur; it needs the motions that leave the frame.
    """
    (script,) = sample_scripts(1, rng, level)
    return script


def sample_scripts(num: int, rng: np.random.Generator, level: Level = ACTION) -> list[Script]:
    """Draw several scripts in little more time than one."""
    casts = _casts(num, rng, level)
    return [_script(casts.select(i), rng, level) for i in range(num)]


def _script(scene: Scenes, rng: np.random.Generator, level: Level) -> Script:
    count = int(scene.num_subjects[0])
    gap = int(rng.choice(GAPS_S))
    leaves = int(rng.integers(1, min(3, _BEATS - gap // BEAT_S - 1) + 1))
    side = str(rng.choice(("left", "right")))
    acts = [_acts(rng, scene, i, level) for i in range(scene.kind.shape[1])]
    acts[0] = _away(acts[0], leaves, leaves + gap // BEAT_S, side)
    lights = _lights(rng, level)
    cameras, cut = _moves(rng, level, alone=count == 1)
    beats = tuple(
        Beat(
            start_s=BEAT_S * n,
            motions=tuple(acts[i][n] if i < count else "still" for i in range(len(acts))),
            light=lights[n],
            camera=cameras[n],
            cut=n == cut,
        )
        for n in range(_BEATS)
    )
    return Script(scene=scene, beats=beats, gap_s=gap)


def _casts(num: int, rng: np.random.Generator, level: Level) -> Scenes:
    """One or two subjects in the usual shot, the first of which can leave."""
    pool = sample_scenes(56 + 8 * num, rng, level=replace(level, most_subjects=2))
    leaves = int(numbers(MOTIONS, ["exit_left"])[0])
    able = np.array([leaves in allowed_motions(kind) for kind in KINDS])[pool.kind[:, 0]]
    scene = pool.select(np.flatnonzero(able)[:num])
    slot = np.where(scene.num_subjects[:, None] == 1, 1, scene.slot)
    return replace(scene, shot=np.zeros(num, dtype=np.int64), slot=slot)


def _acts(rng: np.random.Generator, scene: Scenes, i: int, level: Level) -> list[str]:
    """What a subject that stays does in each beat."""
    able = {MOTIONS[m].name for m in allowed_motions(KINDS[scene.kind[0, i]])}
    can = [name for name in _ON_THE_SPOT if name in able and name in level.motions]
    return [
        str(rng.choice(can)) if can and rng.random() < _ACTS_OUT else "still" for _ in range(_BEATS)
    ]


def _away(acts: list[str], leaves: int, returns: int, side: str) -> list[str]:
    absent = ["absent"] * (returns - leaves - 1)
    return [*acts[:leaves], f"exit_{side}", *absent, f"enter_{side}", *acts[returns + 1 :]]


def _lights(rng: np.random.Generator, level: Level) -> list[str]:
    """The light of each beat; it changes at most once."""
    first = level.lights[int(rng.integers(len(level.lights)))]
    others = [name for name in level.lights if name != first]
    if rng.random() >= _LIGHT_CHANGES:
        return [first] * _BEATS
    change = int(rng.integers(2, _BEATS - 1))
    return [first] * change + [str(rng.choice(others))] * (_BEATS - change)


def _moves(rng: np.random.Generator, level: Level, *, alone: bool) -> tuple[list[str], int | None]:
    """A camera move, and later the way back, or a cut in its stead."""
    # Coming closer would lose subjects that stand to the sides.
    near = _PAIRS if alone else (_PAIRS[1],)
    pairs = [pair for pair in near if set(pair) <= set(level.cameras)]
    if not pairs:
        return ["static"] * _BEATS, None
    there, back = pairs[int(rng.integers(len(pairs)))]
    first = int(rng.integers(0, _BEATS - 3))
    second = int(rng.integers(first + 2, _BEATS))
    cameras = ["static"] * _BEATS
    cameras[first] = there
    if rng.random() < _CUTS:
        return cameras, second
    cameras[second] = back
    return cameras, None


def tell_script(script: Script, rng: random.Random) -> tuple[Caption, tuple[str, ...]]:
    """A caption of the whole, and one of each beat; all times are seconds of the script."""
    speaker = Speaker(replace(script.scene, camera=np.zeros(1, dtype=np.int64)), 0, rng, "train")
    speaker.light = script.beats[0].light
    named = [with_article(speaker.noun_phrase(i)) for i in speaker.subjects]
    place = f"{speaker.say(Slot.GROUND)} {speaker.name_light(tag=False)}"
    opening = f"{' and '.join(named)} {place}"
    beats = tuple(_tell_beat(script, speaker, n) for n in range(len(script.beats)))
    news = [said for said in (_tell_news(script, speaker, n) for n in range(len(beats))) if said]
    return Caption(". ".join([opening, *news]), tuple(speaker.facts)), beats


def with_article(phrase: str) -> str:
    """A noun phrase with `a` or `an` before it."""
    return f"{'an' if phrase[0] in 'aeiou' else 'a'} {phrase}"


def _names(speaker: Speaker) -> list[str]:
    return [f"the {speaker.colour[i]} {speaker.kind[i]}" for i in sorted(speaker.subjects)]


def _tell_beat(script: Script, speaker: Speaker, n: int) -> str:
    """Everything that holds in a beat."""
    beat = script.beats[n]
    clauses = [
        f"{name} {DOES[motion]}"
        for name, motion in zip(_names(speaker), beat.motions, strict=False)
    ]
    camera = CAMERA_WORDS[beat.camera].clauses.train[0]
    light = LIGHT_WORDS[beat.light].phrases.train[0]
    cut = "cut. " if beat.cut else ""
    return f"at {seconds(beat.start_s)}: {cut}{' while '.join(clauses)} {light}, {camera}"


def _tell_news(script: Script, speaker: Speaker, n: int) -> str:
    """What a beat brings that the one before it had not."""
    beat = script.beats[n]
    said = [
        f"{name} {DOES[motion]}"
        for name, motion in zip(_names(speaker), beat.motions, strict=False)
        if motion not in ("still", "absent")
    ]
    if beat.camera != "static":
        said.append(CAMERA_WORDS[beat.camera].clauses.train[0])
    if n and beat.light != script.beats[n - 1].light:
        said.append(f"the light changes to {LIGHT_WORDS[beat.light].tags.train[0]}")
    if beat.cut:
        said.append("a cut")
    return f"at {seconds(beat.start_s)} {' and '.join(said)}" if said else ""
