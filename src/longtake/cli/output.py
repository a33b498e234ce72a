"""Where films and reports go: everything that could be in the way, found before any work."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from longtake.config import TAKE_SUFFIX
from longtake.errors import OutputError
from longtake.storage import check_writable, output_errors


@dataclass(frozen=True, slots=True)
class Output:
    """The files one film makes."""

    film: Path
    sheet: Path | None
    """Contact sheet; None if none is wanted."""

    @property
    def folder(self) -> Path:
        """Folder of the take while it is made, and after if it is kept."""
        return self.film.with_suffix(TAKE_SUFFIX)


def check_output(film: Path, *, sheet: bool, overwrite: bool) -> Output:
    """Prove that the film and its contact sheet can be written.

    Args:
        film: Where the mp4 goes.
        sheet: Whether a PNG of the same name goes beside it.
        overwrite: Whether existing files may be replaced.

    Raises:
        OutputError: no mp4, a folder, missing, not writable, or there already.
    """
    with output_errors(film):
        if film.is_dir():
            msg = f"the output {film} is a folder; try {film / 'film.mp4'}"
            raise OutputError(msg)
    if film.suffix.lower() != ".mp4":
        msg = f"the output must end in .mp4, got {film.name}; try {film.with_suffix('.mp4')}"
        raise OutputError(msg)
    check_writable(film)
    output = Output(film, film.with_suffix(".png") if sheet else None)
    if os.path.lexists(output.folder) and not (overwrite and output.folder.is_dir()):
        msg = (
            f"{output.folder} exists already, a take that is unfinished or was kept; longtake "
            f"resume {output.folder} goes on with it, or add --overwrite, or choose another name"
        )
        raise OutputError(msg)
    _check_free(film, "", overwrite=overwrite)
    if output.sheet is not None:
        _check_free(output.sheet, ", the contact sheet,", overwrite=overwrite)
    return output


def _check_free(path: Path, what: str, *, overwrite: bool) -> None:
    if path.is_dir():
        msg = f"{path}{what} is a folder; choose another name with -o"
        raise OutputError(msg)
    # lexists: a link that leads nowhere is still someone's.
    if not overwrite and os.path.lexists(path):
        fix = ", add --no-sheet" if what else ""
        msg = f"{path}{what} exists already; add --overwrite{fix} or choose another name with -o"
        raise OutputError(msg)


def check_report(
    folder: Path, names: Sequence[str], also: Path | None = None, *, overwrite: bool
) -> None:
    """Make the folder of a report, and prove that its files can be written.

    Args:
        folder: Of the report.
        names: Of its files.
        also: A file elsewhere that the report goes to as well.
        overwrite: Whether existing files may be replaced.

    Raises:
        OutputError: a file where the folder should be, older files, or no right to write.
    """
    with output_errors(folder):
        if folder.exists() and not folder.is_dir():
            msg = f"the output {folder} is a file; choose another folder with -o"
            raise OutputError(msg)
        folder.mkdir(parents=True, exist_ok=True)
    check_files(
        [*(folder / name for name in names), *([also] if also else [])], overwrite=overwrite
    )


def check_files(paths: Sequence[Path], *, overwrite: bool) -> None:
    """Prove that files of a report can be written.

    Raises:
        OutputError: a folder, there already, or no right to write.
    """
    for path in paths:
        if path.is_dir():
            msg = f"{path} is a folder; choose another name"
            raise OutputError(msg)
        if not overwrite and os.path.lexists(path):
            msg = f"{path} exists already; add --overwrite or choose another name"
            raise OutputError(msg)
        check_writable(path)
