"""Finds the file behind a path that a user gives: a pipe or standard input is first copied to a temporary file."""

from __future__ import annotations

import atexit
import os
import select
import shutil
import stat
import tempfile
import time
from functools import cache
from pathlib import Path

from linfusion_cli.images.errors import ImageError
from linfusion_cli.platform_files import NO_WAIT, PRIVATE

LIMIT_BYTES = 2 << 30  # of what a pipe may bring
WRITER_SECONDS = 1.0  # until a program must have opened a named pipe
SILENCE_SECONDS = 60.0  # in which the program at a pipe's other end writes nothing
PIECE_BYTES = 1 << 20
STDIN = ("-", "/dev/stdin", "/dev/fd/0", "/proc/self/fd/0")


def regular_file(path: Path) -> Path:
    """The path itself if it leads to a regular file, else a temporary copy of what the pipe behind it brings.

    The copy of a pipe is made once per process and removed at its end. Raises ImageError for folders, devices and
    empty files, for a pipe that nobody writes to, and for one that brings more than LIMIT_BYTES; FileNotFoundError
    and other OSError as they are.
    """
    if str(path) in STDIN:
        return _standard_input()
    status = path.stat()
    if stat.S_ISDIR(status.st_mode):
        raise ImageError("is a folder. Name an image in it")
    if stat.S_ISFIFO(status.st_mode):
        return _copy_of_pipe(path, status.st_dev, status.st_ino)
    if not stat.S_ISREG(status.st_mode):
        raise ImageError("is a device or a socket, not a file")
    if status.st_size == 0:
        raise ImageError("is an empty file")
    return path


def is_piped(path: Path) -> bool:
    """Whether a path is standard input or a pipe, which can be read only once and by one process."""
    try:
        return str(path) in STDIN or stat.S_ISFIFO(path.stat().st_mode)
    except OSError:
        return False


@cache
def _standard_input() -> Path:
    try:
        kind = os.fstat(0).st_mode
    except OSError as error:
        raise ImageError("there is no standard input") from error
    if os.isatty(0):
        raise ImageError("standard input is a terminal. Pipe an image into the command, or name a file")
    if stat.S_ISDIR(kind) or stat.S_ISBLK(kind):
        raise ImageError("standard input is a folder or a device")
    return _copied(0, "stdin")


@cache
def _copy_of_pipe(path: Path, device: int, inode: int) -> Path:
    descriptor = os.open(path, os.O_RDONLY | NO_WAIT | PRIVATE)
    try:
        return _copied(descriptor, "pipe" if path.name.isdigit() else path.name)
    finally:
        os.close(descriptor)


def _copied(descriptor: int, name: str) -> Path:
    folder = Path(tempfile.mkdtemp(prefix="linfusion-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    copy = folder / name
    with copy.open("xb") as file:
        while piece := _next_piece(descriptor, first=not file.tell()):
            if file.tell() + len(piece) > LIMIT_BYTES:
                raise ImageError(f"brings more than {LIMIT_BYTES >> 30} GiB. Save it to a file and name that")
            file.write(piece)
        if not file.tell():
            raise ImageError("brings no data")
    return copy


def _next_piece(descriptor: int, *, first: bool) -> bytes:
    """The next bytes of a pipe, b"" at its end; of a named pipe that nobody has opened yet, a writer is waited for."""
    if not hasattr(select, "poll"):  # Windows, where a pipe can't be asked
        return os.read(descriptor, PIECE_BYTES)
    started = time.monotonic()
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    while (waited := time.monotonic() - started) < SILENCE_SECONDS:
        ready = bool(poll.poll(50))  # milliseconds
        if not ready and os.get_blocking(descriptor):
            continue
        try:
            piece = os.read(descriptor, PIECE_BYTES)
        except BlockingIOError:
            continue
        if piece or ready or not first:
            return piece
        if waited > WRITER_SECONDS:
            raise ImageError("is a pipe, and no program writes to it")
    raise ImageError(f"brought no data for {SILENCE_SECONDS:.0f} seconds")
