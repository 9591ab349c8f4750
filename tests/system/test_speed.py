"""Speeds are assumed of a kind of device, learned from renders, and stored where damage does no harm."""

import json
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from linfusion_cli.system import speed
from linfusion_cli.system.speed import KnownSpeeds, Speed, known_speeds, remember_speed

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


@pytest.mark.parametrize("name", speed.BOUNDS)
@pytest.mark.parametrize("value", ['"fast"', "0", "-1", "1e999", "NaN", "true", "null", "[]", "9" * 5000])
def test_a_number_that_no_machine_has_never_reaches_a_plan(name: str, value: str) -> None:
    remember_speed("one", "float32", CPU)
    path = speed._speeds_file()
    whole = path.read_text()
    damaged = re.sub(rf'("{name}": )[-+.\w]+', rf"\g<1>{value}", whole)
    assert damaged != whole
    path.write_text(damaged)
    assert known_speeds("one") == KnownSpeeds({}, damaged=True)
    remember_speed("one", "float32", CPU)
    assert known_speeds("one").speeds == {"float32": CPU}


def test_a_cache_below_a_file_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as elsewhere:
        elsewhere.setattr(speed, "_speeds_file", lambda: Path("/dev/null/linfusion/speed.json"))
        remember_speed("one", "float32", CPU)
        assert known_speeds("one") == KnownSpeeds({}, damaged=False)


def test_without_a_file_nothing_is_damaged() -> None:
    assert known_speeds("one") == KnownSpeeds({}, damaged=False)


def test_speeds_that_an_earlier_version_stored_are_known() -> None:
    remember_speed("one", "float32", CPU)
    path = speed._speeds_file()
    stored = json.loads(path.read_text())
    del stored["one"]["float32"]["rendered"]
    path.write_text(json.dumps(stored))
    assert known_speeds("one") == KnownSpeeds({"float32": CPU}, damaged=False)


@pytest.mark.parametrize(("rate", "slow"), [(1e4, True), (6.2e7, True), (6.3e7, False), (5e8, False), (1e12, False)])
def test_choices_rest_on_the_kind_of_device_and_on_a_slow_disk(rate: float, slow: bool) -> None:
    measured = replace(CPU, file_bytes_per_second=rate, macs_per_second=1e6, values_per_second=1e14, measured=True)
    chosen = measured.for_choices("cpu", 2)
    assert replace(chosen, file_bytes_per_second=CPU.file_bytes_per_second) == CPU
    assert (chosen.file_bytes_per_second < CPU.file_bytes_per_second / 8) == slow
