"""A measurement of the machine: positive numbers, no files left behind, an error for an unusable scratch folder."""

import time
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path

import pytest
import torch

from linfusion_cli.engine.streaming import benchmark
from linfusion_cli.engine.streaming.benchmark import measure_speed
from linfusion_cli.engine.streaming.convolutions import Convolved
from linfusion_cli.errors import OutputError
from linfusion_cli.system.contention import Contention
from linfusion_cli.system.device import find_machine


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(benchmark, "HEIGHT", 64)
    monkeypatch.setattr(benchmark, "WIDTH", 64)
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
        seconds = {benchmark.BAND: 1.0 if isinstance(source, Convolved) else 0.5, 1: 0.75}[band_rows]
        return seconds * (1 if clock is time.thread_time else 40)

    monkeypatch.setattr(benchmark, "_sweep_seconds", sweep)
    monkeypatch.setattr(Contention, "quiet_seconds", lambda self, taken, until: 0.3)
    busy = measure_speed(find_machine("cpu"), "float32", tmp_path)
    assert set(clocks) == {time.thread_time}
    values = benchmark.CHANNELS * benchmark.HEIGHT * benchmark.WIDTH
    threads = torch.get_num_threads()
    assert busy.macs_per_second == pytest.approx(9 * benchmark.CHANNELS * values / 0.5 * threads)
    assert busy.values_per_second == pytest.approx(values / 0.5 * threads)

    monkeypatch.setattr(Contention, "quiet_seconds", lambda self, taken, until: 0.95)
    idle = measure_speed(find_machine("cpu"), "float32", tmp_path)
    assert clocks[-1] is time.perf_counter
    assert idle.values_per_second == pytest.approx(values / 20)
    assert torch.get_num_threads() == threads
