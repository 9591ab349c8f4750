"""What to do where memory ran out on the way: who took it meanwhile, and the next plan, which needs less."""

from __future__ import annotations

from dataclasses import replace

from linfusion_cli.errors import LinfusionError, OutOfMemoryError, option
from linfusion_cli.planning.planner import Plan, make_plan, usable_bytes
from linfusion_cli.system.device import Machine, find_machine

SMALLER = 0.7  # of the memory that was planned, for the next plan
NOTICED_BYTES = 300e6  # which others took meanwhile


def ran_out(plan: Plan, failure: str) -> OutOfMemoryError:
    """The error for a plan whose work ran out of memory. failure: the library's words."""
    now = machine_now(plan.machine)
    taken = plan.machine.free_bytes - now.free_bytes
    others = f"Other programs took {taken / 1e9:.1f} GB of {plan.machine.device} meanwhile. "
    parts = (
        f"memory ran out although the plan was {plan.peak_bytes / 1e9:.1f} GB ({failure:.150}). ",
        others if taken > NOTICED_BYTES else "",
    )
    if less := _smaller(plan, now):
        return OutOfMemoryError(*parts, "Nearest: ", option("max_memory", less), ", for which there is a plan")
    return OutOfMemoryError(*parts, "Try a smaller ", option("size"), ": no plan for this one needs less")


def machine_now(planned: Machine) -> Machine:
    """The machine of a plan with what is free of it now, what this process holds included; as planned if it is gone."""
    try:
        found = find_machine(planned.device)
    except LinfusionError:
        return planned
    return replace(
        planned,
        free_bytes=found.free_bytes,
        ram_bytes=found.ram_bytes,
        limit_bytes=found.limit_bytes,
        limited_by=found.limited_by,
    )


def _smaller(plan: Plan, now: Machine) -> str:
    """The budget for a plan that needs less than this one, as it is typed; "" if there is none."""
    budget = int(min(SMALLER * plan.peak_bytes, usable_bytes(now)) / 1e6)
    try:
        make_plan(
            replace(plan.job, max_memory_bytes=budget * 10**6),
            now,
            keep_text_encoders=plan.keep_text_encoders,
            ranks=plan.ranks,
        )
    except LinfusionError:
        return ""
    return f"{budget}MB"
