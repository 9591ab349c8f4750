"""Files where a system lacks what Linux has: locks by msvcrt, no modes, no folders to sync, open files that stay."""

from __future__ import annotations

import errno
import os
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from linfusion_cli import platform_files
from linfusion_cli.errors import OutputError
from linfusion_cli.files import create_locked, write_atomically
from linfusion_cli.output.atomic_file import AtomicFile, remove_temporary_files
from linfusion_cli.output.file_lock import Lock


class Msvcrt:
    """Locks as Windows has them: of a byte, of a descriptor, refused with PermissionError."""

    LK_NBLCK = 2

    def __init__(self) -> None:
        self.locked: dict[tuple[int, int], int] = {}

    def locking(self, descriptor: int, mode: int, count: int) -> None:
        assert (mode, count) == (self.LK_NBLCK, 1)
        key = (os.fstat(descriptor).st_ino, os.lseek(descriptor, 0, os.SEEK_CUR))
        if self.locked.setdefault(key, descriptor) != descriptor:
            raise PermissionError(errno.EACCES, "Permission denied")


@pytest.fixture
def windows(monkeypatch: pytest.MonkeyPatch) -> Msvcrt:
    """This system with the locks and the rules of Windows."""
    msvcrt = Msvcrt()
    monkeypatch.setattr(platform_files, "_FCNTL", None)
    monkeypatch.setattr(platform_files, "_MSVCRT", msvcrt)
    monkeypatch.setattr(platform_files, "OPEN_FILES_MOVE", False)
    monkeypatch.setattr(platform_files, "FOLDER", 0)
    for name in ("statvfs", "uname", "fchmod", "pread"):
        monkeypatch.delattr(os, name)
    usage = SimpleNamespace(free=10**12)
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: usage)
    for name in ("replace", "rename", "unlink", "remove"):
        monkeypatch.setattr(os, name, only_closed(getattr(os, name)))
    return msvcrt


def only_closed(call: Any) -> Any:
    """A call that refuses a file which this process has open, as Windows does."""

    def checked(path: Any, *more: Any, **options: Any) -> Any:
        if os.path.lexists(path) and os.lstat(path).st_ino in open_inodes():
            raise PermissionError(errno.EACCES, "The process cannot access the file", str(path))
        return call(path, *more, **options)

    return checked


def open_inodes() -> set[int]:
    found = set()
    for name in os.listdir("/proc/self/fd"):
        try:
            found.add(os.stat(f"/proc/self/fd/{name}").st_ino)
        except OSError:
            continue
    return found


@pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="asks Linux for its open files")
class TestAsOnWindows:
    def test_small_files_are_replaced_whole(self, tmp_path: Path, windows: Msvcrt) -> None:
        for text in ("one", "two"):
            write_atomically(tmp_path / "x", text)
        assert (tmp_path / "x").read_text() == "two"
        assert os.listdir(tmp_path) == ["x"]

    @pytest.mark.parametrize("overwrite", [False, True])
    def test_large_files_get_their_name_whole(
        self,
        tmp_path: Path,
        windows: Msvcrt,
        overwrite: bool,
    ) -> None:
        if overwrite:
            (tmp_path / "x").write_text("old")
        with AtomicFile(tmp_path / "x", 100, overwrite=overwrite) as file:
            file.write(b"new")
            file.commit()
        assert (tmp_path / "x").read_bytes() == b"new"
        assert os.listdir(tmp_path) == ["x"]

    def test_an_interrupted_file_leaves_nothing(self, tmp_path: Path, windows: Msvcrt) -> None:
        with AtomicFile(tmp_path / "x", 100) as file:
            file.write(b"half")
        assert os.listdir(tmp_path) == []

    def test_a_file_that_came_meanwhile_is_not_replaced(self, tmp_path: Path, windows: Msvcrt) -> None:
        with AtomicFile(tmp_path / "x") as file:
            (tmp_path / "x").write_text("theirs")
            with pytest.raises(OutputError, match="already exists"):
                file.commit()
        assert (tmp_path / "x").read_text() == "theirs"
        assert os.listdir(tmp_path) == ["x"]

    def test_a_lock_is_held_by_one_and_goes(self, tmp_path: Path, windows: Msvcrt) -> None:
        with Lock(tmp_path / "lock", "this", lease=False) as lock:
            assert lock.held()
            descriptor = os.open(tmp_path / "lock", os.O_RDWR)
            with pytest.raises(BlockingIOError):
                platform_files.lock(descriptor)
            os.close(descriptor)
        assert os.listdir(tmp_path) == []
        assert {position for _, position in windows.locked} == {platform_files.LOCKED_BYTE}

    def test_the_leftover_of_a_dead_process_is_removed(self, tmp_path: Path, windows: Msvcrt) -> None:
        temporary, descriptor = create_locked(tmp_path / "x")
        os.close(descriptor)
        windows.locked.clear()
        assert remove_temporary_files(tmp_path) == [temporary]
        assert os.listdir(tmp_path) == []

    def test_what_the_system_lacks_has_a_stand_in(self, tmp_path: Path, windows: Msvcrt) -> None:
        assert platform_files.host_name()
        assert platform_files.space_in(tmp_path) == (10**12, 255)
        platform_files.sync_folder(tmp_path / "nowhere")
        (tmp_path / "x").write_bytes(b"0123456789")
        descriptor = os.open(tmp_path / "x", os.O_RDONLY)
        platform_files.set_mode(descriptor, 0o600)
        assert platform_files.read_at(descriptor, 3, 4) == b"456"
        os.close(descriptor)


def test_without_any_locks_it_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform_files, "_FCNTL", None)
    monkeypatch.setattr(platform_files, "_MSVCRT", None)
    with (tmp_path / "x").open("w") as file, pytest.raises(OSError, match="no locks") as caught:
        platform_files.lock(file.fileno())
    assert caught.value.errno in platform_files.UNSUPPORTED
