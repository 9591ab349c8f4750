"""The control groups of this process (Linux, versions 1 and 2): their memory limits, and their out-of-memory kills.

psutil does not read them. A container, a systemd unit with MemoryMax= and a cluster's job are control groups.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT, MEMBERSHIP = Path("/sys/fs/cgroup"), Path("/proc/self/cgroup")


@dataclass(frozen=True, slots=True)
class _Names:
    """The folder of a version's groups below ROOT, and the names of its files."""

    folder: str
    limit: str
    used: str
    cache: str  # a row of memory.stat: file pages that are given back when memory is short
    kills: str


VERSIONS = {
    "": _Names("", "memory.max", "memory.current", "inactive_file", "memory.events"),
    "memory": _Names(
        "memory", "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file", "memory.oom_control"
    ),
}


def memory_limits() -> Iterator[tuple[int, int]]:
    """(limit, used) in bytes of every group with a limit, from this process's own up; file caches are not counted."""
    for names, groups in _chains():
        for group in groups:
            try:
                limit, used = (int((group / name).read_text(encoding="utf-8")) for name in (names.limit, names.used))
            except (OSError, ValueError):  # no limit: "max"
                continue
            yield limit, max(0, used - _row(group / "memory.stat", names.cache))


def oom_kills() -> int:
    """How many processes of this process's own group the kernel has killed for memory; 0 without a count."""
    return sum(_row(groups[0] / names.kills, "oom_kill") for names, groups in _chains())


def _chains() -> Iterator[tuple[_Names, list[Path]]]:
    """For each version the groups that this process is in, the innermost first.

    Inside a container the paths may be those outside, which do not exist inside: then the top folder is its group.
    """
    for names, own in _memberships():
        top = ROOT / names.folder
        groups = [group for group in (own, *own.parents) if group.is_relative_to(top) and group.is_dir()]
        if groups:
            yield names, groups


def _memberships() -> Iterator[tuple[_Names, Path]]:
    try:
        lines = MEMBERSHIP.read_text(encoding="utf-8").splitlines()
    except OSError:  # not Linux
        return
    for line in lines:
        _, controllers, path = line.split(":", 2)
        for controller in controllers.split(","):
            if controller in VERSIONS:
                yield VERSIONS[controller], (ROOT / VERSIONS[controller].folder / path.lstrip("/")).resolve()


def _row(path: Path, name: str) -> int:
    """The number beside a name, in a file with a name and a number in every line; 0 if it is missing."""
    try:
        rows = (line.split() for line in path.read_text(encoding="ascii").splitlines())
        return next((int(row[1]) for row in rows if row[0] == name), 0)
    except (OSError, ValueError, IndexError):
        return 0
