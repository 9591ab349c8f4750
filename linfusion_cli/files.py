"""Files and folders: read only what is a regular file, write so that a name never leads to half a file.

There is one way for each kind of output. A text or JSON file goes through `write_atomically`. What a library writes to
a path of its own choice, a file or a whole folder, goes through `replacing`. An image or a checkpoint in a user's
folder goes through `linfusion_cli.output.atomic_file.AtomicFile`, which builds on this module and adds what large
files need: space that is reserved first, refusal to replace, and errors in the user's words. A download that can be
continued (weights/hub_download.py) is none of these: its unfinished file must stay. This module raises
OSError alone, so that every floor can use it.
"""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from linfusion_cli import platform_files
from linfusion_cli.platform_files import NAMELESS, NO_FOLLOW, NO_WAIT, PRIVATE, host_name, set_mode
from linfusion_cli.platform_files import UNSUPPORTED as UNSUPPORTED
from linfusion_cli.platform_files import sync_folder as sync_folder

TEMPORARY_SUFFIX = ".part"
_STEM_BYTES = 40  # of the final name inside the temporary one, so that people can tell whose leftover it is
_CREATE = os.O_RDWR | os.O_CREAT | os.O_EXCL | NO_FOLLOW | PRIVATE
_READ = os.O_RDONLY | NO_WAIT | PRIVATE


def user_path(text: str) -> Path:
    """The path that a user typed: "~" and "~name" are home folders, but where no user has that name."""
    try:
        return Path(text).expanduser()
    except RuntimeError:
        return Path(text)


def config_folder() -> Path:
    """Where a user's settings and presets are: ~/.config/linfusion on Linux (XDG), %APPDATA%\\linfusion on Windows."""
    from platformdirs import user_config_path

    return user_config_path("linfusion", appauthor=False, roaming=True)


def leads_somewhere(path: Path) -> bool:
    """Whether there is something at a path; a name that is too long for any file leads nowhere. Raises OSError."""
    try:
        return path.exists()
    except OSError as error:
        if error.errno == errno.ENAMETOOLONG:
            return False
        raise


def read_regular(path: Path, limit_bytes: int, *, follow: bool = True) -> bytes:
    """All of a regular file of at most limit_bytes; a symbolic link is followed only if `follow`.

    Raises OSError: also for a folder, a pipe, a device, and a file that is larger.
    """
    descriptor = os.open(path, _READ if follow else _READ | NO_FOLLOW)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(errno.EINVAL, "it is a folder, a pipe or a device", str(path))
    with os.fdopen(descriptor, "rb") as file:
        data = file.read(limit_bytes + 1)
    if len(data) > limit_bytes:
        raise OSError(errno.EFBIG, f"it has more than {limit_bytes:,} bytes", str(path))
    return data


def read_input(path: Path, limit_bytes: int) -> bytes:
    """All of a regular file, or of a pipe that the shell opened for this process: /dev/stdin, /dev/fd/63.

    Raises OSError: also for a folder, a device, a named pipe, which may have no writer, and for more than limit_bytes.
    """
    if str(path) != "/dev/stdin" and not str(path).startswith(("/dev/fd/", "/proc/self/fd/")):
        return read_regular(path, limit_bytes)
    with path.open("rb") as file:
        data = file.read(limit_bytes + 1)
    if len(data) > limit_bytes:
        raise OSError(errno.EFBIG, f"it has more than {limit_bytes:,} bytes", str(path))
    return data


def open_regular(path: Path) -> BinaryIO:
    """A regular file, open for reading; links are followed. Raises OSError: also for a folder, pipe or device."""
    descriptor = os.open(path, _READ)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(errno.EINVAL, "it is a folder, a pipe or a device", str(path))
    return os.fdopen(descriptor, "rb")


def sha256_of(path: Path) -> str:
    """The hash of a file's contents, 64 hexadecimal digits. Raises OSError."""
    import hashlib  # loads OpenSSL, which no help text needs

    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_atomically(path: Path, data: bytes | str, *, durable: bool = True) -> None:
    """Writes a small file: path holds either what it held before or all of data, also after a crash.

    Several processes may write the same path; the last one wins. Makes the folder. durable: it also outlives a power
    cut, which costs two waits for the disk. Raises OSError.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary, descriptor = create_locked(path.absolute())
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data.encode() if isinstance(data, str) else data)
            file.flush()
            apply_umask(descriptor)
            if durable:
                os.fsync(descriptor)
            if platform_files.OPEN_FILES_MOVE:  # with its lock to the end: nobody takes it for a dead process's
                os.replace(temporary, path)
        if not platform_files.OPEN_FILES_MOVE:
            os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise
    if durable:
        sync_folder(path.absolute().parent)


@contextlib.contextmanager
def replacing(path: Path, *, folders: bool = False) -> Iterator[Path]:
    """Gives a temporary path; what the body writes there, a file or a folder, becomes `path` if the body succeeds.

    One process at a time may write a path this way: what a killed one left is removed first. A folder replaces another
    one only with `folders`: the old one is renamed first, so that a kill leaves both, complete, under some name. Raises
    OSError.
    """
    part = path.with_name(path.name + TEMPORARY_SUFFIX)
    _remove(part)
    try:
        yield part
        for written in sorted(part.rglob("*")) if part.is_dir() else [part]:
            if written.is_file():
                sync_file(written)
        if folders and path.is_dir():
            _replace_folder(part, path)
        else:
            os.replace(part, path)
    except BaseException:
        with contextlib.suppress(OSError):
            _remove(part)
        raise
    sync_folder(path.absolute().parent)


def _replace_folder(part: Path, path: Path) -> None:
    old = path.with_name(f"{path.name}.old{TEMPORARY_SUFFIX}")
    _remove(old)
    os.replace(path, old)
    os.replace(part, path)
    _remove(old)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def free_bytes(folder: Path) -> int:
    """Free space in bytes where a folder is, or will be. Raises OSError."""
    return shutil.disk_usage(nearest_folder(folder)).free


def nearest_folder(folder: Path) -> Path:
    """The folder itself if it exists, else the lowest one above it that does, as far as this process may look."""
    folder = folder.absolute()
    while not os.path.exists(folder) and folder != folder.parent:
        folder = folder.parent
    return folder


def try_writing(folder: Path) -> None:
    """Raises OSError as the system does for a new file in a folder; leaves nothing there.

    Permissions do not tell it all: nobody makes files in /proc, and none in a full or a read-only file system.
    """
    if NAMELESS:
        try:
            os.close(os.open(folder, os.O_WRONLY | NAMELESS | PRIVATE, 0o600))
        except OSError as error:
            if error.errno not in UNSUPPORTED | {errno.EISDIR, errno.ENOENT}:
                raise
        else:
            return
    temporary, descriptor = create_locked(folder / "write-test")
    platform_files.remove_open(temporary, descriptor)


def create_locked(final: Path) -> tuple[Path, int]:
    """A new temporary file beside `final`, and its open descriptor, which holds a lock as long as its owner lives."""
    while True:
        temporary = final.parent / temporary_name(final.name)
        try:
            descriptor = os.open(temporary, _CREATE, 0o600)
        except FileExistsError:
            continue
        # Where locks are not supported, nobody can take this one for a dead process's either: nothing is removed there.
        with contextlib.suppress(OSError):
            platform_files.lock(descriptor)
        # Another process may have removed the file between the two calls.
        if os.fstat(descriptor).st_nlink:
            return temporary, descriptor
        os.close(descriptor)


def temporary_name(name: str) -> str:
    """A hidden name that tells the final name, this host, and no other temporary file."""
    stem = os.fsencode(name)[:_STEM_BYTES].decode("utf-8", "ignore")
    return f".{stem}-{host_digest()}-{os.urandom(4).hex()}{TEMPORARY_SUFFIX}"


def host_digest() -> str:
    """Eight hexadecimal digits of this host's name."""
    import hashlib  # 3 ms: `linfusion --help` imports this module and names no temporary file

    return hashlib.sha256(os.fsencode(host_name())).hexdigest()[:8]


def apply_umask(descriptor: int) -> None:
    """Gives a file the mode that open() would have given it."""
    # The mask can only be read by setting it; a file that another thread makes meanwhile gets the tighter one.
    mask = os.umask(0o077)
    os.umask(mask)
    set_mode(descriptor, 0o666 & ~mask)


def sync_file(path: Path) -> None:
    """Makes a file's content durable."""
    descriptor = os.open(path, (os.O_RDONLY if platform_files.FOLDER else os.O_RDWR) | PRIVATE)  # Windows: to write
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
