"""Runs each step in a process of its own: an error of CUDA makes a process useless, and a step may hang."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from typing import IO

from bench.gpu.case import ROOT, Case, Setting
from bench.gpu.report import Report, StepResult
from bench.gpu.steps import Row

ERROR_CHARACTERS = 600
STAND_IN_LIMITS = 5  # times as long: its machine may be busy, and what it measures is not used
Command = Callable[[Row, Setting], list[str]]
Tell = Callable[[str], None]


def command_of(row: Row, setting: Setting) -> list[str]:
    """The command of a step's process."""
    words = [sys.executable, "-m", "bench.gpu", "--child", row.name, "--device", setting.device]
    words += ["--scratch", str(setting.scratch), *(["--quick"] if setting.quick else [])]
    return words + (["--official", str(setting.official)] if setting.official else [])


def run_steps(
    rows: Sequence[Row],
    setting: Setting,
    report: Report,
    seconds: float,
    tell: Tell,
    command: Command = command_of,
    clock: Callable[[], float] = time.monotonic,
) -> None:
    """Runs the steps in order within `seconds` altogether. What does not fit any more is skipped by name."""
    end = clock() + seconds
    for row in rows:
        if reason := _obstacle(row, setting, report, end - clock()):
            report.add(StepResult(row.name, "skipped", reason))
            tell(f"{row.name}: skipped: {reason}")
            continue
        tell(f"{row.name}: {row.what} ...")
        started = clock()
        limit = row.limit * (STAND_IN_LIMITS if setting.quick else 1)
        result = run_step(row, command(row, setting), min(limit, end - clock()), tell)
        result.seconds = round(clock() - started, 1)
        report.add(result)
        wrong = f", {len(result.wrong)} wrong" if result.wrong else ""
        tell(
            f"{row.name}: {result.state} after {result.seconds} s{wrong}{': ' if result.reason else ''}{result.reason}"
        )


def _obstacle(row: Row, setting: Setting, report: Report, left: float) -> str:
    """Why a step can't run, "" if it can."""
    before = report.steps.get("environment")
    if before is not None and (before.wrong or before.state != "ended"):
        why = "; ".join(str(case.found.get("error", case.name)) for case in before.wrong) or before.reason
        return f"the environment is not fit: {why}"
    if row.needs == "official" and setting.official is None:
        return "no checkout of the official code: --official PATH"
    if left < row.seconds:
        return f"{max(left, 0):.0f} s are left, and it takes about {row.seconds:.0f} s"
    return ""


def run_step(row: Row, command: list[str], limit: float, tell: Tell) -> StepResult:
    """Runs one process to its end, or kills it and its children after `limit` seconds; its cases are kept."""
    result = StepResult(row.name, "ended")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])}
    with tempfile.TemporaryFile("w+", errors="replace") as errors:
        process = subprocess.Popen(
            command,
            cwd=ROOT,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            errors="replace",
            start_new_session=True,
        )
        assert process.stdout is not None
        reader = threading.Thread(target=_read, args=(process.stdout, result, tell), daemon=True)
        reader.start()
        try:
            code = process.wait(limit)
        except subprocess.TimeoutExpired:
            result.state, result.reason, code = "timed out", f"not ended after {limit:.0f} s", 0
        finally:
            _kill(process)
        reader.join()  # all that could write is dead
        process.stdout.close()
        if code:
            result.state, result.reason = "failed", _reason(code, errors)
    return result


def _read(lines: IO[str], result: StepResult, tell: Tell) -> None:
    for line in lines:
        try:
            case = Case.of(line)
        except ValueError:
            continue  # half a line of a process that was killed
        result.cases.append(case)
        found = ", ".join(f"{name} {value}" for name, value in case.found.items())
        tell(f"  {'WRONG ' if case.ok is False else ''}{case.name}: {found}")


def _kill(process: subprocess.Popen[str]) -> None:
    """The process and all that it started."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _reason(code: int, errors: IO[str]) -> str:
    errors.seek(0)
    said = errors.read()[-ERROR_CHARACTERS:].strip()
    how = f"killed by {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
    return f"{how}: {said.splitlines()[-1] if said else 'it said nothing'}"
