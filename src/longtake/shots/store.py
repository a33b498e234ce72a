"""Takes of shots on disk: numbered, whole or absent, never overwritten."""

import fcntl
import hashlib
import json
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from longtake.config import from_dict, to_dict
from longtake.errors import OutputError, SettingError, StateError
from longtake.shots.plan import TakePlan
from longtake.storage import TEMP_PREFIX, output_errors

FORMAT = 1
"""Layout of a take's folder; newer releases read older ones."""
SOURCE, STATE, RECORD = "source.mkv", "state.safetensors", "take.json"
PARTS = ("head.mp4", "body.mp4", "tail.mp4")
"""A shot's file in three pieces: the cut is joined from bodies, files from all three."""
_BUSY = ".busy"
"""File that a run holds while it is at work."""
_MOST_BYTES = 4 * 2**20


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """What one take of a shot is made from."""

    name: str
    """Of the take, as SC010_SH0040_v003."""
    source_key: str
    """Digest of everything that decides the model's frames."""
    cut_key: str
    """Digest of everything that decides the shot's file."""
    source: str
    """Name of the take whose folder holds the model's frames; its own unless only cut anew."""
    take: TakePlan
    """What the model was asked for."""
    rate: str
    """Frame rate of the file."""
    retiming: str
    """How the model's rate became the file's."""
    frames: int
    """Frames of the shot itself."""
    tail: int
    """Frames after it."""
    model: str
    """Name of the model."""
    model_hash: str
    """Content hash of its weights."""
    precision: str
    """Its arithmetic, fp32 or bf16."""
    version: str
    """Release of Longtake."""
    picture: str = ""
    """Checksum of the picture it begins with."""
    past: str = ""
    """Source key of the take it goes on from."""
    notices: tuple[str, ...] = ()
    """What the model said of the prompt."""

    @property
    def number(self) -> int:
        """Which take of its shot it is."""
        return int(self.name.rpartition("_v")[2])


def digest(**told: object) -> str:
    """A key from plain JSON values."""
    return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()


class Store:
    """The folder of a scene."""

    def __init__(self, folder: Path) -> None:
        """Name the folder; nothing is read or written before it is asked for."""
        self.folder = folder
        self.takes, self.files = folder / "takes", folder / "shots"

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Make the folders, clear away what a killed run left, and keep other runs out.

        Raises:
            OutputError: they cannot be made, or another run is at work.
        """
        for folder in (self.takes, self.files):
            with output_errors(folder):
                folder.mkdir(parents=True, exist_ok=True)
        path = self.takes / _BUSY
        with output_errors(path):
            descriptor = os.open(path, os.O_CREAT | os.O_RDWR, 0o666)
        try:
            _claim(descriptor, self.folder)
            for folder in (self.takes, self.files, self.folder):
                for left in folder.glob(f"{TEMP_PREFIX}*"):
                    shutil.rmtree(left) if left.is_dir() else left.unlink()
            yield
        finally:
            os.close(descriptor)

    def records(self, code: str) -> list[Record]:
        """Takes of a shot, newest first.

        Raises:
            StateError: one that is damaged or of a newer release.
        """
        pattern = re.compile(re.escape(code) + r"_v(\d{3,})")
        found = [path for path in self._folders() if pattern.fullmatch(path.name)]
        return sorted((self._read(path) for path in found), key=lambda r: -r.number)

    def next_name(self, code: str) -> str:
        """A name that no take of the shot has."""
        return f"{code}_v{max((r.number for r in self.records(code)), default=0) + 1:03}"

    def source(self, record: Record) -> Path:
        """Where the model's frames of a take lie."""
        return self.takes / record.source / SOURCE

    def state(self, record: Record) -> Path:
        """Where the state after a take lies."""
        return self.takes / record.source / STATE

    def parts(self, record: Record) -> list[Path]:
        """The pieces of a take's file that there are, in order."""
        paths = [self.takes / record.name / part for part in PARTS]
        return [path for path in paths if path.exists()]

    def body(self, record: Record) -> Path:
        """The shot itself, without handles."""
        return self.takes / record.name / PARTS[1]

    def file(self, record: Record) -> Path:
        """The shot's file with handles, as an editor takes it."""
        return self.files / f"{record.name}.mp4"

    @contextmanager
    def new(self, name: str) -> Iterator[Path]:
        """A folder to fill; it becomes the take of that name when the block ends without error."""
        temp, final = self.takes / f"{TEMP_PREFIX}{name}", self.takes / name
        with output_errors(temp):
            temp.mkdir()
        try:
            yield temp
            with output_errors(final):
                temp.rename(final)
        except BaseException:
            shutil.rmtree(temp, ignore_errors=True)
            raise

    def write(self, folder: Path, record: Record) -> None:
        """Put a record into the folder of a new take."""
        path = folder / RECORD
        text = json.dumps({"format": FORMAT, **to_dict(record)}, indent=1, ensure_ascii=False)
        with output_errors(path):
            path.write_text(text + "\n", "utf-8")

    def _folders(self) -> list[Path]:
        return [path for path in self.takes.glob("*_v*") if path.is_dir()]

    def _read(self, folder: Path) -> Record:
        path = folder / RECORD
        try:
            data = json.loads(path.read_bytes()[:_MOST_BYTES])
            written = data.pop("format")
            if written > FORMAT:
                msg = f"{path} is of a newer release; this one reads format {FORMAT}"
                raise StateError(msg)
            record = from_dict(Record, data)
        except (OSError, ValueError, TypeError, AttributeError, KeyError, SettingError) as error:
            msg = f"{path} is damaged: {error}; delete {folder} to make the take again"
            raise StateError(msg) from error
        if record.name != folder.name or Path(record.source).name != record.source:
            msg = f"{path} is not the record of {folder.name}; delete the folder"
            raise StateError(msg)
        return record


def _claim(descriptor: int, folder: Path) -> None:
    try:
        # The system lets go of it when the process ends, however it ends.
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        msg = f"another longtake is at work in {folder}; wait for it or choose another folder"
        raise OutputError(msg) from error
