"""Speeds are assumed of a kind of device, learned from renders, and stored where damage does no harm."""

from collections.abc import Iterator
from dataclasses import replace

import pytest

from linfusion_cli.system import speed
from linfusion_cli.system.speed import BOUNDS, KnownSpeeds, Speed, known_speeds, remember_speed

CPU = Speed.assumed("cpu", cores=2)


@pytest.fixture(autouse=True)
def forgotten() -> Iterator[None]:
    yield
    speed._speeds_file().unlink(missing_ok=True)


def test_a_cpu_counts_by_its_cores_and_an_accelerator_is_faster() -> None:
    assert Speed.assumed("cpu", cores=8).macs_per_second == 4 * CPU.macs_per_second
    assert Speed.assumed("cuda", cores=1) == Speed.assumed("cuda", cores=8)
    assert Speed.assumed("cuda", 1).macs_per_second > Speed.assumed("mps", 1).macs_per_second > CPU.macs_per_second
    assert not CPU.measured


def test_the_first_render_replaces_what_was_assumed_and_later_ones_go_half_way() -> None:
    first = CPU.learned(factor=4, start_seconds=2)
    assert (first.macs_per_second, first.call_seconds) == (4 * CPU.macs_per_second, CPU.call_seconds / 4)
    assert (first.start_seconds, first.measured) == (2, True)
    second = first.learned(factor=4, start_seconds=8)
    assert second.values_per_second == pytest.approx(2 * first.values_per_second)
    assert second.start_seconds == pytest.approx(4)


def test_each_device_and_number_format_has_its_own() -> None:
    other = replace(CPU, macs_per_second=2e6)
    remember_speed("one", "float32", CPU)
    remember_speed("one", "bfloat16", other)
    remember_speed("two", "float32", other)
    assert known_speeds("one").speeds == {"float32": CPU, "bfloat16": other}
    assert known_speeds("two").speeds == {"float32": other}
    assert known_speeds("three").speeds == {}


@pytest.mark.parametrize("content", ["", "[]", "{", '{"one": 3}', '{"one": {"float32": {"macs": 1}}}', "\x00"])
def test_a_damaged_file_holds_nothing_and_is_replaced(content: str) -> None:
    speed._speeds_file().parent.mkdir(parents=True, exist_ok=True)
    speed._speeds_file().write_text(content)
    assert known_speeds("one") == KnownSpeeds({}, damaged=True)
    remember_speed("one", "float32", CPU)
    assert known_speeds("one").speeds == {"float32": CPU}


@pytest.mark.parametrize("value", ['"fast"', "0", "-1", "1e999", "NaN", "true", "null", "[]", "9" * 5000])
def test_a_number_that_no_machine_has_never_reaches_a_plan(value: str) -> None:
    remember_speed("one", "float32", CPU)
    path = speed._speeds_file()
    whole = path.read_text()
    damaged = whole.replace(str(CPU.macs_per_second), value)
    assert damaged != whole
    path.write_text(damaged)
    assert known_speeds("one") == KnownSpeeds({}, damaged=True)
    remember_speed("one", "float32", CPU)
    assert known_speeds("one").speeds == {"float32": CPU}


def test_without_a_file_nothing_is_damaged() -> None:
    assert known_speeds("one") == KnownSpeeds({}, damaged=False)


@pytest.mark.parametrize("name", BOUNDS)
def test_learning_stays_within_what_a_machine_can_have(name: str) -> None:
    for factor in (1e-30, 1e30):
        low, high = BOUNDS[name]
        assert low <= getattr(CPU.learned(factor, start_seconds=factor), name) <= high
    remember_speed("one", "float32", CPU.learned(1e-30, start_seconds=1e30))
    assert not known_speeds("one").damaged


@pytest.mark.parametrize(("rate", "slow"), [(1e4, True), (1.24e8, True), (1.26e8, False), (5e8, False), (1e12, False)])
def test_choices_rest_on_the_kind_of_device_and_on_a_slow_disk(rate: float, slow: bool) -> None:
    measured = replace(CPU, file_bytes_per_second=rate, macs_per_second=1e6, values_per_second=1e14, measured=True)
    chosen = measured.for_choices("cpu", 2)
    assert replace(chosen, file_bytes_per_second=CPU.file_bytes_per_second) == CPU
    assert (chosen.file_bytes_per_second < CPU.file_bytes_per_second / 4) == slow
    assert measured.learned(1e-3, 1).for_choices("cpu", 2) == chosen, "a slow render is no slow disk"
