"""The meter sees peaks between two looks of a user, tells phases in order, and leaves no thread behind."""

import subprocess
import sys
import threading
import time

import pytest
import torch

from linfusion_cli.engine.memory import allocator
from linfusion_cli.engine.memory.allocator import Relief
from linfusion_cli.engine.memory.meter import Meter, process_peak_bytes
from linfusion_cli.events import Event, MemorySampled, PhaseFinished, PhaseStarted, Progressed


def test_a_phase_is_told_with_its_peak() -> None:
    events: list[Event] = []
    with Meter(torch.device("cpu"), events.append).phase("denoise", 2, 3, "steps") as counter:
        held = torch.ones(60_000_000)  # 240 MB
        time.sleep(0.1)
        del held
        counter.reach(2)
        counter.add(1)
    kinds = [type(event) for event in events if not isinstance(event, MemorySampled)]
    assert kinds == [PhaseStarted, Progressed, Progressed, PhaseFinished]
    finished = events[-1]
    assert isinstance(finished, PhaseFinished)
    assert (finished.name, finished.stage, finished.device_peak_bytes) == ("denoise", 2, 0)
    assert finished.seconds >= 0.1
    assert finished.peak_bytes > 240_000_000
    assert process_peak_bytes() >= finished.peak_bytes - 50_000_000
    assert [event.done for event in events if isinstance(event, Progressed)] == [2, 3]


def test_a_failing_phase_stops_its_thread() -> None:
    before = threading.active_count()
    with (
        pytest.raises(ValueError, match="broken"),
        Meter(torch.device("cpu"), lambda event: None).phase("load", 0, 1, "steps"),
    ):
        raise ValueError("broken")
    assert threading.active_count() == before


def test_samples_are_told_while_a_phase_runs() -> None:
    events: list[Event] = []
    with Meter(torch.device("cpu"), events.append).phase("load", 0, 1, "steps"):
        time.sleep(0.05)
    samples = [event for event in events if isinstance(event, MemorySampled)]
    assert len(samples) >= 1
    assert all(sample.resident_bytes > 10**7 for sample in samples)


LET_GO = """
import psutil, torch
from linfusion_cli.engine.memory.allocator import large_apart
with large_apart():
    weights = [torch.ones(500_000) for _ in range(100)]  # 2 MB each
    held = psutil.Process().memory_info().rss
    del weights[::2]
    print(held - psutil.Process().memory_info().rss)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="only glibc keeps freed memory")
def test_weights_that_are_let_go_leave_no_gaps() -> None:
    """In a process of its own: where the heap has free room already, as after other tests, that is used first."""
    freed = int(subprocess.check_output([sys.executable, "-c", LET_GO]))
    assert freed > 80_000_000


@pytest.mark.parametrize(("planned_bytes", "times"), [(1, 1), (1 << 50, 0)])
def test_freed_memory_goes_back_where_the_process_holds_nearly_what_was_planned(
    monkeypatch: pytest.MonkeyPatch, planned_bytes: int, times: int
) -> None:
    given_back: list[bool] = []
    monkeypatch.setattr(allocator, "release_freed", lambda: given_back.append(True))
    Relief(planned_bytes)()
    assert len(given_back) == times
