"""The messages of a batch: between its runner and the worker, one JSON object a line, and from the runner to a display.

An Order goes to the worker's standard input. An Answer comes back on its standard output. Told is what a display shows.
"""

from __future__ import annotations

import typing
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from enum import StrEnum
from pathlib import Path
from typing import Any, NamedTuple

from linfusion_cli.batch.task_list import Task
from linfusion_cli.config.request import Request
from linfusion_cli.errors import LinfusionError, Message
from linfusion_cli.events import Event

EVENTS = {kind.__name__: kind for kind in typing.get_args(Event)}
MOST_SHOWN = 100  # characters of a line that is no answer


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """One image to make. id: the job's hash; less_bytes: plan for no more memory than this, 0 for what is free."""

    id: str
    request: Request
    less_bytes: int = 0

    def as_json(self) -> dict[str, object]:
        """The order as values for JSON, which from_json() reads."""
        request = {key: _plain(value) for key, value in asdict(self.request).items()}
        return {"id": self.id, "request": request, "less_bytes": self.less_bytes}

    @staticmethod
    def from_json(values: Mapping[str, Any]) -> Order:
        """The order that as_json() wrote."""
        hints = typing.get_type_hints(Request)
        request = Request(**{key: _as_hinted(value, hints[key]) for key, value in values["request"].items()})
        return Order(id=str(values["id"]), request=request, less_bytes=int(values["less_bytes"]))


@dataclass(frozen=True, slots=True)
class Beat:
    """A sign of life, sent every two seconds, also while torch computes."""


class PlannedPhase(NamedTuple):
    """A phase of the plan with its predicted seconds."""

    name: str
    stage: int
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Planned:
    """The worker has planned the image and begins to make it. notes: those of the plan, for the user."""

    peak_bytes: int
    seconds: float
    phases: tuple[PlannedPhase, ...]
    notes: tuple[Message, ...] = ()


@dataclass(frozen=True, slots=True)
class Happened:
    """An event of the render."""

    event: Event


@dataclass(frozen=True, slots=True)
class Outgrown:
    """This worker keeps more memory than the image leaves: a new one has to make it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Made:
    """The image is on the disk. name: of its file in the batch's folder."""

    name: str
    seconds: float
    peak_bytes: int
    device_peak_bytes: int

    def measured(self) -> dict[str, float | int]:
        """The numbers, as the journal and the JSON output hold them."""
        return {key: value for key, value in asdict(self).items() if key != "name"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Failed:
    """No image was made. error: the name of the error's class.

    The runner sets the last two when the worker has died: out_of_memory if the control group counted a kill for memory
    meanwhile, killed if it was SIGKILL.
    """

    error: str
    message: Message
    exit_code: int
    out_of_memory: bool = False
    killed: bool = False


@dataclass(frozen=True, slots=True)
class Stopped:
    """The image is not finished, because the runner asked the worker to stop."""


Answer = Beat | Planned | Happened | Outgrown | Made | Failed
Outcome = Outgrown | Made | Failed | Stopped  # how a try ends
KINDS: Mapping[type[Answer], str] = {
    Beat: "beat",
    Planned: "plan",
    Happened: "event",
    Outgrown: "outgrown",
    Made: "made",
    Failed: "failed",
}


def answer_as_json(answer: Answer) -> dict[str, object]:
    """An answer as values for JSON, which answer_from_json() reads."""
    match answer:
        case Happened(event):
            values = {field.name: _event_value(getattr(event, field.name)) for field in fields(event)}
            found: dict[str, object] = {"name": type(event).__name__, "fields": values}
        case Planned(notes=notes):
            found = {**asdict(answer), "notes": [note.as_json() for note in notes]}
        case Failed(error=error, message=message, exit_code=code):
            found = {"error": error, "message": message.as_json(), "exit_code": code}
        case _:
            found = asdict(answer)
    return {**found, "kind": KINDS[type(answer)]}


def answer_from_json(values: Mapping[str, Any]) -> Answer:
    """The answer that answer_as_json() wrote. Raises ValueError for anything else."""
    match values:
        case {"kind": "beat"}:
            return Beat()
        case {"kind": "outgrown"}:
            return Outgrown()
        case {
            "kind": "plan",
            "peak_bytes": int(peak),
            "seconds": float() | int() as seconds,
            "phases": list(phases),
            "notes": list(notes),
        }:
            return Planned(
                peak_bytes=peak,
                seconds=float(seconds),
                phases=tuple(PlannedPhase(str(name), int(stage), float(each)) for name, stage, each in phases),
                notes=tuple(map(Message.from_json, notes)),
            )
        case {"kind": "event", "name": str(name), "fields": dict(given)} if name in EVENTS:
            return Happened(_event(EVENTS[name], given))
        case {
            "kind": "made",
            "name": str(name),
            "seconds": float() | int() as seconds,
            "peak_bytes": int(peak),
            "device_peak_bytes": int(device_peak),
        }:
            return Made(name=name, seconds=float(seconds), peak_bytes=peak, device_peak_bytes=device_peak)
        case {"kind": "failed", "error": str(error), "message": str() | list() as message, "exit_code": int(code)}:
            return Failed(error=error, message=Message.from_json(message), exit_code=code)
    raise ValueError(f"{values!s:.{MOST_SHOWN}} is not an answer of a worker")


def failure(error: Exception) -> Failed:
    """The answer for an image that raised `error`. Other errors than LinfusionError are a fault of linfusion."""
    if isinstance(error, LinfusionError):
        return Failed(error=type(error).__name__, message=error.message, exit_code=error.exit_code)
    text = f"{type(error).__name__}: {error}"
    return Failed(error="InternalError", message=Message(text), exit_code=LinfusionError.exit_code)


class TaskState(StrEnum):
    """The states of a task, as the JSON output names them."""

    REDO = "redo"  # its image is damaged and made again
    BEGUN = "begun"
    PLAN = "plan"
    EVENT = "event"
    RETRY = "retry"
    MADE = "made"
    FAILED = "failed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """What happened to a task.

    left: images of this run that are not made yet, the one in hand among them. answer: what the worker said of PLAN,
    EVENT, MADE and FAILED. path: of the image that was made. workers: images that are made at a time; of a cluster host
    and sha256 say where the image was made and what its file has.
    """

    state: TaskState
    task: Task
    left: int
    text: str = ""
    answer: Planned | Happened | Made | Failed | None = None
    path: str = ""
    host: str = ""
    sha256: str = ""
    workers: int = 1

    def numbers(self) -> dict[str, object]:
        """The measured or planned values that the JSON output adds for this state."""
        match self.answer:
            case Planned(peak_bytes=peak, seconds=seconds):
                return {"peak_bytes": peak, "seconds": seconds}
            case Made() as made:
                where = {"host": self.host, "sha256": self.sha256} if self.host else {}
                return {**made.measured(), "path": self.path, **where}
            case Failed(exit_code=code):
                return {"exit_code": code}
            case _:
                return {}


def _event_value(value: object) -> object:
    return value.as_json() if isinstance(value, Message) else value


def _event(kind: type[Event], given: Mapping[str, Any]) -> Event:
    names = {field.name for field in fields(kind)}
    if not given.keys() <= names:
        raise ValueError(f"{kind.__name__} has no {', '.join(sorted(given.keys() - names))}")
    values: dict[str, Any] = {key: Message.from_json(value) if key == "text" else value for key, value in given.items()}
    try:
        return kind(**values)
    except TypeError as error:
        raise ValueError(str(error)) from error


def _plain(value: object) -> object:
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    return str(value) if isinstance(value, Path) else value


def _as_hinted(value: Any, hint: Any) -> Any:
    if isinstance(value, list):
        return tuple(_as_hinted(item, typing.get_args(hint)[0]) for item in value)
    kinds = typing.get_args(hint) or (hint,)
    return Path(value) if Path in kinds and isinstance(value, str) else value
