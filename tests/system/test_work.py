"""A render corrects each rate by the phases that rest on it: the next plan's times are right, and its choices stay."""

import math
from dataclasses import replace
from functools import cache

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made_up import job, machine

from linfusion_cli.planning.planner import Plan, make_plan
from linfusion_cli.system.speed import BOUNDS, Speed, known_speeds, remember_speed
from linfusion_cli.system.work import MOST_OFF, RATES, Timed, Work, learned

CPU = Speed.assumed("cpu", cores=2)
RIGHT = math.log(1.25)
# name -> (preset, size, device, GB, GB of RAM): nothing waits; in files; in RAM beside a card; weights too
JOBS = {
    "cpu": ("landscape", "2048x2048", "cpu", 8, 8),
    "files": ("landscape", "4096x4096", "cpu", 1.2, 8),
    "card": ("sdxl-4k", "4096x4096", "cuda:0", 12, 64),
    "small card": ("sdxl-4k", "4096x4096", "cuda:0", 6, 64),
}
AS_LEFT_BY_A_BUSY_HOUR = {"link_bytes_per_second": 410e9, "file_bytes_per_second": 17e9, "call_seconds": 1e-9}


@cache
def planned(name: str, speed: Speed | None = None) -> Plan:
    preset, size, device, gigabytes, ram = JOBS[name]
    place, asked = machine(device, gigabytes, ram), job(size, preset)
    if speed is not None:
        place = replace(place, speeds={planned(name).dtype: speed})
    return make_plan(asked, place)


def usual(name: str) -> Speed:
    plan = planned(name)
    return plan.machine.assumed_speed(plan.dtype)


def off(name: str, factors: dict[str, float]) -> Speed:
    """What was measured: so many times the true rates."""
    true = usual(name)
    return replace(true, **{rate: getattr(true, rate) * factor for rate, factor in factors.items()}, measured=True)


def after_a_render(name: str, known: Speed) -> Speed:
    """The speed after the plan that it makes was rendered on a machine with the true one."""
    timed = [Timed(phase.work, sum(part.seconds(usual(name)) for part in phase.work)) for phase in planned(name).phases]
    return learned(known, usual(name), timed, start_seconds=6.0)


def seconds(plan: Plan, speed: Speed) -> float:
    return sum(part.seconds(speed) for phase in plan.phases for part in phase.work)


@cache
def of_another_size(name: str) -> Plan:
    preset, _, device, gigabytes, ram = JOBS[name]
    return make_plan(job("2048x1024", preset), machine(device, gigabytes, ram))


def check_times(name: str, wrong: dict[str, float]) -> None:
    after = after_a_render(name, off(name, wrong))
    for plan in (planned(name), of_another_size(name)):
        assert abs(math.log(seconds(plan, after) / seconds(plan, usual(name)))) < RIGHT, (str(plan.size), wrong)
    assert (after.measured, after.rendered) == (True, True)


FACTORS = st.fixed_dictionaries({rate: st.floats(0.2, 5) for rate in RATES})
ALONE = [{rate: factor} for rate in RATES for factor in (0.2, 5.0)]


@pytest.mark.parametrize("name", JOBS)
@settings(max_examples=10)
@given(factors=FACTORS)
def test_one_render_makes_the_times_right_of_its_size_and_of_another(name: str, factors: dict[str, float]) -> None:
    check_times(name, factors)


@pytest.mark.parametrize("name", JOBS)
def test_so_does_one_where_a_single_rate_was_wrong(name: str) -> None:
    for wrong in ALONE:
        check_times(name, wrong)


@pytest.mark.parametrize("name", JOBS)
@pytest.mark.parametrize("factor", [0.2, 1, 5, None])
def test_the_next_plan_chooses_as_with_the_true_rates(name: str, factor: float | None) -> None:
    true = usual(name)
    known = replace(true, **AS_LEFT_BY_A_BUSY_HOUR, macs_per_second=true.macs_per_second / 5, measured=True)
    if factor:
        known = off(name, dict.fromkeys(RATES, factor))
    plan, told = planned(name), planned(name, after_a_render(name, known))
    assert (told.stages, told.store_budget, told.weights_resident) == (
        plan.stages,
        plan.store_budget,
        plan.weights_resident,
    )
    assert (told.peak_bytes, told.ram_bytes, told.file_bytes) == (plan.peak_bytes, plan.ram_bytes, plan.file_bytes)
    assert abs(math.log((told.seconds - told.phases[0].seconds) / (plan.seconds - plan.phases[0].seconds))) < RIGHT


def test_the_jobs_here_use_every_rate() -> None:
    used = {
        rate
        for name in JOBS
        for phase in planned(name).phases
        for part in phase.work
        for rate, taken in part.seconds_by_rate(usual(name)).items()
        if taken
    }
    assert used == set(RATES)


def work(**asked: float) -> Work:
    none = dict.fromkeys(("macs", "values", "calls", "link_bytes", "file_bytes"), 0.0)
    return Work(**{**none, **asked}, overlapped=False)


@pytest.mark.parametrize("rate", RATES)
def test_a_rate_changes_by_the_phases_that_use_it_alone(rate: str) -> None:
    asked = {"call_seconds": "calls"}.get(rate, rate.removesuffix("_per_second"))
    one = work(**{asked: 1.0})
    one = work(**{asked: 10 / one.seconds(CPU)})
    after = learned(CPU, CPU, [Timed((one,), 40.0)], start_seconds=6.0)
    assert one.seconds(after) == pytest.approx(40, rel=0.05)
    assert {name for name in RATES if getattr(after, name) != getattr(CPU, name)} == {rate}


def test_the_first_render_replaces_what_was_measured_and_later_ones_go_half_way() -> None:
    computing = work(macs=10 * CPU.macs_per_second)
    first = learned(replace(CPU, measured=True), CPU, [Timed((computing,), 40.0)], start_seconds=6.0)
    assert computing.seconds(first) == pytest.approx(40, rel=0.02)
    second = learned(first, CPU, [Timed((computing,), 10.0)], start_seconds=24.0)
    assert computing.seconds(second) == pytest.approx(20, rel=0.02)
    assert second.start_seconds == pytest.approx(12)


@pytest.mark.parametrize("taken", [1e-12, 1e12])
def test_learning_stays_within_what_a_machine_can_have(taken: float) -> None:
    everything = work(macs=1e12, values=1e9, calls=1e4, link_bytes=1e10, file_bytes=1e9)
    after = learned(CPU, CPU, [Timed((everything,), taken)], start_seconds=taken)
    assert all(low <= getattr(after, name) <= high for name, (low, high) in BOUNDS.items())
    remember_speed("of a test", "float32", after)
    assert known_speeds("of a test").speeds == {"float32": after}


def test_a_rate_that_no_render_could_correct_is_brought_near_what_is_usual() -> None:
    """Calls of a nanosecond take no part of any time, so no time tells that they take more."""
    after = learned(replace(CPU, call_seconds=1e-9), CPU, [], start_seconds=6.0)
    assert after.call_seconds == CPU.call_seconds / MOST_OFF
