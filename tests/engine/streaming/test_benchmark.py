"""A measurement of the machine: positive numbers, no files left behind, an error for an unusable scratch folder."""

from dataclasses import asdict, replace
from pathlib import Path

import pytest

from linfusion_cli.engine.streaming import benchmark
from linfusion_cli.engine.streaming.benchmark import measure_speed
from linfusion_cli.errors import OutputError
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
