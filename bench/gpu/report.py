"""What all steps found: one JSON file, which is written again after each step, and the exit code."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from bench.gpu.case import Case
from bench.gpu.steps import STEPS
from linfusion_cli.files import write_atomically

State = Literal["ended", "failed", "timed out", "skipped"]
FILE, TABLE = "gpu.json", "gpu.md"


@dataclass(slots=True)
class StepResult:
    """One step: how it ended, the reason if it did not, its cases.

    seconds: of its process, start and imports included
    """

    name: str
    state: State
    reason: str = ""
    seconds: float = 0.0
    cases: list[Case] = field(default_factory=list)

    @property
    def wrong(self) -> list[Case]:
        """The cases that did not come out as they must."""
        return [case for case in self.cases if case.ok is False]


@dataclass(slots=True)
class Report:
    """The results of one run of the command; `marked`: what every reader must know of them, "" for nothing."""

    folder: Path
    marked: str
    device: str
    steps: dict[str, StepResult] = field(default_factory=dict)

    def add(self, result: StepResult) -> None:
        """Keeps a step's result, in memory and on the disk."""
        self.steps[result.name] = result
        self.write()

    def write(self) -> None:
        """Replaces the file as a whole: a run that is stopped keeps what it had."""
        write_atomically(self.folder / FILE, json.dumps(self.as_dict(), indent=1) + "\n")

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        steps = [asdict(result) for result in self.steps.values()]
        return {"marked": self.marked, "device": self.device, "steps": steps}

    def exit_code(self, asked: Iterable[str]) -> int:
        """1 if a case is wrong, if a step broke off, or if one of `asked` that must end did not."""
        must = {row.name for row in STEPS if row.must} & set(asked)
        results = self.steps.values()
        if any(result.wrong or result.state in ("failed", "timed out") for result in results):
            return 1
        return int(any(name not in self.steps or self.steps[name].state != "ended" for name in must))
