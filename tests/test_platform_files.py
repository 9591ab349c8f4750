"""Files where a system lacks what Linux has: locks by msvcrt, no modes, no folders to sync, open files that stay."""

from __future__ import annotations

import ast
import errno
import os
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from PIL import Image

from linfusion_cli import platform_files
from linfusion_cli.errors import OutputError
from linfusion_cli.files import create_locked, write_atomically
from linfusion_cli.output.atomic_file import AtomicFile, remove_temporary_files
from linfusion_cli.output.file_lock import Lock

ROOT = Path(__file__).parents[1]


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


TEXT_CALLS = {"read_text", "write_text", "fdopen", "TextIOWrapper", "NamedTemporaryFile"}


def test_text_files_name_their_encoding() -> None:
    """Elsewhere than on Linux the default is the system's own: cp1252 on Windows."""
    texts = {path: path.read_text(encoding="utf-8") for path in sorted((ROOT / "linfusion_cli").rglob("*.py"))}
    unnamed = [
        f"{path.relative_to(ROOT)}:{node.lineno}"
        for path, text in texts.items()
        if any(f"{name}(" in text for name in (*TEXT_CALLS, "open"))
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.Call) and _opens_text(node) and not _names_encoding(node)
    ]
    assert unnamed == []


def _opens_text(call: ast.Call) -> bool:
    """Whether a call opens a file as text: open() itself, a Path's read_text() and their like."""
    name = call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")
    modes = [*call.args[1:2], *(keyword.value for keyword in call.keywords if keyword.arg == "mode")]
    binary = any(isinstance(mode, ast.Constant) and "b" in str(mode.value) for mode in modes)
    is_open = isinstance(call.func, ast.Name) and name == "open"
    of_path = isinstance(call.func, ast.Attribute) and ast.unparse(call.func.value) != "png_reader"
    return (is_open or (name in TEXT_CALLS and of_path)) and not binary


def _names_encoding(call: ast.Call) -> bool:
    given = any(isinstance(one, ast.Constant) and str(one.value).startswith("utf") for one in call.args)
    return given or "encoding" in {keyword.arg for keyword in call.keywords}


HIDING = """
import collections, os, shutil, signal, sys
import psutil, platformdirs.unix, filelock, subprocess, torch  # the libraries' own parts for this system stay
sys.modules.update(dict.fromkeys(("fcntl", "resource", "pwd", "grp", "termios", "tty", "pty")))
usage = collections.namedtuple("usage", "total used free")(10**12, 0, 10**12)
shutil.disk_usage = lambda folder: usage
for module, names in ((os, NAMES), (signal, ("SIGHUP", "SIGKILL", "SIGUSR1", "SIGUSR2", "SIGQUIT"))):
    for name in names:
        delattr(module, name)
from linfusion_cli.cli.app import main
codes = [main(words) for words in COMMANDS]
print("codes", codes)
"""
ABSENT = (
    *("sched_getaffinity", "statvfs", "geteuid", "fork", "getloadavg", "uname", "fchmod", "pread", "posix_fallocate"),
    *("getpgid", "killpg", "setsid", "mkfifo", "O_NOFOLLOW", "O_DIRECTORY", "sysconf"),
)  # of os: what Windows lacks


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="hides what Linux has")
def test_commands_do_without_what_windows_lacks(tmp_path: Path) -> None:
    Image.new("RGB", (96, 64)).save(tmp_path / "a.png")
    commands = [
        ["generate", "a lake", "--size", "64", "--dry-run", "--quiet", "-o", str(tmp_path / "b.png")],
        ["view", str(tmp_path / "a.png"), "--export", str(tmp_path / "page")],
        ["sheet", str(tmp_path), "-o", str(tmp_path / "sheet.png"), "--quiet"],
        ["presets", "list"],
        ["doctor", "--json"],
    ]
    code = HIDING.replace("NAMES", repr(ABSENT)).replace("COMMANDS", repr(commands))
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path, check=False)
    assert ran.stdout.splitlines()[-1:] == [f"codes {[0] * len(commands)}"], ran.stderr
    assert (tmp_path / "page" / "index.html").exists()
    assert (tmp_path / "sheet.png").exists()
