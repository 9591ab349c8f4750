"""The displays: what people and programs see."""

from __future__ import annotations

import io
import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from clock import Clock

from linfusion_cli.cli.render_display import Displays, JsonDisplay, LineDisplay, LiveDisplay, open_displays
from linfusion_cli.errors import UsageError
from linfusion_cli.events import MemorySampled, Note, PhaseFinished, PhaseStarted, PreviewMade, Progressed


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


DENOISE = PhaseStarted(name="denoise", stage=0, total=2, unit="steps")
DENOISED = PhaseFinished(name="denoise", stage=0, seconds=8.0, peak_bytes=400_000_000, device_peak_bytes=0)
PREVIEW = PreviewMade(stage=0, done=1, total=2, width=2, height=1, rgb=b"\xff\x00\x00\x00\x00\xff")
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


def test_previews_are_drawn_in_a_terminal_that_can_and_the_bar_goes_on(
    plan: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan.job = replace(plan.job, preview=Path("-"))
    stream = Terminal()
    monkeypatch.setattr(sys, "stderr", stream)
    monkeypatch.setenv("TERM", "xterm-kitty")
    monkeypatch.delenv("TMUX", raising=False)
    with open_displays(plan, as_json=False, quiet=False) as displays:
        for event in (DENOISE, PREVIEW, Progressed(done=1)):
            displays.notify(event)
    before, _, after = stream.getvalue().partition("\x1b_Ga=T,")
    assert "1/2 steps" not in before
    assert "1/2 steps" in after
    assert after.index("\x1b\\\n") < after.index("1/2 steps")


def test_previews_of_a_file_are_not_drawn_and_programs_are_told_where_they_are(plan: Any) -> None:
    plan.job = replace(plan.job, preview=Path("p.jpg"))
    live, lines, programs = Terminal(), io.StringIO(), io.StringIO()
    with Displays(LiveDisplay(plan, live), LineDisplay(plan, lines), JsonDisplay(plan, programs)) as displays:
        displays.notify(DENOISE)
        displays.notify(PREVIEW)
    assert "\x1b_G" not in live.getvalue() + lines.getvalue()
    told = json.loads(programs.getvalue().splitlines()[-1])
    assert told == {"type": "preview", "path": "p.jpg", "stage": 0, "done": 1, "total": 2}


@pytest.mark.parametrize(("quiet", "reason"), [(True, "quiet shows nothing"), (False, "stderr is not a terminal")])
def test_previews_that_nobody_would_see_are_refused(
    plan: Any, monkeypatch: pytest.MonkeyPatch, quiet: bool, reason: str
) -> None:
    plan.job = replace(plan.job, preview=Path("-"))
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    with pytest.raises(UsageError, match=reason):
        open_displays(plan, as_json=False, quiet=quiet)
