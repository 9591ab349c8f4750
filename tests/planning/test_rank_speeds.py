"""Ranks on devices of several kinds get rows by speed; on those of one kind equally many, whatever was measured."""

from dataclasses import replace
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st
from made_up import job, machine

from linfusion_cli.config.rank_options import RankOptions
from linfusion_cli.config.rank_rows import MOST_SHARE
from linfusion_cli.planning.planner import make_plan
from linfusion_cli.planning.rank_speeds import shares_by_speed
from linfusion_cli.system.device import Machine, RankDevice
from linfusion_cli.system.speed import Speed


def card(name: str, macs: float, *, measured: float = 0.0) -> RankDevice:
    """A card that is expected to do `macs` in half precision, and was measured to do `measured`."""
    found = replace(machine("cuda:0", 24, 64), device_name=name, half_macs=macs)
    speed = replace(Speed.assumed("cuda", 2, measured), measured=True)
    return RankDevice.of(replace(found, speeds={"float16": speed} if measured else {}))


def processor(name: str, cores: int, ranks: int) -> RankDevice:
    return RankDevice.of(replace(machine("cpu", 8), device_name=name, cores=cores), ranks)


def test_devices_of_one_kind_get_equal_rows_whatever_was_measured() -> None:
    assert shares_by_speed([card("A", 1e13, measured=1e13), card("A", 1e13, measured=4e13)], "float16") == ()
    assert shares_by_speed([], "float16") == ()


@pytest.mark.parametrize(
    ("first", "second", "shares"), [(1.0, 1.2, ()), (1.0, 1.5, (2, 3)), (2.1, 1.0, (2, 1)), (4.4, 1.0, (9, 2))]
)
def test_speeds_count_in_halves_of_the_slowest(first: float, second: float, shares: tuple[int, ...]) -> None:
    devices = [card("A", 1e9, measured=first * 1e13), card("B", 9e9, measured=second * 1e13)]
    assert shares_by_speed(devices, "float16") == shares


def test_one_device_that_was_not_measured_makes_all_count_as_expected() -> None:
    devices = [card("A", 3e13, measured=1e13), card("B", 1e13)]
    assert shares_by_speed(devices, "float16") == (3, 1)
    assert shares_by_speed(devices, "float32") == (3, 1)


def test_processes_of_two_machines_count_by_their_part_of_the_cores() -> None:
    """8 cores shared by 2 processes, and 2 cores for one: 4 cores against 2."""
    assert shares_by_speed([processor("A", 8, 2), processor("A", 8, 2), processor("A", 2, 1)], "float32") == (2, 2, 1)
    assert shares_by_speed([processor("A", 8, 4), processor("B", 2, 1)], "float32") == ()


@given(st.lists(st.floats(1e6, 1e16), min_size=2, max_size=5))
def test_shares_are_within_a_quarter_of_the_speeds(speeds: list[float]) -> None:
    """A quarter of the slowest device's speed, half of a step; none is beyond what an option may say."""
    devices = [card(str(number), 1e9, measured=speed) for number, speed in enumerate(speeds)]
    shares = shares_by_speed(devices, "float16") or (1,) * len(speeds)
    slowest = min(shares)
    for share, speed in zip(shares, speeds, strict=True):
        exact = speed / min(speeds)
        assert share <= MOST_SHARE
        if exact < MOST_SHARE / 2 - 1:
            assert abs(Fraction(share, slowest) - Fraction(exact)) <= Fraction(1, 4) + Fraction(1, 10**9)


def two_cards(*devices: RankDevice) -> Machine:
    return replace(machine("cuda:0", 24, 64), rank_devices=devices)


def test_a_plan_says_how_rows_were_shared_and_a_given_ratio_wins() -> None:
    made = job("2048x2048", "sd15-4k")
    unequal = two_cards(card("H200", 4e14), card("A10", 1e14))
    plan = make_plan(made, unequal, ranks=2)
    assert plan.rank_shares == (4, 1)
    assert "the ranks get rows by their speed, 4:1: H200, A10" in plan.notes
    given_one = replace(made, rank_options=RankOptions(ranks=2, shares=(1, 1)))
    plan = make_plan(given_one, unequal, ranks=2)
    assert plan.rank_shares == (1, 1)
    assert not any("by their speed" in note for note in plan.notes)
    equal = make_plan(made, two_cards(card("A10", 1e14), card("A10", 1e14)), ranks=2)
    assert equal.rank_shares == ()
    assert not any("by their speed" in note for note in equal.notes)


def test_a_larger_share_needs_more_memory() -> None:
    made = job("2048x2048", "sd15-4k")
    equal, unequal = (make_plan(made, two_cards(card("H", macs), card("A", 1e14)), ranks=2) for macs in (1e14, 4e14))
    assert unequal.peak_bytes > equal.peak_bytes
