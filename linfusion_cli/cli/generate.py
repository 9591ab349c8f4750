"""`linfusion generate`: makes one image, or several, from a prompt."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from linfusion_cli.cli.flags import request_of, with_flags
from linfusion_cli.cli.image_series import CountFlag, SeedsFlag, is_done, jobs_of, series_of
from linfusion_cli.cli.logs import LogFile, LogFlag
from linfusion_cli.cli.long_work import YesFlag, ask_before_long_work
from linfusion_cli.cli.rank_roles import followed, planned_for
from linfusion_cli.cli.shared_options import QuietFlag
from linfusion_cli.cli.streams import announce
from linfusion_cli.cli.wrapping import say
from linfusion_cli.errors import UsageError
from linfusion_cli.files import read_input

if TYPE_CHECKING:
    from linfusion_cli.config.job import Job
    from linfusion_cli.config.request import Request
    from linfusion_cli.planning.planner import Plan

MOST_PROMPT_BYTES = 1 << 20

EPILOG = """\b
Examples:
  linfusion generate "a mountain lake at dawn"
  linfusion generate "a mountain lake at dawn" --size 8k --seed 7 -o lake.png
  linfusion generate "a mountain lake at dawn" -n 4 --cfg 5 --aspect 16:9 --megapixels 8
  linfusion generate "a market in the rain" --preset sdxl-16k --max-memory 12GB
  linfusion generate "a mountain lake at dawn" --size 16k --dry-run
  linfusion generate "a knight" --model ~/models/dreamshaper.safetensors --lora armour.safetensors:0.8
  linfusion generate "a (red:1.3) house, [fog]" --prompt-weights
  linfusion generate "a house" -p sdxl-4k --controlnet diffusers/controlnet-canny-sdxl-1.0 --control-image edges.png
  linfusion generate "a house in snow" --init-image house.jpg --strength 0.5
  linfusion generate --prompt-file prompt.txt --quiet --log-file lake.log    (in a crontab, where % is special)
  echo "a mountain lake at dawn" | linfusion generate - --json

\b
The same command with the same --seed makes the same image. An interrupted one goes on where it was when the same
command is given again, with the same pixels: what is done is kept beside the image, in .linfusion. --debug shows the
traceback of an error.

\b
Brackets in a prompt are drawn as written. With --prompt-weights (word) is 1.1, (word:1.3) is 1.3, [word] is 0.91,
\\( is a bracket, and BREAK starts a new chunk.

\b
The path of the image is the only line on stdout; everything else goes to stderr.
Exit codes: 0 done, 1 other error, 2 wrong use, 4 not enough memory, 66 weights, 69 ranks, 74 file, 75 busy,
129 SIGHUP, 130 Ctrl-C, 141 nobody reads --json any more, 143 SIGTERM, 152 SIGXCPU.
"""
PromptFileFlag = Annotated[
    str | None, typer.Option("--prompt-file", metavar="FILE|-", help="Read the prompt from this file instead.")
]


@with_flags("generate")
def generate(
    *,
    prompt: Annotated[
        str | None, typer.Argument(help="What to draw. - reads it from standard input.", show_default=False)
    ] = None,
    prompt_file: PromptFileFlag = None,
    inputs: dict[str, Any],
    count: CountFlag = None,
    seeds: SeedsFlag = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show the plan, with its memory and time, and stop.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Tell programs what happens: JSON lines on stdout.")] = False,
    yes: YesFlag = False,
    quiet: QuietFlag = False,
    log_file: LogFlag = None,
    flags: dict[str, Any],
) -> None:
    """Make one image from a prompt, or several with --count or --seeds."""
    series = series_of(count, seeds, flags["seed"])
    if followed(flags["device"], dry_run=dry_run):
        return
    request = request_of(read_prompt(prompt, prompt_file), {**inputs, **flags})
    with LogFile(log_file) as log:
        if series.is_one:
            make([resolved(request)], log, dry_run=dry_run, as_json=as_json, quiet=quiet, yes=yes)
            return
        with jobs_of(request, series, remember=not dry_run) as jobs:
            make(jobs, log, dry_run=dry_run, as_json=as_json, quiet=quiet, yes=yes)


def read_prompt(prompt: str | None, prompt_file: str | None) -> str:
    """The prompt from the command line, a file or standard input ("-").

    Raises UsageError if there is none, if there are two, or if the file can't be read as UTF-8 or UTF-16.
    """
    if prompt is not None and prompt_file is not None:
        raise UsageError("give either a PROMPT or --prompt-file, not both")
    if prompt is None and prompt_file is None:
        raise UsageError(
            'there is no prompt. Say what to draw, for example: linfusion generate "a mountain lake at dawn"'
        )
    if prompt is not None and prompt != "-":
        return prompt
    from linfusion_cli.batch.list_text import decoded

    source = prompt_file or "-"
    try:
        data = (
            sys.stdin.buffer.read(MOST_PROMPT_BYTES) if source == "-" else read_input(Path(source), MOST_PROMPT_BYTES)
        )
    except OSError as error:
        raise UsageError(f'--prompt-file "{source}": it can\'t be read: {error.strerror}') from error
    if not (text := decoded(data, f'--prompt-file "{source}"').strip()):
        named = "standard input" if source == "-" else f'--prompt-file "{source}"'
        raise UsageError(f"{named}: there is no text in it. Write the prompt there, or give it as PROMPT")
    return text


def resolved(request: Request) -> Job:
    """The job of a request. Without a given seed it has that of an interrupted run, so that the command resumes it."""
    from linfusion_cli.config.resolve import resolve

    job = resolve(request)
    from linfusion_cli.render import interrupted_seed

    seed = interrupted_seed(job)
    kept = job if seed is None else resolve(replace(request, seed=seed))
    return job if kept.output.exists() and not kept.overwrite else kept


def make(jobs: Sequence[Job], log: LogFile, *, dry_run: bool, as_json: bool, quiet: bool, yes: bool = False) -> None:
    """Plans, shows the plan, renders and shows the result. With several ranks the plan is one rank's.

    Jobs that differ in nothing but their seeds share the plan and the loaded model; those whose image exists already,
    whole and the same, are not made again.
    """
    from linfusion_cli.cli.render_display import open_displays, show_plan
    from linfusion_cli.cli.text import safe
    from linfusion_cli.planning.planner import make_plan
    from linfusion_cli.render import obstacles

    several = len(jobs) > 1
    with planned_for(jobs[0], dry_run=dry_run) as (machine, count, run):
        shared = make_plan(jobs[0], machine, keep_text_encoders=several, ranks=count)
        plans = [replace(shared, job=job, seed=job.seed) for job in jobs] if several else [shared]
        if dry_run:
            show_plan(shared, tuple(text for plan in plans for text in obstacles(plan)), as_json=as_json, jobs=jobs)
            return
        missing = _not_done(plans, as_json=as_json, quiet=quiet) if several else plans
        if not as_json:
            seconds = sum(plan.seconds for plan in missing)
            ask_before_long_work(seconds, yes=yes, is_stopped=lambda: any(map(obstacles, missing)))
        if several and missing:
            from linfusion_cli.engine_import import make_model_cache

            run = partial(run, model_cache=make_model_cache(shared))
        latest = shared
        for number, planned in enumerate(missing):
            # As the image before was made: with what the imports took, so that no plan is made again for each image.
            plan = replace(latest, job=planned.job, seed=planned.seed) if number else planned
            which = f"image {jobs.index(plan.job) + 1} of {len(jobs)}" if several else ""
            with open_displays(
                plan, as_json=as_json, quiet=quiet, log=log.stream, which=which, with_plan=number == 0
            ) as displays:
                rendered = run(plan, displays.notify)
                displays.finish(rendered)
            latest = rendered.plan
            log.add(f"made: {rendered.path}")
            if not as_json and not quiet:
                announce(safe(rendered.path))


def _not_done(plans: Sequence[Plan], *, as_json: bool, quiet: bool) -> list[Plan]:
    """The plans whose image does not exist. Raises OutputError, before any work, for a file of another image."""
    from linfusion_cli.cli.json_output import emit
    from linfusion_cli.cli.text import safe
    from linfusion_cli.output.formats.writer import check_destination
    from linfusion_cli.output.metadata import holds_prompt

    missing: list[Plan] = []
    for plan in plans:
        job = plan.job
        if not is_done(job):
            check_destination(job.output, job.size, job.file, overwrite=job.overwrite)
            missing.append(plan)
        elif as_json:
            emit(sys.stdout, "skipped", {"path": str(job.output), "seed": job.seed})
        elif not quiet:
            holds = not job.stores_prompt and holds_prompt(job.output)
            more = "; it was made before and holds its prompt. --overwrite makes it without" if holds else ""
            say(safe(f"{job.output} is there already{more}"), err=True)
    return missing
