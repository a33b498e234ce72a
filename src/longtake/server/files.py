"""Where a job's files lie: the server chooses every path, and follows no link."""

import re
import shutil
import stat
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from longtake.storage import TEMP_PREFIX, TEMP_SUFFIX, output_errors

JOBS = "jobs"
"""Folder of the jobs' folders."""
ID = re.compile(r"video_[0-9a-f]{32}")
"""What a job's id looks like; nothing else becomes part of a path."""
_FILM = re.compile(r"video-(\d+)\.mp4")


@dataclass(frozen=True, slots=True)
class JobFiles:
    """The folder of one job."""

    data: Path
    """The server's data folder."""
    job: str

    def __post_init__(self) -> None:
        """Prove that the id leads nowhere else; it was checked where it came in."""
        assert ID.fullmatch(self.job), self.job

    @property
    def folder(self) -> Path:
        """Holds everything of the job."""
        return self.data / JOBS / self.job

    @property
    def take(self) -> Path:
        """Folder of the take: pieces of film and states."""
        return self.folder / "take.longtake"

    @property
    def picture(self) -> Path:
        """What the film begins with, decoded, checked and of the film's size."""
        return self.folder / "picture.png"

    def path(self, name: str) -> Path:
        """A file of the job by a name of the server's."""
        assert "/" not in name, name
        return self.folder / name

    def beside(self, job: str) -> "JobFiles":
        """The folder of another job."""
        return JobFiles(self.data, job)

    def sweep(self, attempt: int) -> None:
        """Make the folder, and clear away what older attempts left unfinished.

        Raises:
            OutputError: it cannot be made.
        """
        with output_errors(self.folder / "video.mp4"):
            self.folder.mkdir(parents=True, exist_ok=True)
            for leftover in self.folder.glob(f"{TEMP_PREFIX}*{TEMP_SUFFIX}"):
                leftover.unlink(missing_ok=True)
            for path in self.folder.glob("video-*.mp4"):
                if (match := _FILM.fullmatch(path.name)) and int(match[1]) < attempt:
                    path.unlink(missing_ok=True)

    def own(self, path: Path) -> bool:
        """Whether a file is the job's own: a plain file that no link on the way leads to."""
        with suppress(OSError):
            inside = path.parent.resolve().is_relative_to(self.folder.resolve())
            real = not self.folder.is_symlink() and not path.parent.is_symlink()
            return inside and real and stat.S_ISREG(path.lstat().st_mode)
        return False

    def remove(self) -> None:
        """Delete everything of the job; a file that is being sent is sent to its end."""
        if self.folder.is_symlink():
            self.folder.unlink()
        shutil.rmtree(self.folder, ignore_errors=True)


def strays(data: Path, known: set[str]) -> list[JobFiles]:
    """Folders of jobs that the store does not know: uploads whose job never came to be."""
    names = (path.name for path in (data / JOBS).glob("video_*"))
    return [JobFiles(data, name) for name in names if ID.fullmatch(name) and name not in known]
