"""What a user sees of a batch, event by event."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from typing import Any, cast

import pytest

from linfusion_cli.batch.dry_run import DryRun, PlannedKind, UnplannedKind
from linfusion_cli.batch.messages import Failed, Happened, Made, Planned, PlannedPhase, TaskState, Told
from linfusion_cli.batch.runner import Summary
from linfusion_cli.batch.task_list import Task
from linfusion_cli.cli.batch_display import LINE_SECONDS, BatchDisplay, dry_run_lines, emit_dry_run
from linfusion_cli.cli.logs import LogFile
from linfusion_cli.errors import Message, option
from linfusion_cli.events import Event, Note, PhaseStarted, Progressed

TASK = Task("0" * 64, "list.txt:1", "a lake", 1, "lake.png", cast("Any", None))
PHASES = (PlannedPhase("load", 0, 0.0), PlannedPhase("denoise", 0, 30.0), PlannedPhase("decode", 0, 10.0))
PLAN = Planned(peak_bytes=1, seconds=40.0, phases=PHASES)
MADE = Made(name="lake.png", seconds=20.0, peak_bytes=2_000_000_000, device_peak_bytes=0)
BEGUN = Told(state=TaskState.BEGUN, task=TASK, left=2)
PLANNED = Told(state=TaskState.PLAN, task=TASK, left=2, answer=PLAN)
DENOISING = PhaseStarted(name="denoise", stage=0, total=10, unit="steps", done=0)


def made(left: int) -> Told:
    return Told(state=TaskState.MADE, task=TASK, left=left, answer=MADE, path="out/lake.png")


def event(happened: Event) -> Told:
    return Told(state=TaskState.EVENT, task=TASK, left=2, answer=Happened(happened))


def test_programs_get_the_numbers_of_each_state(capsys: pytest.CaptureFixture[str]) -> None:
    display = BatchDisplay(LogFile(None), as_json=True, quiet=True)
    failed = Failed(error="WeightsError", message=Message("no"), exit_code=66)
    for one in (BEGUN, PLANNED, event(DENOISING), made(1)):
        display.tell(one)
    display.tell(Told(state=TaskState.FAILED, task=TASK, left=0, text="no", answer=failed))
    about = {"id": "0" * 64, "place": "list.txt:1", "name": "lake.png", "text": ""}
    numbers = {"seconds": 20.0, "peak_bytes": 2_000_000_000, "device_peak_bytes": 0, "path": "out/lake.png"}
    assert [json.loads(line) for line in capsys.readouterr().out.splitlines()] == [
        {"type": "begun", **about},
        {"type": "plan", **about, "notes": [], "peak_bytes": 1, "seconds": 40.0},
        {"type": "made", **about, **numbers},
        {"type": "failed", **about, "text": "no", "exit_code": 66},
    ]


def test_the_count_is_of_this_run_and_the_time_that_of_what_is_left(capsys: pytest.CaptureFixture[str]) -> None:
    display = BatchDisplay(LogFile(None), as_json=False, quiet=False)
    for one in (BEGUN, made(1), BEGUN, made(0)):
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
    for one in (BEGUN, PLANNED, event(DENOISING)):
        display.tell(one)
    assert capsys.readouterr().err == ""
    clock[0] = LINE_SECONDS
    display.tell(event(Progressed(done=5)))
    assert capsys.readouterr().err == "lake.png: stage 0 denoise 5/10 steps, about 1 min 05 s left\n"
    display.tell(event(Progressed(done=6)))
    assert capsys.readouterr().err == ""


def test_a_bar_shows_the_step_and_lines_do_not_break_it(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "120")
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    display = BatchDisplay(LogFile(None), as_json=False, quiet=False)
    for one in (BEGUN, PLANNED, event(DENOISING)):
        display.tell(one)
    display.tell(event(Progressed(done=5)))
    assert display._bar is not None
    display._bar.refresh()
    display.tell(made(1))
    display.close()
    shown = capsys.readouterr()
    assert "1/2 " in shown.err
    assert "stage 0 denoise 5/10 steps lake.png" in shown.err
    assert "[1/2] out/lake.png: 20 s" in shown.err
    assert shown.out == ""


def test_a_dumb_terminal_gets_lines(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "dumb")
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    display = BatchDisplay(LogFile(None), as_json=False, quiet=False)
    display.tell(made(0))
    assert capsys.readouterr().err == "[1/1] lake.png: 20 s, peak 2.0 GB\n"


def test_each_note_is_shown_once_and_counted_at_the_end(capsys: pytest.CaptureFixture[str]) -> None:
    display = BatchDisplay(LogFile(None), as_json=False, quiet=False)
    for number, notes in enumerate([("odd", "rare"), ("odd",), ("odd",)]):
        task = replace(TASK, id=f"{number:064}", name=f"{number}.png")
        planned = replace(PLAN, notes=tuple(map(Message, notes)))
        for _ in range(2):  # a worker that is outgrown plans the image again
            display.tell(Told(state=TaskState.PLAN, task=task, left=1, answer=planned))
        display.tell(Told(state=TaskState.EVENT, task=task, left=1, answer=Happened(Note(text=Message("late")))))
    display.sum_up(Summary(made=3))
    assert capsys.readouterr().err.splitlines() == [
        "note: 0.png: odd",
        "note: 0.png: rare",
        "note: 0.png: late",
        "note: 3 images: odd",
        "note: 3 images: late",
        "3 made, 0 done before in 0.0 s",
    ]


def test_programs_get_the_notes_of_each_image(capsys: pytest.CaptureFixture[str]) -> None:
    display = BatchDisplay(LogFile(None), as_json=True, quiet=True)
    planned = replace(PLAN, notes=(Message("use ", option("preset", "sdxl-4k")),))
    display.tell(Told(state=TaskState.PLAN, task=TASK, left=1, answer=planned))
    display.tell(event(Note(text=Message("see ", option("restart")))))
    display.tell(event(Progressed(done=1)))
    display.sum_up(Summary())
    plan, note, summary = map(json.loads, capsys.readouterr().out.splitlines())
    assert plan["notes"] == ["use --preset sdxl-4k"]
    assert (note["type"], note["name"], note["text"]) == ("note", "lake.png", "see --restart")
    assert summary["notes"] == [
        {"text": "use --preset sdxl-4k", "images": 1},
        {"text": "see --restart", "images": 1},
    ]


def test_a_dry_run_shows_configurations_notes_and_obstacles(capsys: pytest.CaptureFixture[str]) -> None:
    found = DryRun(
        unplanned=[
            UnplannedKind(images=2, size="32x32", preset="p", place="list.txt:7"),
            UnplannedKind(images=1, size="16x16", preset="q", place="list.txt:9"),
        ]
    )
    found.planned += [PlannedKind(images=3, size="64x64", preset="p", seconds=10.0, peak_bytes=5_000_000)]
    found.notes.add("odd", ["a", "b"])
    found.obstacles.add(Message("give ", option("max_memory", "1GB")), ["a"])
    assert dry_run_lines(found) == [
        "3 images of 64x64, preset p: 10 s and 5 MB each",
        "in all 30 s",
        "not planned, beyond the first 1: 2 other configurations",
        "  2 images of 32x32, preset p, from list.txt:7",
        "  1 image of 16x16, preset q, from list.txt:9",
        "note: 2 images: odd",
        "would fail, 1 image: give --max-memory 1GB",
    ]
    emit_dry_run(found)
    told = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [event["type"] for event in told] == ["plan", "unplanned", "unplanned", "note", "obstacle"]
    assert told[1] | {"images": 2, "place": "list.txt:7"} == told[1]
