"""Cells of text to shots: what each column means, and what is wrong where."""

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from fractions import Fraction
from pathlib import Path
from zlib import crc32

from longtake.config import MAX_PROMPT, MAX_SEED, LoraUse, lora_use
from longtake.errors import SettingError, ShotListError
from longtake.shots.camera import camera_clause
from longtake.shots.shot import MOST_SECONDS, Shot, Transition
from longtake.shots.timecode import Rate, from_timecode

COLUMNS = {
    "scene": ("scene", "sequence", "seq"),
    "name": ("name", "shot", "shot name", "shot_name"),
    "duration": ("duration", "length", "dur"),
    "frames": ("frames", "frame count", "nb_frames"),
    "seconds": ("seconds", "secs"),
    "prompt": ("prompt", "description", "action"),
    "negative": ("negative", "negative prompt", "negative_prompt"),
    "seed": ("seed",),
    "camera": ("camera", "camera move", "camera_move", "move"),
    "first_frame": ("first_frame", "first frame", "image", "start frame", "start_frame"),
    "last_frame": ("last_frame", "last frame", "end frame", "end_frame"),
    "transition": ("transition", "cut"),
    "dissolve": ("dissolve", "dissolve frames"),
    "lora": ("lora", "loras"),
    "lock": ("lock", "locked"),
}
"""Columns by their names, and by what else they are called."""
_KNOWN = {alias: name for name, aliases in COLUMNS.items() for alias in aliases}
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,79}")
_FRAMES = re.compile(r"([+-]?\d+)\s*(?:f|fr|frames?)", re.IGNORECASE)
_SECONDS = re.compile(r"([+-]?\d+(?:\.\d+)?)\s*(?:s|secs?|seconds?)", re.IGNORECASE)
_NUMBER = re.compile(r"[+-]?\d+(?:\.\d+)?")
_LAST = "last:"
"""What stands before the name of a shot whose last frame is meant."""
_YES = {"yes", "y", "true", "1", "x", "locked", "lock"}
_NO = {"", "no", "n", "false", "0"}
_TRANSITIONS: tuple[Transition, ...] = ("cut", "continue", "dissolve")


@dataclass(frozen=True, slots=True)
class Row:
    """A shot as its file tells it."""

    where: str
    """File and row, for messages."""
    cells: Mapping[str, str]
    """Text by column."""

    def get(self, column: str) -> str:
        """The text of a cell, without spaces around it; empty if there is none."""
        return self.cells.get(column, "").strip()


def wrong(row: Row, column: str, what: str) -> ShotListError:
    """What is wrong with a cell, to be raised."""
    return ShotListError(f"{row.where}, column {column}: {what}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Sheet:
    """A file of shots, read but not yet understood."""

    rows: Sequence[Row]
    title: str = ""
    rate: str = ""
    """Frame rate, if the file tells it."""
    cast: Mapping[str, str] = field(default_factory=dict[str, str])
    """Names that stand for descriptions."""
    notes: tuple[str, ...] = ()


def column_of(header: str, where: str) -> str | None:
    """The column of a header; None for one that is not ours.

    Raises:
        ShotListError: one that is nearly ours.
    """
    plain = " ".join(header.strip().lower().split())
    if plain in _KNOWN:
        return _KNOWN[plain]
    near = get_close_matches(plain, _KNOWN, n=1, cutoff=0.75)
    if near:
        msg = f"{where}: unknown column {header.strip()!r}; did you mean {near[0]!r}?"
        raise ShotListError(msg)
    return None


def cells_of(shot: Shot, folder: Path) -> dict[str, str]:
    """A shot as cells; `shots_of` reads the same shot back from them.

    Args:
        shot: Of a list.
        folder: From where its picture will be looked for.
    """
    cells = {"name": shot.code, "frames": str(shot.frames), "prompt": shot.prompt}
    cells |= {"negative": shot.negative, "seed": str(shot.seed), "transition": shot.transition}
    if shot.dissolve:
        cells["dissolve"] = f"{shot.dissolve}f"
    if shot.picture:
        cells["first_frame"] = os.path.relpath(shot.picture, folder)
    if shot.after:
        cells["first_frame"] = f"{_LAST}{shot.after}"
    if shot.loras:
        named = [f"{os.path.relpath(use.file, folder)}:{use.strength!r}" for use in shot.loras]
        cells["lora"] = "; ".join(named)
    if shot.lock:
        cells["lock"] = "yes"
    return {column: cell for column, cell in cells.items() if cell}


def shots_of(
    sheet: Sheet, rate: Rate, folder: Path, cast: Mapping[str, str]
) -> tuple[tuple[Shot, ...], list[str]]:
    """The shots that the rows tell, and how some of it was taken.

    Args:
        sheet: The file.
        rate: In which durations are counted.
        folder: From where pictures are looked for.
        cast: Names that stand for descriptions, beside those of the file.

    Raises:
        ShotListError: the first cell that cannot be, by row and column.
    """
    notes: list[str] = []
    named = {**sheet.cast, **cast}
    shots = tuple(_shot(row, rate, folder, named, notes) for row in sheet.rows)
    return _resolved(shots, sheet.rows), notes


def _shot(row: Row, rate: Rate, folder: Path, cast: Mapping[str, str], notes: list[str]) -> Shot:
    code = _code(row)
    if row.get("last_frame"):
        raise wrong(
            row, "last_frame", "no model was trained to move towards an end frame; leave it"
        )
    transition = _transition(row)
    picture, after = _beginning(row, folder)
    try:
        camera = camera_clause(row.get("camera"))
    except ShotListError as error:
        raise wrong(row, "camera", str(error)) from error
    prompt = _said(row, "prompt", cast)
    if not prompt:
        raise wrong(row, "prompt", 'it is empty; say what to show, as "a red ball"')
    frames = _duration(row, rate, notes)
    return Shot(
        code=code,
        frames=frames,
        prompt=f"{prompt.rstrip(' .,')}, {camera}" if camera else prompt,
        negative=_said(row, "negative", cast),
        seed=_seed(row, code),
        transition=transition,
        dissolve=_dissolve(row, rate, transition, frames),
        picture=picture,
        loras=_loras(row, folder),
        after=after,
        lock=_locked(row),
        row=row.where,
    )


def _code(row: Row) -> str:
    for column in ("name", "scene"):
        text = row.get(column)
        if not text and column == "name":
            raise wrong(row, column, "it is empty; every shot has a name, as SH0010")
        if text and not _NAME.fullmatch(text):
            raise wrong(row, column, f"got {text!r}; names have up to 80 letters, digits, - and _")
    scene, name = row.get("scene"), row.get("name")
    return f"{scene}_{name}" if scene and not name.startswith(f"{scene}_") else name


def _said(row: Row, column: str, cast: Mapping[str, str]) -> str:
    text = " ".join(row.get(column).split())
    for name, description in cast.items():
        text = re.sub(rf"\b{re.escape(name)}\b", lambda _, said=description: said, text)
    if len(text) > MAX_PROMPT:
        raise wrong(row, column, f"it has {len(text):,} characters; the most is {MAX_PROMPT:,}")
    return text


def _duration(row: Row, rate: Rate, notes: list[str]) -> int:
    given = [column for column in ("duration", "frames", "seconds") if row.get(column)]
    if not given:
        raise wrong(row, "duration", "it is empty; say how long, as 72f, 3s or 00:00:03:00")
    if len(given) > 1:
        raise wrong(row, given[1], f"column {given[0]} tells the duration already; leave one")
    (column,), text = given, row.get(given[0])
    suffix = {"frames": "f", "seconds": "s", "duration": ""}[column]
    asked = f"{text}{suffix}" if _NUMBER.fullmatch(text) else text
    frames = _length(row, column, asked, rate)
    seconds = rate.seconds(frames)
    if not 0 < frames <= rate.frames(Fraction(MOST_SECONDS)):
        raise wrong(
            row,
            column,
            f"got {text!r}, which is {frames} frames at {rate.name}; a shot has 1 frame or more "
            f"and lasts at most {MOST_SECONDS:,} s",
        )
    exact = _SECONDS.fullmatch(asked)
    if exact and Fraction(exact[1]) != seconds:
        notes.append(f"{row.where}: {text} became {frames} frames, the nearest at {rate.name}")
    return frames


def _length(row: Row, column: str, text: str, rate: Rate) -> int:
    if found := _FRAMES.fullmatch(text):
        # Of a number with very many digits only the size matters.
        return int(found[1][:12])
    if found := _SECONDS.fullmatch(text):
        return rate.frames(Fraction(found[1][:24]))
    if ":" in text or ";" in text:
        try:
            return from_timecode(text, rate)
        except ShotListError as error:
            raise wrong(row, column, str(error)) from error
    if _NUMBER.fullmatch(text):
        raise wrong(row, column, f"{text} of what? write {text}f for frames or {text}s for seconds")
    raise wrong(row, column, f"got {text[:40]!r}; write 72f, 3s or 00:00:03:00")


def _seed(row: Row, code: str) -> int:
    """The seed given, or one from the name, so that rows may move."""
    text = row.get("seed").replace("_", "")
    if not text:
        return crc32(code.encode())
    if not re.fullmatch(r"\d{1,20}", text) or int(text) > MAX_SEED:
        raise wrong(row, "seed", f"got {text[:40]!r}; a seed is a whole number up to {MAX_SEED}")
    return int(text)


def _transition(row: Row) -> Transition:
    text = row.get("transition").lower() or "cut"
    for known in _TRANSITIONS:
        if text == known:
            return known
    near = get_close_matches(text, _TRANSITIONS, n=1, cutoff=0.5)
    hint = f"did you mean {near[0]}?" if near else f"it is one of {', '.join(_TRANSITIONS)}"
    raise wrong(row, "transition", f"got {text[:40]!r}; {hint}")


def _dissolve(row: Row, rate: Rate, transition: Transition, frames: int) -> int:
    text = row.get("dissolve")
    if transition != "dissolve":
        if text:
            raise wrong(row, "dissolve", f"the transition is a {transition}; make it a dissolve")
        return 0
    if not text:
        return min(max(rate.counted // 2, 1), frames)
    asked = _length(row, "dissolve", f"{text}f" if _NUMBER.fullmatch(text) else text, rate)
    if asked < 1:
        raise wrong(row, "dissolve", f"got {text!r}; a dissolve takes 1 frame or more")
    return asked


def _beginning(row: Row, folder: Path) -> tuple[Path | None, str]:
    text = row.get("first_frame")
    if text.lower().startswith(_LAST):
        return None, text[len(_LAST) :].strip()
    if not text:
        return None, ""
    path = folder / text
    if not path.is_file():
        raise wrong(row, "first_frame", f"there is no picture {path}; last:NAME is a shot's end")
    return path, ""


def _loras(row: Row, folder: Path) -> tuple[LoraUse, ...]:
    """LoRAs as FILE or FILE:STRENGTH, with semicolons between them."""
    uses: list[LoraUse] = []
    for text in filter(None, (part.strip() for part in row.get("lora").split(";"))):
        try:
            use = lora_use(text)
        except SettingError as error:
            raise wrong(row, "lora", str(error)) from error
        path = (folder / use.file).absolute()
        if not path.is_file():
            raise wrong(row, "lora", f"there is no LoRA {path}; longtake finetune makes one")
        uses.append(replace(use, file=str(path)))
    return tuple(uses)


def _locked(row: Row) -> bool:
    text = row.get("lock").lower()
    if text in _YES:
        return True
    if text not in _NO:
        raise wrong(row, "lock", f"got {text[:40]!r}; write yes, or nothing")
    return False


def _resolved(shots: tuple[Shot, ...], rows: Sequence[Row]) -> tuple[Shot, ...]:
    """References by code or by name alone become codes."""
    codes = {shot.code: shot.code for shot in shots}
    for shot, row in zip(shots, rows, strict=True):
        codes.setdefault(row.get("name"), shot.code)
    found = []
    for shot, row in zip(shots, rows, strict=True):
        if shot.after and shot.after not in codes:
            near = get_close_matches(shot.after, codes, n=1)
            hint = f"did you mean {near[0]}?" if near else f"there is {', '.join(codes)}"
            raise wrong(row, "first_frame", f"there is no shot {shot.after!r}; {hint[:200]}")
        found.append(replace(shot, after=codes[shot.after]) if shot.after else shot)
    return tuple(found)
