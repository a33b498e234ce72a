"""A new take that begins as another one did, without making that again."""

import os
import shutil
from pathlib import Path

from longtake.rollout.folder import HEAD, PICTURE, TakeFolder, segment_name
from longtake.rollout.manifest import TakeManifest
from longtake.rollout.snapshot import Identity
from longtake.storage import output_errors


def fork(
    old: TakeFolder,
    new: TakeFolder,
    manifest: TakeManifest,
    chunk: int,
    identity: Identity,
    *,
    allow_different: bool = False,
) -> int:
    """Give the new folder what the old one has up to a chunk, and tell how far that is.

    Files are linked where the disk can, so that they take no room twice; none is ever changed.

    Args:
        old: Folder of the take that stands.
        new: Empty folder of the take to be.
        manifest: Of the old take.
        chunk: Where the new one turns off.
        identity: Of the model that goes on.
        allow_different: Take states of other arithmetic too.

    Raises:
        StateError: of other weights or arithmetic.
        OutputError: the new folder cannot be filled.
    """
    names = [segment_name(n) for n in range(manifest.begins, min(chunk, manifest.chunks))]
    segments, _ = old.whole(names)
    most = manifest.begins + len(segments)
    found, _ = old.newest(identity, manifest, most, allow_different=allow_different)
    at = found.chunk if found is not None else 0
    files = segments[: at - manifest.begins] if found is not None else []
    files += [old.state(at)] if found is not None else []
    files += [old.pieces()[HEAD]] if HEAD in old.pieces() else []
    files += [old.path / PICTURE] if manifest.picture else []
    for path in files:
        _link(path, new.path / path.name)
    return at


def _link(source: Path, target: Path) -> None:
    with output_errors(target):
        try:
            os.link(source, target)
        except OSError:
            shutil.copyfile(source, target)
