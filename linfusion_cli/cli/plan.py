"""`linfusion plan`: shows stages, bands, memory and time of an image, phase by phase, without making it."""

from __future__ import annotations

import sys
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any

import typer

from linfusion_cli.cli.flags import request_of, with_flags
from linfusion_cli.cli.generate import PromptFileFlag, read_prompt
from linfusion_cli.cli.image_series import CountFlag, SeedsFlag, series_of
from linfusion_cli.cli.json_output import emit
from linfusion_cli.cli.spelling import told
from linfusion_cli.cli.wrapping import columns_of, say
from linfusion_cli.errors import UsageError

if TYPE_CHECKING:
    from linfusion_cli.config.job import Job
    from linfusion_cli.planning.planner import Plan
    from linfusion_cli.planning.rank_forecast import RankForecast
    from linfusion_cli.system.device import Machine

USUAL_PROMPT = "a landscape"
EPILOG = """\b
Examples:
  linfusion plan --size 16384x8192
  linfusion plan --size 16384x8192 --max-memory 2GB
  linfusion plan --preset sdxl-16k --max-memory 8GB --json
  linfusion plan --size 16k --ranks 4 --link 20GB/s
  linfusion plan "a mountain lake" -n 4 --cfg 5 --aspect 16:9

\b
It takes what generate takes: put plan in its place to see what a command would do.

\b
Times rest on a measurement of this machine of about a second, made once and kept; --measure makes it again.
"""


@with_flags("plan")
def plan(
    *,
    prompt: Annotated[str | None, typer.Argument(help="What would be drawn.", show_default=False)] = None,
    prompt_file: PromptFileFlag = None,
    inputs: dict[str, Any],
    count: CountFlag = None,
    seeds: SeedsFlag = None,
    ranks: Annotated[
        int | None,
        typer.Option("--ranks", metavar="N", min=2, max=1024, help="The plan of one of N ranks, and what they send."),
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
    from linfusion_cli.cli.text import obstacle_lines, phase_lines, plan_fields, plan_lines, rank_lines, seconds_text
    from linfusion_cli.config.resolve import resolve
    from linfusion_cli.planning.planner import make_plan
    from linfusion_cli.render import obstacles

    series = series_of(count, seeds, flags["seed"])
    if series.seeds:
        flags["seed"] = series.seeds[0]
    words = USUAL_PROMPT if prompt is None and prompt_file is None else read_prompt(prompt, prompt_file)
    job = resolve(request_of(words, {**inputs, **flags}, ranks=ranks))
    made = make_plan(
        job,
        _measured(job, again=measure),
        keep_text_encoders=series.count > 1,
        ranks=job.rank_options.ranks,
    )
    stopped, by_ranks = obstacles(made), _by_ranks(made, link)
    if as_json:
        several: dict[str, Any] = {} if by_ranks is None else {"by_ranks": by_ranks.as_dict()}
        if series.count > 1:
            several |= {"images": series.count, "all_seconds": round(_all_seconds(made, series.count), 1)}
        emit(sys.stdout, "plan", {**plan_fields(made), **several, "obstacles": [told(text) for text in stopped]})
        return
    more = [] if by_ranks is None else ["", *rank_lines(by_ranks, link)]
    if series.count > 1:
        all_text = seconds_text(_all_seconds(made, series.count))
        more += ["", f"{series.count} images: {all_text}, with one load of the model"]
    columns = columns_of(sys.stdout)
    for line in [*plan_lines(made, columns)[1:], "", *phase_lines(made, columns), *more, *obstacle_lines(stopped)]:
        say(line)


def _all_seconds(made: Plan, count: int) -> float:
    """Of several images, whose model is loaded once."""
    loading = sum(phase.seconds for phase in made.phases if phase.name == "load")
    return loading + count * (made.seconds - loading)


def _by_ranks(made: Plan, link: str | None) -> RankForecast | None:
    """Raises UsageError for a link without ranks, for an odd rate, and for more ranks than have rows."""
    from linfusion_cli.config.request_checks import parse_bytes
    from linfusion_cli.planning.planner import architecture_of
    from linfusion_cli.planning.rank_forecast import forecast

    ranks = made.job.rank_options.ranks
    if ranks == 1:
        if link is not None:
            raise UsageError(f'--link "{link}" says how fast ranks send: give --ranks as well')
        return None
    try:
        rate = None if link is None else float(parse_bytes(link.strip().removesuffix("/s")))
    except UsageError:
        raise UsageError(f'--link "{link}": write bytes per second, for example 20GB/s or 1.25GB/s') from None
    return forecast(made, architecture_of(made.job), ranks, rate)


def _measured(job: Job, *, again: bool) -> Machine:
    """The machine, with a speed that has been measured in the job's number format."""
    from linfusion_cli.planning.number_format import dtype_of
    from linfusion_cli.system.device import find_machine
    from linfusion_cli.system.speed import remember_speed

    machine = find_machine(job.device)
    if job.rank_options.devices:
        from linfusion_cli.render_ranks import rank_machines

        machine = rank_machines(job.device, job.rank_options)[0]
    dtype = dtype_of(job, machine)
    if machine.speed(dtype).measured and not again:
        return machine
    from linfusion_cli.engine_import import measured_speed

    typer.echo(f"measuring this machine in {dtype}, once ...", err=True)
    speed = measured_speed(machine, job)
    remember_speed(machine.device_name, dtype, speed)
    return replace(machine, speeds={**machine.speeds, dtype: speed})
