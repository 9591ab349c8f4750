"""How long ranks wait for one another: bounds for any plan."""

from dataclasses import replace
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from linfusion_cli.config.request import Request
from linfusion_cli.config.resolve import resolve
from linfusion_cli.planning.planner import Plan, make_plan
from linfusion_cli.planning.rank_timeout import LEAST_SECONDS, MOST_SECONDS, TIMES, silent_seconds
from linfusion_cli.system.device import find_machine

MACHINE = replace(find_machine("cpu"), slowdown=1.0)
PLAN = make_plan(resolve(Request(prompt="a lake", output=Path("x.png"), device="cpu", size="2048x2048")), MACHINE)


def taking(step_seconds: float, slowdown: float = 1.0) -> Plan:
    """A plan whose longest step takes so long."""
    steps = {stage.index: stage.steps for stage in PLAN.stages}
    last = max(phase.stage for phase in PLAN.phases)
    phases = (
        replace(phase, seconds=step_seconds * steps[last] if (phase.name, phase.stage) == ("denoise", last) else 0.1)
        for phase in PLAN.phases
    )
    return replace(PLAN, phases=tuple(phases), machine=replace(MACHINE, slowdown=slowdown))


@given(st.floats(0.1, 1e5))
def test_longer_than_a_step_and_within_bounds(step_seconds: float) -> None:
    found = silent_seconds(taking(step_seconds))
    assert LEAST_SECONDS <= found <= max(MOST_SECONDS, step_seconds * 1.001)
    assert found >= step_seconds * 0.999
    assert silent_seconds(taking(2 * step_seconds)) >= found


def test_ten_times_a_step_on_an_idle_machine_and_more_on_a_busy_one() -> None:
    assert abs(silent_seconds(taking(20.0)) - TIMES * 20) < 0.01
    assert abs(silent_seconds(taking(20.0, slowdown=3.0)) - TIMES * 60) < 0.01
