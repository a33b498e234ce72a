"""Files that are whole or absent: temp file, fsync, rename."""

import errno
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from longtake.errors import OutputError

TEMP_PREFIX = ".longtake-"
"""How the name of every unfinished file begins; a leftover may be deleted."""
TEMP_SUFFIX = ".part"
_NO_SPACE = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_READ_ONLY = {errno.EACCES, errno.EPERM, errno.EROFS}


@contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """Yield a temp file to fill; it takes the final name when the block ends without error.

    The temp file lies in the same folder, so that the rename is one step. File and folder are
    synced to disk around it. On any exception, Ctrl-C included, the temp file is removed and
    whatever stood under the final name before still stands.

    Args:
        path: The final name.

    Raises:
        OutputError: the folder is missing or not writable, or the disk is full.
    """
    with output_errors(path):
        temp = _create_beside(path)
    try:
        yield temp
        rename(temp, path)
    except BaseException:
        with suppress(OSError):
            temp.unlink()
        raise


def rename(temp: Path, path: Path) -> None:
    """Give a file its final name in one step, synced to disk before and after.

    Raises:
        OutputError: the disk is full or fails.
    """
    with output_errors(path):
        sync(temp)
        temp.replace(path)
        sync(path.parent)


def check_writable(path: Path) -> None:
    """Prove that a file of this name could be written, by writing an empty one beside it.

    Raises:
        OutputError: the folder is missing or not writable, or the name is too long.
    """
    with output_errors(path):
        _create_beside(path).unlink()
        # A name the file system refuses shows here, not at the rename after an hour of work.
        with suppress(FileNotFoundError):
            path.lstat()


@contextmanager
def output_errors(path: Path) -> Iterator[None]:
    """Tell a failure to write this file as one line that names the fix.

    Raises:
        OutputError: in place of an OSError.
    """
    try:
        yield
    except OSError as error:
        raise OutputError(_explain(error, path)) from error


def _create_beside(path: Path) -> Path:
    # Not tempfile: it makes files that only their owner may read.
    temp = path.parent / f"{TEMP_PREFIX}{secrets.token_hex(8)}{TEMP_SUFFIX}"
    os.close(os.open(temp, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
    return temp


def sync(path: Path) -> None:
    """Bring a file, or what a folder lists, to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _explain(error: OSError, path: Path) -> str:
    folder = path.parent
    if error.errno in _NO_SPACE:
        return (
            f"no space left to write {path} ({_free_space(folder)}); "
            "free some or choose another folder"
        )
    if not folder.exists():
        return f"the folder {folder} does not exist; make it with: mkdir -p {folder}"
    if not folder.is_dir():
        return f"{folder} is a file, not a folder; choose another folder for {path.name}"
    if error.errno in _READ_ONLY:
        return f"cannot write in the folder {folder}: {error.strerror}; choose another folder"
    if error.errno == errno.ENAMETOOLONG:
        return f"the name {path.name[:40]}... has {len(path.name)} characters; choose a shorter one"
    return f"cannot write {path}: {error.strerror or error}"


def _free_space(folder: Path) -> str:
    try:
        free = shutil.disk_usage(folder).free
    except OSError:
        return "free space unknown"
    return f"{free / 2**20:.1f} MiB free"
