"""The events of a render: the engine sends them, the command line shows them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class PhaseStarted:
    """A phase of the plan begins.

    total: its steps (denoising) or rows of pixels (encoding, decoding); done: those of an earlier run
    """

    name: str  # "load", "denoise", "encode", "decode", ...
    stage: int
    total: int
    unit: str  # "steps" or "rows"
    done: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Progressed:
    """`done` of the running phase's `total` steps or rows are done."""

    done: int


@dataclass(frozen=True, slots=True, kw_only=True)
class PhaseFinished:
    """A phase is over: its duration, and the most memory that the process and the device held meanwhile."""

    name: str
    stage: int
    seconds: float
    peak_bytes: int
    device_peak_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class MemorySampled:
    """The memory of the process and the device at this moment, about twice a second."""

    resident_bytes: int
    device_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Note:
    """Something that the user should know (a fallback, a change of plan)."""

    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PreviewMade:
    """The image as prediction `done` of `total` of a stage shows it.

    rgb: width * height * 3 bytes, rows from the top; for people's eyes: fewer pixels than the stage has, rough colours
    """

    stage: int
    done: int
    total: int
    width: int
    height: int
    rgb: bytes


Event = PhaseStarted | Progressed | PhaseFinished | MemorySampled | Note | PreviewMade
Notify = Callable[[Event], None]
