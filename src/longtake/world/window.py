"""Windows of one-minute scripts: a few chunks from anywhere in one, each with its caption in force.

Every chunk plays in one beat, that of its start, so that a chunk's caption tells all that it shows
and nothing of the chunks after it.
"""

import random
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Literal

import numpy as np
import torch
from einops import rearrange
from jaxtyping import UInt8
from torch import Tensor

from longtake.config import FPS
from longtake.world.captions import caption
from longtake.world.cast import MOTIONS
from longtake.world.level import Level
from longtake.world.render import render
from longtake.world.scene import NEVER, join_scenes
from longtake.world.screenwriter import DOES, sample_scripts, with_article
from longtake.world.script import Beat, Script, beat_scenes
from longtake.world.speaker import Slot, Speaker
from longtake.world.timing import seconds
from longtake.world.wording import LIGHT_WORDS
from longtake.world.wording_camera import CAMERA_WORDS
from longtake.world.written import number_of

Telling = Literal["again", "on", "news", "whole"]
"""How a window is told: every beat from scratch, every beat as what holds in it, only what is new,
or all of it at once with the seconds at which things happen."""
TELLINGS: tuple[Telling, ...] = ("again", "on", "news", "whole")
SETTLED_S = 3.5
"""Seconds after which a subject has done what it does in a beat."""
WINDOW_TOKENS = 96
"""Tokens that the longest captions need."""
_RESTS = ("still", "absent")
_PLAIN_VERBS = 0.5
"""Share of motions told in the words of `DOES`."""
_SHORT_NAMES = 0.5
"""Share of tellings that do not repeat colours, where kinds tell the subjects apart."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Window:
    """Some chunks of a script."""

    script: Script
    first: int
    """Chunk of the script it begins with."""
    chunks: int
    chunk_s: float
    """Seconds of a chunk; a beat is a whole number of chunks."""

    def beat(self, chunk: int) -> int:
        """Number of the beat that a chunk of the window plays in."""
        starts = [beat.start_s for beat in self.script.beats]
        return int(np.searchsorted(starts, (self.first + chunk) * self.chunk_s, "right")) - 1

    def into_s(self, chunk: int) -> float:
        """Second of its beat at which a chunk begins."""
        start = self.script.beats[self.beat(chunk)].start_s
        return (self.first + chunk) * self.chunk_s - start

    @property
    def numbers(self) -> tuple[int, ...]:
        """The beats of the window, in order."""
        return tuple(dict.fromkeys(self.beat(chunk) for chunk in range(self.chunks)))

    @property
    def told(self) -> tuple[Beat, ...]:
        """Those beats as a viewer sees them, who missed what was over before."""
        first, *others = (self.script.beats[n] for n in self.numbers)
        if self.into_s(0) > 0:
            first = replace(first, motions=tuple(_settled(name) for name in first.motions))
        return (replace(first, cut=False), *others)


def sample_windows(
    num: int, rng: np.random.Generator, level: Level, *, chunks: int, chunk_s: float
) -> list[Window]:
    """Draw windows of as many scripts; none begins while somebody does something.

    Args:
        num: Windows.
        rng: Where all randomness comes from.
        level: What can occur; it needs the motions that leave the frame.
        chunks: Chunks of each window.
        chunk_s: Seconds of a chunk.
    """
    windows = []
    for script in sample_scripts(num, rng, level):
        last = round(script.length_s / chunk_s) - chunks
        every = (
            Window(script=script, first=first, chunks=chunks, chunk_s=chunk_s)
            for first in range(last + 1)
        )
        fit = [window for window in every if _can_begin(window)]
        windows.append(fit[int(rng.integers(len(fit)))])
    return windows


def _can_begin(window: Window) -> bool:
    idle = set(window.script.beats[window.beat(0)].motions) <= set(_RESTS)
    return idle or window.into_s(0) == 0 or window.into_s(0) >= SETTLED_S


def _settled(motion: str) -> str:
    return "absent" if motion.startswith("exit") or motion == "absent" else "still"


def render_windows(
    windows: list[Window], *, height: int, width: int, device: torch.device | str = "cpu"
) -> UInt8[Tensor, "b frames height width 3"]:
    """Film windows of equal length together, all of their chunks in one go."""
    beats = [beat_scenes(window.script) for window in windows]
    chunks = range(windows[0].chunks)
    scenes = [beats[i][w.beat(chunk)] for i, w in enumerate(windows) for chunk in chunks]
    into = [w.into_s(chunk) for w in windows for chunk in chunks]
    count = round(windows[0].chunk_s * FPS)
    # Each from the moment of the last frame before it, which only the first chunk keeps.
    film = render(
        join_scenes(scenes), frames=1 + count, height=height, width=width,
        start_s=np.array(into, dtype=np.float32), device=device,
    )  # fmt: skip
    film = rearrange(film, "(b chunk) f h w c -> b chunk f h w c", chunk=len(chunks))
    return torch.cat([film[:, 0, :1], film[:, :, 1:].flatten(1, 2)], dim=1)


def tell_window(
    window: Window,
    rng: random.Random,
    level: Level,
    telling: Telling,
    *,
    colours: bool = True,
) -> tuple[str, ...]:
    """The caption in force in each chunk.

    Where things do not happen at whole seconds, `whole` is told as `on`.

    Args:
        window: What is told.
        rng: Chooses the words.
        level: The styles of ordinary clips.
        telling: How.
        colours: Whether to name the colours of subjects, where kinds tell them apart.
    """
    teller = _Teller(window, rng, colours=colours)
    times = [window.chunk_s * chunk for chunk in _news(window)]
    match telling:
        case "again":
            said = _from_scratch(window, teller, level)
        case "whole" if all(time.is_integer() for time in times):
            said = teller.whole([int(time) for time in times])
        case "on" | "whole":
            said = teller.on()
        case "news":
            said = teller.news()
    first = window.beat(0)
    return tuple(said[window.beat(chunk) - first] for chunk in range(window.chunks))


def window_words(chunks: int, chunk_s: float) -> tuple[str, ...]:
    """What captions of windows say beyond those of scenes, one phrase each."""
    times = [chunk * chunk_s for chunk in range(1, chunks)]
    said = [seconds(int(time)) for time in times if time.is_integer()]
    return (*DOES.values(), *said, "at", "again", "and", "cut", "while", "the light changes to")


def _news(window: Window) -> list[int]:
    """Chunks with which later beats of the window begin."""
    chunks = range(1, window.chunks)
    return [chunk for chunk in chunks if window.beat(chunk) != window.beat(chunk - 1)]


def _from_scratch(window: Window, teller: "_Teller", level: Level) -> list[str]:
    """Each beat in the words of an ordinary clip, where those can say it."""
    scenes, rng, said = beat_scenes(window.script), teller.speaker.rng, []
    for number, beat in zip(window.numbers, window.told, strict=True):
        if {"spin", "bounce", "absent"} & set(beat.motions):
            said.append(teller.introduce(beat))
            continue
        motion = np.array([[number_of("motion", MOTIONS, name) for name in beat.motions]])
        start = np.zeros(motion.shape, dtype=np.float32)
        scene = replace(scenes[number], motion=motion, start_s=start, change_s=start + NEVER)
        style = rng.choice(level.styles)
        text = caption(scene, 0, rng, style=style, colours=teller.colours).text
        said.append(f"cut. {text}" if beat.cut else text)
    return said


class _Teller:
    """Tells the beats of a window one after the other, by one set of names."""

    def __init__(self, window: Window, rng: random.Random, *, colours: bool) -> None:
        """Choose the names."""
        self.beats, self.colours = window.told, colours
        scene = window.script.scene
        self.speaker = speaker = Speaker(scene, 0, rng, "train", colours=colours)
        kinds = [speaker.kind[i] for i in sorted(speaker.subjects)]
        apart = len(set(kinds)) == len(kinds)
        short = apart and (not colours or rng.random() < _SHORT_NAMES)
        self.names = [
            f"the {kind}" if short else f"the {speaker.colour[i]} {kind}"
            for i, kind in enumerate(kinds)
        ]

    def on(self) -> list[str]:
        """All that holds in each beat; the first also tells who is where."""
        later = [
            f"{self._does(beat, before)} {self._light(beat, tag=False)}, {self._camera(beat)}"
            for before, beat in pairwise(self.beats)
        ]
        cuts = ["cut. " if beat.cut else "" for beat in self.beats[1:]]
        told = [cut + text for cut, text in zip(cuts, later, strict=True)]
        return [self.introduce(self.beats[0]), *told]

    def news(self) -> list[str]:
        """What is new in each beat; where nothing is, what was said before stays in force."""
        said = [self.introduce(self.beats[0])]
        for before, beat in pairwise(self.beats):
            said.append(self._brings(before, beat) or said[-1])
        return said

    def whole(self, times: list[int]) -> list[str]:
        """Everything at once, with the seconds at which later beats begin."""
        said = [self.introduce(self.beats[0])]
        for time, (before, beat) in zip(times, pairwise(self.beats), strict=True):
            news = self._brings(before, beat)
            said += [f"at {seconds(time)} {news}"] if news else []
        return [". ".join(said)] * len(self.beats)

    def introduce(self, beat: Beat) -> str:
        """Who is where, and what they do."""
        named = [with_article(self.speaker.noun_phrase(i)) for i in sorted(self.speaker.subjects)]
        place = f"{self.speaker.say(Slot.GROUND)} {self._light(beat, tag=False)}"
        cut = "cut. " if beat.cut else ""
        return f"{cut}{' and '.join(named)} {place}. {self._does(beat)}, {self._camera(beat)}"

    def _does(self, beat: Beat, before: Beat | None = None) -> str:
        return " while ".join(self._acts(beat, before, leave_out=()))

    def _acts(self, beat: Beat, before: Beat | None, leave_out: tuple[str, ...]) -> list[str]:
        """What the subjects do; who does the same as before does it again."""
        said = []
        for i, name in enumerate(self.names):
            motion = beat.motions[i]
            again = before is not None and before.motions[i] == motion and motion not in _RESTS
            if motion not in leave_out:
                said.append(f"{name} {self._verb(i, motion)}{' again' if again else ''}")
        return said

    def _verb(self, i: int, motion: str) -> str:
        if motion in ("spin", "bounce", "absent") or self.speaker.rng.random() < _PLAIN_VERBS:
            return DOES[motion]
        return self.speaker.verb_phrase(i, motion, finite=True)

    def _brings(self, before: Beat, beat: Beat) -> str:
        """What a beat brings that the one before it had not."""
        said = self._acts(beat, before, leave_out=_RESTS)
        if beat.camera != "static":
            said.append(self._camera(beat))
        if beat.light != before.light:
            said.append(f"the light changes to {self._light(beat, tag=True)}")
        return " and ".join([*said, "a cut"] if beat.cut else said)

    def _light(self, beat: Beat, *, tag: bool) -> str:
        words = LIGHT_WORDS[beat.light]
        return self.speaker.choose(words.tags if tag else words.phrases)

    def _camera(self, beat: Beat) -> str:
        clause = self.speaker.choose(CAMERA_WORDS[beat.camera].clauses)
        return clause.replace("{it}", self.names[0])
