"""Shots from a Fountain script: each paragraph of action is one.

A note in double brackets tells what a script does not: `[[3s, camera: pan left, seed: 7]]`.
"""

import re
from dataclasses import dataclass, field

from longtake.errors import ShotListError
from longtake.shots.table import Row, Sheet, column_of

USUAL = "4s"
"""How long a shot is whose note does not tell."""
_HEADING = re.compile(r"(?:\.(?=[^.])|(?:INT|EXT|EST|INT\.?/EXT|I/E)[. ])\s*(.+)", re.IGNORECASE)
_NUMBER = re.compile(r"\s*#([A-Za-z0-9.-]{1,12})#\s*$")
_NOTE = re.compile(r"\[\[(.*?)\]\]", re.DOTALL)
_BONEYARD = re.compile(r"/\*.*?\*/", re.DOTALL)
_TRANSITION = re.compile(r"(?:>\s*(.+[^<])|([A-Z ]+ TO:))")
_TITLE = re.compile(r"title:\s*(.+)", re.IGNORECASE)
_EMPHASIS = re.compile(r"\*{1,3}|_")


@dataclass(slots=True)
class _Script:
    """What was read so far."""

    name: str
    scene: str = ""
    place: str = ""
    scenes: int = 0
    shots: int = 0
    transition: str = ""
    spoken: int = 0
    rows: list[Row] = field(default_factory=list[Row])


def fountain_sheet(name: str, text: str) -> Sheet:
    """The shots of a script.

    Raises:
        ShotListError: no scenes, or a note that cannot be.
    """
    # Removed text leaves its newlines, so that lines keep their numbers.
    plain = _BONEYARD.sub(lambda found: "\n" * found[0].count("\n"), text)
    plain = plain.replace("\r\n", "\n").replace("\r", "\n")
    script = _Script(name)
    title, line = "", 1
    for block in re.split(r"\n[ \t]*\n", plain):
        here = line + len(block) - len(block.lstrip("\n"))
        line += block.count("\n") + 2
        if found := _TITLE.match(block.strip()) if not script.scenes else None:
            title = found[1].strip()
        elif block.strip():
            _read_block(script, block.strip(), here)
    if not script.scenes:
        msg = f"{name} has no scenes: a scene begins with a line as INT. ROOM - DAY"
        raise ShotListError(msg)
    if not script.rows:
        msg = f"{name} has no action: each paragraph of action becomes a shot"
        raise ShotListError(msg)
    notes = (f"{name}: {script.spoken} speeches are not filmed",) if script.spoken else ()
    return Sheet(rows=script.rows, title=title, notes=notes)


def _read_block(script: _Script, block: str, line: int) -> None:
    first, _, rest = block.partition("\n")
    if found := _HEADING.fullmatch(first.strip()):
        _begin_scene(script, found[1])
        if rest.strip():
            _read_block(script, rest.strip(), line + 1)
    elif found := _TRANSITION.fullmatch(block):
        said = (found[1] or found[2]).upper()
        script.transition = "dissolve" if "DISSOLVE" in said else "cut"
    elif block[0] in "#=~" or not script.scenes:
        return  # sections, synopses, lyrics, and what stands before the first scene
    elif _is_speech(first, rest):
        script.spoken += 1
    else:
        _add_shot(script, block, line)


def _begin_scene(script: _Script, heading: str) -> None:
    script.scenes += 1
    script.shots = 0
    numbered = _NUMBER.search(heading)
    number = numbered[1] if numbered else str(script.scenes * 10)
    script.scene = f"SC{number.zfill(3)}".replace(".", "-")
    place = _NUMBER.sub("", heading)
    script.place = ", ".join(part.strip().lower() for part in place.split(" - ") if part.strip())


def _is_speech(first: str, rest: str) -> bool:
    """A line in capitals with text under it is a character who speaks."""
    speaker = first.split("(", maxsplit=1)[0].strip()
    return first.startswith("@") or bool(
        rest.strip() and speaker.isupper() and not first.startswith("!")
    )


def _add_shot(script: _Script, block: str, line: int) -> None:
    where = f"{script.name}, line {line}"
    script.shots += 1
    said = _EMPHASIS.sub("", _NOTE.sub(" ", block)).lstrip("!").strip(" .\n")
    cells = {"scene": script.scene, "name": f"SH{script.shots * 10:04}", "duration": USUAL}
    cells["prompt"] = f"{said}, {script.place}" if said else ""
    if script.transition:
        cells["transition"], script.transition = script.transition, ""
    for note in _NOTE.findall(block):
        for part in note.split(","):
            key, colon, value = part.partition(":")
            if key.strip()[:1].isdigit():
                cells["duration"] = part.strip()
            elif colon and (column := column_of(key, where)):
                cells[column] = value.strip()
    script.rows.append(Row(where, cells))
