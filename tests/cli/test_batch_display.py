"""What a user sees of a batch, event by event."""

from __future__ import annotations

import sys
from typing import Any, cast

import pytest

from linfusion_cli.batch.runner import Told
from linfusion_cli.batch.task_list import Task
from linfusion_cli.cli.batch_display import LINE_SECONDS, BatchDisplay
from linfusion_cli.cli.logs import LogFile

TASK = Task("0" * 64, "list.txt:1", "a lake", 1, "lake.png", cast("Any", None))
PLAN = {"peak_bytes": 1, "seconds": 40.0, "phases": [["load", 0, 0.0], ["denoise", 0, 30.0], ["decode", 0, 10.0]]}
MADE = {"seconds": 20.0, "peak_bytes": 2e9, "device_peak_bytes": 0, "path": "out/lake.png"}


def told(kind: str, left: int, **fields: object) -> Told:
    return Told(kind=kind, task=TASK, left=left, fields=fields)


def event(kind: str, /, **fields: object) -> Told:
    return told("event", 2, name=kind, fields=fields)


def test_the_count_is_of_this_run_and_the_time_that_of_what_is_left(capsys: pytest.CaptureFixture[str]) -> None:
    display = BatchDisplay(LogFile(None), as_json=False, quiet=False)
    for one in (told("begun", 2), told("made", 1, **MADE), told("begun", 1), told("made", 0, **MADE)):
        display.tell(one)
    shown = capsys.readouterr()
    assert shown.err.splitlines() == [
        "[1/2] lake.png: 20 s, peak 2.0 GB, about 20 s left",
        "[2/2] lake.png: 20 s, peak 2.0 GB",
    ]
    assert shown.out == "out/lake.png\n" * 2


def test_a_long_image_gives_a_line_a_minute(capsys: pytest.CaptureFixture[str]) -> None:
    clock = [0.0]
    display = BatchDisplay(LogFile(None), as_json=False, quiet=False, now=lambda: clock[0])
    for one in (
        told("begun", 2),
        told("plan", 2, **PLAN),
        event("PhaseStarted", name="denoise", stage=0, total=10, unit="steps", done=0),
    ):
        display.tell(one)
    assert capsys.readouterr().err == ""
    clock[0] = LINE_SECONDS
    display.tell(event("Progressed", done=5))
    assert capsys.readouterr().err == "lake.png: stage 0 denoise 5/10 steps, about 1 min 05 s left\n"
    display.tell(event("Progressed", done=6))
    assert capsys.readouterr().err == ""


def test_a_bar_shows_the_step_and_lines_do_not_break_it(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "120")
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    display = BatchDisplay(LogFile(None), as_json=False, quiet=False)
    for one in (
        told("begun", 2),
        told("plan", 2, **PLAN),
        event("PhaseStarted", name="denoise", stage=0, total=10, unit="steps", done=0),
    ):
        display.tell(one)
    display.tell(event("Progressed", done=5))
    assert display._bar is not None
    display._bar.refresh()
    display.tell(told("made", 1, **MADE))
    display.close()
    shown = capsys.readouterr()
    assert "1/2 " in shown.err
    assert "lake.png stage 0 denoise 5/10 steps" in shown.err
    assert "[1/2] out/lake.png: 20 s" in shown.err
    assert shown.out == ""


def test_a_dumb_terminal_gets_lines(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "dumb")
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    display = BatchDisplay(LogFile(None), as_json=False, quiet=False)
    display.tell(told("made", 0, **MADE))
    assert capsys.readouterr().err == "[1/1] lake.png: 20 s, peak 2.0 GB\n"
