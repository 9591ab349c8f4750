"""The bar of a terminal: one line that fits its width, with a clock as long as nothing can be counted."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import TextIO

from rich.console import Console, ConsoleOptions, RenderableType
from rich.constrain import Constrain
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TextColumn
from rich.table import Column
from rich.text import Text

from linfusion_cli.cli.text import seconds_text
from linfusion_cli.cli.wrapping import fitted

BAR_COLUMNS = 12
INTERRUPT_COLUMNS = 2  # "^C", which the terminal writes behind the bar: in the last column it would break the line
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


class OneLine(Progress):
    """A progress that leaves room for what the terminal writes on Ctrl-C, so that it can be taken off the screen."""

    def get_renderable(self) -> RenderableType:
        """The line, a little narrower than the terminal is when it is drawn."""
        return _Narrower(super().get_renderable())


class _Narrower:
    """What is drawn INTERRUPT_COLUMNS narrower than it could be."""

    def __init__(self, drawn: RenderableType) -> None:
        self._drawn = drawn

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[RenderableType]:
        yield Constrain(self._drawn, max(1, options.max_width - INTERRUPT_COLUMNS))


def print_above(bar: Progress, text: str) -> None:
    """Prints a line above the bar, wrapped as `say` does: commands that people copy stay whole."""
    for piece in fitted(text, bar.console.width):
        bar.console.print(Text(piece, overflow="fold"))


def live_bar(stream: TextIO, *names: str, now: Callable[[], float] = time.monotonic) -> Progress:
    """A bar on `stream`, a terminal: the columns are task fields, "bar" is the bar and "clock" the clock.

    The caller asked the stream itself whether it is a terminal; rich would also believe FORCE_COLOR, which cron jobs
    inherit. The line is cut at its end where the terminal is narrow, so the columns come in the order of their weight.
    """
    console = Console(file=stream, force_terminal=True, markup=False, highlight=False, emoji=False)
    return OneLine(
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
