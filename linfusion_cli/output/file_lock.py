"""Locks that need no hand to be undone: flock on local disks, a lease that must be renewed on network ones."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import re
import secrets
import threading
import time
from pathlib import Path
from types import TracebackType
from typing import Self

from linfusion_cli.errors import BusyError, OutputError
from linfusion_cli.files import read_regular
from linfusion_cli.json_files import parse_json

LEASE_SECONDS = 600.0  # a lease that nobody renewed for so long may be dead
RENEW_SECONDS = 20.0
WATCH_SECONDS = 65.0  # ... and is, if it stays untouched for so long while we look: no clock is asked, so none can lie
_MOST_BYTES = 4096
_OPEN = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC  # a child that inherits the file would keep the lock
_NO_LOCKS = frozenset({errno.EOPNOTSUPP, errno.ENOTSUP, errno.ENOSYS, errno.ENOLCK, errno.EINVAL})
_NETWORK = re.compile(r"nfs\d?|cifs|smb\w*|9p|ceph|lustre|gpfs|beegfs|glusterfs|afs|fuse\.(?!portal).*|virtiofs")


class Lock:
    """One holder of a file at a time, over processes and, by a lease, over machines.

    Entering raises BusyError at once if another process holds it, and OutputError where no lock can be made. `what`
    says in the error what is being worked on. The system frees a flock with its process; a lease ends when its owner
    is seen dead on this machine, or is not renewed.
    """

    def __init__(self, path: Path, what: str, *, lease: bool | None = None) -> None:
        self.path, self.what = path, what
        self._lease = on_network(path.parent) if lease is None else lease
        self._token = secrets.token_hex(8)
        self._descriptor = -1
        self._over = threading.Event()
        self._renewer: threading.Thread | None = None

    def __enter__(self) -> Self:
        try:
            if self._lease or not self._flocked():
                self._take_lease()
        except OSError as error:
            raise OutputError(f"{str(self.path)!r}: can't be locked: {error.strerror}") from error
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        if self._renewer is not None:
            self._renewer.join()
        if self._descriptor < 0 and not self.held():
            return
        with contextlib.suppress(OSError):
            os.unlink(self.path)  # while it is still ours
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def held(self) -> bool:
        """Whether it is still ours: a lease can be lost by a machine that slept for longer than it."""
        return self._descriptor >= 0 or _read(self.path).get("token") == self._token

    def _flocked(self) -> bool:
        """Takes the lock, or raises BusyError; False where the file system knows no locks."""
        while True:
            descriptor = os.open(self.path, _OPEN, 0o600)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if _is_at(descriptor, self.path):  # else its last holder has just removed it
                    os.ftruncate(descriptor, 0)
                    os.write(descriptor, self._owner())
                    self._descriptor, descriptor = descriptor, -1
                    return True
            except BlockingIOError as error:
                raise self._busy(_read(self.path)) from error
            except OSError as error:
                if error.errno not in _NO_LOCKS:
                    raise
                os.unlink(self.path)
                return False
            finally:
                if descriptor >= 0:
                    os.close(descriptor)

    def _take_lease(self) -> None:
        while not self._created():
            owner = _read(self.path)
            if not _is_dead(owner) and not (
                _age_seconds(self.path) > LEASE_SECONDS and _untouched(self.path, WATCH_SECONDS)
            ):
                raise self._busy(owner)
            self._remove_dead(owner)
        self._renewer = threading.Thread(target=self._renew, name="lease", daemon=True)
        self._renewer.start()

    def _created(self) -> bool:
        """Makes the lease with its content in one step: written aside, then linked, which never replaces another."""
        aside = self.path.with_name(f"{self.path.name}-{self._token}")
        descriptor = os.open(aside, _OPEN | os.O_EXCL, 0o600)
        try:
            os.write(descriptor, self._owner())
            os.fsync(descriptor)
            os.link(aside, self.path)
        except FileExistsError:
            return False
        finally:
            os.close(descriptor)
            os.unlink(aside)
        return True

    def _remove_dead(self, owner: dict[str, object]) -> None:
        """Takes a dead lease away under a name of ours; two that do it at once do not take each other's."""
        aside = self.path.with_name(f"{self.path.name}-{self._token}")
        with contextlib.suppress(FileNotFoundError):
            os.rename(self.path, aside)
            if _read(aside) != owner:  # a living one had taken its place: it goes back
                with contextlib.suppress(FileExistsError):
                    os.link(aside, self.path)
            os.unlink(aside)

    def _renew(self) -> None:
        while not self._over.wait(RENEW_SECONDS):
            with contextlib.suppress(OSError):
                if self.held():
                    os.utime(self.path)

    def _owner(self) -> bytes:
        return json.dumps({**_self(), "token": self._token}).encode()

    def _busy(self, owner: dict[str, object]) -> BusyError:
        by = f"process {owner['pid']} on {owner['host']!r}" if {"pid", "host"} <= owner.keys() else "another process"
        return BusyError(f"{self.what}: {by} is at it. Try again when it is done")


def on_network(folder: Path) -> bool:
    """Whether a folder is on a file system that several machines may share, where flock is not to be trusted."""
    try:
        device = os.stat(folder).st_dev
        with open("/proc/self/mountinfo", encoding="utf-8", errors="replace") as table:
            for line in table:
                fields, _, system = line.partition(" - ")
                if fields.split()[2] == f"{os.major(device)}:{os.minor(device)}":
                    return bool(_NETWORK.fullmatch(system.split()[0]))
    except (OSError, IndexError):
        pass
    return False


def _self() -> dict[str, object]:
    """Who this process is, so that another one can tell whether it still lives."""
    return {"host": os.uname().nodename, "boot": _boot(), "space": _process_space(), "pid": os.getpid()}


def _boot() -> str:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        return ""


def _process_space() -> str:
    """Containers of one machine number their processes each for themselves."""
    try:
        return os.readlink("/proc/self/ns/pid")
    except OSError:
        return ""


def _is_dead(owner: dict[str, object]) -> bool:
    """Whether a lease's owner is surely gone: of this machine, and of an earlier boot or without a process."""
    me = _self()
    if not me["boot"] or owner.get("host") != me["host"]:
        return False
    if owner.get("boot") != me["boot"]:
        return bool(owner.get("boot"))
    pid = owner.get("pid")
    if owner.get("space") != me["space"] or not isinstance(pid, int):
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    except OSError:
        return False
    return False


def _age_seconds(path: Path) -> float:
    """How long ago a file was touched, by the clock of the file system that dates it."""
    probe = path.with_name(f"{path.name}-{secrets.token_hex(8)}")
    try:
        os.close(os.open(probe, _OPEN | os.O_EXCL, 0o600))
        try:
            return abs(os.stat(probe).st_mtime - os.stat(path).st_mtime)
        finally:
            os.unlink(probe)
    except OSError:
        return 0.0


def _untouched(path: Path, seconds: float) -> bool:
    """Whether nobody renews a lease while we look."""
    try:
        before = os.stat(path)
        time.sleep(seconds)
        after = os.stat(path)
    except OSError:
        return False
    return (before.st_mtime_ns, before.st_ino) == (after.st_mtime_ns, after.st_ino)


def _read(path: Path) -> dict[str, object]:
    try:
        return parse_json(read_regular(path, _MOST_BYTES, follow=False), str(path))
    except (OSError, ValueError):
        return {}


def _is_at(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), os.lstat(path))
    except FileNotFoundError:
        return False
