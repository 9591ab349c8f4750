"""`linfusion plan`: shows stages, bands, memory and time of an image, phase by phase, without making it."""

from __future__ import annotations

import sys
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any

import typer

from linfusion_cli.cli.flags import request_of, with_flags
from linfusion_cli.cli.json_output import emit
from linfusion_cli.cli.spelling import told
from linfusion_cli.cli.wrapping import columns_of, say
from linfusion_cli.errors import UsageError

if TYPE_CHECKING:
    from linfusion_cli.config.job import Job
    from linfusion_cli.planning.planner import Plan
    from linfusion_cli.planning.rank_forecast import RankForecast
    from linfusion_cli.system.device import Machine

EPILOG = """\b
Examples:
  linfusion plan --size 16384x8192
  linfusion plan --size 16384x8192 --max-memory 2GB
  linfusion plan --preset sdxl-16k --max-memory 8GB --json
  linfusion plan --size 16k --ranks 4 --link 20GB/s

\b
Times rest on a measurement of this machine of about a second, made once and kept; --measure makes it again.
"""


@with_flags("plan")
def plan(
    *,
    prompt: Annotated[str, typer.Argument(help="What would be drawn.", show_default=False)] = "a landscape",
    inputs: dict[str, Any],
    ranks: Annotated[
        int | None,
        typer.Option("--ranks", metavar="N", min=2, max=1024, help="What N ranks would send, each on its own device."),
    ] = None,
    link: Annotated[
        str | None,
        typer.Option("--link", metavar="RATE", help="With --ranks: how fast each sends, e.g. 20GB/s; adds the time."),
    ] = None,
    measure: Annotated[bool, typer.Option("--measure", help="Measure this machine's speed again.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="The plan as JSON on stdout.")] = False,
    flags: dict[str, Any],
) -> None:
    """Show stages, bands, work, memory and time of an image, and stop."""
    from linfusion_cli.cli.text import obstacle_lines, phase_lines, plan_fields, plan_lines, rank_lines
    from linfusion_cli.config.job import resolve
    from linfusion_cli.planning.planner import make_plan
    from linfusion_cli.render import obstacles

    job = resolve(request_of(prompt, {**inputs, **flags}))
    made = make_plan(job, _measured(job, again=measure))
    stopped, by_ranks = obstacles(made), _by_ranks(made, ranks, link)
    if as_json:
        several = {} if by_ranks is None else {"by_ranks": by_ranks.as_dict()}
        emit(sys.stdout, "plan", {**plan_fields(made), **several, "obstacles": [told(text) for text in stopped]})
        return
    more = [] if by_ranks is None else ["", *rank_lines(by_ranks, link)]
    columns = columns_of(sys.stdout)
    for line in [*plan_lines(made, columns)[1:], "", *phase_lines(made, columns), *more, *obstacle_lines(stopped)]:
        say(line)


def _by_ranks(made: Plan, ranks: int | None, link: str | None) -> RankForecast | None:
    """Raises UsageError for a link without ranks, for an odd rate, and for more ranks than have rows."""
    from linfusion_cli.config.request_checks import parse_bytes
    from linfusion_cli.planning.planner import architecture_of
    from linfusion_cli.planning.rank_forecast import forecast

    if ranks is None:
        if link is not None:
            raise UsageError(f'--link "{link}" says how fast ranks send: give --ranks as well')
        return None
    try:
        rate = None if link is None else float(parse_bytes(link.strip().removesuffix("/s")))
    except UsageError:
        raise UsageError(f'--link "{link}": write bytes per second, for example 20GB/s or 1.25GB/s') from None
    return forecast(made, architecture_of(made.job).unet, ranks, rate)


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
