"""How numbers, plans and results read, and that no text of others drives the terminal."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from linfusion_cli.cli.text import bytes_text, plan_lines, result_lines, seconds_text


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


def test_a_busy_machine_is_told_with_a_range(plan: Any) -> None:
    assert not any("busy" in line for line in plan_lines(plan))
    plan.machine.slowdown, plan.busy_seconds = 4.0, 40.0
    assert plan_lines(plan)[-1] == (
        "note: the machine is busy: the time is 10 s once it is idle, about 40 s if other programs go on as now"
    )


def test_prompts_and_notes_can_not_drive_the_terminal(plan: Any) -> None:
    text = "\n".join(plan_lines(plan))
    assert "[b]lake" in text
    assert "\x1b" not in text


def test_the_result_compares_predicted_with_measured(plan: Any, rendered: Any) -> None:
    lines = result_lines(rendered)
    assert lines[1].split() == ["time", "10", "s", "12", "s"]
    assert lines[2].split() == ["peak", "memory", "2.5", "GB", "2.0", "GB"]
    rendered.device_peak_bytes = 1_000_000_000
    assert result_lines(rendered)[2].split() == ["peak", "GPU", "memory", "2.5", "GB", "1.0", "GB"]
