"""What a process that reads a stranger's pickle may do: compute, and write the one file that is open already."""

from __future__ import annotations

import contextlib
import mmap
import os
import sys

# Events of Python's audit hooks (PEP 578) that reading weights never causes.
FORBIDDEN = (
    *("socket.", "subprocess.", "os.system", "os.exec", "os.posix_spawn", "os.spawn", "os.fork", "pty.", "ctypes."),
    *("urllib.", "ftplib.", "smtplib.", "http.", "webbrowser.", "shutil.", "os.remove", "os.rename", "os.rmdir"),
    *("os.chmod", "os.chown", "os.link", "os.symlink", "os.truncate", "os.putenv", "os.kill"),
)
SLACK_BYTES = 2 << 30  # beside the file: torch's own buffers
CPU_SECONDS, CPU_BYTES_PER_SECOND = 120, 10_000_000
WRITES = os.O_WRONLY | os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_TRUNC


class ForbiddenError(Exception):
    """Reading a file tried to do something else than to read it."""


def limit(file_bytes: int) -> None:
    """Bounds memory and time by the file's size, and takes the network away, where the system lets us.

    Windows has no such limits: there the parent's clock alone ends a process that takes too long.
    """
    used = _virtual_bytes()
    if used:
        _bound("RLIMIT_AS", used + 3 * file_bytes + SLACK_BYTES)
    _bound("RLIMIT_CPU", CPU_SECONDS + file_bytes // CPU_BYTES_PER_SECOND)
    _bound("RLIMIT_CORE", 0)
    if unshare := getattr(os, "unshare", None):  # Python 3.12 on Linux
        with contextlib.suppress(OSError):  # containers often forbid it; the hook below stays
            unshare(getattr(os, "CLONE_NEWUSER", 0) | getattr(os, "CLONE_NEWNET", 0))


def forbid() -> None:
    """From here on this process opens no connection, starts no program, opens no file to write. It can't be undone."""
    sys.addaudithook(_hook)


def _hook(event: str, arguments: tuple[object, ...]) -> None:
    if event.startswith(FORBIDDEN) or (event == "open" and _writes(arguments)):
        raise ForbiddenError(event)


def _writes(arguments: tuple[object, ...]) -> bool:
    flags = arguments[2] if len(arguments) > 2 else 0
    return isinstance(flags, int) and bool(flags & WRITES)


def _bound(kind: str, value: int) -> None:
    with contextlib.suppress(OSError, ValueError, ImportError):  # a lower limit is in force already, or there are none
        import resource

        resource.setrlimit(getattr(resource, kind), (value, value))


def _virtual_bytes() -> int:
    """The address space in use; 0 where the system does not tell (macOS), which then has no limit for it either."""
    try:
        with open("/proc/self/statm", encoding="ascii") as file:
            return int(file.read().split()[0]) * mmap.PAGESIZE
    except (OSError, ValueError):
        return 0
