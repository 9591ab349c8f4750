"""A busy machine: told before a render by its load, taken out of its time afterwards."""

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from linfusion_cli.system import contention
from linfusion_cli.system.contention import Contention, slowdown

SECONDS = st.floats(0.01, 1e5)


@pytest.mark.parametrize(
    ("load", "running", "cores", "expected"),
    [
        (6.0, "7/300", 2, 4.0),  # six others and we two on two cores
        (6.0, "1/300", 2, 1.0),  # they are over
        (0.1, "9/300", 2, 1.05),  # they have just begun
        (6.0, "7/300", 64, 1.0),  # there are cores for all
        (6.0, "nonsense", 2, 4.0),
    ],
)
def test_the_load_says_how_many_times_as_long_work_takes(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, load: float, running: str, cores: int, expected: float
) -> None:
    monkeypatch.setattr(os, "getloadavg", lambda: (load, 0.0, 0.0))
    monkeypatch.setattr(os, "cpu_count", lambda: cores)
    (tmp_path / "loadavg").write_text(f"{load} 0.0 0.0 {running} 4711\n")
    monkeypatch.setattr(contention, "LOADAVG", tmp_path / "loadavg")
    assert slowdown(2) == pytest.approx(expected)


def test_a_system_without_a_load_average_counts_as_idle(monkeypatch: pytest.MonkeyPatch) -> None:
    def none() -> None:
        raise OSError

    monkeypatch.setattr(os, "getloadavg", none)
    assert slowdown(2) == 1


@given(taken=SECONDS, own=SECONDS, others=st.floats(0, 1e5), idle=st.floats(0, 1e5))
def test_no_more_is_given_back_than_others_took(taken: float, own: float, others: float, idle: float) -> None:
    start = Contention(5.0, 100.0, 50.0)
    quiet = start.quiet_seconds(taken, Contention(5 + own, 100 + own + others, 50 + idle))
    assert taken * own / (own + others) * 0.999 <= quiet <= taken * 1.001
    if idle >= others:
        assert quiet == pytest.approx(taken)


def test_half_of_two_cores_taken_is_half_of_the_time() -> None:
    """77 s of work beside as much of others: 154 s on the clock."""
    assert Contention(0, 0, 0).quiet_seconds(154, Contention(154, 308, 0)) == pytest.approx(77)


def test_the_systems_counters_only_grow() -> None:
    first = Contention.now()
    assert sum(range(300_000))
    then = Contention.now()
    assert then.own > first.own
    assert then.busy >= first.busy > 0
    assert then.idle >= first.idle
