"""The worker process of a batch: imports torch, makes one image after the other, and keeps the model loaded."""

from __future__ import annotations

import ctypes
import json
import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TextIO

from linfusion_cli.batch.messages import (
    Answer,
    Beat,
    Happened,
    Made,
    Order,
    Outgrown,
    Planned,
    PlannedPhase,
    answer_as_json,
    failure,
)
from linfusion_cli.batch.worker_process import LAUNCHED
from linfusion_cli.config.job import Job
from linfusion_cli.config.job_hash import job_hash
from linfusion_cli.config.resolve import resolve
from linfusion_cli.errors import INTERRUPTED, TERMINATED, LinfusionError, Message, OutOfMemoryError, RanksError
from linfusion_cli.events import Event, Note, PreviewMade
from linfusion_cli.json_files import parse_json
from linfusion_cli.system.process_setup import own_process
from linfusion_cli.system.signals import handle_signals

if TYPE_CHECKING:
    from linfusion_cli.launched_ranks import Leader
    from linfusion_cli.planning.planner import Plan
    from linfusion_cli.render import Rendered
    from linfusion_cli.render_ranks import RankProcesses
    from linfusion_cli.system.device import Machine

    Render = Callable[..., Rendered]  # as render.render()

BEAT_SECONDS = 2.0
_PARENT_DEATH_SIGNAL = 1  # PR_SET_PDEATHSIG

Say = Callable[[Answer], None]


def main() -> int:
    """Reads requests from standard input, one JSON object a line, until it ends; answers on standard output."""
    own_process()
    _die_with_parent()
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8", buffering=1)
    os.dup2(2, 1)  # a library's output must not look like an answer
    say = _speaker(answers)
    handle_signals()
    threading.Thread(target=_beat, args=(say,), name="heartbeat", daemon=True).start()
    maker = _Maker(say)
    try:
        with _leading() as maker.leader:
            for line in sys.stdin:
                maker.make(line)
    except RanksError as error:
        say(failure(error))
        return error.exit_code
    except SystemExit as stopped:
        return stopped.code if isinstance(stopped.code, int) else TERMINATED
    except KeyboardInterrupt:
        return INTERRUPTED
    finally:
        maker.close()
    return 0


@contextmanager
def _leading() -> Iterator[Leader | None]:
    """The first of a launcher's processes, once it has met the others; None where no launcher started the batch.

    Raises RanksError if they do not come.
    """
    if not (words := os.environ.get(LAUNCHED)):
        yield None
        return
    from linfusion_cli.launched_ranks import Launch, Leader

    device, command = json.loads(words)
    launch = Launch.of(os.environ, command)
    assert launch is not None
    with Leader.met(launch, device) as leader:
        yield leader


class _Maker:
    def __init__(self, say: Say) -> None:
        self._say = say
        self._model_cache: Any = None
        self._prepared = 0
        self._processes: RankProcesses | None = None
        self.leader: Leader | None = None

    def close(self) -> None:
        """Ends the other ranks of this machine, if there are any."""
        if self._processes is not None:
            self._processes.end()
            self._processes = None

    def make(self, line: str) -> None:
        """Makes the image of one order and sends the answer; only the exception of a signal is raised."""
        try:
            self._make(Order.from_json(parse_json(line, "an order")))
        except Exception as error:
            if not isinstance(error, LinfusionError):
                traceback.print_exc()
            self._say(failure(error))

    def _make(self, order: Order) -> None:
        """Makes one image and tells the parent of it. Raises LinfusionError if the job differs from the order."""
        job = resolve(order.request)
        if job_hash(job) != order.id:
            raise LinfusionError("the preset or a file that it names has changed since the batch began. Start it again")
        machine, ranks, render = self._roles(job)
        plan = self._plan(job, machine, ranks, order.less_bytes)
        phases = tuple(PlannedPhase(phase.name, phase.stage, phase.seconds) for phase in plan.phases)
        notes = tuple(map(Message, plan.notes))
        self._say(Planned(peak_bytes=plan.peak_bytes, seconds=plan.seconds, phases=phases, notes=notes))
        if not self._has_room(plan):
            self._say(Outgrown())
            return
        try:
            rendered = render(plan, self._tell, self._model_cache)
        except Exception as error:
            if self.leader is not None and self.leader.lost:
                raise RanksError(failure(error).message) from error
            raise
        self._say(
            Made(
                name=rendered.path.name,
                seconds=rendered.seconds,
                peak_bytes=rendered.peak_bytes,
                device_peak_bytes=rendered.device_peak_bytes,
            )
        )

    def _tell(self, event: Event) -> None:
        """Sends an event to the runner; the pixels of previews are not sent, because previews are files."""
        if not isinstance(event, PreviewMade):
            self._say(Happened(event))

    def _has_room(self, plan: Plan) -> bool:
        """Whether this process can make the image within its memory budget.

        The first plan decides for the life of the process how many prepared convolutions it keeps; a plan that counts
        fewer would break its memory budget here.
        """
        if self._model_cache is None:
            from linfusion_cli.engine_import import make_model_cache

            self._model_cache, self._prepared = make_model_cache(plan), plan.prepared_convolutions
        return plan.prepared_convolutions >= self._prepared

    def _roles(self, job: Job) -> tuple[Machine, int, Render]:
        """What each rank plans with, how many there are, and what renders with all; they stay for the next image."""
        if self.leader is not None:
            return self.leader.machine, self.leader.world.size, self.leader.render
        if job.rank_options.ranks == 1:
            return _alone(job)
        from linfusion_cli.render_ranks import RankProcesses, rank_machines

        machines = rank_machines(job.device, job.rank_options)
        devices = tuple(machine.device for machine in machines)
        if self._processes is None or self._processes.devices != devices:
            self.close()
            self._processes = RankProcesses(devices)
        return machines[0], len(machines), self._processes.render

    def _plan(self, job: Job, machine: Machine, ranks: int, less_bytes: int) -> Plan:
        """The plan; one that needs less, if there is one, where memory ran out or others share the machine."""
        from linfusion_cli.planning.planner import make_plan

        if less_bytes:
            budget = min(less_bytes, machine.free_bytes, job.max_memory_bytes or less_bytes)
            try:
                return make_plan(replace(job, max_memory_bytes=budget), machine, keep_text_encoders=True, ranks=ranks)
            except OutOfMemoryError:
                text = f"no plan needs less than {budget / 1e6:.0f} MB: it is made with what is free"
                self._say(Happened(Note(text=text)))
        return make_plan(job, machine, keep_text_encoders=True, ranks=ranks)


def _alone(job: Job) -> tuple[Machine, int, Render]:
    from linfusion_cli.render import render
    from linfusion_cli.system.device import find_machine

    return find_machine(job.device), 1, render


def _speaker(answers: TextIO) -> Say:
    one_at_a_time = threading.RLock()  # a signal may interrupt the thread that is speaking

    def say(answer: Answer) -> None:
        with one_at_a_time:
            answers.write(json.dumps(answer_as_json(answer)) + "\n")
            answers.flush()

    return say


def _beat(say: Say) -> None:
    """Sends a sign of life every BEAT_SECONDS, whatever torch is busy with."""
    pause = threading.Event()
    while not pause.wait(BEAT_SECONDS):
        say(Beat())


def _die_with_parent() -> None:
    """Ends this process when the runner dies: it would go on holding memory and locks."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PARENT_DEATH_SIGNAL, signal.SIGKILL)
    parent = int(os.environ.get("LINFUSION_PARENT", "0"))
    if parent and os.getppid() != parent:
        os._exit(TERMINATED)
    if sys.platform != "linux":
        threading.Thread(target=_watch_parent, args=(parent,), daemon=True).start()


def _watch_parent(parent: int) -> None:
    pause = threading.Event()
    while not pause.wait(BEAT_SECONDS):
        if os.getppid() != parent:
            os._exit(TERMINATED)
