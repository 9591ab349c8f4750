"""What differs between Linux, macOS and Windows in files: flags of open(), locks, modes, folders, free space.

Nothing else in the package imports fcntl, resource or another module that some system lacks, at import time. This
module imports nothing of ours.
"""

from __future__ import annotations

import contextlib
import errno
import importlib
import os
import platform
import shutil
import stat
from pathlib import Path
from typing import Any

UNSUPPORTED = frozenset({errno.EOPNOTSUPP, errno.ENOTSUP, errno.EINVAL, errno.ENOSYS})
# Of os.open(). A flag that a system lacks is 0: Windows makes links only for administrators, and has no named pipes
# among its files; there files are not inherited unless asked, and text would get other line ends without O_BINARY.
NO_FOLLOW = getattr(os, "O_NOFOLLOW", 0)
NO_WAIT = getattr(os, "O_NONBLOCK", 0)  # a named pipe would be waited for without end
PRIVATE = getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_NOINHERIT", 0) | getattr(os, "O_BINARY", 0)
FOLDER = getattr(os, "O_DIRECTORY", 0)
NAMELESS = getattr(os, "O_TMPFILE", 0)  # a file without a name, which is gone when it is closed
LONGEST_NAME = 255  # where the system does not tell
LOCKED_BYTE = (1 << 31) - 2  # that a lock of Windows is on: far behind the file's end, so that others can read it
OPEN_FILES_MOVE = os.name != "nt"  # whether a file may be renamed and removed while it is open


_LINK_ITSELF = {"follow_symlinks": False} if os.link in os.supports_follow_symlinks else {}


def _optional(name: str) -> Any:
    """A module that some systems lack, None there."""
    try:
        return importlib.import_module(name)
    except ImportError:
        return None


_FCNTL, _MSVCRT = _optional("fcntl"), _optional("msvcrt")


def lock(descriptor: int) -> None:
    """Locks an open file until it is closed, or its process ends.

    Raises BlockingIOError if another descriptor holds it, and OSError with an errno of UNSUPPORTED where there are no
    locks.
    """
    if _FCNTL is not None:
        _FCNTL.flock(descriptor, _FCNTL.LOCK_EX | _FCNTL.LOCK_NB)
    elif _MSVCRT is not None:
        position = os.lseek(descriptor, 0, os.SEEK_CUR)
        os.lseek(descriptor, LOCKED_BYTE, os.SEEK_SET)
        try:
            _MSVCRT.locking(descriptor, _MSVCRT.LK_NBLCK, 1)
        except PermissionError as error:
            raise BlockingIOError(errno.EAGAIN, "another process holds it") from error
        finally:
            os.lseek(descriptor, position, os.SEEK_SET)
    else:
        raise OSError(errno.ENOSYS, "this system has no locks")


def host_name() -> str:
    """This machine's name."""
    return os.uname().nodename if hasattr(os, "uname") else platform.node()


def read_at(descriptor: int, size_bytes: int, offset: int) -> bytes:
    """Bytes of an open file; moves its position where the system has no pread."""
    if hasattr(os, "pread"):
        return os.pread(descriptor, size_bytes, offset)
    os.lseek(descriptor, offset, os.SEEK_SET)
    return os.read(descriptor, size_bytes)


def set_mode(descriptor: int, mode: int) -> None:
    """Gives an open file its permissions, where files have any. Raises OSError."""
    if hasattr(os, "fchmod"):
        try:
            os.fchmod(descriptor, mode)
        except OSError as error:
            # Sticks and cards (FAT, exFAT) keep no modes: no reason to lose the file.
            if error.errno not in UNSUPPORTED | {errno.EPERM}:
                raise


def sync_folder(folder: Path) -> None:
    """Makes the names in a folder durable, where that is supported and allowed. Windows can't open folders."""
    if not FOLDER:
        return
    try:
        descriptor = os.open(folder, os.O_RDONLY | FOLDER | PRIVATE)
    except PermissionError:
        return  # a folder that may be written but not read can't be opened to be synced
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in UNSUPPORTED:
            raise
    finally:
        os.close(descriptor)


def space_in(folder: Path) -> tuple[int | None, int]:
    """Free bytes in a folder, None where the system does not tell, and the most bytes of a name. Raises OSError."""
    if not hasattr(os, "statvfs"):
        return shutil.disk_usage(folder).free, LONGEST_NAME
    volume = os.statvfs(folder)
    # Some network and FUSE file systems report no size at all: there only the writing itself can tell.
    return volume.f_bavail * volume.f_frsize if volume.f_blocks else None, volume.f_namemax


def others_only(folder: os.stat_result, file: os.stat_result) -> bool:
    """Whether a folder's sticky bit keeps this process from replacing a file: neither it nor the folder is its own."""
    if not folder.st_mode & stat.S_ISVTX or not hasattr(os, "geteuid"):
        return False
    return os.geteuid() not in {0, folder.st_uid, file.st_uid}


def link(source: Path, target: Path) -> None:
    """A second name for a file, never in place of another. Raises OSError."""
    os.link(source, target, **_LINK_ITSELF)


def remove_open(path: Path, descriptor: int) -> None:
    """Removes a file that this process has open, and closes it; what can't be removed stays."""
    if OPEN_FILES_MOVE:
        with contextlib.suppress(OSError):
            os.unlink(path)
        with contextlib.suppress(OSError):
            os.close(descriptor)
        return
    with contextlib.suppress(OSError):
        os.close(descriptor)
    with contextlib.suppress(OSError):
        os.unlink(path)
