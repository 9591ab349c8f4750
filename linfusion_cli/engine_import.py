"""The import of the engine, with all that is measured on the way: how long it takes, and how much memory."""

from __future__ import annotations

import sys
import time
from dataclasses import replace
from typing import TYPE_CHECKING

from linfusion_cli.config.job import Job
from linfusion_cli.events import Note, Notify
from linfusion_cli.planning.memory_advice import machine_now
from linfusion_cli.planning.memory_model import unified_runtime_bytes
from linfusion_cli.planning.number_format import dtype_of
from linfusion_cli.planning.planner import Plan, make_plan, usable_bytes
from linfusion_cli.system.contention import Contention
from linfusion_cli.system.device import Machine
from linfusion_cli.system.process_limits import refusals_named
from linfusion_cli.system.process_setup import FEW_PREPARED, importing, owns_process, quiet_libraries
from linfusion_cli.system.runtime_memory import imported_bytes, measure_imported
from linfusion_cli.system.speed import Speed

if TYPE_CHECKING:
    from linfusion_cli.engine.components.model_cache import ModelCache

UNCOUNTED_BYTES = 16e6  # of the imports, for which no plan is made again: they differ a little from run to run


def import_engine(machine: Machine, dtype: str, prepared_convolutions: int) -> float:
    """Imports the engine: how long that takes on an idle machine, or what is known of it where it had happened before.

    In a process of our own, what it holds then is kept for its plans and for later ones.
    """
    before = Contention.now()
    fresh, empty, started = "torch" not in sys.modules, "diffusers" not in sys.modules, time.monotonic()
    with refusals_named(), importing(prepared_convolutions):
        from linfusion_cli.engine import pipeline  # noqa: F401  # for the time it takes
    if empty and "diffusers" in sys.modules and owns_process():
        measure_imported()
    if not fresh:
        return machine.speed(dtype).start_seconds
    return before.quiet_seconds(time.monotonic() - started, Contention.now())


def as_measured(plan: Plan, notify: Notify) -> Plan:
    """The plan with what this process holds after its imports, made again if it had counted less; tells so.

    On a card: with what is still free there, since the imports take seconds in which others may fill it. Raises
    OutOfMemoryError, with the smallest budget that would do, if no such plan fits.
    """
    if plan.machine.kind == "cuda":
        return _as_free(plan, notify)
    held = imported_bytes()
    more = unified_runtime_bytes("cpu", held) - unified_runtime_bytes("cpu", plan.machine.imported_bytes)
    if plan.machine.kind != "cpu" or more <= UNCOUNTED_BYTES:
        return plan
    machine = replace(plan.machine, imported_bytes=held)
    again = make_plan(plan.job, machine, keep_text_encoders=plan.keep_text_encoders, ranks=plan.ranks)
    quiet_libraries(again.prepared_convolutions)
    text = (
        f"torch and diffusers take {held / 1e6:.0f} MB here, {more / 1e6:.0f} MB more than planned. "
        f"Planned again: peak {again.peak_bytes / 1e6:.0f} MB"
    )
    notify(Note(text=text))
    return again


def _as_free(plan: Plan, notify: Notify) -> Plan:
    """The plan for a card, made again where less is free of it now than the plan takes."""
    now = machine_now(plan.machine)
    if plan.peak_bytes <= usable_bytes(now):
        return plan
    again = make_plan(
        replace(plan.job, max_memory_bytes=0), now, keep_text_encoders=plan.keep_text_encoders, ranks=plan.ranks
    )
    again = replace(again, job=plan.job)
    free, before = (f"{machine.free_bytes / 1e9:.1f} GB" for machine in (now, plan.machine))
    text = f"of {now.device} {free} are free now, {before} when it was planned. Planned again: "
    text += f"peak {again.peak_bytes / 1e9:.1f} GB"
    notify(Note(text=text))
    return again


def make_model_cache(first: Plan) -> ModelCache:
    """A cache for models that stay loaded between images; imports torch with the settings of the first plan."""
    import_engine(first.machine, first.dtype, first.prepared_convolutions)
    from linfusion_cli.engine.components.model_cache import ModelCache

    return ModelCache()


def measured_speed(machine: Machine, job: Job) -> Speed:
    """The speed of the machine and the scratch folder, measured now in the job's number format; imports the engine."""
    dtype = dtype_of(job, machine)
    start_seconds = import_engine(machine, dtype, FEW_PREPARED)
    from linfusion_cli.engine.streaming.benchmark import measure_speed

    return replace(measure_speed(machine, dtype, job.scratch_folder), start_seconds=start_seconds)
