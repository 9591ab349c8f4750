"""The displays: what people and programs see."""

from __future__ import annotations

import io
import json
import sys
from types import SimpleNamespace
from typing import Any

import pytest

from linfusion_cli.cli.render_display import Displays, JsonDisplay, LineDisplay, LiveDisplay, Tracker, open_displays
from linfusion_cli.cli.text import bytes_text, plan_lines, result_lines, seconds_text
from linfusion_cli.events import MemorySampled, Note, PhaseFinished, PhaseStarted, Progressed


class Clock:
    """A clock that a test turns."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def __call__(self) -> float:
        return self.seconds


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


DENOISE = PhaseStarted(name="denoise", stage=0, total=2, unit="steps")
DENOISED = PhaseFinished(name="denoise", stage=0, seconds=8.0, peak_bytes=400_000_000, device_peak_bytes=0)
DECODE = PhaseStarted(name="decode", stage=1, total=128, unit="rows")


def types(stream: io.StringIO) -> list[str]:
    return [json.loads(line)["type"] for line in stream.getvalue().splitlines()]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.04, "0.0 s"), (9.94, "9.9 s"), (9.96, "10 s"), (59.6, "1 min 00 s"), (185, "3 min 05 s"), (7380, "2 h 03 min")],
)
def test_seconds(seconds: float, text: str) -> None:
    assert seconds_text(seconds) == text


def test_bytes() -> None:
    assert [bytes_text(amount) for amount in (812e6, 5.44e9)] == ["812 MB", "5.4 GB"]


def test_the_plan_shows_each_stage_with_its_memory_and_time(plan: Any) -> None:
    lines = plan_lines(plan)
    assert lines[3].split() == ["0", "128x64", "2", "1", "0", "1", "300", "MB", "4.0", "s"]
    assert lines[4].split() == ["1", "256x128", "1", "1", "1", "0.4", "2.5", "GB", "6.0", "s"]
    assert lines[5].split() == ["all", "256x128", "2.5", "GB", "10", "s"]
    assert "autoencoder in bands of 64 rows" in lines[1]


def test_times_are_called_guesses_until_something_was_measured(plan: Any) -> None:
    assert not any("guesses" in line for line in plan_lines(plan))
    plan.machine.speed = lambda dtype: SimpleNamespace(measured=False)
    assert (
        plan_lines(plan)[-1]
        == "note: times are guesses: no image was made here in float32 yet (linfusion plan measures)"
    )


def test_prompts_and_notes_can_not_drive_the_terminal(plan: Any) -> None:
    text = "\n".join(plan_lines(plan))
    assert "[b]lake" in text
    assert "\x1b" not in text


def test_the_result_compares_predicted_with_measured(plan: Any, rendered: Any) -> None:
    lines = result_lines(plan, rendered)
    assert lines[1].split() == ["time", "10", "s", "12", "s"]
    assert lines[2].split() == ["peak", "memory", "2.5", "GB", "2.0", "GB"]
    rendered.device_peak_bytes = 1_000_000_000
    assert result_lines(plan, rendered)[2].split() == ["peak", "GPU", "memory", "2.5", "GB", "1.0", "GB"]


def test_the_time_left_follows_the_plan_and_then_the_clock(plan: Any) -> None:
    clock = Clock()
    tracker = Tracker(plan, clock)
    assert tracker.remaining_seconds == 10
    tracker.see(DENOISE)
    assert tracker.remaining_seconds == 10
    clock.seconds = 4.0
    tracker.see(Progressed(done=1))
    assert tracker.remaining_seconds == 13  # one more step of 4 s; the plan's 6 s times (4 + 2) / (2 + 2)
    clock.seconds = 8.0
    tracker.see(Progressed(done=2))
    tracker.see(DENOISED)
    assert (tracker.remaining_seconds, tracker.peak_bytes) == (10, 400_000_000)  # 6 s times (8 + 2) / (4 + 2)


def test_a_phase_that_the_plan_does_not_know_is_no_harm(plan: Any) -> None:
    tracker = Tracker(plan, Clock())
    tracker.see(PhaseStarted(name="tea", stage=7, total=0, unit="steps"))
    tracker.see(PhaseFinished(name="tea", stage=7, seconds=1.0, peak_bytes=0, device_peak_bytes=0))
    assert tracker.remaining_seconds == 10


def test_plain_lines_come_per_phase_and_every_ten_seconds(plan: Any, rendered: Any) -> None:
    clock, stream = Clock(), io.StringIO()
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


def test_json_progress_is_held_to_ten_lines_a_second(plan: Any, rendered: Any) -> None:
    clock, stream = Clock(), io.StringIO()
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
