"""What a step is told, and what it reports: one case after the other, each a line of JSON."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
STAND_IN = "stand-in, not a GPU"
# After these the process can't use the card any more: https://docs.nvidia.com/cuda, "sticky" errors.
POISON = ("device-side assert", "illegal memory access", "unspecified launch failure", "misaligned address")


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """Where and how the steps run.

    quick:    tiny networks and small images, to exercise every line without a GPU
    official: the checkout of the official LinFusion code, if one is there
    scratch:  a folder for files of this run
    """

    device: str
    quick: bool
    scratch: Path
    official: Path | None = None

    @property
    def kind(self) -> str:
        """ "cuda" or "cpu": the device without its number."""
        return self.device.partition(":")[0]


@dataclass(frozen=True, slots=True)
class Case:
    """One thing that was tried.

    ok:    whether it came out as it must; None where nothing is judged (times, sizes)
    found: numbers and words, by name; units are in the names
    """

    name: str
    ok: bool | None = None
    found: dict[str, Any] = field(default_factory=dict)

    def line(self) -> str:
        """As one line of JSON."""
        return json.dumps(asdict(self), allow_nan=False, default=str)

    @staticmethod
    def of(line: str) -> Case:
        """Raises ValueError for a line that is none."""
        try:
            values = json.loads(line)
            return Case(str(values["name"]), values["ok"], dict(values["found"]))
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"no case: {line:.80}") from error


Step = Callable[[Setting], Iterator[Case]]


def attempt(name: str, work: Callable[[], Case]) -> Case:
    """The case that `work` makes; one that failed, if it raises. An error after which a card is lost is raised."""
    try:
        return work()
    except Exception as error:
        if any(word in str(error) for word in POISON):
            raise
        return Case(name, False, {"error": first_line(error)})


def first_line(error: BaseException) -> str:
    """The kind of an error, and the beginning of what it says."""
    said = (str(error).splitlines() or [""])[0]
    return f"{type(error).__name__}: {said:.300}"
