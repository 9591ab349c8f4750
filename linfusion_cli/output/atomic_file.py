"""Files that are complete as soon as they have their name: written aside, made durable, then renamed."""

from __future__ import annotations

import contextlib
import errno
import io
import os
import re
import stat
from collections.abc import Generator
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from linfusion_cli import platform_files
from linfusion_cli.errors import DiskFullError, OutputError, option
from linfusion_cli.files import (
    TEMPORARY_SUFFIX,
    UNSUPPORTED,
    apply_umask,
    create_locked,
    host_digest,
    nearest_folder,
    sync_folder,
    try_writing,
)
from linfusion_cli.platform_files import NO_FOLLOW, NO_WAIT, PRIVATE, link, others_only, remove_open, space_in

FULL = frozenset({errno.ENOSPC, errno.EDQUOT})
_NO_LINKS = frozenset({errno.EOPNOTSUPP, errno.ENOTSUP, errno.EPERM, errno.ENOSYS, errno.EMLINK, errno.EXDEV})


def check_writable(path: Path, size_bytes: int, *, overwrite: bool) -> None:
    """Finds, before any work is done, what would stop a file of size_bytes from being written at path.

    Raises OutputError: no such folder, not writable, name too long, the file exists; DiskFullError: too little space.
    """
    _check_without_writing(path, size_bytes, overwrite=overwrite)
    with _explained(path):
        try_writing(path.parent)


def _check_without_writing(path: Path, size_bytes: int, *, overwrite: bool) -> None:
    """check_writable() without an attempt to write, for the one who writes next."""
    _check_encoding(path)
    folder = path.parent
    _check_folder(path, folder)
    with _explained(path):
        free_bytes, longest_name = space_in(folder)
    length = len(os.fsencode(path.name))
    if length > longest_name:
        raise _refusal(path, f"the name is {length} bytes long, at most {longest_name} are allowed")
    _check_target(path, overwrite=overwrite)
    if free_bytes is not None and size_bytes > free_bytes:
        raise DiskFullError(
            str(_refusal(path, f"it needs {size_bytes:,} bytes, {str(folder)!r} has {free_bytes:,} bytes free"))
        )


class AtomicFile:
    """A file that appears at path, whole and durable, when commit() is called, and otherwise not at all.

    Use it in a with statement; every failure raises OutputError and leaves what was at path as it was. size_bytes is
    the most that will be written: the space is reserved first, so that a full disk is found before the work.
    """

    def __init__(self, path: Path, size_bytes: int = 0, *, overwrite: bool = False) -> None:
        self.path = path
        self.size_bytes = size_bytes
        self.overwrite = overwrite
        self.written_bytes = 0
        self._position = 0
        self._descriptor = -1
        self._temporary: Path | None = None  # while there is one
        self._final = path

    def __enter__(self) -> Self:
        _check_without_writing(self.path, self.size_bytes, overwrite=self.overwrite)
        self._final = self.path.absolute()  # a later chdir must not move it
        with _explained(self.path):
            self._temporary, self._descriptor = create_locked(self._final)
        try:
            with _explained(self.path):
                _reserve(self._descriptor, self.size_bytes)
        except BaseException:
            self._discard()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._discard()

    @property
    def temporary_name(self) -> str:
        """The name that the file has until commit(), in the same folder."""
        assert self._temporary is not None
        return self._temporary.name

    def write(self, data: bytes | bytearray | memoryview, /) -> int:
        """Appends all of data and returns its length in bytes."""
        rest = memoryview(data).cast("B")
        length = len(rest)
        while rest:
            with _explained(self.path):
                count = os.write(self._open_descriptor(), rest)
            rest = rest[count:]
            self._position += count
            self.written_bytes = max(self.written_bytes, self._position)
        return length

    def seekable(self) -> SeekableFile:
        """The file as libraries want it that go back in it to fill in what they did not know before."""
        return SeekableFile(self)

    def explained(self) -> contextlib.AbstractContextManager[None]:
        """Turns an OSError of a library that writes here, or beside it, into an OutputError."""
        return _explained(self.path)

    def seek(self, position: int) -> None:
        """The next write() begins at this byte."""
        self._position = os.lseek(self._open_descriptor(), position, os.SEEK_SET)

    def tell(self) -> int:
        """The byte that the next write() begins at."""
        return self._position

    def commit(self) -> None:
        """Makes the data durable and gives the file its name."""
        descriptor = self._open_descriptor()
        with _explained(self.path):
            os.ftruncate(descriptor, self.written_bytes)
            apply_umask(descriptor)
            os.fsync(descriptor)
            self._put_in_place(os.fstat(descriptor))
        self._discard()
        with (
            _explained(self.path, "it is in place, but may not survive a power cut"),
            contextlib.suppress(FileNotFoundError, NotADirectoryError),  # the folder was moved since: the file is in it
        ):
            sync_folder(self._final.parent)

    def _open_descriptor(self) -> int:
        if self._descriptor < 0:
            raise ValueError("an AtomicFile is open only inside its with statement and before commit()")
        return self._descriptor

    def _put_in_place(self, written: os.stat_result) -> None:
        """Gives the finished file its name. Raises OutputError if there is one that must not be replaced."""
        assert self._temporary is not None
        if not platform_files.OPEN_FILES_MOVE:
            descriptor, self._descriptor = self._descriptor, -1
            os.close(descriptor)
        if self.overwrite:
            os.replace(self._temporary, self._final)
            return
        try:
            # link, unlike rename, never replaces a file that appeared in the meantime
            link(self._temporary, self._final)
        except OSError as error:
            if error.errno == errno.EEXIST and not os.path.samestat(os.lstat(self._final), written):
                raise _exists(self.path) from error  # else a network file system repeated a link whose answer was lost
            if error.errno in _NO_LINKS:
                self._rename_checked(self._temporary)
            elif error.errno != errno.EEXIST:
                raise

    def _rename_checked(self, temporary: Path) -> None:
        if os.path.lexists(self._final):
            raise _exists(self.path)
        os.rename(temporary, self._final)

    def _discard(self) -> None:
        """Closes and removes the temporary file; after a rename there is none."""
        if self._temporary is None:
            return
        descriptor, temporary = self._descriptor, self._temporary
        self._descriptor, self._temporary = -1, None
        # Neither may hide the error that brought us here; remove_temporary_files() removes what stays.
        remove_open(temporary, descriptor)


class SeekableFile(io.RawIOBase):
    """An AtomicFile as a stream that can be written and moved in."""

    def __init__(self, file: AtomicFile) -> None:
        self._file = file

    def writable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def write(self, data: Any, /) -> int:
        return self._file.write(data)

    def seek(self, offset: int, whence: int = os.SEEK_SET, /) -> int:
        start = {os.SEEK_SET: 0, os.SEEK_CUR: self._file.tell(), os.SEEK_END: self._file.written_bytes}[whence]
        self._file.seek(start + offset)
        return start + offset

    def tell(self) -> int:
        return self._file.tell()


def remove_temporary_files(folder: Path) -> list[Path]:
    """Removes the temporary files that dead processes of this host left in folder, and returns their paths.

    A living owner holds a lock on its file, so nothing that is being written is touched. Raises OutputError where the
    folder can't be read.
    """
    leftover = _leftover()
    with _explained(folder):
        candidates = [folder / name for name in sorted(os.listdir(folder)) if leftover.fullmatch(name)]
    return [path for path in candidates if _removed_if_dead(path)]


def is_abandoned(temporary: Path) -> bool:
    """Whether the owner of a temporary file is gone; a file that is there still is removed then.

    False for the name of any other file, and for one of another host, whose owner nobody here can see.
    """
    if not _leftover().fullmatch(temporary.name):
        return False
    return not os.path.lexists(temporary) or _removed_if_dead(temporary)


def _leftover() -> re.Pattern[str]:
    """The names of the temporary files of this host."""
    return re.compile(rf"\..*-{host_digest()}-[0-9a-f]{{8}}{re.escape(TEMPORARY_SUFFIX)}", re.DOTALL)


def _removed_if_dead(path: Path) -> bool:
    """Removes a temporary file whose owner is gone; returns whether it did."""
    try:
        descriptor = os.open(path, os.O_RDONLY | NO_FOLLOW | NO_WAIT | PRIVATE)
    except OSError:
        return False  # gone, a link, or of another user: not ours to remove
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            return False
        platform_files.lock(descriptor)
        if platform_files.OPEN_FILES_MOVE:
            os.unlink(path)
    except OSError:
        return False  # locked by a living owner, or locks are not supported: leave it
    finally:
        os.close(descriptor)
    if not platform_files.OPEN_FILES_MOVE:
        remove_open(path, -1)
    return not path.exists()


def _reserve(descriptor: int, size_bytes: int) -> None:
    if not size_bytes or not hasattr(os, "posix_fallocate"):
        return
    try:
        os.posix_fallocate(descriptor, 0, size_bytes)
    except OSError as error:
        if error.errno not in UNSUPPORTED:
            raise


def _check_encoding(path: Path) -> None:
    try:
        encoded = os.fsencode(path)
    except UnicodeEncodeError as error:
        raise _refusal(path, "the name holds characters that no file name can have") from error
    if b"\0" in encoded:
        raise _refusal(path, "a file name can't hold NUL")


def _check_folder(path: Path, folder: Path) -> None:
    try:
        mode = os.stat(folder).st_mode
    except FileNotFoundError as error:
        raise _refusal(path, f"the folder {str(folder)!r} does not exist; make it first") from error
    except OSError as error:
        raise _refusal(path, f"{str(folder)!r}: {error.strerror}") from error
    if not stat.S_ISDIR(mode):
        raise _refusal(path, f"{str(folder)!r} is not a folder")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise _refusal(path, f"the folder {str(folder)!r} is not writable")


def _check_target(path: Path, *, overwrite: bool) -> None:
    try:
        there = os.lstat(path)
    except FileNotFoundError:
        return
    except OSError as error:
        raise _refusal(path, error.strerror) from error
    mode = there.st_mode
    if stat.S_ISDIR(mode):
        raise _refusal(path, "it is a folder; give the name of a file")
    if not stat.S_ISREG(mode) and not stat.S_ISLNK(mode):
        raise _refusal(path, "it is a device, a pipe or a socket; the image needs a place of its own")
    if not overwrite:
        raise _exists(path)
    if others_only(os.stat(path.parent), there):
        raise _refusal(path, "it belongs to another user, and the folder lets nobody else replace it (sticky bit)")


def _exists(path: Path) -> OutputError:
    return OutputError(f"{str(path)!r} already exists; use ", option("overwrite"), " or another ", option("output"))


def _refusal(path: Path, reason: str | None) -> OutputError:
    # repr, because names are data too: it escapes what a terminal would obey
    return OutputError(f"Can't write {str(path)!r}: {reason}")


@contextlib.contextmanager
def _explained(path: Path, remark: str = "") -> Generator[None]:
    try:
        yield
    except OSError as error:
        reason = error.strerror or str(error)
        refusal = _refusal(path, f"{remark}: {reason}" if remark else reason)
        raise DiskFullError(str(refusal)) if error.errno in FULL else refusal from error


def check_folder(path: Path, *, parameter: str = "") -> None:
    """Raises OutputError if make_folder() could not make this folder, or write into it; changes nothing there."""
    above = nearest_folder(path)
    for each in (path, *path.parents):  # a link that leads nowhere, or in a circle, can't be made a folder
        if os.path.lexists(each) and not os.path.isdir(each):
            raise OutputError(f"{str(each)!r} is not a folder", parameter=parameter)
    if not os.access(above, os.W_OK | os.X_OK):
        raise OutputError(f"{str(path)!r}: no permission to write in {str(above)!r}", parameter=parameter)
    try:
        longest = space_in(above)[1]
        for part in path.absolute().relative_to(above).parts:
            if len(os.fsencode(part)) > longest:
                raise OSError(errno.ENAMETOOLONG, os.strerror(errno.ENAMETOOLONG))
        try_writing(above)
    except OSError as error:
        raise OutputError(f"{str(path)!r}: can't be written ({error.strerror})", parameter=parameter) from error


def check_replaceable(path: Path, *, parameter: str) -> None:
    """Raises OutputError if a small file could not be put at `path`, in place of another; changes nothing there."""
    if path.is_dir():
        raise OutputError(f"{str(path)!r} is a folder; give the name of a file", parameter=parameter)
    check_folder(path.parent, parameter=parameter)


def make_folder(path: Path, *, parameter: str = "") -> Path:
    """Makes a folder and those above it, unless it is there; gives it back. `parameter`: the option that names it.

    Raises OutputError if it can't be made, or if something else has the name.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
    except FileExistsError as error:
        raise OutputError(f"{str(path)!r} is not a folder", parameter=parameter) from error
    except OSError as error:
        raise OutputError(f"{str(path)!r}: can't make the folder ({error.strerror})", parameter=parameter) from error
    return path
