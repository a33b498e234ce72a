"""Captions from the files beside a film: `film.txt`, or `film.json` with a caption or several."""

import json
from pathlib import Path
from typing import Any

from longtake.config import MAX_PROMPT
from longtake.errors import MediaError

_MOST_BYTES = 2**20


def captions_for(film: Path) -> tuple[str, ...]:
    """The captions of a film, each once, in order.

    A .txt is one caption, or several with an empty line between them. A .json is an object with
    `caption` (a text) or `captions` (a list of texts).

    Raises:
        MediaError: no caption, or one that cannot be read.
    """
    for ending, read in ((".json", _from_json), (".txt", _from_text)):
        path = film.with_suffix(ending)
        if path.is_file():
            texts = [" ".join(text.split()) for text in read(path, _text(path))]
            found = tuple(dict.fromkeys(text for text in texts if text))
            if not found:
                msg = f"{path.name} holds no caption"
                raise MediaError(msg)
            if (longest := max(map(len, found))) > MAX_PROMPT:
                msg = f"{path.name} has a caption of {longest:,} characters, over {MAX_PROMPT:,}"
                raise MediaError(msg)
            return found
    msg = f"no {film.stem}.txt and no {film.stem}.json beside it"
    raise MediaError(msg)


def _text(path: Path) -> str:
    try:
        raw = path.read_bytes()[: _MOST_BYTES + 1]
    except OSError as error:
        msg = f"cannot read {path.name}: {error.strerror}"
        raise MediaError(msg) from error
    if len(raw) > _MOST_BYTES:
        msg = f"{path.name} has more than {_MOST_BYTES:,} bytes; a caption is a few lines"
        raise MediaError(msg)
    # A byte order mark tells UTF-16; without one, other encodings could only be guessed.
    encoding = "utf-16" if raw[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig"
    try:
        text = raw.decode(encoding)
    except UnicodeDecodeError as error:
        msg = f"{path.name} is neither UTF-8 nor marked UTF-16; save it as UTF-8"
        raise MediaError(msg) from error
    if "\0" in text:
        msg = f"{path.name} is no text; save it as UTF-8"
        raise MediaError(msg)
    return text


def _from_text(_path: Path, text: str) -> list[str]:
    lines = text.replace("\r\n", "\n").replace("\r", "\n")
    return lines.split("\n\n")


def _from_json(path: Path, text: str) -> list[str]:
    try:
        told: Any = json.loads(text)
    except (ValueError, RecursionError) as error:
        msg = f"{path.name} is no JSON: {error}"
        raise MediaError(msg) from error
    found = told.get("captions", told.get("caption")) if isinstance(told, dict) else None
    listed = [found] if isinstance(found, str) else found
    if not isinstance(listed, list) or not all(isinstance(one, str) for one in listed):
        msg = f"{path.name} has no text under 'caption' and no texts under 'captions'"
        raise MediaError(msg)
    return listed
