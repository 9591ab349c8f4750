"""Follows the engine's events through the plan: the running phase, what is done, and the remaining seconds."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from linfusion_cli.events import Event, MemorySampled, Note, PhaseFinished, PhaseStarted, PreviewMade, Progressed

if TYPE_CHECKING:
    from linfusion_cli.planning.planner import Plan

Now = Callable[[], float]
PRIOR = 0.2  # how much the plan weighs against the clock, as a part of its time: short phases run off it by far
LEAST_PRIOR = 1e-6  # seconds: a plan that takes no time says nothing about the clock


class Tracker:
    """The progress of a plan: the running phase, its finished steps, and the remaining seconds."""

    def __init__(self, plan: Plan, now: Now = time.monotonic) -> None:
        self._now = now
        self._start = now()
        self._planned = [(phase.name, phase.stage, phase.seconds) for phase in plan.phases]
        self._prior = PRIOR * plan.seconds
        self._spent = 0.0  # predicted seconds of the phases that are over
        self._took = 0.0  # measured seconds of them
        self._phase_start = self._start
        self._resumed_at = 0  # steps of the running phase that an earlier run did
        self.current: PhaseStarted | None = None
        self.done = 0
        self._estimated = (self._start, *self._estimate())  # when, the whole rest, and that after the next step
        self.peak_bytes = 0  # of the device, where there is one
        self.held_bytes = 0  # now, likewise

    def see(self, event: Event) -> None:
        """Follows an event of the engine."""
        match event:
            case PhaseStarted():
                self._skip_to(event)
                self.current, self.done, self._phase_start = event, event.done, self._now()
                self._resumed_at = event.done
                self._estimated = (self._now(), *self._estimate())
            case Progressed():
                self.done = event.done
                self._estimated = (self._now(), *self._estimate())
            case PhaseFinished():
                predicted = self._predicted(event.name, event.stage, drop=True)
                self._spent += predicted
                self._took += event.seconds if predicted else 0.0
                self.peak_bytes = max(self.peak_bytes, event.device_peak_bytes or event.peak_bytes)
                self.current = None
                self._estimated = (self._now(), *self._estimate())
            case MemorySampled():
                self.held_bytes = event.device_bytes or event.resident_bytes
                self.peak_bytes = max(self.peak_bytes, self.held_bytes)
            case Note() | PreviewMade():
                pass

    @property
    def elapsed_seconds(self) -> float:
        return self._now() - self._start

    @property
    def remaining_seconds(self) -> float:
        """Seconds that are left, as of the last finished step, less what passed since: a step that takes longer than
        expected holds the number where its end was expected, and never makes it grow."""
        at, rest, after_step = self._estimated
        return max(rest - (self._now() - at), after_step)

    def _estimate(self) -> tuple[float, float]:
        """Seconds that are left now, and those after the running step.

        The running phase at its own speed, later ones as planned, times the plan's error.
        """
        later = sum(seconds for _, _, seconds in self._planned)
        left, steps, took, spent = 0.0, 1, self._took, self._spent
        if self.current is not None:
            predicted, running = self._predicted(self.current.name, self.current.stage), self._now() - self._phase_start
            later -= predicted
            left, steps = predicted, max(self.current.total - self.done, 1)
            here = self.done - self._resumed_at
            if here > 0 and self.done <= self.current.total:
                left = running / here * (self.current.total - self.done)
                took, spent = took + running, spent + predicted * here / self.current.total
        correction = (took + self._prior) / (spent + self._prior) if self._prior > LEAST_PRIOR else 1.0
        after = max(later, 0.0) * correction
        return left + after, left * (steps - 1) / steps + after

    def _skip_to(self, event: PhaseStarted) -> None:
        """Forgets the phases before this one that never came: an earlier run did them."""
        positions = [(name, stage) for name, stage, _ in self._planned]
        if (event.name, event.stage) in positions:
            del self._planned[: positions.index((event.name, event.stage))]

    def _predicted(self, name: str, stage: int, *, drop: bool = False) -> float:
        for i, (planned_name, planned_stage, seconds) in enumerate(self._planned):
            if (planned_name, planned_stage) == (name, stage):
                if drop:
                    del self._planned[i]
                return seconds
        return 0.0
