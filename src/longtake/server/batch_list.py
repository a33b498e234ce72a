"""A batch as its list says it: one film a line, every line checked before anything is made."""

import csv
import hashlib
import io
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from longtake.config import SampleConfig, to_dict
from longtake.errors import BatchError, LongtakeError
from longtake.server.bodies import read_json, read_wanted
from longtake.server.jobs import FilmRequest
from longtake.server.refusals import Refused
from longtake.server.studio import Studio

NAME = "name"
"""Field of a line that names its film; the others are those of a request."""
MOST_LINES = 100_000
_MOST_BYTES = 64 * 2**20
_PLAIN = re.compile(r"[A-Za-z0-9][A-Za-z0-9 ._-]{0,99}")


@dataclass(frozen=True, slots=True)
class Entry:
    """A film of a batch."""

    line: int
    """Its line in the list, from 1."""
    name: str
    """Of its film, without .mp4; the line's number, in four digits, unless the line has another."""
    request: FilmRequest

    def job(self, model_hash: str) -> str:
        """Id of its job: the same name, request and model have the same one in every run."""
        # What says nothing is left out: a release that knows more fields finds the same job.
        request = {key: value for key, value in to_dict(self.request).items() if value}
        told = json.dumps([self.name, request, model_hash], sort_keys=True)
        return f"video_{hashlib.sha256(told.encode()).hexdigest()[:32]}"


def read_list(path: Path, studio: Studio, defaults: SampleConfig) -> list[Entry]:
    """Read a list whole; nothing in it stays unchecked.

    Args:
        path: `.csv` with a head of field names; JSON objects, one a line; or a prompt a line.
        studio: Knows what the model can make.
        defaults: Settings where a line says nothing.

    Raises:
        BatchError: an empty list, or the first line that cannot be made, by its number.
    """
    entries = []
    for line, read in _rows(_text(path), path):
        if len(entries) == MOST_LINES:
            msg = f"{path.name} has more than {MOST_LINES:,} films; split it"
            raise BatchError(msg)
        try:
            entries.append(_entry(line, dict(read), studio, defaults))
        except Refused as error:
            what = f"{error.param}: " if error.param else ""
            msg = f"line {line} of {path.name}: {what}{error.message}"
            raise BatchError(msg) from None
        except LongtakeError as error:
            msg = f"line {line} of {path.name}: {error}"
            raise BatchError(msg) from error
    if not entries:
        msg = f'{path.name} is empty; write a prompt in each line, or {{"prompt": "a red ball"}}'
        raise BatchError(msg)
    _check_names(entries, path)
    return entries


def _text(path: Path) -> str:
    try:
        with path.open("rb") as file:
            raw = file.read(_MOST_BYTES + 1)
    except OSError as error:
        msg = f"cannot read the list {path}: {error.strerror}"
        raise BatchError(msg) from error
    if len(raw) > _MOST_BYTES:
        msg = f"{path.name} is larger than {_MOST_BYTES >> 20} MiB; split it"
        raise BatchError(msg)
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw[: error.start].count(b"\n") + 1
        msg = f"line {line} of {path.name} is not UTF-8; save the list as UTF-8"
        raise BatchError(msg) from None


def _rows(text: str, path: Path) -> Iterator[tuple[int, Mapping[str, Any]]]:
    """The fields of each film with its line; only a newline ends one."""
    if path.suffix.lower() == ".csv":
        yield from _cells(text, path)
        return
    is_json = path.suffix.lower() == ".jsonl" or text.lstrip().startswith("{")
    for line, written in enumerate(text.split("\n"), 1):
        if not written.strip():
            continue
        if not is_json:
            yield line, {"prompt": written.strip()}
            continue
        try:
            found = read_json(written.encode("utf-8", "surrogatepass"))
        except Refused as error:
            msg = f"line {line} of {path.name} is no JSON: {error.message.rpartition(': ')[2]}"
            raise BatchError(msg) from None
        if not isinstance(found, dict):
            msg = f'line {line} of {path.name} is no JSON object, as {{"prompt": "a red ball"}}'
            raise BatchError(msg)
        yield line, found


def _cells(text: str, path: Path) -> Iterator[tuple[int, Mapping[str, Any]]]:
    """The rows of a table; empty cells say nothing."""
    reader = csv.DictReader(io.StringIO(text, newline=""), strict=True)
    try:
        names = [name.strip() for name in reader.fieldnames or ()]
        if len(set(names)) < len(names):
            msg = f"the head of {path.name} names a field twice: {', '.join(names)}"
            raise BatchError(msg)
        for row in reader:
            if None in row or None in row.values():
                msg = (
                    f"line {reader.line_num} of {path.name} has not {len(names)} cells as the head "
                    "has; put a prompt with commas in quotes"
                )
                raise BatchError(msg)
            cells = zip(names, row.values(), strict=True)
            found = {name: _cell(name, text.strip()) for name, text in cells if text.strip()}
            if found:
                yield reader.line_num, found
    except csv.Error as error:
        msg = f"line {reader.line_num} of {path.name} is no CSV: {error}"
        raise BatchError(msg) from error


def _cell(name: str, text: str) -> Any:  # noqa: ANN401 - JSON
    """A cell as JSON would have it: a number where it is one, else a text."""
    if name in (NAME, "prompt"):
        return text
    try:
        return read_json(text.encode("utf-8", "surrogatepass"))
    except Refused:
        return text


def _entry(line: int, data: dict[str, Any], studio: Studio, defaults: SampleConfig) -> Entry:
    name = data.pop(NAME, f"{line:04}")
    if not isinstance(name, str) or not _PLAIN.fullmatch(name) or name.endswith((".", " ")):
        text = f"a film's name has letters, digits, blanks, . _ and -, at most 100, got {name!r}"
        raise Refused(422, "invalid_setting", text, param=NAME)
    wanted = read_wanted(data, defaults)
    if wanted.picture is not None:
        text = "a film of a batch begins with no picture; use longtake generate --image"
        raise Refused(422, "invalid_setting", text, param="input_reference")
    return Entry(line, name.removesuffix(".mp4"), studio.request(wanted))


def _check_names(entries: list[Entry], path: Path) -> None:
    """Refuse two films of one name; also where only upper and lower case differ, as on a Mac."""
    seen: dict[str, Entry] = {}
    for entry in entries:
        other = seen.setdefault(entry.name.casefold(), entry)
        if other is not entry:
            msg = (
                f"lines {other.line} and {entry.line} of {path.name} both make {entry.name}.mp4; "
                f'give one of them another "{NAME}"'
            )
            raise BatchError(msg)
