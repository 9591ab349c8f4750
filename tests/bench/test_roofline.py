"""The roofline's arithmetic: a phase's bound is the longer of its compute and its memory at the machine's peaks."""

from collections.abc import Callable
from itertools import count

import pytest
import torch
from made_up import job, machine

from bench import roofline
from bench.roofline import ACCESSES, Peaks, measure_peaks, moved_bytes, share_of, shares, table, together
from linfusion_cli.events import PhaseFinished
from linfusion_cli.planning.planner import make_plan

PEAKS = Peaks(convolution=100.0, product=80.0, copy=10.0)


@pytest.mark.parametrize(
    ("macs", "moved", "bound", "by"), [(1000, 50, 10, "compute"), (1000, 200, 20, "memory"), (1000, 100, 10, "compute")]
)
def test_the_longer_of_both_bounds_a_phase(macs: float, moved: float, bound: float, by: str) -> None:
    found = share_of("decode 0", macs, moved, 40.0, PEAKS)
    assert (found.bound_seconds, found.by, found.share) == (bound, by, bound / 40)


def test_the_best_of_two_measurements_is_the_peak() -> None:
    assert PEAKS.better(Peaks(90.0, 120.0, 11.0)) == Peaks(100.0, 120.0, 11.0)
    assert PEAKS.better(Peaks(90.0, 120.0, 11.0)).macs == 120


def test_every_measured_phase_of_a_plan_has_its_row() -> None:
    plan = make_plan(job("768x512"), machine("cpu", 16))
    seconds = {phase: 2.0 + phase.stage for phase in plan.phases if phase.macs}
    finished = [
        PhaseFinished(name=phase.name, stage=phase.stage, seconds=taken, peak_bytes=0, device_peak_bytes=0)
        for phase, taken in seconds.items()
    ]
    found = shares(plan, finished, Peaks(1e9, 1e9, 1e9))
    assert [part.name for part in found] == [f"{phase.name} {phase.stage}" for phase in seconds]
    assert [part.macs for part in found] == [phase.macs for phase in seconds]
    assert [part.bytes for part in found] == [moved_bytes(phase, 4) for phase in seconds]
    first = next(iter(seconds))
    assert moved_bytes(first, 4) == ACCESSES * 4 * sum(work.values for work in first.work)
    whole = together(found)
    assert whole.seconds == sum(seconds.values())
    assert whole.share == pytest.approx(sum(part.bound_seconds for part in found) / whole.seconds)
    assert len(table(found).splitlines()) == 2 + len(found) + 1
    assert shares(plan, finished[:1], PEAKS)[1:] == []


def clock(step: float) -> Callable[[], float]:
    ticks = count()
    return lambda: next(ticks) * step


def test_peaks_are_work_over_the_fastest_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(roofline, "CONVOLUTIONS", ((2, 3, 5), (4, 3, 5)))
    monkeypatch.setattr(roofline, "PRODUCTS", ((7, 2, 3),))
    monkeypatch.setattr(roofline, "COPY_BYTES", 64)
    found = measure_peaks(torch.float32, clock(0.5))
    assert found == Peaks(9 * 16 * 15 / 0.5, 7 * 2 * 3 / 0.5, 2 * 64 / 0.5)
