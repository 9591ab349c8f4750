"""One worker of a cluster: makes the images that it is assigned, in the shared folder, with a journal of its own.

It runs in a process of the cluster, on any machine, around the Runner and the worker process of a batch on one machine.
What it is sent and what it returns are plain values; pixels leave the machine into the folder alone.
"""

from __future__ import annotations

import contextlib
import itertools
import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any

from linfusion_cli import __version__
from linfusion_cli.batch.journal import Done, Journal
from linfusion_cli.batch.messages import Failed, Happened, Made, Order, Planned, TaskState, Told, failure
from linfusion_cli.batch.runner import Options, Runner, at_work
from linfusion_cli.batch.task_list import Task
from linfusion_cli.config.kind import Kind
from linfusion_cli.config.request import Request
from linfusion_cli.errors import TERMINATED, BusyError, LinfusionError, Message, OutputError
from linfusion_cli.events import Note
from linfusion_cli.files import read_regular, sha256_of
from linfusion_cli.output.checkpoint_folder import HIDDEN
from linfusion_cli.platform_files import host_name
from linfusion_cli.system.device import find_machine
from linfusion_cli.system.signals import STOP

PROBE_BYTES = 64


@dataclass(frozen=True, slots=True)
class Probe:
    """What a shared folder holds while a batch runs: a file of this name with this token."""

    name: str
    token: str

    def seen(self, folder: Path) -> bool:
        """Whether the folder, as this machine sees it, holds the file."""
        try:
            return read_regular(folder / HIDDEN / self.name, PROBE_BYTES, follow=False).decode() == self.token
        except (OSError, ValueError):
            return False


@dataclass(frozen=True, slots=True, kw_only=True)
class Share:
    """A worker's part of its machine. workers: on that machine, at most; cores: of the CPU, for each."""

    workers: int
    cores: int
    on_gpu: bool

    def of(self, options: Options) -> Options:
        """The options of a worker that plans with its part of the free memory; a GPU's memory is its own."""
        if self.on_gpu or self.workers == 1:
            return options
        return replace(options, most_bytes=find_machine("cpu").free_bytes // self.workers)

    def environment(self) -> Mapping[str, str]:
        """For the process that computes."""
        return {} if self.on_gpu else {"OMP_NUM_THREADS": str(self.cores)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Assignment:
    """An image to make. order: as Order.as_json() wrote it; noted: what the journals know of a file that is there."""

    order: Mapping[str, Any]
    place: str
    noted: Done | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Introduction:
    """What a worker says of itself before any work. problem: why it can't take part, "" if it can."""

    host: str
    version: str
    problem: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """How an assignment ended.

    state:   "made", "found" (it was there already), "failed" or "stopped"
    made:    the file's name and what was measured; sha256: of the file
    failed:  the class of the error, its message as Message.as_json() writes it, and its exit code
    retries: why it was tried again; notes: of its plan and its work
    """

    id: str
    host: str
    state: str
    made: Made | None = None
    sha256: str = ""
    failed: tuple[str, Any, int] | None = None
    retries: tuple[str, ...] = ()
    notes: tuple[Any, ...] = ()

    @property
    def failure(self) -> Failed:
        """The error of a failed one."""
        assert self.failed is not None
        error, message, code = self.failed
        return Failed(error=error, message=Message.from_json(message), exit_code=code)


@dataclass(slots=True)
class _Seen:
    """What the runner told of one image."""

    made: Made | None = None
    failed: Failed | None = None
    retries: list[str] = field(default_factory=list)
    notes: list[Message] = field(default_factory=list)

    def see(self, told: Told) -> None:
        match told:
            case Told(answer=Made() as made):
                self.made = made
            case Told(answer=Failed() as failed):
                self.failed = failed
            case Told(answer=Planned(notes=notes)):
                self.notes += notes
            case Told(answer=Happened(Note(text=text))):
                self.notes.append(text if isinstance(text, Message) else Message(text))
            case Told(state=TaskState.RETRY):
                self.retries.append(told.text)
            case _:
                pass


class ClusterWorker:
    """Makes one image after the other. Enter it once; leaving it ends its processes and frees its journal."""

    def __init__(self, folder: str, options: Options, probe: Probe, share: Share) -> None:
        self._folder, self._options, self._probe, self._share = Path(folder), options, probe, share
        self._seen = _Seen()
        self._open = contextlib.ExitStack()
        self._runner: Runner | None = None
        os.environ.update(share.environment())

    def introduce(self) -> Introduction:
        """Opens this worker's journal, unless it is open. Called before the first image."""
        problem = ""
        if not self._probe.seen(self._folder):
            problem = f"it does not see in {str(self._folder)!r} what the batch has written there"
        elif self._runner is None:
            try:
                self._runner = Runner(
                    self._opened_journal(), self._share.of(self._options), lambda told: self._seen.see(told)
                )
            except LinfusionError as error:
                problem = str(error)
        return Introduction(host=host_name(), version=__version__, problem=problem)

    def make(self, assignment: Assignment) -> Report:
        """Makes an image, or says why not; raises nothing that belongs to the image."""
        order = Order.from_json(assignment.order)
        if STOP.code or self._runner is None:
            return Report(id=order.id, host=host_name(), state="stopped")
        self._seen = _Seen()
        try:
            task = _task(order, assignment.place)
            self._journal.recall(task.id, assignment.noted)
            summary = self._runner.make([task])
            found = bool(summary.skipped)
        except Exception as error:  # a full disk, a journal that can't be written, a fault of ours: told to the batch
            self._seen.failed, found = failure(error), False
        return self._report(order, found=found)

    def stop(self) -> None:
        """Asks for the end of the running image at its next checkpoint; later ones are not begun. From any thread."""
        STOP.request(TERMINATED)

    def close(self) -> None:
        """Ends the process that computes, and frees the journal."""
        if self._runner is not None:
            self._runner.end()
            self._runner = None
        self._open.close()

    def _report(self, order: Order, *, found: bool) -> Report:
        seen, name = self._seen, order.request.output.name if order.request.output else ""
        state = "failed" if seen.failed else "made" if seen.made else "found" if found else "stopped"
        path = self._folder / (seen.made.name if seen.made else name)
        failed = seen.failed
        return Report(
            id=order.id,
            host=host_name(),
            state=state,
            made=seen.made,
            sha256=sha256_of(path) if state in ("made", "found") else "",
            failed=(failed.error, failed.message.as_json(), failed.exit_code) if failed else None,
            retries=tuple(seen.retries),
            notes=tuple(note.as_json() for note in seen.notes),
        )

    def _opened_journal(self) -> Journal:
        """A journal that no other process appends to: one for each worker of this machine, used again by the next."""
        for number in itertools.count():
            journal = Journal(self._folder, f"-on-{_plain(host_name())}-{number}", read=False)
            try:
                self._open.enter_context(at_work(journal, tidied=False))
            except BusyError:
                continue
            self._journal = journal
            return journal
        raise AssertionError("never reached")


def _task(order: Order, place: str) -> Task:
    """Raises UsageError where this machine makes another job of the request: another preset or model file."""
    request = order.request
    assert request.output is not None
    assert request.seed is not None
    kind = _kind(replace(request, prompt="", seed=None, output=None, overwrite=False))
    if kind.id_of(request.prompt, request.seed) != order.id:
        raise OutputError(
            f"this machine ({host_name()}) makes another job of {place}: its preset, or a file that it names, is not "
            "the same as where the batch began. Give all machines the same files"
        )
    return Task(order.id, place, request.prompt, request.seed, request.output.name, kind)


@cache
def _kind(request: Request) -> Kind:
    return Kind(request)


def _plain(name: str) -> str:
    return "".join(letter if letter.isalnum() else "_" for letter in name)[:60]
