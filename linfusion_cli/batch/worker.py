"""The process that holds torch: it makes one image after the other with the model kept loaded, and tells its parent."""

from __future__ import annotations

import ctypes
import json
import os
import signal
import sys
import threading
import traceback
import typing
from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from linfusion_cli.config.job import Job, resolve
from linfusion_cli.config.job_hash import job_hash
from linfusion_cli.config.request import Request
from linfusion_cli.errors import INTERRUPTED, TERMINATED, LinfusionError, Message, OutOfMemoryError
from linfusion_cli.events import Event
from linfusion_cli.json_files import parse_json
from linfusion_cli.system.process_setup import own_process
from linfusion_cli.system.signals import handle_signals

if TYPE_CHECKING:
    from linfusion_cli.planning.planner import Plan

BEAT_SECONDS = 2.0
_PARENT_DEATH_SIGNAL = 1  # PR_SET_PDEATHSIG

Say = Callable[[str, Mapping[str, object]], None]


def main() -> int:
    """Reads requests from standard input, one JSON object a line, until it ends; answers on standard output."""
    own_process()
    _die_with_parent()
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8", buffering=1)
    os.dup2(2, 1)  # what a library prints is no answer
    say = _speaker(answers)
    handle_signals()
    threading.Thread(target=_beat, args=(say,), name="heartbeat", daemon=True).start()
    maker = _Maker(say)
    try:
        for line in sys.stdin:
            maker.make(parse_json(line, "an order"))
    except SystemExit as stopped:
        return stopped.code if isinstance(stopped.code, int) else TERMINATED
    except KeyboardInterrupt:
        return INTERRUPTED
    return 0


class _Maker:
    def __init__(self, say: Say) -> None:
        self._say = say
        self._model_cache: Any = None
        self._prepared = 0

    def make(self, order: Mapping[str, Any]) -> None:
        """Makes one image, and says how it went; only a signal gets out of here."""
        try:
            self._make(order)
        except LinfusionError as error:
            self._say(
                "failed",
                {"error": type(error).__name__, "message": error.message.as_json(), "exit_code": error.exit_code},
            )
        except Exception as error:
            text = f"{type(error).__name__}: {error}"
            traceback.print_exc()
            self._say("failed", {"error": "InternalError", "message": text, "exit_code": LinfusionError.exit_code})

    def _make(self, order: Mapping[str, Any]) -> None:
        from linfusion_cli.render import render

        request = request_from(order["request"])
        job = resolve(request)
        if job_hash(job) != order["id"]:
            raise LinfusionError("the preset or a file that it names has changed since the batch began. Start it again")
        plan = self._plan(job, int(order["less_bytes"]))
        self._say(
            "plan",
            {
                "peak_bytes": plan.peak_bytes,
                "seconds": plan.seconds,
                "phases": [[p.name, p.stage, p.seconds] for p in plan.phases],
            },
        )
        if self._model_cache is None:
            from linfusion_cli.render import make_model_cache

            self._model_cache, self._prepared = make_model_cache(plan), plan.prepared_convolutions
        if (
            plan.prepared_convolutions < self._prepared
        ):  # settled for the life of a process; more than planned would break the budget
            self._say("outgrown", {})
            return

        def notify(event: Event) -> None:
            fields = {
                key: value.as_json() if isinstance(value, Message) else value for key, value in asdict(event).items()
            }
            self._say("event", {"name": type(event).__name__, "fields": fields})

        rendered = render(plan, notify, self._model_cache)
        measured = {
            "seconds": rendered.seconds,
            "peak_bytes": rendered.peak_bytes,
            "device_peak_bytes": rendered.device_peak_bytes,
        }
        self._say("made", {"name": rendered.path.name, **measured})

    def _plan(self, job: Job, less_bytes: int) -> Plan:
        """The plan; after memory ran out one that needs less, if there is one."""
        from linfusion_cli.planning.planner import make_plan
        from linfusion_cli.system.device import find_machine

        machine = find_machine(job.device)
        if less_bytes:
            budget = min(less_bytes, machine.free_bytes)
            try:
                return make_plan(replace(job, max_memory_bytes=budget), machine, keep_text_encoders=True)
            except OutOfMemoryError:
                text = f"no plan needs less than {budget / 1e6:.0f} MB: the same one is tried again"
                self._say("event", {"name": "Note", "fields": {"text": text}})
        return make_plan(job, machine, keep_text_encoders=True)


def request_as_json(request: Request) -> dict[str, object]:
    """A request for request_from(); paths as texts."""
    return {key: _plain(value) for key, value in asdict(request).items()}


def request_from(values: Mapping[str, Any]) -> Request:
    """The request that request_as_json() was given."""
    hints = typing.get_type_hints(Request)
    return Request(**{key: _as_hinted(value, hints[key]) for key, value in values.items()})


def _plain(value: object) -> object:
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    return str(value) if isinstance(value, Path) else value


def _as_hinted(value: Any, hint: Any) -> Any:
    if isinstance(value, list):
        return tuple(_as_hinted(item, typing.get_args(hint)[0]) for item in value)
    kinds = typing.get_args(hint) or (hint,)
    return Path(value) if Path in kinds and isinstance(value, str) else value


def _speaker(answers: TextIO) -> Say:
    one_at_a_time = threading.RLock()  # a signal may interrupt the thread that is speaking

    def say(kind: str, fields: Mapping[str, object]) -> None:
        with one_at_a_time:
            answers.write(json.dumps({**fields, "kind": kind}) + "\n")
            answers.flush()

    return say


def _beat(say: Say) -> None:
    """Tells that the process runs, whatever torch is busy with."""
    pause = threading.Event()
    while not pause.wait(BEAT_SECONDS):
        say("beat", {})


def _die_with_parent() -> None:
    """A child without a parent would hold memory and locks for an image that nobody waits for."""
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
