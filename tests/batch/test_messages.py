"""What crosses the pipe to a worker and back stays the same, and nothing else is taken for an answer."""

from __future__ import annotations

import json

import pytest

from linfusion_cli.batch.messages import (
    Answer,
    Beat,
    Failed,
    Happened,
    Made,
    Outgrown,
    Planned,
    PlannedPhase,
    answer_as_json,
    answer_from_json,
    failure,
)
from linfusion_cli.errors import DiskFullError, Message, UsageError, option
from linfusion_cli.events import MemorySampled, Note, PhaseFinished, PhaseStarted, Progressed

MADE = Made(name="a.png", seconds=1.5, peak_bytes=2, device_peak_bytes=3)
ANSWERS: list[Answer] = [
    Beat(),
    Outgrown(),
    MADE,
    Planned(peak_bytes=1, seconds=4.0, phases=(PlannedPhase("load", -1, 0.5), PlannedPhase("decode", 0, 3.5))),
    Planned(peak_bytes=1, seconds=4.0, phases=(), notes=(Message("odd"), Message("use ", option("preset", "x")))),
    Failed(error="WeightsError", message=Message("no ", option("lora", "x")), exit_code=66),
    Happened(PhaseStarted(name="denoise", stage=1, total=9, unit="steps", done=2)),
    Happened(Progressed(done=4)),
    Happened(PhaseFinished(name="denoise", stage=1, seconds=1.0, peak_bytes=2, device_peak_bytes=0)),
    Happened(MemorySampled(resident_bytes=1, device_bytes=0)),
    Happened(Note(text=Message("use ", option("restart")))),
]


@pytest.mark.parametrize("answer", ANSWERS, ids=[str(answer)[:30] for answer in ANSWERS])
def test_answers_come_back_as_they_were_sent(answer: Answer) -> None:
    received = answer_from_json(json.loads(json.dumps(answer_as_json(answer))))
    assert received == answer
    if isinstance(answer, Planned):
        assert isinstance(received, Planned)
        assert [note.parts for note in received.notes] == [note.parts for note in answer.notes]
    if isinstance(answer, Happened) and isinstance(answer.event, Note):
        assert isinstance(received, Happened)
        assert isinstance(received.event, Note)
        assert isinstance(received.event.text, Message)
        assert received.event.text.parts == answer.event.text.parts  # the command line spells the option


@pytest.mark.parametrize(
    "values",
    [
        {},
        {"kind": "done"},
        {"kind": "made", "name": "a.png"},
        {"kind": "plan", "peak_bytes": 1, "seconds": 2.0, "phases": [["load", 0]], "notes": []},
        {"kind": "plan", "peak_bytes": 1, "seconds": 2.0, "phases": []},
        {"kind": "event", "name": "Exploded", "fields": {}},
        {"kind": "event", "name": "Progressed", "fields": {"done": 1, "more": 2}},
        {"kind": "event", "name": "Progressed", "fields": {}},
        {"kind": "failed", "error": "E", "message": 3, "exit_code": 1},
    ],
)
def test_anything_else_is_refused(values: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r".+"):
        answer_from_json(values)


def test_an_error_keeps_its_code_and_its_options() -> None:
    failed = failure(UsageError("is odd", parameter="size"))
    assert (failed.error, failed.exit_code) == ("UsageError", 2)
    assert failed.message.spelled(lambda part: f"--{part.key}") == "--size is odd"
    assert failure(DiskFullError("full")).error == "DiskFullError"
    fault = failure(KeyError("x"))
    assert (fault.error, str(fault.message), fault.exit_code) == ("InternalError", "KeyError: 'x'", 1)


def test_the_measured_numbers_are_those_of_the_journal() -> None:
    assert MADE.measured() == {"seconds": 1.5, "peak_bytes": 2, "device_peak_bytes": 3}
