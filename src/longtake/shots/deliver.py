"""What an editor gets: master, timeline, edit list, sheets and record, numbered and linked."""

import hashlib
import json
import os
import re
import secrets
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from longtake.errors import OutputError
from longtake.media.guide import add_guide
from longtake.media.manifest import TAG
from longtake.media.segments import join_segments
from longtake.shots.manifest import MOST_INSIDE, SceneManifest
from longtake.shots.render import Made
from longtake.shots.sheets import write_sheets
from longtake.shots.shot import START
from longtake.shots.stamp import burn_in
from longtake.shots.store import Store
from longtake.shots.timecode import from_timecode, to_timecode
from longtake.shots.timeline import clips_of, edl_of, otio_of
from longtake.storage import TEMP_PREFIX, atomic_write, output_errors


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    """How a cut is handed over."""

    slate: bool = True
    """Whether a copy with slate and burn-in goes with it."""
    guide: Path | None = None
    """Sound under the master and the copy."""
    metadata: bool = True
    """Whether the mp4 carries what it was made from."""


@dataclass(frozen=True, slots=True)
class Delivered:
    """The files of a cut."""

    number: int
    files: tuple[Path, ...]
    fresh: bool
    """Whether they were written now; the same cut is not written twice."""
    notes: tuple[str, ...] = ()


def check_folder(folder: Path) -> None:
    """Prove that nothing of someone else's lies where the newest cut will be linked.

    Raises:
        OutputError: a file of such a name.
    """
    if folder.is_file():
        msg = f"{folder} is a file; the scene needs a folder"
        raise OutputError(msg)
    ours = any(folder.glob(f"{_stem(folder)}_v*.json"))
    for name in _names(_stem(folder), slate=True):
        if not ours and os.path.lexists(folder / name):
            msg = f"{folder / name} is there and not from longtake; choose another folder with -o"
            raise OutputError(msg)


def deliver(manifest: SceneManifest, cut: Sequence[Made], store: Store, how: Delivery) -> Delivered:
    """Write the files of a cut under the next number, and link the plain names to them.

    Raises:
        OutputError: the folder is missing or not writable, or the disk is full.
        MediaError: the guide track cannot be read.
    """
    with store.alone():
        return _deliver(manifest, cut, store, how)


def _deliver(
    manifest: SceneManifest, cut: Sequence[Made], store: Store, how: Delivery
) -> Delivered:
    folder, stem = store.folder, _stem(store.folder)
    key = _key(manifest, store, how)
    number = _newest(folder, stem)
    done = folder / f"{stem}_v{number:03}.json"
    fresh = not number or json.loads(done.read_bytes()).get("key") != key
    notes: tuple[str, ...] = ()
    if fresh:
        number += 1
        notes = _write(manifest, cut, store, how, f"{stem}_v{number:03}", key)
    names = _names(stem, slate=how.slate)
    numbered = _names(f"{stem}_v{number:03}", slate=how.slate)
    for name, target in zip(names, numbered, strict=True):
        _link(folder / target, folder / name)
    return Delivered(number, tuple(folder / name for name in names), fresh, notes)


def tags_of(manifest: SceneManifest, folder: Path, how: Delivery) -> dict[str, str]:
    """What the master carries."""
    rate = manifest.scene.rate
    tags = {"title": manifest.scene.title}
    tags["timecode"] = to_timecode(from_timecode(START, rate), rate)
    record = manifest.to_json(folder)
    return {**tags, TAG: record} if how.metadata and len(record) <= MOST_INSIDE else tags


def _master(
    manifest: SceneManifest, cut: Sequence[Made], store: Store, path: Path, how: Delivery
) -> tuple[str, ...]:
    """Join the shots without encoding anything again; tell how the guide track fits."""
    rate, tags = manifest.scene.rate, tags_of(manifest, store.folder, how)
    bodies = [store.body(made.record) for made in cut]
    join_segments(bodies, path, fps=rate.fps, metadata=tags)
    if how.guide is None:
        return ()
    longer = add_guide(path, how.guide, path, fps=rate.fps, tags=tags)
    if abs(longer) * rate.fps < 1:
        return ()
    word = "longer, and was cut" if longer > 0 else "shorter; the rest is silent"
    return (f"the guide track is {abs(longer):.2f} s {word}",)


def _write(
    manifest: SceneManifest, cut: Sequence[Made], store: Store, how: Delivery, name: str, key: str
) -> tuple[str, ...]:
    folder, scene = store.folder, manifest.scene
    master = folder / f"{name}.mp4"
    notes = _master(manifest, cut, store, master, how)
    if how.slate:
        copy = folder / f"{name}_slate.mp4"
        burn_in(scene, cut, master, copy, guide=how.guide)
    write_sheets(scene, cut, store, folder / f"{name}.png", folder / f"{name}.pdf")
    clips = clips_of(scene, cut, store)
    texts = {
        ".otio": otio_of(scene, clips, folder),
        ".edl": edl_of(scene, clips),
        # Last: what has a record is whole.
        ".json": json.dumps({**json.loads(manifest.to_json(folder)), "key": key}, indent=1) + "\n",
    }
    for ending, text in texts.items():
        path = folder / f"{name}{ending}"
        with atomic_write(path) as temp, output_errors(path):
            temp.write_text(text, "utf-8")
    return notes


def _key(manifest: SceneManifest, store: Store, how: Delivery) -> str:
    sound = how.guide.read_bytes() if how.guide else b""
    text = f"{manifest.to_json(store.folder)} {how.slate} {how.metadata}"
    return hashlib.sha256(text.encode() + hashlib.sha256(sound).digest()).hexdigest()


def _newest(folder: Path, stem: str) -> int:
    pattern = re.compile(re.escape(stem) + r"_v(\d{3,})\.json")
    found = (pattern.fullmatch(path.name) for path in folder.glob("*.json"))
    return max((int(match[1]) for match in found if match), default=0)


def _stem(folder: Path) -> str:
    return folder.absolute().name or "scene"


def _names(stem: str, *, slate: bool) -> list[str]:
    names = [f"{stem}{ending}" for ending in (".mp4", ".otio", ".edl", ".png", ".pdf", ".json")]
    return [*names, f"{stem}_slate.mp4"] if slate else names


def _link(target: Path, name: Path) -> None:
    """Let a name mean a file, in one step; where the disk knows no links, by a copy."""
    temp = name.with_name(f"{TEMP_PREFIX}{secrets.token_hex(8)}")
    with output_errors(name):
        try:
            temp.hardlink_to(target)
        except OSError:
            shutil.copyfile(target, temp)
        temp.replace(name)
        # Of two names of one file a rename leaves both.
        temp.unlink(missing_ok=True)
