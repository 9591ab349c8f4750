"""Shows the progress of an image: a live bar, plain lines, JSON lines, or nothing."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Protocol, TextIO

import typer

from linfusion_cli.cli.flags import source_text
from linfusion_cli.cli.json_output import emit
from linfusion_cli.cli.progress_tracker import Now, Tracker
from linfusion_cli.cli.spelling import told
from linfusion_cli.cli.terminal_images import require_protocol, shown
from linfusion_cli.cli.text import (
    bytes_text,
    obstacle_lines,
    plan_fields,
    plan_lines,
    result_lines,
    safe,
    seconds_text,
    setting_lines,
)
from linfusion_cli.cli.wrapping import columns_of, print_lines, say
from linfusion_cli.config.request_checks import NO_FILE
from linfusion_cli.errors import StandardOutputError, UsageError, first_of, option, quotes_prompt
from linfusion_cli.events import Event, MemorySampled, Note, PhaseFinished, PhaseStarted, PreviewMade, Progressed
from linfusion_cli.system.signals import STOP

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions
    from rich.progress import Progress, TaskID
    from rich.segment import Segment

    from linfusion_cli.config.job import Job
    from linfusion_cli.planning.planner import Plan
    from linfusion_cli.render import Rendered

JSON_INTERVAL_S = 0.1
LINE_INTERVAL_S = 10.0
NOT_STORED = "(the prompt is not stored)"  # in its place in log files
MEMORY_COLUMNS = 60  # from which on the bar has room for memory, WIDE_COLUMNS for the plan's beside that of now
WIDE_COLUMNS = 80


class Display(Protocol):
    """One way to show the work."""

    def notify(self, event: Event) -> None: ...

    def finish(self, rendered: Rendered) -> None: ...

    def close(self) -> None: ...


class Displays:
    """Every display of a run as one, closed on leaving the `with` block whatever happens.

    Events may come from several threads: the engine samples memory in one of its own.
    """

    def __init__(self, *displays: Display) -> None:
        self._displays = displays
        self._one_at_a_time = threading.Lock()

    def __enter__(self) -> Displays:
        return self

    def __exit__(self, *_: object) -> None:
        for display in self._displays:
            display.close()

    def notify(self, event: Event) -> None:
        with self._one_at_a_time:
            for display in self._displays:
                display.notify(event)

    def finish(self, rendered: Rendered) -> None:
        for display in self._displays:
            display.close()
            display.finish(rendered)


class LineDisplay:
    """Plain lines for logs and mails: one as a phase starts and ends, and one every ten seconds."""

    def __init__(self, plan: Plan, stream: TextIO, now: Now = time.monotonic, lines: Sequence[str] = ()) -> None:
        self._plan, self._stream, self._now = plan, stream, now
        self._tracker = Tracker(plan, now)
        self._last = now()
        print_lines(lines or plan_lines(plan, columns_of(stream)), stream)

    def notify(self, event: Event) -> None:
        self._tracker.see(event)
        match event:
            case PhaseStarted():
                missing = event.total - event.done
                self._print(f"{phase_text(self._plan, event)}" + (f": {missing} {event.unit}" if missing > 1 else ""))
            case PhaseFinished():
                peak = bytes_text(event.device_peak_bytes or event.peak_bytes)
                self._print(
                    f"stage {event.stage} {safe(event.name)}: done in {seconds_text(event.seconds)}, peak {peak}"
                )
            case Note():
                self._print(f"note: {safe(event.text)}")
            case Progressed() if self._now() - self._last >= LINE_INTERVAL_S and self._tracker.current is not None:
                current = self._tracker.current
                left = seconds_text(self._tracker.remaining_seconds)
                self._print(
                    f"stage {current.stage} {safe(current.name)}: "
                    f"{event.done}/{current.total} {current.unit}, about {left} left"
                )
            case Progressed() | MemorySampled() | PreviewMade():
                pass

    def finish(self, rendered: Rendered) -> None:
        print_lines(result_lines(rendered), self._stream)

    def close(self) -> None:
        self._stream.flush()

    def _print(self, text: str) -> None:
        self._last = self._now()
        print_lines([f"[{seconds_text(self._tracker.elapsed_seconds)}] {text}"], self._stream)


class LogDisplay(LineDisplay):
    """Plain lines for a log file: without the notes that quote a prompt which files must not hold."""

    def notify(self, event: Event) -> None:
        if not (isinstance(event, Note) and quotes_prompt(event.text)) or self._plan.job.stores_prompt:
            super().notify(event)


def without_quotes(plan: Plan) -> Plan:
    """The plan as a log file may show it where no file may hold the prompt."""
    notes = tuple(note for note in plan.notes if not quotes_prompt(note))
    return replace(plan, job=replace(plan.job, prompt=NOT_STORED), notes=notes)


class LiveDisplay:
    """A bar on a terminal: stage, steps, time left and memory.

    images: the protocol in which previews are drawn above it; "" for none
    """

    def __init__(
        self, plan: Plan, stream: TextIO, images: str = "", lines: Sequence[str] = (), now: Now = time.monotonic
    ) -> None:
        from linfusion_cli.cli.live_bar import live_bar

        self._plan, self._stream, self._images, self._now = plan, stream, images, now
        self._tracker = Tracker(plan)
        print_lines(lines or plan_lines(plan, columns_of(stream)), stream)
        self._bar: Progress = live_bar(stream, "doing", "bar", "clock", "counts", "left", "memory", now=now)
        self._task: TaskID = self._bar.add_task(
            "", total=None, doing="starting", since=now(), counts="", left="", memory=""
        )
        self._bar.start()

    def notify(self, event: Event) -> None:
        self._tracker.see(event)
        match event:
            case PhaseStarted():
                doing = f"stage {event.stage} {safe(event.name)}"
                self._bar.reset(self._task, total=event.total)
                self._bar.update(self._task, doing=doing, since=self._now())
            case Progressed():
                self._bar.update(self._task, since=None)
            case PhaseFinished():
                peak = bytes_text(event.device_peak_bytes or event.peak_bytes)
                self._print(f"stage {event.stage} {safe(event.name)}: {seconds_text(event.seconds)}, peak {peak}")
            case Note():
                self._print(f"note: {safe(event.text)}")
            case PreviewMade() if self._images:
                self._bar.console.print(_Drawn(shown(event, self._images)), end="")
            case MemorySampled() | PreviewMade():
                pass
        self._update()

    def finish(self, rendered: Rendered) -> None:
        print_lines(result_lines(rendered), self._stream)

    def close(self) -> None:
        self._bar.stop()

    def _update(self) -> None:
        current, tracker = self._tracker.current, self._tracker
        counts = f"{tracker.done}/{current.total} {current.unit}" if current else ""
        width = self._bar.console.width
        memory = bytes_text(tracker.held_bytes or tracker.peak_bytes) if width >= MEMORY_COLUMNS else ""
        if width >= WIDE_COLUMNS:
            memory += f" of {bytes_text(self._plan.peak_bytes)}"
        left = f"{seconds_text(tracker.remaining_seconds)} left"
        self._bar.update(self._task, completed=tracker.done, counts=counts, left=left, memory=memory)

    def _print(self, text: str) -> None:
        from linfusion_cli.cli.live_bar import print_above

        print_above(self._bar, text)


class JsonDisplay:
    """One JSON object per line, for programs; at most ten progress lines a second."""

    def __init__(self, plan: Plan, stream: TextIO, now: Now = time.monotonic) -> None:
        self._plan, self._stream, self._now = plan, stream, now
        self._tracker = Tracker(plan, now)
        self._last = -JSON_INTERVAL_S
        emit(stream, "plan", {"plan": plan_fields(plan)})

    def notify(self, event: Event) -> None:
        """Writes an event as JSON. If the reader has gone, asks for a stop at the next checkpoint; raises nothing."""
        self._tracker.see(event)
        try:
            self._emit(event)
        except StandardOutputError as error:
            STOP.request(error.exit_code)

    def _emit(self, event: Event) -> None:
        """Prints an event as a line of JSON; those that nobody outside needs are left out."""
        match event:
            case PhaseStarted():
                emit(self._stream, "phase", asdict(event))
            case PhaseFinished():
                emit(self._stream, "phase_done", asdict(event))
            case Note():
                emit(self._stream, "note", {"text": told(event.text)})
            case Progressed():
                self._progress(event)
            case MemorySampled():
                emit(self._stream, "memory", asdict(event))
            case PreviewMade():
                where = {"stage": event.stage, "done": event.done, "total": event.total}
                emit(self._stream, "preview", {"path": str(self._plan.job.preview), **where})

    def finish(self, rendered: Rendered) -> None:
        predicted = {
            "predicted_seconds": rendered.plan.seconds,
            "predicted_peak_bytes": rendered.plan.peak_bytes,
        }
        measured = {
            "seconds": rendered.seconds,
            "peak_bytes": rendered.peak_bytes,
            "device_peak_bytes": rendered.device_peak_bytes,
            **({"ranks": [asdict(use) for use in rendered.rank_uses]} if rendered.rank_uses else {}),
        }
        image = {"path": str(rendered.path), "seed": self._plan.job.seed}
        with suppress(StandardOutputError):  # the image is there: main() has nothing more to fail
            emit(self._stream, "summary", {**image, **measured, **predicted, "record": rendered.record})

    def close(self) -> None:
        with suppress(StandardOutputError):
            self._stream.flush()

    def _progress(self, event: Progressed) -> None:
        """Prints the progress of the running phase, not more often than JSON_INTERVAL_S."""
        current, now = self._tracker.current, self._now()
        if current is None or (now - self._last < JSON_INTERVAL_S and event.done != current.total):
            return
        self._last = now
        position = {
            "name": current.name,
            "stage": current.stage,
            "done": event.done,
            "total": current.total,
            "unit": current.unit,
        }
        emit(self._stream, "progress", {**position, "remaining_seconds": round(self._tracker.remaining_seconds, 1)})


def open_displays(
    plan: Plan,
    *,
    as_json: bool,
    quiet: bool,
    log: TextIO | None = None,
    which: str = "",
    with_plan: bool = True,
) -> Displays:
    """The displays that fit: JSON on stdout if asked for, a text display on stderr unless quiet, a log if there is one.

    Shows the plan at once, unless it was shown for an image before. which: "image 2 of 4".
    Raises UsageError where previews are asked for in a terminal that can't show them.
    """
    images = _images_protocol(plan, quiet=quiet)
    displays: list[Display] = [JsonDisplay(plan, sys.stdout)] if as_json else []
    if not quiet:
        live = has_live_terminal()
        lines = opening_lines(plan, which, with_plan=with_plan, columns=columns_of(sys.stderr))
        displays.append(
            LiveDisplay(plan, sys.stderr, images, lines) if live else LineDisplay(plan, sys.stderr, lines=lines)
        )
    if log is not None:
        logged = plan if plan.job.stores_prompt else without_quotes(plan)
        displays.append(LogDisplay(logged, log, lines=opening_lines(logged, which, with_plan=with_plan)))
    return Displays(*displays)


def opening_lines(plan: Plan, which: str, *, with_plan: bool, columns: int = 0) -> list[str]:
    """The lines above the progress: the plan and, if there are several images, which one this is."""
    title = f"{which}: seed {plan.job.seed}, {safe(plan.job.output.name)}"
    return [*(plan_lines(plan, columns) if with_plan else []), *([title] if which else [])]


def _images_protocol(plan: Plan, *, quiet: bool) -> str:
    """The protocol in which previews are drawn in the terminal; "" if none are asked for there."""
    if plan.job.preview != NO_FILE:
        return ""
    if quiet:
        raise UsageError('"-": ', option("quiet"), " shows nothing. Name a file: preview.jpg", parameter="preview")
    return require_protocol(os.environ, terminal=has_live_terminal())


class _Drawn:
    """An escape sequence as rich prints it: as it is, above the bar."""

    def __init__(self, sequence: str) -> None:
        self._sequence = sequence

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[Segment]:
        from rich.segment import ControlType, Segment

        yield Segment(self._sequence, None, [(ControlType.CARRIAGE_RETURN,)])  # a control: its width is not counted


def has_live_terminal() -> bool:
    """Whether stderr is a terminal on which a bar can move."""
    return sys.stderr.isatty() and os.environ.get("TERM") != "dumb"


def phase_text(plan: Plan, event: PhaseStarted) -> str:
    """ "stage 2 (1360x768) denoise"."""
    sizes = {stage.index: stage.size for stage in plan.stages}
    size = f" ({sizes[event.stage]})" if event.stage in sizes else ""
    return f"stage {event.stage}{size} {safe(event.name)}"


def show_plan(plan: Plan, obstacles: Sequence[str], *, as_json: bool, jobs: Sequence[Job] = ()) -> None:
    """Prints a plan to stdout for a dry run, with the source of each setting, and its obstacles.

    jobs: of several images, whose plans are the same but for seed and name
    """
    sources = {key: source_text(source) for key, source in plan.job.sources.items()}
    images = [{"seed": job.seed, "path": str(job.output)} for job in jobs] if len(jobs) > 1 else []
    if as_json:
        emit(
            sys.stdout,
            "plan",
            {
                "plan": plan_fields(plan),
                "sources": sources,
                "obstacles": [told(text) for text in obstacles],
                **({"images": images} if images else {}),
            },
        )
        return
    rows = [f"image {number}: seed {one['seed']}, {safe(one['path'])}" for number, one in enumerate(images, 1)]
    columns = columns_of(sys.stdout)
    for line in [
        *plan_lines(plan, columns),
        *first_of(rows, "image"),
        "",
    ]:
        say(line)
    for line in setting_lines(plan.job.settings, sources, columns):
        typer.echo(line)
    for line in obstacle_lines(obstacles):
        say(line)
