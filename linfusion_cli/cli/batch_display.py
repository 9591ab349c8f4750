"""What a user sees of a batch: a line for each picture, a bar on a terminal, JSON lines for programs, a log file."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from linfusion_cli.cli.console import emit
from linfusion_cli.cli.logs import LogFile
from linfusion_cli.cli.text import bytes_text, safe, seconds_text, table

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

    from linfusion_cli.batch.runner import Summary, Told
    from linfusion_cli.batch.tasks import Task

SHOWN_PROMPT = 60


class BatchDisplay:
    """Tells people (stderr, unless quiet), programs (stdout, if asked) and the log what happens. Failures are never quiet."""

    def __init__(self, total: int, log: LogFile, *, as_json: bool, quiet: bool, now: Callable[[], float] = time.monotonic) -> None:
        self._total, self._log, self._as_json, self._quiet, self._now = total, log, as_json, quiet, now
        self._ended, self._seconds = 0, [0.0, 0.0]  # pictures made, and their seconds
        self._bar: Progress | None = None
        self._task: TaskID | None = None
        self._doing = ""
        if not quiet and sys.stderr.isatty():
            self._bar, self._task = _bar(total)

    def close(self) -> None:
        if self._bar is not None:
            self._bar.stop()

    def tell(self, told: Told) -> None:
        """Shows one event of the runner."""
        if self._as_json and told.kind != "event":
            fields = {key: value for key, value in told.fields.items() if key not in ("kind", "phases")}
            emit(sys.stdout, told.kind, {"id": told.task.id, "place": told.task.place, "name": told.task.name, "text": told.text, **fields})
        match told.kind:
            case "made":
                self._made(told)
            case "failed":
                self._ended += 1
                self._line(f"failed: {told.task.place}: {told.text}", always=True)
            case "retry" | "redo":
                self._line(f"{told.kind}: {told.task.place}: {told.text}")
            case "begun":
                self._doing = f"{told.task.name}: {told.task.prompt[:SHOWN_PROMPT]}"
                self._log.add(f"begun: {told.task.place}: {told.task.name} {told.text}".rstrip())
            case "event":
                self._event(told)
            case _:
                pass
        self._update("")

    def _made(self, told: Told) -> None:
        self._ended += 1
        self._seconds = [self._seconds[0] + 1, self._seconds[1] + told.fields["seconds"]]
        measured = f"{seconds_text(told.fields['seconds'])}, peak {bytes_text(told.fields['device_peak_bytes'] or told.fields['peak_bytes'])}"
        self._line(f"[{self._ended}/{self._total}] {told.task.name}: {measured}, about {seconds_text(self._left_seconds())} left")
        if not self._quiet and not self._as_json:
            typer.echo(safe(told.fields["path"]))

    def _event(self, told: Told) -> None:
        fields = told.fields["fields"]
        if told.fields["name"] == "Note":
            self._line(f"note: {told.task.name}: {fields['text']}")
        elif told.fields["name"] == "PhaseStarted":
            self._update(f"stage {fields['stage']} {fields['name']}")

    def _left_seconds(self) -> float:
        made, seconds = self._seconds
        return (self._total - self._ended) * seconds / made if made else 0.0

    def _line(self, text: str, *, always: bool = False) -> None:
        self._log.add(text)
        if self._quiet and not always:
            return
        if self._bar is not None:
            from rich.text import Text

            self._bar.console.print(Text(safe(text)))
        else:
            typer.echo(safe(text), err=True)

    def _update(self, phase: str) -> None:
        if self._bar is not None and self._task is not None:
            left = f"{seconds_text(self._left_seconds())} left" if self._seconds[0] else ""
            self._bar.update(self._task, completed=self._ended, doing=safe(f"{self._doing} {phase}"), left=left)


def _bar(total: int) -> tuple[Progress, TaskID]:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

    texts = [TextColumn(f"{{task.fields[{name}]}}", markup=False) for name in ("left", "doing")]
    console = Console(file=sys.stderr, force_terminal=True, markup=False, highlight=False, emoji=False)
    bar = Progress(MofNCompleteColumn(), BarColumn(bar_width=20), *texts, console=console, transient=True, redirect_stdout=False, redirect_stderr=False)
    task = bar.add_task("", total=total, left="", doing="")
    bar.start()
    return bar, task


def summary_line(summary: Summary) -> str:
    """ "18 made, 2 done before, 1 failed, 3 left in 4 min 05 s (the time is up)"."""
    counts = [f"{summary.made} made", f"{summary.skipped} done before"]
    counts += [f"{count} {word}" for count, word in ((summary.failed, "failed"), (summary.left, "left")) if count]
    stopped = f" ({summary.stopped})" if summary.stopped and summary.left else ""
    return f"{', '.join(counts)} in {seconds_text(summary.seconds)}{stopped}"


def status_lines(rows: Sequence[tuple[Task, str, str]], folder: Path) -> list[str]:
    """Counts, then one line for each task that is not done."""
    counts: dict[str, int] = {}
    for _, state, _ in rows:
        counts[state] = counts.get(state, 0) + 1
    lines = [f"{len(rows)} pictures in {folder}: " + ", ".join(f"{count} {state}" for state, count in sorted(counts.items()))]
    others = [[safe(task.place), state, safe(task.name), safe(text)] for task, state, text in rows if state != "done"]
    return [safe(lines[0]), *(table(others, left=4) if others else [])]
