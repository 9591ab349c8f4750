"""The steps in the order of their value, and the process in which one of them runs."""

from __future__ import annotations

import importlib
import os
import sys
import traceback
from dataclasses import dataclass

from bench.gpu.case import Case, Setting, Step, first_line


@dataclass(frozen=True, slots=True)
class Row:
    """A step: a function `cases` of the module of that name in bench/gpu.

    seconds: about what it takes on a data-centre card: with less time left it is skipped by name
    limit:   after so many seconds it is killed
    must:    the command fails where it did not end, also for lack of time
    needs:   "official": the checkout of the official code
    """

    name: str
    module: str
    what: str
    seconds: float
    limit: float
    must: bool = False
    needs: str = ""
    argument: str = ""


STEPS = (
    Row("environment", "environment", "driver, card, versions, copy rates", 10, 90, must=True),
    Row("parity", "parity", "tiny networks on the card against the CPU in float64", 40, 180, must=True),
    Row("memory", "memory", "memory that runs out: the same image", 20, 90),
    Row("large", "large", "tensors above 2^31 values", 20, 90),
    Row("sdxl", "shapes", "SDXL, random weights, up to 16384x8192, by phase", 60, 240, argument="sdxl"),
    Row("kernels", "kernels", "the kernels, waits and dispatches of one SDXL pass", 20, 90),
    Row("fused", "fused", "the Triton kernels against the plain operators", 20, 90),
    Row("resume", "resume", "a batch of three images that is killed and goes on", 30, 120),
    Row("official", "official", "the official module and pipeline in the same process", 30, 150, needs="official"),
    Row("sdxl-8gb", "shapes", "the same with 8 GB of the card", 60, 240, argument="sdxl-8gb"),
    Row("sd15", "shapes", "SD-v1.5, random weights, by phase", 40, 180, argument="sd15"),
    Row("ranks", "ranks", "two processes that make one prediction together", 20, 200),
    Row("sdxl-full", "shapes", "SDXL at 16384x8192 with all 50 steps", 90, 300, argument="sdxl-full"),
)
NAMES = tuple(row.name for row in STEPS)


def step_of(name: str) -> tuple[Row, Step]:
    """A step and its function."""
    row = next(row for row in STEPS if row.name == name)
    module = importlib.import_module(f"bench.gpu.{row.module}")
    return row, module.cases_of(row.argument) if row.argument else module.cases


def run_here(name: str, setting: Setting) -> int:
    """Runs one step in this process and prints its cases to the standard output, which nothing else may use."""
    lines = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what libraries print goes to standard error
    sys.stdout = sys.stderr
    try:
        _, step = step_of(name)
        for case in step(setting):
            print(case.line(), file=lines, flush=True)
    except Exception as error:
        traceback.print_exc()
        print(Case("not ended", False, {"error": first_line(error)}).line(), file=lines, flush=True)
        return 1
    return 0
