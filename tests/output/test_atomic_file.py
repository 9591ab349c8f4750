"""A file is there whole or not at all, and nothing that was there before is lost."""

from __future__ import annotations

import errno
import os
import signal
import socket
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import NoReturn

import pytest

from linfusion_cli import files
from linfusion_cli.errors import OutputError
from linfusion_cli.output.atomic_file import (
    AtomicFile,
    check_folder,
    check_writable,
    make_folder,
    remove_temporary_files,
)

ROOT = Path(__file__).parents[2]


def fail_with(code: int) -> Callable[..., NoReturn]:
    def fail(*_: object, **__: object) -> NoReturn:
        raise OSError(code, os.strerror(code))

    return fail


def answer(value: object) -> Callable[..., object]:
    def give(*_: object) -> object:
        return value

    return give


def save(path: Path, data: bytes, *, size_bytes: int = 0, overwrite: bool = False) -> None:
    with AtomicFile(path, size_bytes, overwrite=overwrite) as file:
        file.write(data)
        file.commit()


def test_a_committed_file_is_whole_and_alone(tmp_path: Path) -> None:
    save(tmp_path / "a.png", b"12345")
    assert os.listdir(tmp_path) == ["a.png"]
    assert (tmp_path / "a.png").read_bytes() == b"12345"


def test_nothing_shows_before_commit(tmp_path: Path) -> None:
    with AtomicFile(tmp_path / "a.png") as file:
        file.write(b"12345")
        (name,) = os.listdir(tmp_path)
        assert name.startswith(".a.png-")
        assert name.endswith(".part")
        assert stat.S_IMODE((tmp_path / name).stat().st_mode) == 0o600
    assert os.listdir(tmp_path) == []


def test_an_error_in_the_body_leaves_nothing(tmp_path: Path) -> None:
    def interrupted() -> None:
        with AtomicFile(tmp_path / "a.png") as file:
            file.write(b"12345")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert os.listdir(tmp_path) == []


def test_reserved_space_that_is_not_used_is_given_back(tmp_path: Path) -> None:
    save(tmp_path / "a.png", b"12345", size_bytes=1 << 20)
    assert (tmp_path / "a.png").stat().st_size == 5


def test_more_than_the_estimate_may_be_written(tmp_path: Path) -> None:
    save(tmp_path / "a.png", b"12345", size_bytes=2)
    assert (tmp_path / "a.png").read_bytes() == b"12345"


def test_the_mode_follows_the_umask(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        save(tmp_path / "a.png", b"1")
    finally:
        assert os.umask(before) == 0o027
    assert stat.S_IMODE((tmp_path / "a.png").stat().st_mode) == 0o640


def test_a_partial_write_is_continued(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write = os.write

    def write_two_bytes(descriptor: int, data: memoryview) -> int:
        return write(descriptor, data[:2])

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", write_two_bytes)
        save(tmp_path / "a.png", b"12345")
    assert (tmp_path / "a.png").read_bytes() == b"12345"


def test_an_existing_file_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(b"old")
    with pytest.raises(OutputError, match="already exists; use overwrite or another output"):
        save(path, b"new")
    assert path.read_bytes() == b"old"


def test_an_existing_file_is_replaced_when_asked(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(b"old")
    save(path, b"new", overwrite=True)
    assert path.read_bytes() == b"new"
    assert os.listdir(tmp_path) == ["a.png"]


@pytest.mark.parametrize("links", [True, False])
def test_a_file_that_appears_meanwhile_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, links: bool) -> None:
    path = tmp_path / "a.png"
    if not links:
        monkeypatch.setattr(os, "link", fail_with(errno.EPERM))
    with AtomicFile(path) as file:
        file.write(b"new")
        path.write_bytes(b"other")
        with pytest.raises(OutputError, match="already exists"):
            file.commit()
    assert path.read_bytes() == b"other"
    assert os.listdir(tmp_path) == ["a.png"]


def test_a_file_system_without_links_works(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "link", fail_with(errno.EPERM))
    save(tmp_path / "a.png", b"new")
    assert os.listdir(tmp_path) == ["a.png"]


def test_a_link_whose_answer_was_lost_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    link = os.link

    def link_twice(source: Path, target: Path, *, follow_symlinks: bool) -> None:
        for _ in range(2):
            link(source, target, follow_symlinks=follow_symlinks)

    monkeypatch.setattr(os, "link", link_twice)
    save(tmp_path / "a.png", b"new")
    assert (tmp_path / "a.png").read_bytes() == b"new"


def test_a_file_system_without_modes_works(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "fchmod", fail_with(errno.EPERM))
    save(tmp_path / "a.png", b"new")
    assert (tmp_path / "a.png").read_bytes() == b"new"


@pytest.mark.parametrize("overwrite", [False, True])
def test_a_planted_link_never_leads_elsewhere(tmp_path: Path, overwrite: bool) -> None:
    victim, path = tmp_path / "victim", tmp_path / "a.png"
    victim.write_bytes(b"precious")
    path.symlink_to(victim)
    if overwrite:
        save(path, b"new", overwrite=True)
        assert not path.is_symlink()
    else:
        with pytest.raises(OutputError, match="exists"):
            save(path, b"new")
    assert victim.read_bytes() == b"precious"


def test_the_folder_may_change_meanwhile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "other").mkdir()
    monkeypatch.chdir(tmp_path)
    with AtomicFile(Path("a.png")) as file:
        os.chdir("other")
        file.commit()
    assert (tmp_path / "a.png").exists()


@pytest.mark.parametrize("call", ["posix_fallocate", "write", "fsync", "replace"])
@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO])
def test_a_failure_keeps_the_old_file_and_leaves_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str, code: int
) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(b"old")
    with monkeypatch.context() as patch:
        patch.setattr(os, call, fail_with(code))
        with pytest.raises(OutputError, match=os.strerror(code)) as caught:
            save(path, b"new", size_bytes=100, overwrite=True)
    assert caught.value.exit_code == 74
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["a.png"]


def test_a_file_system_that_reserves_nothing_works(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "posix_fallocate", fail_with(errno.EOPNOTSUPP))
    save(tmp_path / "a.png", b"new", size_bytes=100)
    assert (tmp_path / "a.png").read_bytes() == b"new"


def test_a_folder_that_fails_to_sync_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fsync = os.fsync

    def fsync_files_only(descriptor: int) -> None:
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", fsync_files_only)
    with pytest.raises(OutputError, match="it is in place"):
        save(tmp_path / "a.png", b"new")
    assert (tmp_path / "a.png").read_bytes() == b"new"


def test_it_can_only_be_written_while_open(tmp_path: Path) -> None:
    file = AtomicFile(tmp_path / "a.png")
    with pytest.raises(ValueError, match="only inside"):
        file.write(b"1")
    with file:
        file.commit()
        with pytest.raises(ValueError, match="only inside"):
            file.commit()


CHILD = """
import os, signal, sys
from pathlib import Path
from linfusion_cli.output.atomic_file import AtomicFile
with AtomicFile(Path(sys.argv[1]), overwrite=sys.argv[3] == "overwrite") as file:
    file.write(b"new")
    setattr(os, sys.argv[2], lambda *_, **__: os.kill(os.getpid(), signal.SIGKILL))
    file.write(b"est")
    file.commit()
"""


@pytest.mark.parametrize(("call", "overwrite"), [("write", False), ("link", False), ("fsync", True), ("replace", True)])
def test_a_kill_leaves_no_half_file(tmp_path: Path, call: str, overwrite: bool) -> None:
    path = tmp_path / "a.png"
    if overwrite:
        path.write_bytes(b"old")
    words = [sys.executable, "-c", CHILD, str(path), call, "overwrite" if overwrite else "keep"]
    killed = subprocess.run(words, env={**os.environ, "PYTHONPATH": str(ROOT)}, check=False)
    assert killed.returncode == -signal.SIGKILL
    assert len(remove_temporary_files(tmp_path)) == 1
    assert os.listdir(tmp_path) == (["a.png"] if overwrite else [])
    assert not overwrite or path.read_bytes() == b"old"


def test_the_sweeper_takes_only_what_is_ours_and_dead(tmp_path: Path) -> None:
    save(tmp_path / "a.png", b"new")
    (tmp_path / "notes.part").write_bytes(b"")
    (tmp_path / ".b.png-01234567-01234567.part").write_bytes(b"of another host")
    with AtomicFile(tmp_path / "c.png") as alive:
        (name,) = (name for name in os.listdir(tmp_path) if name.startswith(".c.png"))
        (tmp_path / (name[:-6] + "x.part")).write_bytes(b"no name that we give")
        (tmp_path / (name[:-13] + "00000000.part")).symlink_to(tmp_path / "a.png")
        before = sorted(os.listdir(tmp_path))
        assert remove_temporary_files(tmp_path) == []
        assert sorted(os.listdir(tmp_path)) == before
        alive.commit()
    assert (tmp_path / "c.png").exists()
    with pytest.raises(OutputError, match="No such file"):
        remove_temporary_files(tmp_path / "missing")


def test_names_at_the_limit_fit(tmp_path: Path) -> None:
    for name in ("a" * 251 + ".png", "é" * 125 + ".png", "🏔" * 62 + ".png", "a\nb\x1b.png"):
        save(tmp_path / name, b"1")
        assert (tmp_path / name).exists()


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("a" * 252 + ".png", "256 bytes long, at most 255"),
        ("🏔" * 63 + ".png", "256 bytes long, at most 255"),
        ("missing/a.png", "does not exist"),
        ("file/a.png", "is not a folder"),
        ("file/deeper/a.png", "Not a directory"),
        ("folder", "it is a folder"),
        (".", "it is a folder"),
        ("a\0.png", "NUL"),
        ("a\ud800.png", "characters that no file name can have"),
        ("socket", "a device, a pipe or a socket"),
    ],
)
@pytest.mark.parametrize("overwrite", [False, True])
def test_a_place_that_is_no_good_is_found_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, reason: str, overwrite: bool
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_bytes(b"")
    (tmp_path / "folder").mkdir()
    with socket.socket(socket.AF_UNIX) as made:
        made.bind("socket")
    with pytest.raises(OutputError, match=reason):
        check_writable(Path(name), 1, overwrite=overwrite)


def test_a_folder_that_is_not_writable_is_found_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "access", answer(False))
    with pytest.raises(OutputError, match="is not writable"):
        check_writable(tmp_path / "a.png", 1, overwrite=False)


def test_too_little_space_is_found_first_and_in_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    volume = SimpleNamespace(f_namemax=255, f_blocks=100, f_bavail=3, f_frsize=1000)
    monkeypatch.setattr(os, "statvfs", answer(volume))
    check_writable(tmp_path / "a.png", 3000, overwrite=False)
    with pytest.raises(OutputError, match=r"needs 3,001 bytes, .* has 3,000 bytes free"):
        check_writable(tmp_path / "a.png", 3001, overwrite=False)
    volume.f_blocks = 0  # a file system that does not say
    check_writable(tmp_path / "a.png", 3001, overwrite=False)


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="this system has no /proc")
def test_a_place_where_nobody_makes_files_is_found_first(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match=r"Can't write '/proc/a\.png'"):
        check_writable(Path("/proc/a.png"), 1, overwrite=False)
    with pytest.raises(OutputError, match=r"output '/proc/a/b'"):
        check_folder(Path("/proc/a/b"), parameter="output")
    with pytest.raises(OutputError, match="File name too long"):
        check_folder(tmp_path / ("a" * 256) / "b")


def test_the_check_leaves_nothing_also_where_files_need_a_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "NAMELESS", 0)
    check_writable(tmp_path / "a.png", 1, overwrite=False)
    check_folder(tmp_path / "new")
    assert list(tmp_path.iterdir()) == []


def test_another_users_file_in_a_sticky_folder_is_found_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(b"old")
    monkeypatch.setattr(os, "geteuid", answer(os.stat(tmp_path).st_uid + 1))
    monkeypatch.setattr(os, "access", answer(True))
    check_writable(path, 1, overwrite=True)
    tmp_path.chmod(0o1777)
    with pytest.raises(OutputError, match="belongs to another user"):
        check_writable(path, 1, overwrite=True)


def test_messages_hold_no_escape_codes(tmp_path: Path) -> None:
    with pytest.raises(OutputError) as caught:
        check_writable(tmp_path / "\x1b[31m" / "a.png", 1, overwrite=False)
    assert "\x1b" not in str(caught.value)


def test_a_folder_is_made_with_those_above_it_and_may_be_there(tmp_path: Path) -> None:
    folder = tmp_path / "a" / "b"
    assert make_folder(folder) == make_folder(folder) == folder
    assert folder.is_dir()


def test_what_is_in_the_way_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match=r"^stages_folder '.*file' is not a folder$"):
        make_folder(tmp_path / "file", parameter="stages_folder")
    with pytest.raises(OutputError, match="can't make the folder"):
        make_folder(tmp_path / "file" / "below")


@pytest.mark.parametrize("name", ["file", "file/below", "file/below/more", "pipe"])
def test_a_folder_that_could_not_be_made_is_known_before(tmp_path: Path, name: str) -> None:
    (tmp_path / "file").write_text("")
    os.mkfifo(tmp_path / "pipe")
    for check in (check_folder, make_folder):
        with pytest.raises(OutputError, match="stages_folder"):
            check(tmp_path / name, parameter="stages_folder")
    check_folder(tmp_path / "new" / "deep")
    check_folder(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "pipe"]
