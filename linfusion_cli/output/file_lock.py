"""Locks that need no hand to be undone: flock on local disks, a lease that must be renewed on network ones."""

from __future__ import annotations

import errno
import json
import os
import re
import secrets
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

from linfusion_cli import platform_files
from linfusion_cli.errors import BusyError, OutputError
from linfusion_cli.files import read_regular
from linfusion_cli.json_files import parse_json
from linfusion_cli.platform_files import NO_FOLLOW, PRIVATE, host_name, remove_open

if TYPE_CHECKING:
    from filelock import SoftFileLease

OLD_SECONDS = 600.0  # a lease that nobody renewed for so long may be dead: it is watched
LEASE_SECONDS = 65.0  # ... and is, if it stays untouched for so long by the clock of who watches: no date is believed
RENEW_SECONDS = 20.0
_MOST_BYTES = 4096
_OPEN = os.O_RDWR | os.O_CREAT | NO_FOLLOW | PRIVATE  # a child that inherits the file would keep the lock
_NO_LOCKS = frozenset({errno.EOPNOTSUPP, errno.ENOTSUP, errno.ENOSYS, errno.ENOLCK, errno.EINVAL})
_NETWORK = re.compile(r"nfs\d?|cifs|smb\w*|9p|ceph|lustre|gpfs|beegfs|glusterfs|afs|fuse\.(?!portal).*|virtiofs")


class Lock:
    """One holder of a file at a time, over processes and, by a lease, over machines.

    Entering raises BusyError at once if another process holds it, and OutputError where no lock can be made. `what`
    says in the error what is being worked on. The system frees a flock with its process; a lease (filelock's) ends
    when its owner is seen dead on this machine, or is not renewed.
    """

    def __init__(self, path: Path, what: str, *, lease: bool | None = None) -> None:
        self.path, self.what = path, what
        self._needs_lease = on_network(path.parent) if lease is None else lease
        self._lease: SoftFileLease | None = None
        self._descriptor = -1

    def __enter__(self) -> Self:
        try:
            if self._needs_lease or not self._flocked():
                self._lease = self._leased()
        except OSError as error:
            raise OutputError(f"{str(self.path)!r}: can't be locked: {error.strerror or error}") from error
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._lease is not None:
            self._lease.release()  # removes the file while it is still ours
        if self._descriptor >= 0:
            remove_open(self.path, self._descriptor)
            self._descriptor = -1

    def held(self) -> bool:
        """Whether it is still ours: a lease can be lost by a machine that slept for longer than it."""
        return self._descriptor >= 0 or (self._lease is not None and self._lease.is_lock_held_by_us)

    def _flocked(self) -> bool:
        """Takes the lock, or raises BusyError; False where the file system knows no locks."""
        while True:
            descriptor = os.open(self.path, _OPEN, 0o600)
            try:
                platform_files.lock(descriptor)
                if _is_at(descriptor, self.path):  # else its last holder has just removed it
                    os.ftruncate(descriptor, 0)
                    os.write(descriptor, json.dumps({"host": host_name(), "pid": os.getpid()}).encode())
                    self._descriptor, descriptor = descriptor, -1
                    return True
            except BlockingIOError as error:
                raise self._busy(_read(self.path)) from error
            except OSError as error:
                if error.errno not in _NO_LOCKS:
                    raise
                remove_open(self.path, descriptor)
                descriptor = -1
                return False
            finally:
                if descriptor >= 0:
                    os.close(descriptor)

    def _leased(self) -> SoftFileLease:
        """Takes a lease, or raises BusyError: at once, but for an old lease, which is watched for LEASE_SECONDS."""
        from filelock import LeaseSettingsMismatch, SoftFileLease, Timeout

        lease = SoftFileLease(
            self.path, lease_duration=LEASE_SECONDS, heartbeat_interval=RENEW_SECONDS, mode=0o600, thread_local=False
        )
        try:
            lease.acquire(timeout=0)
        except (Timeout, LeaseSettingsMismatch) as refused:
            if _age_seconds(self.path) <= OLD_SECONDS:
                raise self._busy(_owner_of(lease)) from refused
            try:
                lease.acquire(timeout=LEASE_SECONDS + RENEW_SECONDS, poll_interval=RENEW_SECONDS / 20)
            except (Timeout, LeaseSettingsMismatch) as error:
                raise self._busy(_owner_of(lease)) from error
        return lease

    def _busy(self, owner: Mapping[str, object]) -> BusyError:
        by = f"process {owner['pid']} on {owner['host']!r}" if {"pid", "host"} <= owner.keys() else "another process"
        return BusyError(f"{self.what}: locked by {by}. Try again when it is done")


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


def _owner_of(lease: SoftFileLease) -> dict[str, object]:
    """Process and host of a lease; filelock writes a container's number behind the host, after a question mark."""
    owner = lease.owner
    return {} if owner is None else {"pid": owner.pid, "host": owner.hostname.partition("?")[0]}


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
