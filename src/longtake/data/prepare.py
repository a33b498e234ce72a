"""A folder of films becomes shards of clips; every drop is counted with its reason."""

import hashlib
import json
import re
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from longtake.config import to_dict
from longtake.data.captions import captions_for
from longtake.data.child import Child
from longtake.data.rules import PrepareConfig, reasons
from longtake.data.scores import Scores
from longtake.data.shards import Drop, ShardWriter
from longtake.errors import MediaError

_CAPTIONS = {".txt", ".json"}
_KEY = re.compile(r"[^A-Za-z0-9_-]+")


@dataclass(frozen=True, slots=True)
class Passed:
    """A film has been gone through."""

    source: str
    number: int
    total: int
    clips: tuple[dict[str, Any], ...] = ()
    """All clips of it, kept or not, with their scores and reasons; empty if done before."""


def films_in(folder: Path) -> list[Path]:
    """Every file that is no caption and not hidden, in order.

    Raises:
        MediaError: no such folder, or no films in it.
    """
    if not folder.is_dir():
        msg = f"{folder} is no folder; name one with films and their captions"
        raise MediaError(msg)
    found = sorted(
        path
        for path in folder.rglob("*")
        if path.is_file()
        and path.suffix.lower() not in _CAPTIONS
        and not any(part.startswith(".") for part in path.relative_to(folder).parts)
    )
    if not found:
        msg = f"{folder} holds no films"
        raise MediaError(msg)
    return found


def prepare(
    folder: Path, out: Path | None, config: PrepareConfig, check: Callable[[], None]
) -> Iterator[Passed]:
    """Go through the films; a run that was killed goes on after its last whole shard.

    Args:
        folder: Films, each with its captions beside it.
        out: Folder of the shards; None measures and writes nothing.
        config: How films are cut and what is kept.
        check: Called while waiting; it may raise.

    Raises:
        MediaError: no films.
        OutputError: the folder of shards cannot be written, or holds others.
        CannotHere: scenedetect is missing.
    """
    films = films_in(folder)
    child = Child(config, check)
    try:
        if out is None:
            for number, film in enumerate(films, start=1):
                source = str(film.relative_to(folder))
                clips, _ = _go_through(film, source, child, config)
                yield Passed(source, number, len(films), tuple(row for row, _ in clips))
            return
        with ShardWriter(out, "clips", to_dict(config)) as writer:
            for number, film in enumerate(films, start=1):
                source = str(film.relative_to(folder))
                rows: tuple[dict[str, Any], ...] = ()
                if source not in writer.sources:
                    rows = _store(film, source, child, config, writer)
                yield Passed(source, number, len(films), rows)
    finally:
        child.close()


def counts(rows: list[dict[str, Any]]) -> dict[str, int]:
    """How many clips were kept, and how many things were dropped for each reason."""
    return dict(Counter(row["reason"] or "kept" for row in rows).most_common())


def _store(
    film: Path, source: str, child: Child, config: PrepareConfig, writer: ShardWriter
) -> tuple[dict[str, Any], ...]:
    clips, captions = _go_through(film, source, child, config)
    name = _KEY.sub("-", film.stem)[:40].strip("-") or "film"
    mark = hashlib.sha256(source.encode("utf-8", "surrogateescape")).hexdigest()[:8]
    for number, (row, raw) in enumerate(clips):
        if row["reason"]:
            writer.drop(Drop(source=source, reason=row["reason"], detail=row["detail"]))
            continue
        said = [_with_motion(text, row, config) for text in captions]
        told = {key: row[key] for key in ("source", "start_s", "width", "height", "frames")}
        told |= {"scores": row["scores"]}
        content = json.dumps({"captions": said, **told}, ensure_ascii=False, sort_keys=True)
        writer.add(f"{name}-{mark}-{number:05d}", {"mp4": raw, "json": content.encode()}, told)
    writer.finish(source)
    return tuple(row for row, _ in clips)


def _with_motion(text: str, row: dict[str, Any], config: PrepareConfig) -> str:
    """The caption with the motion score as public models read it: a whole number."""
    if not config.motion_suffix:
        return text
    return f"{text} motion score: {round(row['scores']['motion'])}."


def _go_through(
    film: Path, source: str, child: Child, config: PrepareConfig
) -> tuple[list[tuple[dict[str, Any], bytes]], tuple[str, ...]]:
    """Rows of what the film gave, kept clips with their bytes; and its captions."""
    try:
        captions = captions_for(film)
    except MediaError as error:
        return [(_dropped(source, "no caption", str(error)), b"")], ()
    with tempfile.TemporaryDirectory(prefix="longtake-") as place:
        found = child.cut(film, Path(place))
        rows = [(_dropped(source, *drop), b"") for drop in found["drops"]]
        for clip in found["clips"]:
            why = next(reasons(Scores(**clip["scores"]), config), ("", ""))
            row = {**clip, "source": source, "reason": why[0], "detail": why[1]}
            raw = b"" if why[0] else (Path(place) / Path(clip["file"]).name).read_bytes()
            rows.append((row, raw))
    return rows, captions


def _dropped(source: str, reason: str, detail: str) -> dict[str, Any]:
    return {"source": source, "reason": reason, "detail": detail}
