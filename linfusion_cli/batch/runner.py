"""The loop of a batch: sends one task after the other to the worker, and writes each outcome to the journal."""

from __future__ import annotations

import contextlib
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from linfusion_cli.batch.journal import Journal
from linfusion_cli.batch.messages import (
    Failed,
    Happened,
    Made,
    Order,
    Outcome,
    Outgrown,
    Planned,
    Stopped,
    TaskState,
    Told,
    failure,
)
from linfusion_cli.batch.task_list import Task
from linfusion_cli.batch.worker_process import KILLED, WorkerProcess
from linfusion_cli.errors import (
    BusyError,
    DiskFullError,
    LinfusionError,
    OutOfMemoryError,
    OutputError,
    RanksError,
    Spell,
    UsageError,
    WeightsError,
    option,
)
from linfusion_cli.events import MemorySampled
from linfusion_cli.output.checkpoint_folder import hidden_folder, tidy
from linfusion_cli.output.file_lock import Lock
from linfusion_cli.rank_process import MEETING_SECONDS
from linfusion_cli.system.signals import STOP

HANG_SECONDS = 60.0  # of silence: a worker gives a sign every two seconds
STALL_SECONDS = 1800.0  # without a step or a row, and STALL_FACTOR times what the plan says for the whole phase
STALL_FACTOR = 20.0
SMALLER = 0.7  # of the memory that the last try planned
PATIENCE_SECONDS = 900.0  # for the end of a step, once the worker was asked to stop
LOOK_SECONDS = 0.25
LAUNCHER_SECONDS = 20.0  # for the end of a launched worker that was told to stop: launchers kill after 30
OF_ALL_IMAGES = ("checkpoint_seconds", "preview", "preview_every", "ranks", "devices", "rank_shares")  # see Request
PERMANENT = (UsageError.exit_code, WeightsError.exit_code, OutputError.exit_code)  # trying again can't help
FRESH = (LinfusionError.exit_code, OutOfMemoryError.exit_code)  # the worker may hold memory or a broken device


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """How a batch works on its tasks.

    keep_going:         go on with the other tasks after one has failed
    retries:            how often a task is tried again after a failure that may not repeat
    limit:              images of this run, 0 for all
    deadline:           a time on `clock`, after which the running step is the last; 0 for none
    checkpoint_seconds, preview, preview_every, ranks, devices, rank_shares: see Request
    thorough:           read every finished image whole
    most_bytes:         plan for no more memory than this, where a plan needs less; 0: for what is free
    launched:           of a launcher's first process: for the worker, which can't be started again then
    """

    keep_going: bool = False
    retries: int = 2
    limit: int = 0
    deadline: float = 0.0
    checkpoint_seconds: float = 30.0
    preview: Path | None = None
    preview_every: int | None = None
    ranks: int | None = None
    devices: str | None = None
    rank_shares: str | None = None
    thorough: bool = False
    most_bytes: int = 0
    launched: str = ""


@dataclass(slots=True)
class Summary:
    """The counts of a run, in images but for these.

    loads:      workers that were started, each of which loads the model
    error_code: the exit code of the last task that failed, 0 if none has
    stopped:    why the run ended early; "" if it did not
    """

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
    """Seconds of a clock that runs on during suspend and that changes of the date don't affect."""
    return time.clock_gettime(time.CLOCK_BOOTTIME) if hasattr(time, "CLOCK_BOOTTIME") else time.monotonic()


def unfinished(
    tasks: Sequence[Task], journal: Journal, options: Options, summary: Summary
) -> Iterator[tuple[Task, bool]]:
    """Yields each task whose image is missing, as the list has it, and whether one is there but damaged.

    The others are counted as skipped, and noted in the journal where it does not know them.
    """
    for task in tasks:
        state = journal.state(task, thorough=options.thorough)
        if state != "done":
            yield task, state == "damaged"
            continue
        summary.skipped += 1
        if task.id not in journal.done:
            journal.add_done(task, journal.name_of(task), found=True)


def ends(options: Options, summary: Summary, spell: Spell) -> bool:
    """Whether no more images are begun; summary.stopped says why, but for a signal."""
    if STOP.code:
        return True
    if options.limit and summary.made >= options.limit:
        summary.stopped = f"{spell(option('limit'))} is reached"
    elif time_is_up(options):
        summary.stopped = "the time is up"
    elif summary.failed and not options.keep_going:
        summary.stopped = f"an image failed; {spell(option('keep_going'))} goes on with the others"
    return bool(summary.stopped)


def time_is_up(options: Options) -> bool:
    """Whether the deadline has passed."""
    return bool(options.deadline) and clock() >= options.deadline


class Runner:
    """Runs the tasks of one folder, one after the other, in a worker process.

    A task that fails raises nothing. A journal that can't be written raises OutputError, a full disk DiskFullError.
    After a stop request, run() returns once the checkpoint of the running step is written; the caller reads STOP.code.
    """

    def __init__(
        self,
        journal: Journal,
        options: Options,
        tell: Callable[[Told], None],
        start: Callable[..., WorkerProcess] = WorkerProcess,
        *,
        spell: Spell = str,  # how options are written in what is told and in the journal
    ) -> None:
        self._journal, self._options, self._tell, self._spell = journal, options, tell, spell
        self._start = partial(start, options.launched) if options.launched else start
        self._worker: WorkerProcess | None = None
        self._summary = Summary()
        self._planned_bytes = 0
        self._stall_seconds = STALL_SECONDS

    def run(self, tasks: Sequence[Task]) -> Summary:
        """Makes the images that are not done yet, ends the worker, and returns the counts."""
        summary = self.make(tasks)
        if self._options.launched and self._worker is None:
            self._worker = self._start()  # there was nothing to do: it tells the others so
        patience = LAUNCHER_SECONDS if STOP.code else MEETING_SECONDS
        self._drop_worker(partial(WorkerProcess.end, patience_seconds=patience))
        return summary

    def make(self, tasks: Sequence[Task]) -> Summary:
        """As run(), but the worker stays for the next call: it keeps the model loaded."""
        started, self._summary = time.monotonic(), Summary()
        STOP.patient = True
        try:
            self._run(deque(self._open(tasks)))
        except BaseException:
            self._drop_worker(WorkerProcess.kill)
            raise
        finally:
            STOP.patient = False
        self._summary.seconds = time.monotonic() - started
        if STOP.code:
            self._summary.stopped = "told to stop; the same command goes on"
        return self._summary

    def end(self) -> None:
        """Ends the worker, if there is one."""
        self._drop_worker(WorkerProcess.end)

    def _open(self, tasks: Sequence[Task]) -> list[_Try]:
        """A first try for each task whose image is missing or damaged."""
        tries: list[_Try] = []
        for task, damaged in unfinished(tasks, self._journal, self._options, self._summary):
            name = self._journal.name_of(task)
            if damaged:
                self._tell_of(TaskState.REDO, task, f"{name} is damaged and made again")
            tries.append(_Try(replace(task, name=name), overwrite=damaged, less_bytes=self._options.most_bytes))
        self._summary.left = len(tries)
        return tries

    def _run(self, tries: deque[_Try]) -> None:
        while tries and not ends(self._options, self._summary, self._spell):
            self._try(tries.popleft(), tries)

    def _try(self, attempt: _Try, tries: deque[_Try]) -> None:
        """Makes one image, or puts it back where a new worker is needed; what becomes of it is told."""
        self._tell_of(TaskState.BEGUN, attempt.task, f"try {attempt.number}" if attempt.number > 1 else "")
        outcome = self._outcome(attempt)
        if isinstance(outcome, Outgrown):  # a new worker keeps nothing yet
            self._drop_worker(WorkerProcess.end)
            outcome = self._outcome(attempt)
        match outcome:
            case Made():
                self._made(attempt, outcome)
            case Failed():
                self._not_made(attempt, outcome, tries)
            case _:
                tries.appendleft(attempt)

    def _not_made(self, attempt: _Try, failed: Failed, tries: deque[_Try]) -> None:
        """Counts a failure, or puts the image back. Raises DiskFullError where no other image would fit either."""
        message = failed.message.spelled(self._spell)
        if failed.error == DiskFullError.__name__:  # the others would find no room either
            left = f"{self._summary.made} made, {self._summary.left} left"
            advice = "Make room and give the same command again: what is done is kept"
            raise DiskFullError(f"{message}. The batch ends here ({left}). {advice}")
        if not self._options.launched:
            if failed.exit_code in FRESH:
                self._drop_worker(WorkerProcess.kill)
        elif self._worker is None or failed.exit_code == RanksError.exit_code:
            raise RanksError(f"{message}. All ranks end with it; the same command goes on")
        if self._is_there(attempt):
            return
        if failed.exit_code == BusyError.exit_code and not attempt.put_off:
            attempt.put_off = True
            tries.append(attempt)  # another process makes it: by then it is there
            return
        again = self._again(attempt, failed)
        if again is None:
            self._give_up(attempt.task, failed, message)
            return
        self._journal.add("retry", id=attempt.task.id, error=message, tries=attempt.number)
        less = f" with at most {again.less_bytes / 1e6:.0f} MB" if again.less_bytes != attempt.less_bytes else ""
        self._tell_of(TaskState.RETRY, attempt.task, f"{message}; tried again{less}")
        tries.appendleft(again)

    def _is_there(self, attempt: _Try) -> bool:
        """Whether a failed try has written the whole image, with the id of its job; the image then counts as made.

        A worker may die between giving the image its name and saying so. What it measured is not known: 0. What is
        made in the place of a damaged image is made again, because there the journal knows the name already.
        """
        if attempt.overwrite or self._journal.state(attempt.task, thorough=True) != "done":
            return False
        name = self._journal.name_of(attempt.task)
        self._made(attempt, Made(name=name, seconds=0.0, peak_bytes=0, device_peak_bytes=0))
        return True

    def _again(self, attempt: _Try, failed: Failed) -> _Try | None:
        """The next try, or None. It plans less memory after memory ran out, and after a second unexplained kill."""
        code = failed.exit_code
        if attempt.number > self._options.retries or code in PERMANENT or code == BusyError.exit_code:
            return None
        again = replace(attempt, number=attempt.number + 1)
        ran_out = failed.out_of_memory or code == OutOfMemoryError.exit_code
        if ran_out or (failed.killed and attempt.number > 1):
            if not self._planned_bytes:  # it was the plan itself that found too little memory
                return None
            again.less_bytes = int(self._planned_bytes * SMALLER)
        return again

    def _made(self, attempt: _Try, made: Made) -> None:
        self._journal.add_done(attempt.task, made.name, **made.measured(), tries=attempt.number)
        self._summary.made += 1
        self._summary.left -= 1
        self._tell_of(TaskState.MADE, attempt.task, answer=made, path=str(self._journal.folder / made.name))

    def _give_up(self, task: Task, failed: Failed, message: str) -> None:
        self._summary.failed += 1
        self._summary.left -= 1
        self._summary.error_code = failed.exit_code
        self._tell_of(TaskState.FAILED, task, message, answer=failed)
        self._journal.add("failed", id=task.id, error=message, exit_code=failed.exit_code)

    def _outcome(self, attempt: _Try) -> Outcome:
        """How one try ends: as the worker answers, with its death, or stopped as it was asked to."""
        worker = self._ordered(attempt)
        asked_to_stop, moved = 0.0, clock()
        while True:
            match worker.receive(LOOK_SECONDS):
                case Made() | Failed() | Outgrown() as outcome:
                    return outcome
                case Planned() | Happened() as answer:
                    self._show(attempt.task, answer)
                    if not (isinstance(answer, Happened) and isinstance(answer.event, MemorySampled)):
                        moved = clock()
                case _:
                    pass
            if worker.dead:
                return self._death(worker, stopping=bool(asked_to_stop))
            if not asked_to_stop and (STOP.code or time_is_up(self._options)):
                asked_to_stop = clock()
                worker.stop()
            overdue = bool(asked_to_stop) and clock() - asked_to_stop > PATIENCE_SECONDS
            silent = worker.silent_seconds > HANG_SECONDS
            if silent or overdue or clock() - moved > self._stall_seconds:
                return self._hang(stopping=bool(asked_to_stop), silent=silent)

    def _ordered(self, attempt: _Try) -> WorkerProcess:
        """The worker, a new one if there is none, with the order to make the image."""
        if self._worker is None or self._worker.dead:
            self._worker, self._summary.loads = self._start(), self._summary.loads + 1
        self._planned_bytes, self._stall_seconds = 0, STALL_SECONDS
        self._journal.add("begun", id=attempt.task.id, place=attempt.task.place)
        request = attempt.task.request(self._journal.folder, overwrite=attempt.overwrite)
        request = replace(request, **{key: getattr(self._options, key) for key in OF_ALL_IMAGES})
        self._worker.send(Order(id=attempt.task.id, request=request, less_bytes=attempt.less_bytes))
        return self._worker

    def _show(self, task: Task, answer: Planned | Happened) -> None:
        if isinstance(answer, Planned):
            self._planned_bytes = answer.peak_bytes
            longest_seconds = max(phase.seconds for phase in answer.phases)
            self._stall_seconds = max(STALL_SECONDS, STALL_FACTOR * longest_seconds)
        self._tell_of(TaskState.PLAN if isinstance(answer, Planned) else TaskState.EVENT, task, answer=answer)

    def _tell_of(
        self,
        state: TaskState,
        task: Task,
        text: str = "",
        answer: Planned | Happened | Made | Failed | None = None,
        path: str = "",
    ) -> None:
        self._tell(Told(state=state, task=task, left=self._left(), text=text, answer=answer, path=path))

    def _left(self) -> int:
        """How many images this run still makes, if all goes well."""
        of_limit = self._options.limit - self._summary.made if self._options.limit else self._summary.left
        return min(self._summary.left, of_limit)

    def _drop_worker(self, ended: Callable[[WorkerProcess], None]) -> None:
        if self._worker is not None:
            ended(self._worker)
            self._worker = None

    def _death(self, worker: WorkerProcess, *, stopping: bool) -> Outcome:
        self._drop_worker(WorkerProcess.end)
        if stopping:
            return Stopped()
        return replace(
            failure(LinfusionError(worker.cause())),
            out_of_memory=worker.ran_out_of_memory,
            killed=worker.process.returncode == -KILLED,
        )

    def _hang(self, *, stopping: bool, silent: bool) -> Outcome:
        self._drop_worker(WorkerProcess.kill)
        if stopping:
            return Stopped()
        what = f"gave no sign for {HANG_SECONDS:.0f} s" if silent else f"got no further for {self._stall_seconds:.0f} s"
        return failure(LinfusionError(f"the process {what} and was ended"))


@contextlib.contextmanager
def at_work(journal: Journal, *, tidied: bool = True) -> Iterator[None]:
    """Holds the lock of the folder's batch, or of its shard's, with the journal open and old temporary files removed.

    tidied: False where another process removes these files

    Raises BusyError at once if another process holds it, and OutputError if no journal can be kept there.
    """
    try:
        hidden = hidden_folder(journal.folder)
    except OSError as error:
        raise OutputError(f"Can't keep a journal in {str(journal.folder)!r}: {error.strerror}") from error
    with Lock(hidden / f"lock{journal.shard}", f"the batch in {str(journal.folder)!r}"), journal:
        if tidied:
            tidy(journal.folder)
        yield
