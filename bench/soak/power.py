"""Power loss: the system calls of a batch are replayed on a model of a disk that keeps only what was synced.

Such a disk may write anything early, and need write nothing before a sync. So two things must hold at every call: a
name is given only to synced data, and "done" goes into the journal only after the image's name is synced.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from bench.soak.ground import Folder, Row

TRACED = "write,pwrite64,ftruncate,fallocate,fsync,fdatasync,rename,renameat,renameat2,link,linkat"
CALL = re.compile(r"(?P<name>\w+)\((?P<arguments>.*)\) += (?P<result>-?\d+)")
OF_DESCRIPTOR = re.compile(r"\d+<(?P<path>[^>]*?)(?: \(deleted\))?>")
TEXT = re.compile(r'"((?:[^"\\]|\\.)*)"')
DONE = re.compile(r'\\"event\\": ?\\"done\\"')
NAME = re.compile(r'\\"name\\": ?\\"(?P<name>[^"\\]+)\\"')


@dataclass(frozen=True, slots=True)
class Call:
    """One system call that succeeded: what it was, the file of its descriptor, its texts."""

    name: str
    path: str
    texts: tuple[str, ...]


@dataclass(slots=True)
class ForgetfulDisk:
    """What is certain to be there after the power is cut now."""

    unsynced: set[str] = field(default_factory=set)  # files with data that may be gone
    unnamed: dict[str, set[str]] = field(default_factory=dict)  # folder -> names in it that may be gone
    wrong: list[str] = field(default_factory=list)
    done: int = 0

    def see(self, call: Call) -> None:
        """Goes on by one call."""
        match call.name:
            case "write" | "pwrite64" | "ftruncate" | "fallocate":
                self.unsynced.add(call.path)
                if call.path.endswith(".jsonl") and DONE.search(" ".join(call.texts)):
                    self._done(Path(call.path).parents[1], " ".join(call.texts))
            case "fsync" | "fdatasync":
                self.unsynced.discard(call.path)
                self.unnamed.pop(call.path, None)
            case _:
                self._named(call.texts[0], call.texts[-1])

    def _named(self, old: str, new: str) -> None:
        if old in self.unsynced:
            self.wrong.append(f"{Path(new).name} got its name before its data were synced")
        self.unnamed.setdefault(str(Path(new).parent), set()).add(Path(new).name)

    def _done(self, folder: Path, text: str) -> None:
        for match in NAME.finditer(text):
            self.done += 1
            name = match["name"]
            if name in self.unnamed.get(str(folder), set()):
                self.wrong.append(f"{name} is done before its name is synced")
            if str(folder / name) in self.unsynced:
                self.wrong.append(f"{name} is done before its data are synced")


def calls(log: Iterator[str]) -> Iterator[Call]:
    """The successful calls of a log by strace -f -y, in the order of their ends."""
    begun: dict[str, str] = {}
    for line in log:
        process, _, text = line.strip().partition(" ")
        text = text.strip()
        if text.endswith("<unfinished ...>"):
            begun[process] = text.removesuffix("<unfinished ...>").rstrip()
            continue
        if text.startswith("<..."):
            text = begun.pop(process, "") + text.partition("resumed>")[2]
        match = CALL.match(text)
        if match and int(match["result"]) >= 0:
            descriptor = OF_DESCRIPTOR.match(match["arguments"])
            yield Call(match["name"], descriptor["path"] if descriptor else "", tuple(TEXT.findall(match["arguments"])))


def power(row: Row, root: Path, count: int) -> None:
    """A batch whose every call is recorded."""
    folder = Folder(root, [f"lake {i}" for i in range(count)], step=0.0)
    log = root / "calls.log"
    folder.command = [
        "strace",
        "-f",
        "-y",
        "-qq",
        "-s",
        "4096",
        "-e",
        f"trace={TRACED}",
        "-o",
        str(log),
        *folder.command,
    ]
    code, err = folder.run()
    disk = ForgetfulDisk()
    with log.open(errors="replace") as lines:
        for call in calls(lines):
            disk.see(call)
    row.runs, row.wrong = disk.done, disk.wrong
    if code or disk.done != count:
        row.wrong.append(f"exit {code}, {disk.done} of {count} done: {err[-200:]}")
    row.result = (
        f"{count} images; at every call of two processes: named after its data were synced, done after its name was"
    )
