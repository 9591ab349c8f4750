"""Shows a batch: a line for each image, a bar on a terminal, JSON lines for programs, a log file."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from linfusion_cli.batch.messages import Happened, Made, Planned, PlannedPhase, TaskState, Told
from linfusion_cli.batch.note_counts import NoteCounts
from linfusion_cli.cli.json_output import emit
from linfusion_cli.cli.logs import LogFile
from linfusion_cli.cli.render_display import has_live_terminal
from linfusion_cli.cli.spelling import told as spelled
from linfusion_cli.cli.text import bytes_text, safe, seconds_text, table
from linfusion_cli.cli.wrapping import say
from linfusion_cli.errors import MOST_LISTED, StandardOutputError, counted, first_of, quotes_prompt
from linfusion_cli.events import Event, Note, PhaseStarted, Progressed
from linfusion_cli.system.signals import STOP

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

    from linfusion_cli.batch.dry_run import DryRun
    from linfusion_cli.batch.runner import Summary
    from linfusion_cli.batch.task_list import Task

ONE_IMAGE = counted(1, "image")
LINE_SECONDS = 60.0  # between two lines about the current image, where there is no bar


class BatchDisplay:
    """Shows a batch on stderr (unless quiet), as JSON on stdout (if asked) and in the log. Failures always show."""

    def __init__(self, log: LogFile, *, as_json: bool, quiet: bool, now: Callable[[], float] = time.monotonic) -> None:
        self._log, self._as_json, self._quiet, self._now = log, as_json, quiet, now
        self._ended, self._left = 0, 0  # images of this run
        self._made, self._seconds = 0, 0.0  # images, and what they took
        self._workers = 1  # that make an image each, at a time
        self._image, self._waiting_since = _Image(), now()
        self._said = now()
        self._notes, self._unlogged = NoteCounts(), set[str]()  # those that quote a prompt which no file may hold
        self._stdout, self._stdout_dead = sys.stdout, False  # the one of now: what a library prints later is not ours
        self._bar: Progress | None = None
        self._task: TaskID | None = None
        if not quiet and has_live_terminal():
            self._bar, self._task = _bar(now)

    def close(self) -> None:
        if self._bar is not None:
            self._bar.stop()
            self._bar = None

    def tell(self, told: Told) -> None:
        """Shows one event of the runner."""
        self._left, self._workers = told.left, told.workers
        if self._as_json:
            self._emit(told)
        match told:
            case Told(answer=Made() as made):
                self._show_made(told, made)
            case Told(answer=Planned(phases=phases, notes=notes)):
                self._image.planned = phases
                for note in notes:
                    self._note(told.task, note)
            case Told(answer=Happened(event)):
                self._event(told.task, event)
            case Told(state=TaskState.FAILED):
                self._ended, self._image = self._ended + 1, _Image()
                self._line(f"failed: {told.task.place}: {told.text}", always=True)
            case Told(state=TaskState.BEGUN):
                self._image, self._waiting_since = _Image(told.task.name), self._now()
                self._log.add(f"begun: {told.task.place}: {told.task.name} {told.text}".rstrip())
            case _:
                self._line(f"{told.state}: {told.task.place}: {told.text}")
        self._update()

    def _emit(self, told: Told) -> None:
        """Writes one line of JSON. If the reader has gone, asks the batch to stop at the next checkpoint."""
        task: dict[str, object] = {
            "id": told.task.id,
            "place": told.task.place,
            "name": told.task.name,
            "text": told.text,
        }
        state: str = told.state
        match told.answer:
            case Planned(notes=notes):
                task["notes"] = [spelled(note) for note in notes]
            case Happened(Note(text=text)):
                state, task["text"] = "note", spelled(text)
            case Happened():
                return
            case _:
                pass
        try:
            emit(self._stdout, state, {**task, **told.numbers()})
        except StandardOutputError as error:
            STOP.request(error.exit_code)

    def _show_made(self, told: Told, made: Made) -> None:
        seconds, peak = made.seconds, made.device_peak_bytes or made.peak_bytes
        self._ended, self._image = self._ended + 1, _Image()
        self._made, self._seconds = self._made + 1, self._seconds + seconds
        left = f", about {seconds_text(self._left_seconds())} left" if self._left else ""
        paths = not self._quiet and not self._as_json
        on_one_screen = (
            self._bar is not None and self._stdout.isatty()
        )  # there the line names the path, a bar must not be written over
        name = told.path if paths and on_one_screen else told.task.name
        self._line(
            f"[{self._ended}/{self._ended + self._left}] {name}: {seconds_text(seconds)}, peak {bytes_text(peak)}{left}"
        )
        if paths and not on_one_screen:
            self._announce(safe(told.path))

    def _announce(self, path: str) -> None:
        """Prints the path on stdout. If stdout can't be written, says so once on stderr; the batch goes on."""
        if self._stdout_dead:
            return
        try:
            typer.echo(path, file=self._stdout)
        except StandardOutputError as error:
            self._stdout_dead = True
            self._line(f"note: {error}")

    def _event(self, task: Task, event: Event) -> None:
        if isinstance(event, Note):
            self._note(task, event.text)
        self._image.see(event)
        if self._bar is None and self._now() - self._said >= LINE_SECONDS:
            self._line(f"{task.name}: {self._image.text}, about {seconds_text(self._left_seconds())} left")

    def _note(self, task: Task, note: str) -> None:
        """Shows a note with the first image that it concerns; sum_up() tells with how many others."""
        if quotes_prompt(note) and not task.kind.job.stores_prompt:
            self._unlogged.add(note)
        if self._notes.add(note, [task.id]):
            logged = note not in self._unlogged
            self._line(f"note: {task.name}: {spelled(note)}", logged=logged)

    def sum_up(self, summary: Summary) -> None:
        """Shows the notes that concern more than one image, and the counts of the run."""
        for note, images in self._notes.shown():
            if images != ONE_IMAGE:
                self._line(f"note: {images}: {spelled(note)}", logged=note not in self._unlogged)
        self._line(summary_line(summary))
        if self._as_json:
            notes = [{"text": spelled(note), "images": count} for note, count in self._notes.counts()]
            emit(self._stdout, "summary", {**asdict(summary), "notes": notes})

    def _left_seconds(self) -> float:
        """Seconds left for all images: by the mean of those made in this run, or by the plan before the first."""
        each = self._seconds / self._made if self._made else self._image.planned_seconds
        return each * max(0.0, self._left - self._image.part) / self._workers

    def _line(self, text: str, *, always: bool = False, logged: bool = True) -> None:
        if logged:
            self._log.add(text)
        self._said = self._now()
        if self._quiet and not always:
            return
        if self._bar is not None:
            from linfusion_cli.cli.live_bar import print_above

            print_above(self._bar, safe(text))
        else:
            say(safe(text), err=True)

    def _update(self) -> None:
        if self._bar is not None and self._task is not None:
            left = f"{seconds_text(self._left_seconds())} left" if self._left_seconds() else ""
            doing = " ".join(text for text in (self._image.text, self._image.name) if text)
            total = self._ended + self._left
            count = f"{min(self._ended + 1, total)}/{total}"
            self._bar.update(
                self._task,
                completed=self._ended + self._image.part,
                total=total,
                count=count,
                left=left,
                doing=safe(doing or "starting"),
                since=None if self._image.part else self._waiting_since,
            )


class _Image:
    """The progress of the current image, with its phases weighted by their planned seconds."""

    def __init__(self, name: str = "") -> None:
        self.name = name
        self.planned: Sequence[PlannedPhase] = ()
        self._phase, self._stage, self._unit = "loading", -1, ""
        self._done, self._total = 0, 0

    @property
    def planned_seconds(self) -> float:
        return sum(seconds for _, _, seconds in self.planned)

    @property
    def part(self) -> float:
        """From 0 to 1."""
        done, running = 0.0, self._done / self._total if self._total else 0.0
        for name, stage, seconds in self.planned:
            if (name, stage) == (self._phase, self._stage):
                return (done + running * seconds) / (self.planned_seconds or 1.0)
            done += seconds
        return 0.0

    @property
    def text(self) -> str:
        """ "stage 1 denoise 3/20 steps"."""
        if not self.name or self._stage < 0:
            return self._phase if self.name else ""
        return f"stage {self._stage} {self._phase} {self._done}/{self._total} {self._unit}"

    def see(self, event: Event) -> None:
        """Follows the phase and its steps."""
        match event:
            case PhaseStarted():
                self._phase, self._stage, self._unit = event.name, event.stage, event.unit
                self._done, self._total = event.done, event.total
            case Progressed():
                self._done = event.done
            case _:
                pass


def _bar(now: Callable[[], float]) -> tuple[Progress, TaskID]:
    from linfusion_cli.cli.live_bar import live_bar

    bar = live_bar(sys.stderr, "count", "bar", "clock", "left", "doing", now=now)
    task = bar.add_task("", total=None, count="", left="", doing="starting", since=now())
    bar.start()
    return bar, task


def summary_line(summary: Summary) -> str:
    """ "18 made, 2 done before, 1 failed, 3 left in 4 min 05 s (the time is up)"."""
    counts = [f"{summary.made} made", f"{summary.skipped} done before"]
    counts += [f"{count} {word}" for count, word in ((summary.failed, "failed"), (summary.left, "left")) if count]
    stopped = f" ({summary.stopped})" if summary.stopped and summary.left else ""
    return f"{', '.join(counts)} in {seconds_text(summary.seconds)}{stopped}"


def status_lines(rows: Sequence[tuple[Task, str, str]], folder: Path, columns: int = 0) -> list[str]:
    """Counts, then a line for each task that is not done, MOST_LISTED of each state; in JSON there are all."""
    counts: dict[str, int] = {}
    for _, state, _ in rows:
        counts[state] = counts.get(state, 0) + 1
    states = ", ".join(f"{count:,} {state}" for state, count in sorted(counts.items()))
    lines = [safe(f"{counted(len(rows), 'image')} in {folder}: {states}")]
    for state in [state for state in sorted(counts) if state != "done"]:
        alike = [(task, text) for task, found, text in rows if found == state]
        shown = [[safe(task.place), state, safe(task.name), safe(text)] for task, text in alike[:MOST_LISTED]]
        lines += table(shown, left=4, columns=columns)
        lines += [f"and {len(alike) - MOST_LISTED:,} more {state}"] if len(alike) > MOST_LISTED else []
    return lines


def dry_run_lines(found: DryRun) -> list[str]:
    """The time and memory of each configuration, the notes, and the obstacles."""
    lines = [
        f"{counted(kind.images, 'image')} of {kind.size}, preset {kind.preset}: {seconds_text(kind.seconds)} and "
        f"{bytes_text(kind.peak_bytes)} each"
        for kind in found.planned
    ]
    if len(found.planned) > 1 or any(kind.images > 1 for kind in found.planned):
        lines.append(f"in all {seconds_text(sum(kind.seconds * kind.images for kind in found.planned))}")
    if found.unplanned:
        what = counted(len(found.unplanned), "other configuration")
        lines.append(f"not planned, beyond the first {len(found.planned) + found.refused}: {what}")
        listed = [
            f"  {counted(kind.images, 'image')} of {kind.size}, preset {kind.preset}, from {kind.place}"
            for kind in found.unplanned
        ]
        lines += first_of(listed, "configuration")
    lines += [f"note: {images}: {spelled(note)}" for note, images in found.notes.shown()]
    return [*map(safe, lines), *obstacle_lines(found)]


def obstacle_lines(found: DryRun) -> list[str]:
    """What would make images fail, and how many."""
    return [safe(f"would fail, {images}: {spelled(text)}") for text, images in found.obstacles.shown()]


def emit_dry_run(found: DryRun) -> None:
    """Writes the result of a dry run as JSON lines on stdout."""
    for kind in found.planned:
        emit(sys.stdout, "plan", asdict(kind))
    for left_out in found.unplanned:
        emit(sys.stdout, "unplanned", asdict(left_out))
    for name, counts in (("note", found.notes), ("obstacle", found.obstacles)):
        for text, images in counts.counts():
            emit(sys.stdout, name, {"text": spelled(text), "images": images})
