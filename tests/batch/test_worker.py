"""The worker makes what it is ordered, or says why not; a broken order or a failed image costs no process."""

import io
import json
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from linfusion_cli import engine_import, render
from linfusion_cli.batch import worker
from linfusion_cli.batch.messages import Answer, Failed, Happened, Made, Order, Outgrown, Planned, answer_from_json
from linfusion_cli.batch.worker import _Maker, _speaker
from linfusion_cli.config.job_hash import job_hash
from linfusion_cli.config.request import Request
from linfusion_cli.config.resolve import resolve
from linfusion_cli.errors import DiskFullError, OutOfMemoryError
from linfusion_cli.events import Event, Note, PreviewMade, Progressed
from linfusion_cli.planning import planner


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """What stands for planning and rendering. planned: the budgets that were asked for."""
    parts = SimpleNamespace(prepared=128, planned=[], caches=[], fault=None)

    def make_plan(job: Any, machine: Any, **options: Any) -> Any:
        assert options == {"keep_text_encoders": True, "ranks": 1}
        parts.planned.append(job.max_memory_bytes)
        if parts.fault is not None and job.max_memory_bytes:
            raise parts.fault
        phases = (SimpleNamespace(name="denoise", stage=0, seconds=2.0),)
        return SimpleNamespace(
            job=job, peak_bytes=5, seconds=2.0, phases=phases, prepared_convolutions=parts.prepared, notes=()
        )

    def draw(plan: Any, notify: Any, cache: Any) -> Any:
        if plan.job.prompt == "full":
            raise DiskFullError("the disk is full")
        if plan.job.prompt == "broken":
            raise KeyError("x")
        parts.caches.append(cache)
        notify(Progressed(done=1))
        notify(PreviewMade(stage=0, done=1, total=1, width=1, height=1, rgb=b"abc"))
        return SimpleNamespace(path=Path("a/lake.png"), seconds=1.0, peak_bytes=4, device_peak_bytes=0)

    monkeypatch.setattr(planner, "make_plan", make_plan)
    monkeypatch.setattr(render, "render", draw)
    monkeypatch.setattr(engine_import, "make_model_cache", lambda plan: object())
    return parts


def order(prompt: str = "a lake", less_bytes: int = 0, **changes: Any) -> str:
    request = Request(prompt=prompt, size="64x64", seed=1, output=Path("x.png"), device="cpu", **changes)
    return json.dumps(Order(id=job_hash(resolve(request)), request=request, less_bytes=less_bytes).as_json())


def made(*orders: str) -> list[Answer]:
    said: list[Answer] = []
    maker = _Maker(said.append)
    for one in orders:
        maker.make(one)
    return said


def test_an_image_is_planned_then_made_and_told(engine: SimpleNamespace) -> None:
    planned, happened, done = made(order())
    assert isinstance(planned, Planned)
    assert (planned.peak_bytes, planned.seconds, planned.phases[0].name) == (5, 2.0, "denoise")
    assert happened == Happened(Progressed(done=1)), "and no preview: its pixels are in a file"
    assert done == Made(name="lake.png", seconds=1.0, peak_bytes=4, device_peak_bytes=0)


def test_the_model_stays_from_one_image_to_the_next(engine: SimpleNamespace) -> None:
    made(order(), order("hills"))
    first, second = engine.caches
    assert first is second


@pytest.mark.parametrize(
    ("line", "error", "code"),
    [
        ("{", "JsonError", 74),
        ("{}", "InternalError", 1),
        ("[]", "JsonError", 74),
        ("full", "DiskFullError", 74),
        ("broken", "InternalError", 1),
    ],
)
def test_what_fails_is_told_and_the_next_image_is_made(
    engine: SimpleNamespace, line: str, error: str, code: int, capfd: pytest.CaptureFixture[str]
) -> None:
    said = made(order(line) if line.isalpha() else line, order())
    (failed,) = (answer for answer in said if isinstance(answer, Failed))
    assert (failed.error, failed.exit_code) == (error, code)
    assert isinstance(said[-1], Made)
    assert ("Traceback" in capfd.readouterr().err) == (error == "InternalError"), "for the log of a fault of ours"


def test_a_job_that_is_another_one_now_is_not_made(engine: SimpleNamespace) -> None:
    values = json.loads(order())
    (failed,) = made(json.dumps(values | {"id": "0" * 16}))
    assert isinstance(failed, Failed)
    assert "has changed since the batch began" in str(failed.message)
    assert engine.planned == []


def test_an_image_that_leaves_less_room_needs_another_process(engine: SimpleNamespace) -> None:
    said: list[Answer] = []
    maker = _Maker(said.append)
    maker.make(order())
    engine.prepared = 32
    maker.make(order("large"))
    assert said[-1] == Outgrown()
    engine.prepared = 128
    maker.make(order("small"))
    assert isinstance(said[-1], Made)


def test_after_memory_ran_out_a_smaller_plan_is_made(engine: SimpleNamespace) -> None:
    made(order(less_bytes=1000))
    assert engine.planned == [1000]


def test_without_a_smaller_plan_the_same_is_tried_with_a_note(engine: SimpleNamespace) -> None:
    engine.fault = OutOfMemoryError("too small")
    said = made(order(less_bytes=2_000_000))
    assert engine.planned == [2_000_000, 0]
    notes: list[Event] = [answer.event for answer in said if isinstance(answer, Happened)]
    assert any(isinstance(note, Note) and "no plan needs less than 2 MB" in str(note.text) for note in notes)
    assert isinstance(said[-1], Made)


def test_answers_of_several_threads_are_whole_lines() -> None:
    class Slow(io.StringIO):
        def write(self, text: str) -> int:
            return sum(super(Slow, self).write(letter) for letter in text)

    sink = Slow()
    say = _speaker(sink)
    threads = [threading.Thread(target=lambda: [say(Outgrown()) for _ in range(50)]) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [answer_from_json(json.loads(line)) for line in sink.getvalue().splitlines()] == [Outgrown()] * 200


def test_a_sign_of_life_is_sent_however_long_the_work(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker, "BEAT_SECONDS", 0.0)
    said: list[Answer] = []

    def say(answer: Answer) -> None:
        said.append(answer)
        if len(said) == 3:
            raise InterruptedError

    with pytest.raises(InterruptedError):
        worker._beat(say)
    assert len(said) == 3
