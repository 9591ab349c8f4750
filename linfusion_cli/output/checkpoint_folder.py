"""Where an unfinished image is kept: a hidden folder beside the image, from which the same command goes on."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import stat
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self

from linfusion_cli.errors import BusyError, OutputError, UsageError
from linfusion_cli.files import try_writing
from linfusion_cli.json_files import JsonError, parse_json
from linfusion_cli.output.atomic_file import AtomicFile, remove_temporary_files
from linfusion_cli.output.file_lock import Lock
from linfusion_cli.output.metadata import read_record
from linfusion_cli.platform_files import NO_FOLLOW, NO_WAIT, PRIVATE

HIDDEN = ".linfusion"  # beside the images: what a run must remember about them
KEPT_DAYS = 30.0  # what nobody has gone on with for so long is removed
FINISHED_SECONDS = 3.0  # a stage of less work is made again rather than kept
ABOUT_BYTES = 1 << 16  # of the file that says what a folder's checkpoints are for; it has 200
SHOWN_KEY = 16  # hexadecimal digits of a key in names
_LOCK = "lock"
_ABOUT = "about.json"
SEEDS = 1 << 32  # those that a run can draw
_SUFFIX = ".safetensors"


class CheckpointFolder:
    """The checkpoints of one image in .linfusion/KEY beside it, held by one process at a time.

    key: of everything that decides the pixels. identity: the id that the finished image holds.
    interval_seconds: the most work that may be lost, if a step is shorter. most_bytes: that one checkpoint can have;
    a larger file is none of this image.
    Entering raises BusyError if another process makes the same image. A checkpoint that can't be written is told
    through `tell`, once, and the work goes on; the folder stays until clear().
    """

    def __init__(
        self,
        image: Path,
        key: str,
        identity: str,
        interval_seconds: float,
        *,
        most_bytes: int,
        urgent: Callable[[], bool],
        tell: Callable[[str], None],
    ) -> None:
        self.path = image.parent / HIDDEN / key[:SHOWN_KEY]
        self._about: dict[str, object] = {"picture": image.name, "id": identity}
        self._interval_seconds, self._most_bytes = interval_seconds, most_bytes
        self._urgent, self._tell = urgent, tell
        self._noted = False
        self._kept = self._seen = time.monotonic()
        self._broken = False
        self._lock = Lock(self.path / _LOCK, "this image")

    def __enter__(self) -> Self:
        while True:
            with _explained(self.path):
                hidden_folder(self.path.parent.parent)
                self.path.mkdir(mode=0o700, exist_ok=True)
                _require_folder(self.path)
            try:
                self._lock.__enter__()
            except OutputError:
                if self.path.exists():  # else it has just been cleared by the process that finished the image
                    raise
                continue
            break
        remove_temporary_files(self.path)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            empty = not any(name != _LOCK for name in os.listdir(self.path))
        except OSError:
            empty = False  # somebody removed or moved the folder: nothing of it is needed, and nothing may fail now
        with contextlib.suppress(OSError):
            self._lock.__exit__(kind, error, trace)
        if empty:
            _remove_empty(self.path)

    def find(self, name: str) -> bytes:
        """What was kept under a name, or nothing."""
        return read_plain(self.path / f"{name}{_SUFFIX}", self._most_bytes)

    def keep(self, name: str, data: bytes) -> None:
        """Replaces what was kept under a name; whole or not at all."""
        if not self._noted:
            self._write(_ABOUT, json.dumps(self._about).encode())
            self._noted = True
        if not self._broken:
            self._write(f"{name}{_SUFFIX}", data)
        self._kept = self._seen = time.monotonic()

    def due(self, *, finished: bool) -> bool:
        """Whether the work since the last keep(), with another step as long as the last, would exceed the interval."""
        now = time.monotonic()
        step_seconds, self._seen = now - self._seen, now
        unkept_seconds = now - self._kept
        if self._urgent():
            return True
        if finished:
            return unkept_seconds >= min(FINISHED_SECONDS, self._interval_seconds)
        return unkept_seconds + step_seconds > self._interval_seconds

    def remember_seed(self, unseeded_key: str, seed: int) -> None:
        """Notes that this seed was drawn: the same command without a seed resumes the image with it."""
        self._about |= {"key": unseeded_key, "seed": seed}

    def clear(self) -> None:
        """Removes what is kept."""
        _clear(self.path)

    def _write(self, name: str, data: bytes) -> None:
        try:
            with AtomicFile(self.path / name, len(data), overwrite=True) as file:
                file.write(data)
                file.commit()
        except OutputError as error:
            self._broken = True
            self._tell(f"no checkpoints, an interruption would lose this image's work: {error}")


def kept_seed(folder: Path, unseeded_key: str) -> int | None:
    """The seed that an interrupted run drew for the same job, if its checkpoints are here and nobody is at them."""
    for path in _kept_folders(folder):
        found = _about(path)
        seed = found.get("seed")
        if found.get("key") != unseeded_key or type(seed) is not int or not 0 <= seed < SEEDS:
            continue
        with contextlib.suppress(BusyError, OutputError), Lock(path / _LOCK, "this image"):
            return seed
    return None


def tidy(folder: Path) -> None:
    """Removes what dead processes left in a folder of images: temporary files, checkpoints of finished images."""
    remove_temporary_files(folder)
    remove_old(folder)
    remove_finished(folder)


def remove_finished(folder: Path) -> list[Path]:
    """Removes checkpoints older than their finished image, whose process died just then. Returns their folders."""

    def is_finished(path: Path) -> bool:
        about = _about(path)
        name, own_id = about.get("picture"), about.get("id")
        if not isinstance(name, str) or "\0" in name or not own_id:  # not as we write it: nobody knows whose it is
            return False
        image = folder / Path(name).name
        return os.lstat(image).st_mtime_ns >= _newest_ns(path) and read_record(image).get("id") == own_id

    return _removed(folder, is_finished)


def remove_old(folder: Path, days: float = KEPT_DAYS) -> list[Path]:
    """Removes checkpoints that nobody has touched for so many days, and returns their folders."""
    return _removed(folder, lambda path: time.time() - _newest_ns(path) / 1e9 >= days * 86400)


def _removed(folder: Path, is_unneeded: Callable[[Path], bool]) -> list[Path]:
    """The folders of checkpoints that were not needed and that nobody was at."""
    removed: list[Path] = []
    for path in _kept_folders(folder):
        with contextlib.suppress(OSError, BusyError, OutputError, UsageError):
            if is_unneeded(path):
                with Lock(path / _LOCK, "this image"):
                    _clear(path)
                    shutil.rmtree(path)
                removed.append(path)
    return removed


def hidden_folder(folder: Path) -> Path:
    """Makes folder/.linfusion and returns it. Raises OSError, also for a link in its place: it would lead elsewhere."""
    path = folder / HIDDEN
    with contextlib.suppress(FileExistsError):
        path.mkdir()
        os.chmod(path, stat.S_IMODE(os.stat(folder).st_mode))  # who may put images here may put this beside them
    _require_folder(path)
    return path


def check_hidden_folder(folder: Path) -> None:
    """Raises OutputError if folder/.linfusion is there and can't be used; changes nothing."""
    path = folder / HIDDEN
    with _explained(path):
        if os.path.lexists(path):
            _require_folder(path)
            try_writing(path)


def open_plain(path: Path) -> BinaryIO | None:
    """A file that is no link, pipe or device, open for reading; None if there is none."""
    try:
        descriptor = os.open(path, os.O_RDONLY | NO_FOLLOW | NO_WAIT | PRIVATE)
    except OSError:
        return None
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        return None
    return os.fdopen(descriptor, "rb")


def read_plain(path: Path, limit_bytes: int) -> bytes:
    """All of a file that is no link, pipe or device; nothing if there is none, or if it has more than limit_bytes."""
    file = open_plain(path)
    if file is None:
        return b""
    with file:
        try:
            return file.read() if os.fstat(file.fileno()).st_size <= limit_bytes else b""
        except OSError:
            return b""


def _kept_folders(folder: Path) -> list[Path]:
    try:
        names = sorted(os.listdir(folder / HIDDEN))
    except OSError:
        return []
    paths = [folder / HIDDEN / name for name in names if re.fullmatch(rf"[0-9a-f]{{{SHOWN_KEY}}}", name)]
    return [path for path in paths if path.is_dir() and not path.is_symlink()]


def _newest_ns(path: Path) -> int:
    """When anything in a folder was changed last."""
    return max(
        (os.lstat(path / name).st_mtime_ns for name in os.listdir(path) if name != _LOCK),
        default=os.lstat(path).st_mtime_ns,
    )


def _clear(path: Path) -> None:
    """Removes checkpoints; what they are for at last: whoever finds the rest after a kill must know."""
    try:
        names = sorted(os.listdir(path), key=_ABOUT.__eq__)
    except OSError:
        return  # it is gone, or can't be read: what stays there is tidied by a later run
    for name in names:
        if name != _LOCK:
            with contextlib.suppress(OSError):
                os.unlink(path / name)


def _about(path: Path) -> dict[str, object]:
    """Which image a folder's checkpoints are for; nothing if that is not known."""
    try:
        return parse_json(read_plain(path / _ABOUT, ABOUT_BYTES) or b"{}", str(path / _ABOUT))
    except JsonError:
        return {}


def _require_folder(path: Path) -> None:
    if not stat.S_ISDIR(os.lstat(path).st_mode):
        raise NotADirectoryError(20, "Not a folder of its own (a link leads elsewhere)", str(path))


def _remove_empty(path: Path) -> None:
    for folder in (path, path.parent):
        with contextlib.suppress(OSError):  # it is in use again
            os.rmdir(folder)


@contextlib.contextmanager
def _explained(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise OutputError(f"Can't keep checkpoints in {str(path)!r}: {error.strerror}") from error
