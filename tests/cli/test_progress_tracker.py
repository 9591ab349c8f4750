"""The time left: by the plan first, then by the clock."""

from __future__ import annotations

from typing import Any

from clock import Clock

from linfusion_cli.cli.progress_tracker import Tracker
from linfusion_cli.events import PhaseFinished, PhaseStarted, Progressed

DENOISE = PhaseStarted(name="denoise", stage=0, total=2, unit="steps")
DENOISED = PhaseFinished(name="denoise", stage=0, seconds=8.0, peak_bytes=400_000_000, device_peak_bytes=0)


def test_the_time_left_follows_the_plan_and_then_the_clock(clock: Clock, plan: Any) -> None:
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
