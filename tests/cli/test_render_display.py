"""The displays: what people and programs see."""

from __future__ import annotations

import io
import json
import sys
from typing import Any

import pytest
from clock import Clock

from linfusion_cli.cli.render_display import Displays, JsonDisplay, LineDisplay, LiveDisplay, open_displays
from linfusion_cli.events import MemorySampled, Note, PhaseFinished, PhaseStarted, Progressed


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


DENOISE = PhaseStarted(name="denoise", stage=0, total=2, unit="steps")
DENOISED = PhaseFinished(name="denoise", stage=0, seconds=8.0, peak_bytes=400_000_000, device_peak_bytes=0)
DECODE = PhaseStarted(name="decode", stage=1, total=128, unit="rows")


def types(stream: io.StringIO) -> list[str]:
    return [json.loads(line)["type"] for line in stream.getvalue().splitlines()]


def test_plain_lines_come_per_phase_and_every_ten_seconds(clock: Clock, plan: Any, rendered: Any) -> None:
    stream = io.StringIO()
    display = LineDisplay(plan, stream, clock)
    before = len(stream.getvalue().splitlines())
    for event in (DENOISE, Progressed(done=1), DENOISED, DECODE):
        display.notify(event)
    for second in range(1, 26):
        clock.seconds = float(second)
        display.notify(Progressed(done=second))
    display.notify(Note(text="halved\x1b"))
    lines = stream.getvalue().splitlines()[before:]
    assert lines[0] == "[0.0 s] stage 0 (128x64) denoise: 2 steps"
    assert lines[1] == "[0.0 s] stage 0 denoise: done in 8.0 s, peak 400 MB"
    assert [line.split("]")[0] for line in lines[3:5]] == ["[10 s", "[20 s"]
    assert "stage 1 decode: 10/128 rows, about" in lines[3]
    assert lines[5] == "[25 s] note: halved\\x1b"
    display.finish(rendered)
    assert "predicted" in stream.getvalue()


def test_json_progress_is_held_to_ten_lines_a_second(clock: Clock, plan: Any, rendered: Any) -> None:
    stream = io.StringIO()
    display = JsonDisplay(plan, stream, clock)
    display.notify(DECODE)
    for row in range(1, 129):
        clock.seconds += 0.01
        display.notify(Progressed(done=row))
    display.notify(MemorySampled(resident_bytes=7, device_bytes=0))
    assert 10 <= types(stream).count("progress") <= 15
    assert [json.loads(line).get("done") for line in stream.getvalue().splitlines()[-2:]] == [128, None]
    assert types(stream)[-1] == "memory"
    display.finish(rendered)
    summary = json.loads(stream.getvalue().splitlines()[-1])
    assert (summary["type"], summary["seconds"], summary["predicted_peak_bytes"]) == ("summary", 12.0, 2_500_000_000)
    assert stream.getvalue().isascii()


def test_the_bar_shows_stage_steps_time_and_memory(plan: Any, rendered: Any) -> None:
    stream = Terminal()
    display = LiveDisplay(plan, stream)
    with Displays(display) as displays:
        memory = MemorySampled(resident_bytes=350_000_000, device_bytes=0)
        for event in (DENOISE, Progressed(done=1), DENOISED, DECODE, memory, Note(text="[/b] halved\x1b[5m")):
            displays.notify(event)
        displays.finish(rendered)
    text = stream.getvalue()
    for words in (
        "stage 1 decode",
        "0/128 rows",
        "10 s left",
        "350 MB of 2.5 GB",
        "peak 400 MB",
        "[/b] halved\\x1b[5m",
        "predicted",
    ):
        assert words in text


def test_a_terminal_gets_the_bar_and_a_file_gets_lines(plan: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm")
    for stream, live in ((Terminal(), True), (io.StringIO(), False)):
        monkeypatch.setattr(sys, "stderr", stream)
        with open_displays(plan, as_json=False, quiet=False):
            pass
        assert ("\x1b[" in stream.getvalue()) == live


def test_quiet_shows_nothing(plan: Any, rendered: Any, capsys: pytest.CaptureFixture[str]) -> None:
    with open_displays(plan, as_json=False, quiet=True) as displays:
        displays.notify(DENOISE)
        displays.finish(rendered)
    assert capsys.readouterr() == ("", "")
