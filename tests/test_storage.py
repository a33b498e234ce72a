"""Files are whole or absent, whatever happens while they are written."""

import errno
import os
import stat
import sys
from pathlib import Path

import pytest

from longtake import storage
from longtake.errors import OutputError
from longtake.storage import atomic_write, check_writable, output_errors


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_finished_file_has_its_name_its_content_and_ordinary_rights(tmp_path):
    with atomic_write(tmp_path / "a.txt") as temp:
        temp.write_text("whole")
        assert names(tmp_path) == [temp.name]
    (tmp_path / "plain").touch()
    assert names(tmp_path) == ["a.txt", "plain"]
    assert (tmp_path / "a.txt").read_text() == "whole"
    modes = {stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ("a.txt", "plain")}
    assert len(modes) == 1


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit])
def test_failed_write_leaves_what_was_there_before(tmp_path, error):
    (tmp_path / "a.txt").write_text("before")
    with pytest.raises(error), atomic_write(tmp_path / "a.txt") as temp:
        temp.write_text("half")
        raise error
    assert names(tmp_path) == ["a.txt"]
    assert (tmp_path / "a.txt").read_text() == "before"


def test_data_is_synced_before_the_rename_and_the_folder_after(tmp_path, monkeypatch):
    calls = []
    real_sync, real_replace = os.fsync, Path.replace
    monkeypatch.setattr(os, "fsync", lambda fd: (calls.append(kind(fd)), real_sync(fd))[1])
    monkeypatch.setattr(
        Path, "replace", lambda a, b: (calls.append("rename"), real_replace(a, b))[1]
    )
    with atomic_write(tmp_path / "a.txt") as temp:
        temp.write_text("whole")
    assert calls == ["file", "rename", "folder"]


def kind(descriptor: int) -> str:
    return "folder" if stat.S_ISDIR(os.fstat(descriptor).st_mode) else "file"


def test_failed_sync_counts_as_a_failed_write(tmp_path, monkeypatch):
    def fail(_descriptor):
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OutputError, match="Input/output error"), atomic_write(tmp_path / "a"):
        pass
    assert names(tmp_path) == []


def test_full_disk_is_told_with_the_free_space(tmp_path):
    told = pytest.raises(OutputError, match=r"no space left to write .*MiB free")
    with told, output_errors(tmp_path / "a.mp4"):
        raise OSError(errno.ENOSPC, "No space left on device")


def test_missing_folder_is_told_with_the_command_that_makes_it(tmp_path):
    with pytest.raises(OutputError, match=f"mkdir -p {tmp_path / 'x'}"):
        check_writable(tmp_path / "x" / "a.mp4")


def test_file_in_place_of_a_folder_is_told(tmp_path):
    (tmp_path / "x").touch()
    with pytest.raises(OutputError, match="is a file, not a folder"):
        check_writable(tmp_path / "x" / "a.mp4")


def test_name_too_long_is_told_before_any_work(tmp_path):
    with pytest.raises(OutputError, match="choose a shorter one"):
        check_writable(tmp_path / ("a" * 300 + ".mp4"))


@pytest.mark.skipif(sys.platform != "linux", reason="needs a folder even root cannot write")
def test_read_only_folder_is_told():
    with pytest.raises(OutputError, match=r"cannot write in the folder /sys.*choose another"):
        check_writable(Path("/sys/a.mp4"))


def test_check_leaves_nothing_behind(tmp_path):
    check_writable(tmp_path / "a.mp4")
    assert names(tmp_path) == []


def test_free_space_that_cannot_be_read_is_said_so(tmp_path):
    assert storage._free_space(tmp_path / "none") == "free space unknown"
