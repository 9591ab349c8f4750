"""The journal of a batch: JSON lines that say what is done, each synced to disk before the next."""

from __future__ import annotations

import contextlib
import json
import os
import re
import stat
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Literal, Self

from linfusion_cli.batch.task_list import Task
from linfusion_cli.errors import OutputError, UsageError
from linfusion_cli.json_files import JsonError, parse_json
from linfusion_cli.output.checkpoint_folder import hidden_folder, open_plain
from linfusion_cli.output.formats.check import check, has_ends
from linfusion_cli.output.metadata import read_record
from linfusion_cli.platform_files import NO_FOLLOW, PRIVATE, read_at
from linfusion_cli.redaction import redacted

LINE_BYTES = 16 << 20  # of a journal that are read; older journals hold the numbers of all new images in one line
PIECE_BYTES = 4 << 20  # of a journal that are read at a time
NUMBERS_PER_LINE = 10_000
HIDDEN_KEYS = ("negative_prompt",)  # of flags: of a batch that stores no prompt
State = Literal["done", "missing", "damaged", "foreign"]
_EVENT = re.compile(rb'"event": "(?:done|failed|numbers|flags)"')  # those that say something for the next run
_PART = re.compile(r"-\d+-of-(\d+)")  # of a list, in a journal's name
_OPEN = os.O_RDWR | os.O_CREAT | os.O_APPEND | NO_FOLLOW | PRIVATE


@dataclass(frozen=True, slots=True)
class Flags:
    """The flags of the last run that decide its tasks."""

    common: Mapping[str, object]  # values of rows that do not say otherwise
    template: str  # of the files' names
    wildcards: str  # the folder; "": none
    not_stored: tuple[str, ...] = ()  # keys of `common` that were given, and that no file may hold

    def stored(self) -> Flags:
        """The flags without the words of a negative prompt."""
        hidden = tuple(key for key in HIDDEN_KEYS if self.common.get(key))
        common = {key: value for key, value in self.common.items() if key not in HIDDEN_KEYS}
        return Flags(common, self.template, self.wildcards, hidden)


@dataclass(frozen=True, slots=True)
class Done:
    """A finished image as it was when the journal noted it."""

    name: str
    size_bytes: int
    modified_ns: int


class Journal:
    """The journals of a folder, read once; `shard` names the journal that this process may append to.

    read: False where another process has read them, and tells what is done by recall().
    other_parts: False leaves out the journals of the other parts of as many, of which none knows a task of this part:
    what all 1,000 parts of a list would read a thousand times. The numbers of images need them.

    The journal alone proves nothing: an image counts as done only if its file is whole, and one that no journal knows
    is known by the id inside it.
    """

    def __init__(self, folder: Path, shard: str = "", *, read: bool = True, other_parts: bool = True) -> None:
        self.folder, self.shard = folder, shard
        self.done: dict[str, Done] = {}
        self.failed: dict[str, str] = {}
        self.flags: Flags | None = None
        self._numbers: dict[str, int] = {}
        self._noted: set[str] = set()
        self._descriptor = -1
        for path in _paths(folder, "" if other_parts else shard) if read else ():
            for row in _rows(path):
                self._see(row)

    def __enter__(self) -> Self:
        """Opens the journal. Raises OutputError where it can't be written."""
        try:
            hidden = hidden_folder(self.folder)
            self._descriptor = os.open(hidden / f"journal{self.shard}.jsonl", _OPEN, 0o666)
            size = os.fstat(self._descriptor).st_size
            if size and read_at(self._descriptor, 1, size - 1) != b"\n":
                os.write(self._descriptor, b"\n")  # the last writer died in the middle of its line
        except OSError as error:
            raise OutputError(f"Can't keep a journal in {str(self.folder)!r}: {error.strerror}") from error
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.close(self._descriptor)
        self._descriptor = -1

    def add(self, event: str, **fields: object) -> None:
        """Appends an event and syncs it to disk. Raises OutputError if that fails."""
        row = {"time": time.strftime("%Y-%m-%dT%H:%M:%S%z"), "event": event, **fields}
        self._see(row)
        line = memoryview(redacted(json.dumps(row)).encode() + b"\n")
        try:
            while line:
                line = line[os.write(self._descriptor, line) :]
            os.fsync(self._descriptor)
        except OSError as error:
            raise OutputError(f"Can't write the journal in {str(self.folder)!r}: {error.strerror}") from error

    def add_done(self, task: Task, name: str, **fields: object) -> None:
        """Appends a finished image, with the size and time of its file. Raises what add() raises."""
        info = os.stat(self.folder / name)
        self.add("done", id=task.id, name=name, size_bytes=info.st_size, modified_ns=info.st_mtime_ns, **fields)

    def recall(self, key: str, done: Done | None) -> None:
        """Takes over what another journal knows of a task's image, so that a damaged one is known to be ours."""
        if done is not None:
            self.done[key] = done

    def numbers(self, ids: Sequence[str]) -> Mapping[str, int]:
        """The permanent number of each id; new ids get the next free numbers, in the order of `ids`."""
        free = max(self._numbers.values(), default=0)
        for key in ids:
            if key not in self._numbers:
                free += 1
                self._numbers[key] = free
        return self._numbers

    def keep_numbers(self, ids: Sequence[str]) -> None:
        """Notes the new numbers, before a file is named by one."""
        new = [(key, self._numbers[key]) for key in ids if key in self._numbers and key not in self._noted]
        for start in range(0, len(new), NUMBERS_PER_LINE):  # a line is read within limits, however long the list is
            self.add("numbers", numbers=dict(new[start : start + NUMBERS_PER_LINE]))

    def keep_flags(self, flags: Flags) -> None:
        """Notes the flags of this run, unless the last one had the same."""
        if flags != self.flags:
            hidden = {"not_stored": list(flags.not_stored)} if flags.not_stored else {}
            self.add("flags", common=flags.common, template=flags.template, wildcards=flags.wildcards, **hidden)

    def name_of(self, task: Task) -> str:
        """The file name of the task's image: the one under which it was finished, or the name of the task."""
        return self.done[task.id].name if task.id in self.done else task.name

    def state(self, task: Task, *, thorough: bool) -> State:
        """The state of the task's image file: missing, whole, damaged, or another image.

        Of a file with the size and time that the journal noted only both ends are read. Any other file is read whole,
        and so is every file if `thorough`.
        """
        path = os.path.join(
            self.folder, self.name_of(task)
        )  # a Path would cost as much as the look itself, and lists are long
        try:
            info = os.lstat(path)
        except OSError:
            return "missing"
        noted = self.done.get(task.id)
        if (
            noted
            and not thorough
            and (info.st_size, info.st_mtime_ns) == (noted.size_bytes, noted.modified_ns)
            and has_ends(path)
        ):
            return "done"
        if not stat.S_ISREG(info.st_mode):
            return "foreign"
        return self._read_state(task, Path(path), known=noted is not None)

    def _read_state(self, task: Task, path: Path, *, known: bool) -> State:
        ours = known or task.id[:8] in path.name
        try:
            if read_record(path).get("id") != task.id:
                return "foreign"
            check(path)
        except (UsageError, OutputError):
            return "damaged" if ours else "foreign"
        return "done"

    def _see(self, row: Mapping[str, object]) -> None:
        """Takes in one line; one of an unknown kind, or with wrong values, is left out."""
        match row:
            case {
                "event": "done",
                "id": str(key),
                "name": str(name),
                "size_bytes": int(size),
                "modified_ns": int(modified),
            } if name == os.path.basename(name):
                self.done[key] = Done(name, size, modified)
                self.failed.pop(key, None)
            case {"event": "failed", "id": str(key), "error": str(error)}:
                self.failed[key] = error
            case {"event": "numbers", "numbers": dict(numbers)}:
                known = {str(key): number for key, number in numbers.items() if isinstance(number, int)}
                self._numbers.update(known)
                self._noted.update(known)
            case {"event": "flags", "common": dict(common), "template": str(template), "wildcards": str(folder)}:
                hidden = row.get("not_stored")
                names = tuple(key for key in HIDDEN_KEYS if isinstance(hidden, list) and key in hidden)
                self.flags = Flags({str(key): value for key, value in common.items()}, template, folder, names)
            case _:
                pass


def _paths(folder: Path, part: str) -> list[Path]:
    """The journals of a folder; with "-2-of-8" without those of the seven other parts."""
    found = sorted((folder / ".linfusion").glob("journal*.jsonl"))
    count = _PART.fullmatch(part)
    others = re.compile(rf"journal-\d+-of-{count[1]}\.jsonl") if count else None
    return [path for path in found if not (others and others.fullmatch(path.name)) or path.stem == f"journal{part}"]


def _rows(path: Path) -> Iterator[Mapping[str, object]]:
    """The complete lines. Lines cut off by the death of their writer, and lines above LINE_BYTES, are ignored."""
    file = open_plain(path)
    if file is None:
        return
    with file, contextlib.suppress(OSError):
        for line in _lines(file):
            with contextlib.suppress(JsonError):
                yield parse_json(line, "a line of a journal", LINE_BYTES)


def _lines(file: BinaryIO) -> Iterator[bytes]:
    """The lines that name an event of interest, of a file of any size, in bounded memory."""
    rest = b""
    while piece := file.read(PIECE_BYTES):
        head, newline, tail = piece.rpartition(b"\n")
        if newline:
            yield from _event_lines(rest + head)
            rest = tail
        elif len(rest) <= LINE_BYTES:  # beyond that the line is refused, however long it is
            rest += piece
    yield from _event_lines(rest)


def _event_lines(data: bytes) -> Iterator[bytes]:
    """The lines that name an event of interest; all others are skipped without being parsed."""
    at = 0
    while found := _EVENT.search(data, at):
        end = data.find(b"\n", found.end())
        end = end if end >= 0 else len(data)
        yield data[max(at, data.rfind(b"\n", at, found.start()) + 1) : end]
        at = end + 1
