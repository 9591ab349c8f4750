"""A measurement of the machine: positive numbers, no files left behind, an error for an unusable scratch folder."""

import itertools
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path

import pytest
import torch

from linfusion_cli.engine.streaming import benchmark
from linfusion_cli.engine.streaming.benchmark import SHAPES, Shape, file_speed, link_speed, measure_speed
from linfusion_cli.engine.streaming.convolutions import Convolved
from linfusion_cli.errors import OutputError
from linfusion_cli.system.contention import Contention
from linfusion_cli.system.device import find_machine

SMALL = Shape(64, 64, 64, 32)


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(benchmark.SHAPES, "cpu", SMALL)
    monkeypatch.setattr(benchmark, "REPEATS", 2)
    monkeypatch.setattr(benchmark, "FILE_BYTES", 2 << 20)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_every_number_is_measured_and_nothing_is_left(dtype: str, tmp_path: Path) -> None:
    machine = replace(find_machine("cpu"), speeds={})
    speed = measure_speed(machine, dtype, tmp_path)
    assumed = machine.speed(dtype)
    assert speed.measured
    assert not assumed.measured
    for name in ("macs_per_second", "values_per_second", "call_seconds", "file_bytes_per_second"):
        assert getattr(speed, name) > 0
        assert getattr(speed, name) != getattr(assumed, name), name
    assert all(value < float("inf") for value in asdict(speed).values())
    assert not list(tmp_path.iterdir())


def test_a_scratch_folder_that_cannot_be_used_is_told(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="scratch"):
        measure_speed(find_machine("cpu"), "float32", tmp_path / "missing")


def test_beside_other_programs_the_processor_time_of_one_thread_counts(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A clock that runs 40 times too fast, as beside many programs, changes nothing but the disk's rate."""
    clocks: list[Callable[[], float]] = []

    def sweep(source: object, band_rows: int, clock: Callable[[], float]) -> float:
        clocks.append(clock)
        seconds = {SMALL.band_rows: 1.0 if isinstance(source, Convolved) else 0.5, 1: 0.75}[band_rows]
        return seconds * (1 if clock is time.thread_time else 40)

    monkeypatch.setattr(benchmark, "_sweep_seconds", sweep)
    monkeypatch.setattr(Contention, "quiet_seconds", lambda self, taken, until: 0.3)
    busy = measure_speed(find_machine("cpu"), "float32", tmp_path)
    assert set(clocks) == {time.thread_time}
    values = SMALL.values
    threads = torch.get_num_threads()
    assert busy.macs_per_second == pytest.approx(9 * SMALL.channels * values / 0.5 * threads)
    assert busy.values_per_second == pytest.approx(values / 0.5 * threads)

    monkeypatch.setattr(Contention, "quiet_seconds", lambda self, taken, until: 0.95)
    idle = measure_speed(find_machine("cpu"), "float32", tmp_path)
    assert clocks[-1] is time.perf_counter
    assert idle.values_per_second == pytest.approx(values / 20)
    assert torch.get_num_threads() == threads


class SlowStreams:
    """Copies that take as long as a link of these bytes a second says, by a clock of their own."""

    def __init__(self, up: float, down: float) -> None:
        self.up, self.down, self.now, self.pending = up, down, 0.0, 0.0
        self.finished: list[str] = []

    def clock(self) -> float:
        return self.now

    def upload(self, source: torch.Tensor) -> tuple[torch.Tensor, str]:
        self.pending = source.nbytes / self.up
        return source.clone(), "up"

    def download(self, source: torch.Tensor, target: torch.Tensor) -> str:
        target.copy_(source)
        self.pending = source.nbytes / self.down
        return "down"

    def join(self, rows: torch.Tensor, event: str) -> None:
        raise AssertionError("nothing computes")

    def mark(self) -> str:
        raise AssertionError("nothing computes")

    def finish(self, event: str) -> None:
        self.finished.append(event)
        self.now, self.pending = self.now + self.pending, 0.0


@pytest.mark.parametrize(("up", "down", "both"), [(50e9, 50e9, 50e9), (60e9, 20e9, 30e9), (8e9, 8e9, 8e9)])
def test_the_link_is_measured_both_ways_to_the_end_of_each_copy(up: float, down: float, both: float) -> None:
    streams, rows = SlowStreams(up, down), torch.arange(4096, dtype=torch.uint8)
    before = rows.clone()
    assert link_speed(streams, rows, streams.clock) == pytest.approx(both)
    assert {"up", "down"} == set(streams.finished)
    assert torch.equal(rows, before)


def test_a_gpu_is_measured_with_the_work_of_a_large_image() -> None:
    """Each kernel runs for longer than it takes to start one: 5 microseconds at 4 TB/s are 10 million half values."""
    for kind in ("cuda", "mps"):
        shape = SHAPES[kind]
        assert shape.channels * shape.width * shape.band_rows >= 10_000_000
        assert shape.values < 1 << 27  # half a gigabyte in float32
    assert SHAPES["cuda"].channels == 320


def test_waiting_for_other_programs_does_not_slow_the_rate_of_the_disk(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Every piece takes 1 ms; in a third of them, never all runs of one, another program takes 50 ms more."""
    monkeypatch.setattr(benchmark, "FILE_BYTES", 16 << 20)
    monkeypatch.setattr(benchmark, "REPEATS", 4)

    def clock_with(waits: int) -> Callable[[], float]:
        calls = itertools.count()
        return lambda: (number := next(calls)) * 0.001 + waits * 0.05 * (number // 7)

    free, busy = (file_speed(torch.device("cpu"), tmp_path, clock_with(waits)) for waits in (0, 1))
    assert busy == pytest.approx(free)
    assert free == pytest.approx(2 * (16 << 20) / (16 * 0.001), rel=0.01)
    assert not list(tmp_path.iterdir())
