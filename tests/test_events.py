"""Events are values with named fields, so that they pass between processes and are easy to compare."""

import pickle

import pytest

from linfusion_cli.events import Event, MemorySampled, Note, PhaseFinished, PhaseStarted, Progressed

EVENTS: list[Event] = [
    PhaseStarted(name="denoise", stage=1, total=10, unit="steps", done=3),
    Progressed(done=4),
    PhaseFinished(name="denoise", stage=1, seconds=2.5, peak_bytes=10, device_peak_bytes=0),
    MemorySampled(resident_bytes=7, device_bytes=0),
    Note(text="goes on in bands"),
]


@pytest.mark.parametrize("event", EVENTS, ids=lambda event: type(event).__name__)
def test_an_event_survives_the_way_to_another_process(event: Event) -> None:
    assert pickle.loads(pickle.dumps(event)) == event


def test_a_phase_that_was_not_resumed_has_nothing_done() -> None:
    assert PhaseStarted(name="load", stage=0, total=1, unit="steps").done == 0
