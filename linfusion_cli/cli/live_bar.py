"""The bar of a terminal: one line that fits its width, with a clock as long as nothing can be counted."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TextIO

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TextColumn
from rich.table import Column
from rich.text import Text

from linfusion_cli.cli.text import seconds_text

BAR_COLUMNS = 12
SINCE = "since"  # the field of a task that Clock reads


class Clock(ProgressColumn):
    """How long the task waits already: since its field `since`, in seconds of `now`; empty where that is None."""

    max_refresh = None

    def __init__(self, now: Callable[[], float]) -> None:
        super().__init__()
        self._now = now

    def render(self, task: Task) -> Text:
        """The clock as it is at this moment."""
        since = task.fields.get(SINCE)
        return Text("" if since is None else seconds_text(self._now() - since), no_wrap=True)


class LastColumn(TextColumn):
    """The column that is cut where the terminal is narrow: rich takes space from columns that may wrap, and first."""

    def __init__(self, text_format: str) -> None:
        super().__init__(text_format, markup=False, table_column=Column(no_wrap=False))

    def render(self, task: Task) -> Text:
        """The text in one line, whatever the column's width."""
        text = super().render(task)
        text.no_wrap, text.overflow = True, "ellipsis"
        return text


def live_bar(stream: TextIO, *names: str, now: Callable[[], float] = time.monotonic) -> Progress:
    """A bar on `stream`, a terminal: the columns are task fields, "bar" is the bar and "clock" the clock.

    The caller asked the stream itself whether it is a terminal; rich would also believe FORCE_COLOR, which cron jobs
    inherit. The line is cut at its end where the terminal is narrow, so the columns come in the order of their weight.
    """
    console = Console(file=stream, force_terminal=True, markup=False, highlight=False, emoji=False)
    return Progress(
        *(_column(name, now, last=name == names[-1]) for name in names),
        console=console,
        transient=True,
        redirect_stdout=False,
        redirect_stderr=False,
    )


def _column(name: str, now: Callable[[], float], *, last: bool) -> ProgressColumn:
    match name:
        case "bar":
            return BarColumn(bar_width=BAR_COLUMNS)
        case "clock":
            return Clock(now)
        case _:
            field = f"{{task.fields[{name}]}}"
            return LastColumn(field) if last else TextColumn(field, markup=False)
