"""Shows a training or an evaluation: a bar on a terminal or lines, JSON lines for programs, and a log file."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable, Iterator
from types import TracebackType
from typing import TYPE_CHECKING, Any, Protocol, Self, runtime_checkable

import typer

from linfusion_cli.cli.json_output import emit
from linfusion_cli.cli.logs import LogFile
from linfusion_cli.cli.rank_roles import is_first_process
from linfusion_cli.cli.render_display import has_live_terminal
from linfusion_cli.cli.spelling import told
from linfusion_cli.cli.streams import announce
from linfusion_cli.cli.terminal_tables import fitted_tables
from linfusion_cli.cli.text import safe
from linfusion_cli.cli.wrapping import columns_of, say

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

LOG_SECONDS = 60.0  # between two lines of progress in a log


@runtime_checkable
class Advance(Protocol):
    """A progress event; str() of it says the same in one line."""

    @property
    def step(self) -> int: ...

    @property
    def steps(self) -> int: ...


@runtime_checkable
class Reported(Protocol):
    """An event or a result with a JSON line of its own; all others are notes."""

    @property
    def kind(self) -> str: ...

    def as_dict(self) -> dict[str, Any]: ...


@runtime_checkable
class Result(Protocol):
    """A result: its lines go to stdout."""

    def lines(self) -> Iterator[str]: ...


class TrainingDisplay:
    """Shows what a work yields, in a `with` block that may begin before its libraries are imported.

    quiet: nothing on stderr, only results on stdout. as_json: JSON lines on stdout instead of all text
    there. The processes of a launcher but the first show nothing.
    """

    def __init__(
        self,
        *,
        quiet: bool,
        as_json: bool = False,
        log: LogFile | None = None,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        first = is_first_process()
        self._quiet, self._as_json, self._log, self._now = quiet or not first, as_json and first, log, now
        self._first, self._logged = first, -LOG_SECONDS
        self._bar: Progress | None = None
        self._task: TaskID | None = None

    def __enter__(self) -> Self:
        if not self._quiet and has_live_terminal():
            from linfusion_cli.cli.live_bar import live_bar

            self._bar = live_bar(sys.stderr, "bar", "clock", "text", now=self._now)
            self._task = self._bar.add_task("", total=None, text="starting", since=self._now())
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._close()

    def run(self, work: Iterable[object]) -> None:
        """Runs the work to its end and shows all that it yields."""
        for item in work:
            self._add_to_log(item)
            if self._as_json:
                _emit(item)
            if isinstance(item, Result):
                self._show_result(item)
            elif not self._quiet:
                self._show(item)

    def announce(self, path: object) -> None:
        """Prints where the result is, on stdout; JSON lines name it themselves."""
        self._close()
        if self._first and not self._quiet and not self._as_json:
            announce(safe(path))

    def _show(self, item: object) -> None:
        if self._bar is None or self._task is None:
            say(safe(item), err=True)
        elif isinstance(item, Advance):
            self._bar.update(self._task, completed=item.step, total=item.steps, text=safe(item), since=None)
        else:
            from linfusion_cli.cli.live_bar import print_above

            print_above(self._bar, safe(item))

    def _show_result(self, item: Result) -> None:
        self._close()  # a bar must not be written over
        for line in fitted_tables(item.lines(), columns_of(sys.stdout)) if self._first and not self._as_json else ():
            (typer.echo if line.startswith("|") else say)(safe(line))  # tables are Markdown for files

    def _add_to_log(self, item: object) -> None:
        if self._log is None or not self._first:
            return
        if isinstance(item, Advance):
            if self._now() - self._logged < LOG_SECONDS and item.step < item.steps:
                return
            self._logged = self._now()
        for line in item.lines() if isinstance(item, Result) else (item,):
            self._log.add(safe(line))

    def _close(self) -> None:
        if self._bar is not None:
            self._bar.stop()
            self._bar = None


def _emit(item: object) -> None:
    if isinstance(item, Reported):
        emit(sys.stdout, item.kind, item.as_dict())
    else:
        emit(sys.stdout, "note", {"text": told(item)})


def show(work: Iterable[object], *, quiet: bool, as_json: bool = False, log: LogFile | None = None) -> None:
    """Runs the work to its end in a display of its own."""
    with TrainingDisplay(quiet=quiet, as_json=as_json, log=log) as display:
        display.run(work)
