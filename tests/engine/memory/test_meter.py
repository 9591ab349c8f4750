"""The meter sees peaks between two looks of a user, tells phases in order, and leaves no thread behind."""

import threading
import time

import pytest
import torch

from linfusion_cli.engine.memory import meter
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


def test_a_cards_peak_is_what_its_allocator_reserves(monkeypatch: pytest.MonkeyPatch) -> None:
    """Reserved blocks are nobody else's, whether or not tensors lie in them; the counter begins anew in each phase."""
    reserved = {"peak": 900, "now": 500}
    asked: list[float] = []
    monkeypatch.setattr(torch.cuda, "reset_peak_memory_stats", lambda _: reserved.update(peak=reserved["now"]))
    monkeypatch.setattr(meter, "release_pinned", lambda: asked.append(0.0))
    monkeypatch.setattr(torch.cuda, "max_memory_reserved", lambda _: reserved["peak"])

    def now(_: torch.device) -> int:
        asked.append(time.monotonic())
        return reserved["now"]

    monkeypatch.setattr(torch.cuda, "memory_reserved", now)
    events: list[Event] = []
    with Meter(torch.device("cuda:0"), events.append).phase("decode", 0, 1, "rows"):
        reserved["peak"] = 700
        time.sleep(0.2)
    finished = events[-1]
    assert isinstance(finished, PhaseFinished)
    assert finished.device_peak_bytes == 700
    samples = [event for event in events if isinstance(event, MemorySampled)]
    assert [sample.device_bytes for sample in samples] == [500]
    assert asked.pop(0) == 0, "page-locked RAM of the phase before is given back"
    assert len(asked) == 1, "the answer holds up the thread that starts kernels"
