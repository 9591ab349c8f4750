"""The loop of a batch on several machines: assigns images to the workers of a cluster, and counts how they end.

The journals in the shared folder say what is done, and each worker writes its own. This process assigns, tells, and
gives up an image whose workers die; see cluster_worker.py for the other side, ray_cluster.py for a cluster by Ray.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Protocol

from linfusion_cli import __version__
from linfusion_cli.batch.cluster_worker import Assignment, Introduction, Probe, Report
from linfusion_cli.batch.journal import Journal
from linfusion_cli.batch.messages import Failed, Happened, Made, Order, TaskState, Told, failure
from linfusion_cli.batch.runner import PATIENCE_SECONDS, Options, Summary, clock, ends, unfinished
from linfusion_cli.batch.task_list import Task
from linfusion_cli.errors import BusyError, ClusterError, DiskFullError, Message, Spell, option
from linfusion_cli.events import Note
from linfusion_cli.files import write_atomically
from linfusion_cli.output.checkpoint_folder import hidden_folder
from linfusion_cli.system.signals import STOP

IN_FLIGHT = 2  # assignments of a worker: the next one lies there when it ends one
MOST_LOST = 2  # workers that die at an image before it is given up
MOST_BUSY = 5  # times that an image is found locked by another process before it is given up
JOIN_SECONDS = 600.0  # without any worker
LOOK_SECONDS = 0.5


@dataclass(frozen=True, slots=True)
class Joined:
    """A worker has started, or has started again after it was lost."""

    worker: int
    introduction: Introduction


@dataclass(frozen=True, slots=True)
class Ended:
    """An assignment of a worker has ended."""

    worker: int
    report: Report


@dataclass(frozen=True, slots=True)
class Lost:
    """A worker has died, with all that was assigned to it. It may join again, unless this was final."""

    worker: int
    cause: str
    final: bool = False


Happening = Joined | Ended | Lost


class Cluster(Protocol):
    """Workers on any machines, numbered from 0, which begin what they are assigned in that order."""

    @property
    def size(self) -> int:
        """How many workers there are to be."""
        ...

    def assign(self, worker: int, assignment: Assignment) -> None:
        """Sends an image to a worker that has joined."""
        ...

    def happenings(self, seconds: float) -> list[Happening]:
        """What has happened; waits up to `seconds` for the first."""
        ...

    def stop(self) -> None:
        """Asks all workers to keep the running step and to make no more."""
        ...


@dataclass(slots=True)
class _Pending:
    task: Task
    lost: int = 0
    busy: int = 0


@dataclass(slots=True)
class ClusterRunner:
    """Runs the tasks of a shared folder on a cluster. The caller holds the folder's lock; see runner.at_work.

    A task that fails raises nothing. Raises ClusterError if no worker joins within JOIN_SECONDS, or one can't take
    part; DiskFullError if the disk of the folder is full.
    """

    journal: Journal
    options: Options
    tell: Callable[[Told], None]
    cluster: Cluster
    spell: Spell = str
    summary: Summary = field(default_factory=Summary)
    _pending: deque[_Pending] = field(default_factory=deque)
    _at_work: dict[int, list[_Pending]] = field(default_factory=dict)  # of the workers that have joined
    _stopped_at: float = 0.0
    _gone: int = 0  # workers

    def run(self, tasks: Sequence[Task]) -> Summary:
        """Makes the images that are not done yet; returns the counts."""
        started = time.monotonic()
        STOP.patient = True
        try:
            self._open(tasks)
            self._run()
        finally:
            STOP.patient = False
        self.summary.seconds = time.monotonic() - started
        if STOP.code:
            self.summary.stopped = "told to stop; the same command goes on"
        return self.summary

    def _open(self, tasks: Sequence[Task]) -> None:
        for listed, damaged in unfinished(tasks, self.journal, self.options, self.summary):
            task = replace(listed, name=self.journal.name_of(listed))
            if damaged:
                self._tell_of(TaskState.REDO, task, f"{task.name} is damaged and made again")
            self._pending.append(_Pending(task))
        self.summary.left = len(self._pending)

    def _run(self) -> None:
        joined_at = time.monotonic()
        while self._busy or (self._pending and not self._ends()):
            if self._ends():
                self._stop()
                if clock() - self._stopped_at > PATIENCE_SECONDS:
                    return
            else:
                self._assign()
            for happening in self.cluster.happenings(LOOK_SECONDS):
                self._see(happening)
            joined_at = time.monotonic() if self._at_work else joined_at
            if time.monotonic() - joined_at > JOIN_SECONDS:
                raise ClusterError(
                    f"no worker of {self.cluster.size} has started within {JOIN_SECONDS:.0f} seconds: the cluster has "
                    "no free resources for them, or can't start Python with linfusion there"
                )

    @property
    def _busy(self) -> bool:
        return any(self._at_work.values())

    def _ends(self) -> bool:
        return ends(self.options, self.summary, self.spell)

    def _stop(self) -> None:
        if not self._stopped_at:
            self._stopped_at = clock()
            self.cluster.stop()

    def _assign(self) -> None:
        """Gives each worker one image, and a second one while there are more than workers: the last ones are spread."""
        for depth in range(1, IN_FLIGHT + 1):
            for worker, assigned in self._at_work.items():
                running = sum(map(len, self._at_work.values()))
                enough = bool(self.options.limit) and self.summary.made + running >= self.options.limit
                if not self._pending or enough or (depth > 1 and len(self._pending) <= self.cluster.size):
                    return
                if len(assigned) < depth:
                    pending = self._pending.popleft()
                    assigned.append(pending)
                    self._tell_of(TaskState.BEGUN, pending.task, f"worker {worker}")
                    self.cluster.assign(worker, self._assignment(pending.task))

    def _assignment(self, task: Task) -> Assignment:
        request = task.request(self.journal.folder, overwrite=False)
        order = Order(id=task.id, request=replace(request, checkpoint_seconds=self.options.checkpoint_seconds))
        return Assignment(order=order.as_json(), place=task.place, noted=self.journal.done.get(task.id))

    def _see(self, happening: Happening) -> None:
        match happening:
            case Joined(worker, introduction):
                _check(introduction)
                self._at_work.setdefault(worker, [])
                self.summary.loads += 1
            case Ended(worker, report):
                self._ended(worker, report)
            case Lost(worker, cause, final):
                self._lost(self._at_work.pop(worker, []), cause)
                self._gone += final
                if self._gone == self.cluster.size:
                    raise ClusterError(f"no worker can start: {cause}")

    def _ended(self, worker: int, report: Report) -> None:
        assigned = self._at_work[worker]
        pending = next(each for each in assigned if each.task.id == report.id)
        assigned.remove(pending)
        task = pending.task
        for text in report.retries:
            self._tell_of(TaskState.RETRY, task, f"{report.host}: {text}")
        for note in report.notes:
            self._tell_of(TaskState.EVENT, task, answer=Happened(Note(text=Message.from_json(note))))
        if report.state == "stopped":
            self._pending.appendleft(pending)
        elif report.state == "failed":
            self._failed(pending, report)
        else:
            self.summary.made += 1
            self.summary.left -= 1
            name = report.made.name if report.made else task.name
            made = report.made or Made(name=name, seconds=0.0, peak_bytes=0, device_peak_bytes=0)
            path = str(self.journal.folder / name)
            self._tell_of(TaskState.MADE, task, answer=made, path=path, host=report.host, sha256=report.sha256)

    def _failed(self, pending: _Pending, report: Report) -> None:
        failed = report.failure
        if failed.error == DiskFullError.__name__:
            left = f"{self.summary.made} made, {self.summary.left} left"
            raise DiskFullError(f"{report.host}: {failed.message.spelled(self.spell)}. The batch ends here ({left})")
        if failed.exit_code == BusyError.exit_code and pending.busy < MOST_BUSY:
            pending.busy += 1  # by a worker that is believed dead, or by another batch: it is there by then
            self._pending.append(pending)
            return
        self._give_up(pending.task, failed)

    def _lost(self, assigned: list[_Pending], cause: str) -> None:
        """The first one was at work: a second worker that dies at it ends its tries. The others are innocent."""
        for pending in reversed(assigned[1:]):
            self._pending.appendleft(pending)
        if not assigned:
            return
        first = assigned[0]
        first.lost += 1
        if first.lost < MOST_LOST:
            self._tell_of(TaskState.RETRY, first.task, f"its worker died ({cause}); tried again")
            self._pending.appendleft(first)
            return
        text = f"{first.lost} workers died at it and it is given up for this run ({cause})"
        failed = failure(ClusterError(text))
        self._give_up(first.task, failed)
        self.journal.add("failed", id=first.task.id, error=text, exit_code=failed.exit_code)

    def _give_up(self, task: Task, failed: Failed) -> None:
        self.summary.failed += 1
        self.summary.left -= 1
        self.summary.error_code = failed.exit_code
        self._tell_of(TaskState.FAILED, task, failed.message.spelled(self.spell), answer=failed)

    def _tell_of(
        self,
        state: TaskState,
        task: Task,
        text: str = "",
        answer: Happened | Made | Failed | None = None,
        path: str = "",
        host: str = "",
        sha256: str = "",
    ) -> None:
        of_limit = self.options.limit - self.summary.made if self.options.limit else self.summary.left
        self.tell(
            Told(
                state=state,
                task=task,
                left=min(self.summary.left, of_limit),
                text=text,
                answer=answer,
                path=path,
                host=host,
                sha256=sha256,
                workers=max(1, len(self._at_work)),
            )
        )


def _check(introduction: Introduction) -> None:
    """Raises ClusterError for a worker that can't take part."""
    host = introduction.host
    if introduction.version != __version__:
        raise ClusterError(
            f"{host} has linfusion {introduction.version}, and this machine {__version__}: install one version on all"
        )
    if introduction.problem:
        raise ClusterError(
            f"{host} can't take part: {introduction.problem}. The folder of the images must be one that all machines "
            "share, under one path: give it with ",
            option("output"),
        )


@contextlib.contextmanager
def probed(folder: Path) -> Iterator[Probe]:
    """A probe in the folder, by which workers know that they share it."""
    probe = Probe(f"probe-{os.getpid()}-{secrets.token_hex(4)}", secrets.token_hex(16))
    path = hidden_folder(folder) / probe.name
    write_atomically(path, probe.token)
    try:
        yield probe
    finally:
        path.unlink(missing_ok=True)
