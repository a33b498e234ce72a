"""A shot list from a file: CSV as spreadsheets write it, JSON, a Fountain script or a timeline."""

import csv
import io
import json
from collections.abc import Mapping
from pathlib import Path

from longtake.errors import ShotListError
from longtake.shots.fountain import fountain_sheet
from longtake.shots.shot import ShotList
from longtake.shots.table import COLUMNS, Row, Sheet, column_of, shots_of
from longtake.shots.timecode import rate_of

KINDS = (".csv", ".tsv", ".json", ".fountain", ".otio")
"""What is read, told by the name."""
DEFAULT_RATE = "24"
_MOST_BYTES = 4 * 2**20
_SEPARATORS = ",;\t"


def read_shots(path: Path, rate: str = "", cast: Mapping[str, str] | None = None) -> ShotList:
    """Read a shot list whole; nothing in it stays unchecked.

    Args:
        path: The file.
        rate: Frame rate by name; empty takes the file's own, or 24.
        cast: Names that stand for descriptions in prompts, beside those of the file.

    Raises:
        ShotListError: the first thing that cannot be, by row and column.
    """
    sheet = _sheet(path)
    if rate and sheet.rate and rate_of(rate) != rate_of(sheet.rate):
        msg = f"{path.name} is counted at {sheet.rate} and --rate asks for {rate}; leave it out"
        raise ShotListError(msg)
    speed = rate_of(rate or sheet.rate or DEFAULT_RATE)
    shots, notes = shots_of(sheet, speed, path.parent, cast or {})
    if not shots:
        msg = f"{path.name} has no shots; write one in each row"
        raise ShotListError(msg)
    notes = (*sheet.notes, *notes)
    return ShotList(title=sheet.title or path.stem, rate=speed, shots=shots, notes=notes)


def _sheet(path: Path) -> Sheet:
    kind = path.suffix.lower()
    if kind not in KINDS:
        msg = f"a shot list ends in {', '.join(KINDS)}, got {path.name}"
        raise ShotListError(msg)
    text = _text(path)
    match kind:
        case ".json":
            return _json_sheet(path.name, text)
        case ".fountain":
            return fountain_sheet(path.name, text)
        case ".otio":
            from longtake.shots.read_otio import otio_sheet  # noqa: PLC0415 - a slow import

            return otio_sheet(path.name, text)
        case _:
            return _csv_sheet(path.name, text)


def _text(path: Path) -> str:
    try:
        with path.open("rb") as file:
            raw = file.read(_MOST_BYTES + 1)
    except OSError as error:
        msg = f"cannot read the shot list {path}: {error.strerror}"
        raise ShotListError(msg) from error
    if len(raw) > _MOST_BYTES:
        msg = f"the shot list {path} has more than {_MOST_BYTES:,} bytes; split it"
        raise ShotListError(msg)
    encoding = "utf-8-sig"
    if raw[:2] in (b"\xff\xfe", b"\xfe\xff"):
        encoding = "utf-16"
    elif raw[1:2] == b"\0":
        encoding = "utf-16-le"
    elif raw[:1] == b"\0":
        encoding = "utf-16-be"
    try:
        text = raw.decode(encoding)
    except UnicodeDecodeError as error:
        row = raw[: error.start].count(b"\n") + 1
        msg = f"{path.name}, line {row}: it is not {encoding[:6]} text; save it as CSV UTF-8"
        raise ShotListError(msg) from error
    if "\0" in text:
        row = text[: text.index("\0")].count("\n") + 1
        msg = f"{path.name}, line {row}: it holds a zero byte and is no text; save it as CSV UTF-8"
        raise ShotListError(msg)
    return text


def _csv_sheet(name: str, text: str) -> Sheet:
    first, _, rest = text.partition("\n")
    told = first.strip().lower().removeprefix("sep=")
    skipped = int(first.strip().lower().startswith("sep=") and told in _SEPARATORS)
    separator = told if skipped else _separator(first)
    table = csv.reader(io.StringIO(rest if skipped else text), delimiter=separator, strict=True)
    records: list[list[str]] = []
    try:
        records.extend(table)
    except csv.Error as error:
        msg = f"{name}, row {len(records) + 1 + skipped}: {error}; check its quotes"
        raise ShotListError(msg) from error
    header = records[0] if records else []
    columns = [column_of(title, f"{name}, row {1 + skipped}") for title in header]
    _check_header(name, header, columns)
    left = [h.strip() for h, c in zip(header, columns, strict=True) if c is None and h.strip()]
    rows = []
    for number, record in enumerate(records[1:], start=2 + skipped):
        if not any(cell.strip() for cell in record):
            continue
        where = f"{name}, row {number}"
        if len(record) > len(columns) and any(cell.strip() for cell in record[len(columns) :]):
            msg = (
                f"{where}, column {len(columns) + 1}: {record[len(columns)][:40]!r} is beyond the "
                "last header; put text with a separator in quotes"
            )
            raise ShotListError(msg)
        pairs = zip(columns, record, strict=False)
        rows.append(Row(where, {column: cell for column, cell in pairs if column}))
    notes = (f"{name}: not read: {', '.join(left)}",) if left else ()
    return Sheet(rows=rows, notes=notes)


def _separator(header: str) -> str:
    """The separator that gives the most columns we know."""

    def known(separator: str) -> int:
        titles = next(csv.reader([header], delimiter=separator), [])
        aliases = {alias for group in COLUMNS.values() for alias in group}
        return sum(" ".join(title.strip().lower().split()) in aliases for title in titles)

    return max(_SEPARATORS, key=known)


def _check_header(name: str, header: list[str], columns: list[str | None]) -> None:
    for what, any_of in (
        ("name", ("name",)),
        ("prompt", ("prompt",)),
        ("duration", ("duration", "frames", "seconds")),
    ):
        if not any(column in any_of for column in columns):
            got = ", ".join(title.strip() for title in header)[:120] or "nothing"
            msg = f"{name}, row 1: there is no column {what}; its columns are {got}"
            raise ShotListError(msg)
    for number, column in enumerate(columns):
        if column and column in columns[:number]:
            msg = f"{name}, row 1: column {column} is there twice; leave one of them"
            raise ShotListError(msg)


def _json_sheet(name: str, text: str) -> Sheet:
    try:
        data = json.loads(text)
    except (ValueError, RecursionError) as error:
        msg = f"{name} is not JSON: {error}"
        raise ShotListError(msg) from error
    whole = {"shots": data} if isinstance(data, list) else data
    if not isinstance(whole, dict) or not isinstance(whole.get("shots"), list):
        msg = f'{name} must hold {{"shots": [...]}} or a list of shots'
        raise ShotListError(msg)
    for key in whole:
        if key not in ("shots", "title", "rate", "cast"):
            msg = f"{name}: unknown key {key!r}; beside shots there are title, rate and cast"
            raise ShotListError(msg)
    cast = whole.get("cast", {})
    if not isinstance(cast, dict) or not all(isinstance(said, str) for said in cast.values()):
        msg = f'{name}: cast must be names with descriptions, as {{"HERO": "a red ball"}}'
        raise ShotListError(msg)
    rows = [_json_row(f"{name}, shot {n}", shot) for n, shot in enumerate(whole["shots"], start=1)]
    title, rate = str(whole.get("title", "")), str(whole.get("rate", ""))
    return Sheet(rows=rows, title=title, rate=rate, cast=cast)


def _json_row(where: str, shot: object) -> Row:
    if not isinstance(shot, dict):
        msg = f"{where}: a shot is an object with name, duration and prompt, got {shot!r:.40}"
        raise ShotListError(msg)
    cells: dict[str, str] = {}
    for key, value in shot.items():
        column = column_of(key, where)
        if column is None:
            msg = f"{where}: unknown key {key!r}; there is {', '.join(COLUMNS)}"
            raise ShotListError(msg)
        if not isinstance(value, str | int | float) and value is not None:
            msg = f"{where}, column {column}: it wants text or a number, got {value!r:.40}"
            raise ShotListError(msg)
        cells[column] = "" if value is None else str(value)
    return Row(where, cells)
