"""Where memory ran out, the error names the next plan, which needs less, and who took the memory meanwhile."""

import re
from dataclasses import replace

import pytest
from made_up import job, machine

from linfusion_cli.config.request_checks import parse_bytes
from linfusion_cli.errors import MOST_CHARACTERS, UsageError
from linfusion_cli.planning import memory_advice
from linfusion_cli.planning.memory_advice import ran_out
from linfusion_cli.planning.planner import Plan, make_plan
from linfusion_cli.system.device import Machine

TOLD = "CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of 23.5 GiB of which 1 GiB is free. "


def planned(gigabytes: float = 24, size: str = "1024x1024") -> Plan:
    return make_plan(job(size, "sd15-4k"), machine("cuda:0", gigabytes, ram_gigabytes=64))


def told(plan: Plan, free_gigabytes: float, monkeypatch: pytest.MonkeyPatch) -> str:
    now = machine("cuda:0", free_gigabytes, ram_gigabytes=64)
    monkeypatch.setattr(memory_advice, "find_machine", lambda device: now)
    text = str(ran_out(plan, 3 * TOLD))
    assert len(text) <= MOST_CHARACTERS
    return text


@pytest.mark.parametrize("free", [24, 3])
def test_the_next_plan_is_named_and_exists(free: float, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = planned()
    text = told(plan, free, monkeypatch)
    (budget,) = re.findall(r'Nearest: .*max_memory="(\w+)"', text)
    again = make_plan(replace(plan.job, max_memory_bytes=parse_bytes(budget)), plan.machine)
    assert again.peak_bytes <= min(0.7 * plan.peak_bytes, free * 1e9)
    assert ("Other programs took 21.0 GB of cuda:0 meanwhile" in text) == (free == 3)


def test_where_no_plan_needs_less_a_smaller_size_is_the_nearest(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "Try a smaller size: no plan for this one needs less" in told(planned(), 0.5, monkeypatch)


def test_a_card_that_is_gone_is_taken_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    def gone(device: str) -> Machine:
        raise UsageError(f"{device}: can't be used")

    monkeypatch.setattr(memory_advice, "find_machine", gone)
    assert "Other programs" not in str(ran_out(planned(), TOLD))
