"""Imports that take more memory than was planned: measured, planned again, told."""

from __future__ import annotations

import importlib
import re
import sys
from dataclasses import replace
from pathlib import Path

import made_up
import pytest

from linfusion_cli import engine_import
from linfusion_cli.config.request import Request
from linfusion_cli.config.resolve import resolve
from linfusion_cli.engine_import import as_measured, import_engine
from linfusion_cli.errors import OutOfMemoryError
from linfusion_cli.events import Event, Note
from linfusion_cli.planning import memory_advice
from linfusion_cli.planning.planner import Plan, make_plan, usable_bytes
from linfusion_cli.system.device import Machine, find_machine

DEFAULT_TORCH = 763_000_000  # bytes that the import of PyPI's default build took on a machine without a GPU


def machine() -> Machine:
    return replace(find_machine("cpu"), imported_bytes=388_000_000, free_bytes=16_000_000_000)


def plan_within(max_memory: str, held: int = 388_000_000) -> Plan:
    request = Request(prompt="a lake", size="1024x1024", seed=1, output=Path("x.png"), max_memory=max_memory)
    return make_plan(resolve(request), replace(machine(), imported_bytes=held))


def measured(plan: Plan, held: int, monkeypatch: pytest.MonkeyPatch) -> tuple[Plan, list[Event]]:
    events: list[Event] = []
    monkeypatch.setattr(engine_import, "imported_bytes", lambda: held)
    return as_measured(plan, events.append), events


def test_a_larger_import_is_planned_again_within_the_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    plan = plan_within("1100MB")
    again, events = measured(plan, DEFAULT_TORCH, monkeypatch)
    assert plan.peak_bytes + 375e6 > 1100e6, "the first plan with these imports would have broken the limit"
    assert again.peak_bytes <= 1100e6
    assert again.machine.imported_bytes == DEFAULT_TORCH
    assert [type(event) for event in events] == [Note]
    assert "torch and diffusers take 763 MB here, 375 MB more than planned. Planned again" in str(events[0])


@pytest.mark.slow
def test_a_plan_that_no_longer_fits_is_refused_with_the_budget_that_would_do(monkeypatch: pytest.MonkeyPatch) -> None:
    plan = plan_within("700MB")
    with pytest.raises(OutOfMemoryError, match=r"max_memory allows 0\.7 GB") as refused:
        measured(plan, DEFAULT_TORCH, monkeypatch)
    nearest = re.findall(r"max_memory\W+([0-9.]+GB)", str(refused.value))[0]
    assert plan_within(nearest, DEFAULT_TORCH).peak_bytes <= float(nearest.removesuffix("GB")) * 1e9


@pytest.mark.parametrize("held", [0, 300_000_000, 388_000_000, 400_000_000])
def test_imports_as_planned_change_nothing(held: int, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = plan_within("700MB")
    assert measured(plan, held, monkeypatch) == (plan, [])


def test_beside_an_accelerator_the_process_is_not_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    plan = plan_within("700MB")
    other = replace(plan, machine=replace(plan.machine, device="mps"))
    assert measured(other, DEFAULT_TORCH, monkeypatch) == (other, [])


@pytest.mark.parametrize(("free", "again"), [(20, False), (3, True)])
def test_a_card_that_others_fill_meanwhile_is_planned_again(
    free: int, again: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two processes that start together plan for the same free memory."""
    before, now = made_up.machine("cuda:0", 24, 64), made_up.machine("cuda:0", free, 64)
    monkeypatch.setattr(memory_advice, "find_machine", lambda device: now)
    plan = make_plan(made_up.job("1024x1024", "sd15-4k"), before)
    assert usable_bytes(now) < plan.peak_bytes or not again
    made, events = measured(plan, DEFAULT_TORCH, monkeypatch)
    assert (made != plan, len(events)) == (again, int(again))
    assert made.peak_bytes <= usable_bytes(now)
    assert made.job == plan.job
    assert not again or "of cuda:0 3.0 GB are free now, 24.0 GB when" in str(events[0])


def test_a_card_that_is_full_now_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    before, now = made_up.machine("cuda:0", 24, 64), made_up.machine("cuda:0", 0.4, 64)
    monkeypatch.setattr(memory_advice, "find_machine", lambda device: now)
    with pytest.raises(OutOfMemoryError, match=r"cuda:0 has 0\.4 GB free"):
        measured(make_plan(made_up.job("1024x1024", "sd15-4k"), before), DEFAULT_TORCH, monkeypatch)


@pytest.mark.slow
@pytest.mark.parametrize("owned", [True, False])
def test_only_a_process_of_our_own_is_measured(owned: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    measurements: list[str] = []
    importlib.import_module("linfusion_cli.engine.pipeline")  # it needs the true diffusers
    diffusers = sys.modules.pop("diffusers", None)
    try:
        monkeypatch.setattr(engine_import, "measure_imported", lambda: measurements.append("measured"))
        monkeypatch.setattr(engine_import, "owns_process", lambda: owned)
        monkeypatch.setattr(engine_import, "importing", lambda count: _brings_diffusers())
        import_engine(machine(), "float32", 32)
    finally:
        sys.modules.pop("diffusers", None)
        if diffusers is not None:
            sys.modules["diffusers"] = diffusers
    assert measurements == ["measured"] * owned


class _brings_diffusers:  # noqa: N801  # stands for a function that is a context
    def __enter__(self) -> None:
        sys.modules["diffusers"] = sys

    def __exit__(self, *_: object) -> None:
        return None
