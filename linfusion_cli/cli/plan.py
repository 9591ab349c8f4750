"""`linfusion plan`: what an image would need, phase by phase, before anything is made."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any

import typer

from linfusion_cli.cli.flags import request_of, with_flags
from linfusion_cli.cli.json_output import print_json
from linfusion_cli.cli.spelling import told

if TYPE_CHECKING:
    from linfusion_cli.config.job import Job
    from linfusion_cli.system.device import Machine

EPILOG = """\b
Examples:
  linfusion plan --size 16384x8192
  linfusion plan --size 16384x8192 --max-memory 2GB
  linfusion plan --preset sdxl-16k --max-memory 8GB --json

\b
Times rest on a measurement of this machine of about a second, made once and kept; --measure makes it again.
"""


@with_flags("plan")
def plan(
    *,
    prompt: Annotated[str, typer.Argument(help="What would be drawn.", show_default=False)] = "a landscape",
    inputs: dict[str, Any],
    measure: Annotated[bool, typer.Option("--measure", help="Measure this machine's speed again.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="The plan as JSON on stdout.")] = False,
    flags: dict[str, Any],
) -> None:
    """Show stages, bands, work, memory and time of an image, and stop."""
    from linfusion_cli.cli.text import obstacle_lines, phase_lines, plan_fields, plan_lines
    from linfusion_cli.config.job import resolve
    from linfusion_cli.planning.planner import make_plan
    from linfusion_cli.render import obstacles

    job = resolve(request_of(prompt, {**inputs, **flags}))
    made = make_plan(job, _measured(job, again=measure))
    stopped = obstacles(made)
    if as_json:
        print_json({**plan_fields(made), "obstacles": [told(text) for text in stopped]})
        return
    for line in [*plan_lines(made)[1:], "", *phase_lines(made), *obstacle_lines(stopped)]:
        typer.echo(line)


def _measured(job: Job, *, again: bool) -> Machine:
    """The machine, with a speed that has been measured in the job's number format."""
    from linfusion_cli.planning.number_format import dtype_of
    from linfusion_cli.system.device import find_machine
    from linfusion_cli.system.speed import remember_speed

    machine = find_machine(job.device)
    dtype = dtype_of(job, machine)
    if machine.speed(dtype).measured and not again:
        return machine
    from linfusion_cli.engine_import import measured_speed

    typer.echo(f"measuring this machine in {dtype}, once ...", err=True)
    speed = measured_speed(machine, job)
    remember_speed(machine.device_name, dtype, speed)
    return replace(machine, speeds={**machine.speeds, dtype: speed})
