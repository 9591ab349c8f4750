"""The time left: by the plan first, then by the clock."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from clock import Clock
from hypothesis import given
from hypothesis import strategies as st

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


@given(
    planned=st.lists(st.floats(0, 1e4), min_size=1, max_size=3),
    waits=st.lists(st.lists(st.floats(0, 1e3), min_size=1, max_size=4), min_size=1, max_size=4),
)
def test_the_time_left_never_grows_while_a_step_runs(planned: list[float], waits: list[list[float]]) -> None:
    """Steps of any length against any plan: between two events the number falls with the clock, or holds."""
    clock = Clock()
    phases = [SimpleNamespace(name="denoise", stage=stage, seconds=seconds) for stage, seconds in enumerate(planned)]
    plan: Any = SimpleNamespace(phases=phases, seconds=sum(planned))
    tracker = Tracker(plan, clock)
    for stage in range(len(planned)):
        tracker.see(PhaseStarted(name="denoise", stage=stage, total=len(waits), unit="steps"))
        started = clock.seconds
        for done, moments in enumerate(waits, 1):
            before = tracker.remaining_seconds
            for moment in moments:
                clock.seconds += moment
                now = tracker.remaining_seconds
                assert 0 <= now <= before
                before = now
            tracker.see(Progressed(done=done))
        seconds = clock.seconds - started
        tracker.see(PhaseFinished(name="denoise", stage=stage, seconds=seconds, peak_bytes=0, device_peak_bytes=0))
    assert tracker.remaining_seconds == 0
