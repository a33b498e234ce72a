"""What is measured of one-minute takes: functions of films and of what is true of them."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Bool, Float, UInt8
from torch import Tensor

from longtake.config import FPS
from longtake.evaluate.drift import MEASURES, Curves, Drift, curves, cuts_of, steps
from longtake.evaluate.metrics import Marks, mark
from longtake.evaluate.reader.read import Reader
from longtake.evaluate.reader.readings import FilmReading
from longtake.evaluate.scope import COLOURS, GROUNDS, KINDS
from longtake.evaluate.suite import expectations
from longtake.world.captions import Fact
from longtake.world.screenwriter import BEAT_S, DOES, with_article
from longtake.world.script import Beat, Script, ScriptTruth, script_truth
from longtake.world.wording import LIGHT_WORDS
from longtake.world.wording_camera import CAMERA_WORDS

Film = UInt8[Tensor, "frames height width 3"]
BEAT_FRAMES = BEAT_S * FPS
SHOWS_S = 2
"""Seconds within which a prompt change must show."""
_MOSTLY = 0.5


def facts_at(script: Script, told: ScriptTruth, beat: int) -> list[Fact]:
    """What is true of a beat: who is seen in half of it, and the scene."""
    scene, here = script.scene, script.beats[beat]
    facts = [
        Fact(None, "light", here.light),
        Fact(None, "ground", GROUNDS[scene.ground[0]].name),
        Fact(None, "camera", here.camera),
    ]
    for i in range(int(scene.num_subjects[0])):
        seen = told.visible[i][here.start_s : here.start_s + BEAT_S]
        if np.mean([share > 0 for share in seen]) >= _MOSTLY:
            facts += [
                Fact(i, "colour", COLOURS[scene.colour[0, i]].name),
                Fact(i, "kind", KINDS[scene.kind[0, i]].name),
                Fact(i, "motion", here.motions[i]),
            ]
    return facts


def beat_film(film: Film, beat: int) -> UInt8[Tensor, "beat height width 3"]:
    """The frames of a beat."""
    return film[beat * BEAT_FRAMES : (beat + 1) * BEAT_FRAMES + 1]


def attributes(film: Film, script: Script, beats: Sequence[int], reader: Reader) -> Marks:
    """Which attributes are right in some beats; a film is a minute or more, the script goes on."""
    return marks_in(film, script, truth_of(script), beats, reader)


def truth_of(script: Script) -> ScriptTruth:
    """What is true of a script, seen in small; takes seconds."""
    return script_truth(script, height=64, width=112)


def marks_in(
    film: Film, script: Script, told: ScriptTruth, beats: Sequence[int], reader: Reader
) -> Marks:
    """The same where what is true of the script is known already."""
    world, total = expectations(), {}
    for beat in beats:
        part = beat_film(film, beat)
        reading = reader.read(part.to(reader.device), FPS)
        within = beat % len(script.beats)
        for name, values in mark(facts_at(script, told, within), reading, world).items():
            total.setdefault(name, []).extend(values)
    return total


def share_right(marks: Sequence[Marks], names: Sequence[str] | None = None) -> float:
    """Mean of all answers about attributes, in percent."""
    wanted = names or ("colour", "kind", "motion", "light", "ground", "camera")
    values = [value for film in marks for name in wanted for value in film.get(name, [])]
    return 100 * float(np.mean(values)) if values else math.nan


def drift_shares(made: Sequence[Drift], true: Sequence[Drift]) -> dict[str, float]:
    """Share of takes whose slope lies in the 5-95 % range of true films, by measure and in all."""
    inside = []
    for one in made:
        row = {}
        for name in MEASURES:
            low, high = np.quantile([film.slopes[name].per_s for film in true], [0.05, 0.95])
            row[name] = bool(low <= one.slopes[name].per_s <= high)
        inside.append(row)
    shares = {name: float(np.mean([row[name] for row in inside])) for name in MEASURES}
    return {**shares, "all": float(np.mean([all(row.values()) for row in inside]))}


def motion_ratio(made: Sequence[Drift], true: Sequence[Drift]) -> float:
    """Motion energy of takes over that of true films of the same scripts."""
    return float(np.mean([one.motion for one in made]) / np.mean([one.motion for one in true]))


def border_change(made: Film, true: Film, borders: Sequence[int]) -> tuple[float, float]:
    """Change across borders over that between the same frames of the true film; and elsewhere.

    Jumps of the true film, cuts and switches of light, do not count.
    """
    return change_over(curves([made], FPS), curves([true], FPS), borders)


def change_over(one: Curves, true: Curves, borders: Sequence[int]) -> tuple[float, float]:
    """The same of films that are measured already."""
    keep = steps(true, cuts_of(true.change))
    at = np.zeros(len(keep), dtype=bool)
    at[[frame for frame in borders if frame < len(keep)]] = True
    return _over(one, true, keep & at), _over(one, true, keep & ~at)


def _over(one: Curves, true: Curves, rows: Bool[np.ndarray, " frames"]) -> float:
    if not rows.any():
        return math.nan
    return float(one.change[rows].mean() / max(true.change[rows].mean(), 1e-6))


def excess_change(one: Curves, true: Curves) -> Float[np.ndarray, " frames"]:
    """Levels by which each frame changes more than the same frame of the true film.

    Where the true film jumps nothing is asked. Summed over a film it is the same whether a change
    comes at once or is spread over many frames, so that no smoothing of joins hides it.
    """
    keep = steps(true, cuts_of(true.change))
    return np.where(keep, np.maximum(one.change - true.change, 0), 0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Changed:
    """What a change of the prompt did."""

    shows: bool
    """The new light is read from two seconds after the change on."""
    same: bool
    """Whoever is in the picture is who would be there without the change."""
    before: float
    """Largest difference of a byte before the change; 0 for a true take."""


def prompt_change(changed: Film, plain: Film, at_frame: int, light: str, reader: Reader) -> Changed:
    """Compare a take whose light was told to change with the one that goes on as it was."""
    begin = at_frame + SHOWS_S * FPS
    one, other = (
        reader.read(film[begin : begin + BEAT_FRAMES + 1].to(reader.device), FPS)
        for film in (changed, plain)
    )
    gap = (changed[:at_frame].int() - plain[:at_frame].int()).abs().max()
    return Changed(shows=one.light == light, same=cast_of(one) == cast_of(other), before=float(gap))


def cast_of(reading: FilmReading) -> tuple[str | None, list[tuple[str, str | None]]]:
    """Ground and subjects as read, for comparison."""
    subjects = sorted((one.colour, one.kind or "") for one in reading.subjects)
    return reading.ground, [(colour, kind or None) for colour, kind in subjects]


def psnr(one: UInt8[Tensor, "height width 3"], other: UInt8[Tensor, "height width 3"]) -> float:
    """Peak signal to noise in dB; 99 for equal pictures."""
    error = float((one.float() - other.float()).pow(2).mean())
    return 99.0 if error == 0 else 10 * math.log10(255**2 / error)


@dataclass(frozen=True, slots=True, kw_only=True)
class Recalled:
    """Whether who returned is who left."""

    gap_s: int
    seen: bool
    """Somebody was read before and after, so that there is something to compare."""
    same: float
    """1 if the colour is the same, else 0; not seen is 0."""
    before: str | None
    after: str | None


def returned(film: Film, script: Script, told: ScriptTruth, reader: Reader) -> float | None:
    """Share of colour and kind that are right once the first subject has returned; both are named.

    None where the film ends before.
    """
    beat = away_of(script)[1] + 1
    if beat >= len(script.beats) or len(film) <= (beat + 1) * BEAT_FRAMES:
        return None
    facts = [
        fact for fact in facts_at(script, told, beat)
        if fact.subject == 0 and fact.attribute in ("colour", "kind")
    ]  # fmt: skip
    reading = reader.read(beat_film(film, beat).to(reader.device), FPS)
    marks = mark(facts, reading, expectations())
    values = [value for name in ("colour", "kind") for value in marks.get(name, [])]
    return float(np.mean(values)) if values else None


def recall(film: Film, script: Script, reader: Reader) -> Recalled:
    """Read the subject before it leaves and after it has returned."""
    leaves, returns = away_of(script)
    colours = [
        _colour(reader.read(beat_film(film, beat).to(reader.device), FPS))
        for beat in (leaves - 1, returns + 1)
    ]
    before, after = colours
    seen = before is not None and after is not None
    same = float(seen and before == after)
    return Recalled(gap_s=script.gap_s, seen=seen, same=same, before=before, after=after)


def chance(recalled: Sequence[Recalled]) -> float:
    """How often a return matches the leaving of another take."""
    pairs = [(a.before, b.after) for a in recalled for b in recalled if a is not b]
    alike = [before is not None and before == after for before, after in pairs]
    return float(np.mean(alike)) if alike else 0.0


def _colour(reading: FilmReading) -> str | None:
    """Colour of whoever is seen most."""
    if not reading.explained or not reading.subjects:
        return None
    return max(reading.subjects, key=lambda one: one.seen).colour


def away_of(script: Script) -> tuple[int, int]:
    """The beats in which the first subject leaves and returns."""
    acts = [beat.motions[0] for beat in script.beats]
    leaves = next(n for n, name in enumerate(acts) if name.startswith("exit"))
    returns = next(n for n, name in enumerate(acts) if n > leaves and name.startswith("enter"))
    return leaves, returns


def recall_script(script: Script, gap_s: int) -> Script:
    """One subject that leaves after a beat and returns, under one light, without a camera move."""
    first, side, gap = script.beats[0], "left", gap_s // BEAT_S
    acts = ["still", f"exit_{side}", *["absent"] * (gap - 1), f"enter_{side}", "still", "still"]
    scene = replace(script.scene, num_subjects=np.ones(1, dtype=np.int64))
    others = ("still",) * (script.scene.kind.shape[1] - 1)
    beats = tuple(
        Beat(start_s=BEAT_S * n, motions=(act, *others), light=first.light)
        for n, act in enumerate(acts)
    )
    return Script(scene=scene, beats=beats, gap_s=gap_s, length_s=BEAT_S * len(acts))


def plain_captions(script: Script, *, colours: bool) -> tuple[str, ...]:
    """A caption of each beat, in the same words throughout.

    Args:
        script: What is told.
        colours: Whether colours are named; without them they come from the seed or the past.
    """
    scene, said = script.scene, []
    numbers = range(int(scene.num_subjects[0]))
    kinds = [KINDS[scene.kind[0, i]].name for i in numbers]
    if colours:
        shades = [COLOURS[scene.colour[0, i]].name for i in numbers]
        kinds = [f"{shade} {kind}" for shade, kind in zip(shades, kinds, strict=True)]
    who = " and ".join(with_article(kind) for kind in kinds)
    for beat in script.beats:
        acts = zip(kinds, beat.motions, strict=False)
        does = " while ".join(f"the {kind} {DOES[motion]}" for kind, motion in acts)
        camera = CAMERA_WORDS[beat.camera].clauses.train[0].replace("{it}", f"the {kinds[0]}")
        light = LIGHT_WORDS[beat.light].phrases.train[0]
        said.append(f"{who} on {GROUNDS[scene.ground[0]].name} {light}. {does}, {camera}")
    return tuple(said)
