"""The loop of a batch: sends one task after the other to the worker, and writes each outcome to the journal."""

from __future__ import annotations

import contextlib
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from linfusion_cli.batch.journal import Journal
from linfusion_cli.batch.task_list import Task
from linfusion_cli.batch.worker import request_as_json
from linfusion_cli.batch.worker_process import Answer, Child
from linfusion_cli.errors import (
    BusyError,
    DiskFullError,
    LinfusionError,
    Message,
    OutOfMemoryError,
    OutputError,
    Spell,
    UsageError,
    WeightsError,
    option,
)
from linfusion_cli.output.checkpoint_folder import hidden_folder, tidy
from linfusion_cli.output.file_lock import Lock
from linfusion_cli.system.signals import STOP

HANG_SECONDS = 60.0  # of silence: a child gives a sign every two seconds
STALL_SECONDS = 1800.0  # without a step or a row, and STALL_FACTOR times what the plan says for the whole phase
STALL_FACTOR = 20.0
SMALLER = 0.7  # of the memory that the last try planned
PATIENCE_SECONDS = 900.0  # for the end of a step, once the child was asked to stop
LOOK_SECONDS = 0.25
PERMANENT = (UsageError.exit_code, WeightsError.exit_code, OutputError.exit_code)  # trying again can't help
FRESH = (LinfusionError.exit_code, OutOfMemoryError.exit_code)  # the child may hold memory or a broken device


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """How a batch goes about its tasks.

    retries: how often a task is tried again after a failure that may not repeat. limit: images of this run, 0 = all.
    deadline: on `clock`, after which the running step is the last, 0 = none. checkpoint_seconds: see Job.
    """

    keep_going: bool = False
    retries: int = 2
    limit: int = 0
    deadline: float = 0.0
    checkpoint_seconds: float = 30.0
    thorough: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """What happened: `kind` is "redo", "begun", "plan", "event", "retry", "made" or "failed".

    left: images of this run that are not made yet, the one in hand among them.
    """

    kind: str
    task: Task
    left: int
    text: str = ""
    fields: dict[str, Any] = field(default_factory=dict)


@dataclass(slots=True)
class Summary:
    """The counts of a run; `error_code` is the exit code of the last task that failed, `stopped` why it ended early."""

    made: int = 0
    skipped: int = 0
    failed: int = 0
    left: int = 0
    loads: int = 0
    seconds: float = 0.0
    error_code: int = 0
    stopped: str = ""


@dataclass(slots=True)
class _Try:
    task: Task
    overwrite: bool
    number: int = 1
    less_bytes: int = 0  # plan for no more than this; 0: for what there is
    put_off: bool = False


def clock() -> float:
    """Seconds that go on while a laptop sleeps and that no correction of the date changes."""
    return time.clock_gettime(time.CLOCK_BOOTTIME) if hasattr(time, "CLOCK_BOOTTIME") else time.monotonic()


class Runner:
    """Runs the tasks of one folder.

    A task that fails raises nothing. A journal that can't be written raises OutputError, a full disk DiskFullError.
    Asked to stop, it returns as soon as the running step is kept: the caller looks at STOP afterwards.
    """

    def __init__(
        self,
        journal: Journal,
        options: Options,
        tell: Callable[[Told], None],
        start: Callable[[], Child] = Child,
        *,
        spell: Spell = str,  # how options are written in what is told and in the journal
    ) -> None:
        self._journal, self._options, self._tell, self._start, self._spell = journal, options, tell, start, spell
        self._child: Child | None = None
        self._summary = Summary()
        self._planned_bytes = 0
        self._stall_seconds = STALL_SECONDS

    def run(self, tasks: Sequence[Task]) -> Summary:
        """Does what is not done yet."""
        started = time.monotonic()
        STOP.patient = True
        try:
            self._run(deque(self._open(tasks)))
        except BaseException:
            if self._child is not None:
                self._child.kill()
            raise
        finally:
            STOP.patient = False
        if self._child is not None:
            self._child.end()
        self._summary.seconds = time.monotonic() - started
        if STOP.code:
            self._summary.stopped = "told to stop; the same command goes on"
        return self._summary

    def _open(self, tasks: Sequence[Task]) -> list[_Try]:
        """The tasks that are to be done, with what is to be replaced."""
        tries: list[_Try] = []
        for task in tasks:
            state = self._journal.state(task, thorough=self._options.thorough)
            if state == "done":
                self._summary.skipped += 1
                if task.id not in self._journal.done:
                    self._journal.add_done(task, self._journal.name_of(task), found=True)
                continue
            if state == "damaged":
                self._say("redo", task, f"{self._journal.name_of(task)} is damaged and made again")
            tries.append(_Try(replace(task, name=self._journal.name_of(task)), overwrite=state == "damaged"))
        self._summary.left = len(tries)
        return tries

    def _run(self, tries: deque[_Try]) -> None:
        while tries and self._goes_on():
            self._try(tries.popleft(), tries)

    def _goes_on(self) -> bool:
        options, summary = self._options, self._summary
        if STOP.code:
            return False
        if options.limit and summary.made >= options.limit:
            summary.stopped = f"{self._spell(option('limit'))} is reached"
        elif options.deadline and clock() >= options.deadline:
            summary.stopped = "the time is up"
        elif summary.failed and not options.keep_going:
            summary.stopped = f"an image failed; {self._spell(option('keep_going'))} goes on with the others"
        return not summary.stopped

    def _try(self, attempt: _Try, tries: deque[_Try]) -> None:
        self._say("begun", attempt.task, f"try {attempt.number}" if attempt.number > 1 else "")
        answer = self._answered(attempt)
        if answer["kind"] == "outgrown" and self._child is not None:
            self._child.end()
            self._child = None
            answer = self._answered(attempt)
        if answer["kind"] == "made":
            self._made(attempt, answer)
            return
        if answer["kind"] == "stopped":
            tries.appendleft(attempt)
            return
        code, message = int(answer["exit_code"]), Message.from_json(answer["message"]).spelled(self._spell)
        if answer.get("error") == DiskFullError.__name__:  # the others would find no room either
            left = f"{self._summary.made} made, {self._summary.left} left"
            advice = "Make room and give the same command again: what is done is kept"
            raise DiskFullError(f"{message}. The batch ends here ({left}). {advice}")
        if code in FRESH and self._child is not None:
            self._child.kill()
            self._child = None
        if code == BusyError.exit_code and not attempt.put_off:
            attempt.put_off = True
            tries.append(attempt)  # somebody else makes it: by then it is there
            return
        again = self._again(attempt, code, bool(answer.get("ran_out")), str(answer.get("cause", "")))
        if again is None:
            self._failed(attempt.task, message, code)
            return
        self._journal.add("retry", id=attempt.task.id, error=message, tries=attempt.number)
        less = f" with at most {again.less_bytes / 1e6:.0f} MB" if again.less_bytes != attempt.less_bytes else ""
        self._say("retry", attempt.task, f"{message}; tried again{less}")
        tries.appendleft(again)

    def _again(self, attempt: _Try, code: int, ran_out: bool, cause: str) -> _Try | None:  # noqa: FBT001
        """The next try, or None. It plans less memory after memory ran out, and after a second unexplained kill."""
        if attempt.number > self._options.retries or code in PERMANENT or code == BusyError.exit_code:
            return None
        again = replace(attempt, number=attempt.number + 1)
        if ran_out or code == OutOfMemoryError.exit_code or (cause == "killed" and attempt.number > 1):
            if not self._planned_bytes:  # it was the plan itself that found too little memory
                return None
            again.less_bytes = int(self._planned_bytes * SMALLER)
        return again

    def _made(self, attempt: _Try, answer: Answer) -> None:
        measured = {key: answer[key] for key in ("seconds", "peak_bytes", "device_peak_bytes")}
        self._journal.add_done(attempt.task, answer["name"], **measured, tries=attempt.number)
        self._summary.made += 1
        self._summary.left -= 1
        self._say("made", attempt.task, **measured, path=str(self._journal.folder / answer["name"]))

    def _failed(self, task: Task, message: str, code: int) -> None:
        self._summary.failed += 1
        self._summary.left -= 1
        self._summary.error_code = code
        self._say("failed", task, message, exit_code=code)
        self._journal.add("failed", id=task.id, error=message, exit_code=code)

    def _answered(self, attempt: _Try) -> Answer:
        """What becomes of one try: "made" or "failed" from the child, what it died of, or "stopped" as it was told.

        "outgrown": the image needs a process that keeps less; a fresh one makes it.
        """
        if self._child is None or self._child.dead:
            self._child, self._summary.loads = self._start(), self._summary.loads + 1
        child, self._planned_bytes, self._stall_seconds = self._child, 0, STALL_SECONDS
        self._journal.add("begun", id=attempt.task.id, place=attempt.task.place)
        request = attempt.task.request(self._journal.folder, overwrite=attempt.overwrite)
        request = replace(request, checkpoint_seconds=self._options.checkpoint_seconds)
        child.ask({"id": attempt.task.id, "request": request_as_json(request), "less_bytes": attempt.less_bytes})
        asked_to_stop, moved = 0.0, clock()
        while True:
            answer = child.hear(LOOK_SECONDS)
            if answer is not None and answer["kind"] in ("made", "failed", "outgrown"):
                return answer
            if answer is not None and answer["kind"] in ("plan", "event"):
                moved = clock() if answer.get("name") != "MemorySampled" else moved
                self._see(attempt.task, answer)
            if child.dead:
                return self._death(child, stopping=bool(asked_to_stop))
            if not asked_to_stop and (STOP.code or (self._options.deadline and clock() >= self._options.deadline)):
                asked_to_stop = clock()
                child.stop()
            hangs = child.silent_seconds > HANG_SECONDS
            if (
                hangs
                or clock() - moved > self._stall_seconds
                or (asked_to_stop and clock() - asked_to_stop > PATIENCE_SECONDS)
            ):
                return self._hang(child, stopping=bool(asked_to_stop), silent=hangs)

    def _see(self, task: Task, answer: Answer) -> None:
        if answer["kind"] == "plan":
            self._planned_bytes = int(answer["peak_bytes"])
            self._stall_seconds = max(STALL_SECONDS, STALL_FACTOR * max(seconds for _, _, seconds in answer["phases"]))
        self._tell(Told(kind=answer["kind"], task=task, left=self._left(), fields=dict(answer)))

    def _say(self, kind: str, task: Task, text: str = "", **fields: object) -> None:
        self._tell(Told(kind=kind, task=task, left=self._left(), text=text, fields=fields))

    def _left(self) -> int:
        """How many images this run still makes, if all goes well."""
        of_limit = self._options.limit - self._summary.made if self._options.limit else self._summary.left
        return min(self._summary.left, of_limit)

    def _death(self, child: Child, *, stopping: bool) -> Answer:
        child.end()
        self._child = None
        if stopping:
            return {"kind": "stopped"}
        killed = "killed" if child.process.returncode == -9 else ""
        return {
            "kind": "failed",
            "exit_code": 1,
            "message": child.cause(),
            "ran_out": child.ran_out_of_memory,
            "cause": killed,
        }

    def _hang(self, child: Child, *, stopping: bool, silent: bool) -> Answer:
        child.kill()
        self._child = None
        if stopping:
            return {"kind": "stopped"}
        what = f"gave no sign for {HANG_SECONDS:.0f} s" if silent else f"got no further for {self._stall_seconds:.0f} s"
        return {"kind": "failed", "exit_code": 1, "message": f"the process {what} and was ended"}


def shard_of(tasks: Sequence[Task], index: int, count: int) -> list[Task]:
    """The tasks of one of `count` machines: which, the id alone says, so that an edited list moves nothing."""
    return [task for task in tasks if int(task.id[:15], 16) % count == index % count]


@contextlib.contextmanager
def at_work(journal: Journal) -> Iterator[None]:
    """The folder's batch (or its shard's) as this process's alone, swept of what dead ones left, the journal open.

    Raises BusyError at once if another process is at it, and OutputError if nothing can be kept there.
    """
    try:
        hidden = hidden_folder(journal.folder)
    except OSError as error:
        raise OutputError(f"Can't keep a journal in {str(journal.folder)!r}: {error.strerror}") from error
    with Lock(hidden / f"lock{journal.shard}", f"the batch in {str(journal.folder)!r}"), journal:
        tidy(journal.folder)
        yield
